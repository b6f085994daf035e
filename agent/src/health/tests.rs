//! Tests: the health server's answers, and who gets one when too many ask.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddrV4,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::*;

/// Long enough on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a free port of the loopback device. It ends with the test.
struct Running {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    stop: Option<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start() -> Self {
        // Long enough that a busy machine does not close the connections of a test.
        Self::start_with(PATIENCE)
    }

    fn start_with(deadline: Duration) -> Self {
        let ready = Arc::new(AtomicBool::new(true));
        let is_ready = Arc::clone(&ready);
        let probes = Probes {
            live: Box::new(|| Ok(())),
            ready: Box::new(move || {
                let ready = is_ready.load(Ordering::Relaxed);
                ready.then_some(()).ok_or_else(|| "not synced".to_owned())
            }),
        };
        let (server, stop) = Server::bind(([127, 0, 0, 1], 0).into(), probes).unwrap();
        let address = server.listener.local_addr().unwrap();
        Self {
            address,
            ready,
            stop: Some(stop),
            thread: Some(thread::spawn(move || server.serve_within(deadline))),
        }
    }

    /// A silent connection from `127.0.HIGH.LOW`.
    fn silent_from(&self, high: u8, low: u8) -> TcpStream {
        let SocketAddr::V4(to) = self.address else {
            panic!("{}", self.address)
        };
        let from = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&from, &SocketAddrV4::new([127, 0, high, low].into(), 0)).unwrap();
        connect(&from, &to).unwrap();
        from.into()
    }

    fn silent(&self) -> TcpStream {
        self.silent_from(0, 1)
    }

    #[track_caller]
    fn assert_answers_a_probe(&self) {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).unwrap();
        assert_eq!(ask(&stream, "GET /healthz").0, "HTTP/1.1 200 OK");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// The first line of the answer, and its body.
#[track_caller]
fn ask(mut stream: &TcpStream, line: &str) -> (String, String) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("{line} HTTP/1.1\r\nHost: statlink\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// Waits until the server has closed `stream`.
#[track_caller]
fn assert_let_go(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = Vec::new();
    let end = BufReader::new(stream).read_until(b'\n', &mut line);
    // The end of the stream, or a reset if the server left bytes unread.
    let gone = matches!(&end, Ok(0))
        || end.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
    assert!(gone && line.is_empty(), "{line:?}");
}

#[test]
fn the_answer_is_what_the_probe_says() {
    let server = Running::start();
    server.ready.store(false, Ordering::Relaxed);
    for (line, status, body) in [
        ("GET /healthz", "HTTP/1.1 200 OK", "ok\n"),
        ("HEAD /healthz", "HTTP/1.1 200 OK", ""),
        (
            "GET /readyz",
            "HTTP/1.1 503 Service Unavailable",
            "not synced\n",
        ),
        ("GET /", "HTTP/1.1 404 Not Found", "/healthz or /readyz\n"),
        (
            "POST /healthz",
            "HTTP/1.1 405 Method Not Allowed",
            "GET or HEAD\n",
        ),
    ] {
        let expected = (status.to_owned(), body.to_owned());
        let stream = TcpStream::connect(server.address).unwrap();
        assert_eq!(ask(&stream, line), expected, "{line}");
    }
    server.ready.store(true, Ordering::Relaxed);
    let stream = TcpStream::connect(server.address).unwrap();
    assert_eq!(ask(&stream, "GET /readyz").0, "HTTP/1.1 200 OK");
}

#[test]
fn silent_connections_keep_no_probe_waiting() {
    let server = Running::start();
    let silent: Vec<_> = (0..16).map(|_| server.silent()).collect();
    server.assert_answers_a_probe();
    // More connections than places, from one address and from many.
    let same: Vec<_> = (0..200).map(|_| server.silent()).collect();
    server.assert_answers_a_probe();
    let others: Vec<_> = (0..200).map(|low| server.silent_from(1, low)).collect();
    server.assert_answers_a_probe();
    drop((silent, same, others));
}

#[test]
fn a_probe_is_answered_however_many_come_after_it() {
    let server = Running::start();
    let probe = TcpStream::connect(server.address).unwrap();
    // The probe has the same address as the others: they are on its node.
    let flood: Vec<_> = (0..MAX_CONNECTIONS - 1).map(|_| server.silent()).collect();
    assert_eq!(ask(&probe, "GET /readyz").0, "HTTP/1.1 200 OK");
    drop(flood);

    // All its bytes have arrived before the server looks, so even thousands of others do not
    // matter.
    let mut probes = Vec::new();
    for round in 0..20 {
        let mut probe = TcpStream::connect(server.address).unwrap();
        probe.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
        probes.push(probe);
        let flood: Vec<_> = (0..100).map(|low| server.silent_from(round, low)).collect();
        drop(flood);
    }
    for probe in probes {
        probe.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut status = String::new();
        BufReader::new(probe).read_line(&mut status).unwrap();
        assert_eq!(status, "HTTP/1.1 200 OK\r\n");
    }
}

#[test]
fn thousands_that_come_and_go_meanwhile_keep_no_probe_waiting() {
    let server = Running::start();
    let address = server.address;
    let going = AtomicBool::new(true);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut held = std::collections::VecDeque::new();
                while going.load(Ordering::Relaxed) {
                    held.extend(TcpStream::connect(address));
                    if held.len() > 500 {
                        held.pop_front();
                    }
                }
            });
        }
        for _ in 0..50 {
            server.assert_answers_a_probe();
        }
        going.store(false, Ordering::Relaxed);
    });
}

#[test]
fn slow_bytes_and_half_open_connections_go() {
    let server = Running::start_with(DEADLINE);
    let mut slow = server.silent();
    slow.write_all(b"GET /healthz HTT").unwrap();
    let half_open = server.silent();
    half_open.shutdown(Shutdown::Write).unwrap();
    server.assert_answers_a_probe();
    assert_let_go(&half_open);
    // Sending bytes does not extend its time.
    slow.write_all(b"P/1").unwrap();
    assert_let_go(&slow);
}

#[test]
fn a_request_that_never_ends_is_refused() {
    let server = Running::start();
    let mut long = server.silent();
    long.write_all(&[b'a'; MAX_REQUEST_BYTES]).unwrap();
    let mut status = String::new();
    BufReader::new(&long).read_line(&mut status).unwrap();
    assert_eq!(status, "HTTP/1.1 400 Bad Request\r\n");
}

#[test]
fn any_address_means_ipv4_where_there_is_no_ipv6() {
    let no_ipv6 = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
    let taken = io::Error::from_raw_os_error(libc::EADDRINUSE);
    let any: SocketAddr = "[::]:8082".parse().unwrap();
    let ipv4 = "0.0.0.0:8082".parse().unwrap();
    assert_eq!(without_ipv6(any, &no_ipv6), Some(ipv4));
    assert_eq!(without_ipv6(any, &taken), None);
    assert_eq!(without_ipv6("[::1]:8082".parse().unwrap(), &no_ipv6), None);
}

#[test]
fn a_taken_address_is_named() {
    let server = Running::start();
    let to = server.address;
    let probes = Probes {
        live: Box::new(|| Ok(())),
        ready: Box::new(|| Ok(())),
    };
    let error = Server::bind(to, probes).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("health server on {to}: ")),
        "{error}"
    );
    assert!(error.contains("os error"), "{error}");
}
