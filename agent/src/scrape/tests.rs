//! What the page's server answers, and to whom when too many ask.

use tokio::{net::TcpStream as Client, task::JoinHandle};

use super::*;
use crate::{
    snapshot::Snapshot,
    telemetry::config::{Config, Overrides},
};

/// Long enough on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of an agent that knows nothing.
struct Running {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let none = |name: &str| (name == "OTEL_METRICS_EXPORTER").then(|| "none".to_owned());
        let overrides = Overrides {
            page: true,
            node_name: Some("node-1".to_owned()),
            ..Overrides::default()
        };
        let config = Config::read(&none, &overrides).unwrap();
        let telemetry = Telemetry::start(&config).unwrap();
        let (snapshots, mut requests) = Snapshots::channel();
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                let _ = request.send(Arc::new(Snapshot::default()));
            }
        });
        let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = server.listener.local_addr().unwrap();
        // So that a busy machine does not end what a test holds.
        let server = tokio::spawn(server.serve_within(PATIENCE, telemetry, snapshots));
        Self { address, server }
    }

    async fn ask(&self, line: &str) -> String {
        let mut client = Client::connect(self.address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: here\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, client.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        answer
    }
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
    let mut silent = Vec::new();
    for _ in 0..MAX_CONNECTIONS * 3 {
        silent.push(Client::connect(running.address).await.unwrap());
    }
    let answer = running.ask("GET /metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // The oldest had to go.
    let mut end = [0];
    let first = silent.first_mut().unwrap();
    let read = timeout(PATIENCE, first.read(&mut end)).await.unwrap();
    assert_eq!(read.unwrap_or_default(), 0);
    // Those who were left have their places still.
    let last = silent.last_mut().unwrap();
    last.write_all(b"HEAD /metrics HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut head = String::new();
    let read = timeout(PATIENCE, last.read_to_string(&mut head))
        .await
        .unwrap();
    read.unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_named_with_the_cure() {
    let running = Running::start().await;
    let error = Server::bind(running.address).unwrap_err().to_string();
    assert!(error.contains(&running.address.to_string()), "{error}");
    assert!(error.contains("--metrics-address"), "{error}");
}
