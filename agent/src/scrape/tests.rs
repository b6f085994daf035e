//! Tests: the page server's answers, and who gets one when too many ask.

use std::net::Ipv4Addr;

use tokio::{net::TcpSocket, sync::mpsc, task::JoinHandle};

use super::*;
use crate::{
    snapshot::{Snapshot, SnapshotRequest},
    telemetry::config::{Config, Overrides},
};

/// Long enough on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server of an agent without any links.
struct Running {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let (running, mut requests) = Self::start_with(PATIENCE).await;
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                give(request);
            }
        });
        running
    }

    /// A server whose loop is the test.
    async fn start_with(deadline: Duration) -> (Self, mpsc::Receiver<SnapshotRequest>) {
        let none = |name: &str| (name == "OTEL_METRICS_EXPORTER").then(|| "none".to_owned());
        let overrides = Overrides {
            page: true,
            node_name: Some("node-1".to_owned()),
            ..Overrides::default()
        };
        let config = Config::read(&none, &overrides).unwrap();
        let telemetry = Telemetry::start(&config).unwrap();
        let (snapshots, requests) = Snapshots::channel();
        let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = server.listener.local_addr().unwrap();
        let server = tokio::spawn(server.serve_within(deadline, telemetry, snapshots));
        (Self { address, server }, requests)
    }

    async fn connect_from(&self, from: [u8; 4]) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::from(from), 0).into()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn ask(&self, line: &str) -> String {
        let client = self.connect_from(ANYBODY).await;
        ask(client, line).await
    }

    /// Asks until a page is being made: on a busy machine, a short deadline may pass first.
    async fn page_under_way(
        &self,
        requests: &mut mpsc::Receiver<SnapshotRequest>,
    ) -> SnapshotRequest {
        loop {
            let client = self.connect_from(ANYBODY).await;
            let asked = tokio::spawn(ask(client, "GET /metrics"));
            tokio::select! {
                request = requests.recv() => return request.unwrap(),
                _ = asked => {}
            }
        }
    }

    /// More silent clients than there are places; returns when the first of them has been closed.
    async fn silent_crowd(&self) -> Vec<TcpStream> {
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS * 3 {
            silent.push(self.connect_from(ANYBODY).await);
        }
        let mut end = [0];
        let first = silent.first_mut().unwrap();
        let read = timeout(PATIENCE, first.read(&mut end)).await.unwrap();
        assert_eq!(read.unwrap_or_default(), 0);
        silent
    }
}

const ANYBODY: [u8; 4] = [127, 0, 0, 1];
const PROMETHEUS: [u8; 4] = [127, 0, 0, 2];

async fn ask(mut client: TcpStream, line: &str) -> String {
    let request = format!("{line} HTTP/1.1\r\nHost: here\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = timeout(PATIENCE, client.read_to_string(&mut answer)).await;
    read.unwrap().unwrap();
    answer
}

fn give(request: SnapshotRequest) {
    let _ = request.reply.send(Arc::new(Snapshot::default()));
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_gets_the_page() {
    let running = Running::start().await;
    let answer = running.ask("GET /metrics").await;
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("version=0.0.4"), "{head}");
    assert!(
        head.contains(&format!("Content-Length: {}\r\n", page.len())),
        "{head}"
    );
    assert!(page.contains("k8s_node_name=\"node-1\""), "{page}");
    assert!(page.contains("\nstatlink_links 0\n"), "{page}");
    assert!(running.ask("GET /").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_keep_no_scrape_out() {
    let running = Running::start().await;
    let early = running.connect_from(PROMETHEUS).await;
    let mut silent = running.silent_crowd().await;
    let answer = running.ask("GET /metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // The remaining clients still have their places, and so has the oldest of all: its address
    // holds few.
    for client in [silent.pop().unwrap(), early] {
        let head = ask(client, "HEAD /metrics").await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_request_has_been_read_is_answered_whoever_comes_after() {
    let (running, mut requests) = Running::start_with(PATIENCE).await;
    let client = running.connect_from(ANYBODY).await;
    let asked = tokio::spawn(ask(client, "GET /metrics"));
    // Its page is being made.
    let request = requests.recv().await.unwrap();
    let silent = running.silent_crowd().await;
    give(request);
    let answer = asked.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_has_two_answers_under_way_and_the_next_is_refused() {
    let (running, mut requests) = Running::start_with(PATIENCE).await;
    let mut asked = JoinSet::new();
    for _ in 0..3 {
        let client = running.connect_from(ANYBODY).await;
        asked.spawn(ask(client, "GET /metrics"));
    }
    // No snapshot exists yet, so a client that gets an answer now is refused.
    let refused = asked.join_next().await.unwrap().unwrap();
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let other = running.connect_from(PROMETHEUS).await;
    asked.spawn(ask(other, "GET /metrics"));
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            give(request);
        }
    });
    while let Some(answer) = asked.join_next().await {
        let answer = answer.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

/// The loop does not answer: nothing of a client may outlive it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_gone_waits_for_no_page() {
    let (running, mut requests) = Running::start_with(Duration::from_millis(50)).await;
    let mut request = running.page_under_way(&mut requests).await;
    timeout(PATIENCE, request.reply.closed()).await.unwrap();
    // The page of the next client does not wait for the first one's either.
    let next = timeout(PATIENCE, running.page_under_way(&mut requests)).await;
    drop((request, next.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_named_with_the_cure() {
    let running = Running::start().await;
    let error = Server::bind(running.address).unwrap_err().to_string();
    assert!(error.contains(&running.address.to_string()), "{error}");
    assert!(error.contains("--metrics-address"), "{error}");
}
