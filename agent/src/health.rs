//! The optional health server: `/healthz` for liveness, `/readyz` for readiness.
//!
//! What live and ready mean is passed in; neither may depend on the Collector, or an outage of it
//! would take every agent down with it. Bounded in connections and in time.

use std::{
    convert::Infallible,
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

/// What a probe found: fine, or in one line why not.
pub type Verdict = Result<(), String>;

/// Asked at each request; must not block.
pub struct Probes {
    /// Whether the agent's loop turns and metrics are collected. Not live means: restart it.
    pub live: Box<dyn Fn() -> Verdict + Send + Sync>,
    /// Whether hooks are attached and the first sync is done.
    pub ready: Box<dyn Fn() -> Verdict + Send + Sync>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}

/// A server that is bound and not yet serving.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    probes: Arc<Probes>,
}

/// The address that could not be bound, and why.
#[derive(Debug, thiserror::Error)]
#[error("health server on {address}: {source}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why, with the errno.
    pub source: io::Error,
}

impl Server {
    /// Binds `address`; port 0 takes a free one. `[::]` is every address that the kernel has,
    /// also where it has IPv4's alone.
    pub async fn bind(address: SocketAddr, probes: Probes) -> Result<Self, BindError> {
        let mut listener = TcpListener::bind(address).await;
        if let Err(error) = &listener
            && let Some(instead) = without_ipv6(address, error)
        {
            listener = TcpListener::bind(instead).await;
        }
        Ok(Self {
            listener: listener.map_err(|source| BindError { address, source })?,
            probes: Arc::new(probes),
        })
    }

    /// Where it listens.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is dropped, and its connections with it.
    pub async fn serve(self) -> Infallible {
        let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            // Never closed. Who waits for a permit waits in the kernel's backlog.
            let permit = Arc::clone(&permits).acquire_owned().await;
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let probes = Arc::clone(&self.probes);
                    connections.spawn(async move {
                        connection(stream, &probes).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "Health server could not accept.");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// One request, then the connection is closed. A client that goes away is none of our business.
async fn connection(stream: TcpStream, probes: &Probes) {
    let service = service_fn(async |request| Ok::<_, Infallible>(respond(&request, probes)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LONGEST_HEADER)
        .max_buf_size(LARGEST_HEADER)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let outcome = tokio::time::timeout(LONGEST_CONNECTION, connection).await;
    if let Ok(Err(error)) = outcome {
        tracing::debug!(%error, "Health request failed.");
    }
}

fn respond(request: &Request<Incoming>, probes: &Probes) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return answer(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD");
    }
    let verdict = match request.uri().path() {
        "/healthz" => (probes.live)(),
        "/readyz" => (probes.ready)(),
        _ => return answer(StatusCode::NOT_FOUND, "/healthz or /readyz"),
    };
    match verdict {
        Ok(()) => answer(StatusCode::OK, "ok"),
        Err(why) => answer(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

fn answer(status: StatusCode, line: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(format!("{line}\n")));
    *response.status_mut() = status;
    let text = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

const MOST_CONNECTIONS: usize = 16;
const LONGEST_HEADER: Duration = Duration::from_secs(2);
const LONGEST_CONNECTION: Duration = Duration::from_secs(5);
/// The least that hyper takes.
const LARGEST_HEADER: usize = 8 * 1024;
/// So that running out of file descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What stands for `[::]` where there is no IPv6: a kernel booted with `ipv6.disable=1` knows no
/// such sockets.
fn without_ipv6(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let every = address.ip() == Ipv6Addr::UNSPECIFIED;
    let unknown = error.raw_os_error() == Some(libc::EAFNOSUPPORT);
    (every && unknown).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start(ready: Arc<AtomicBool>) -> SocketAddr {
        let probes = Probes {
            live: Box::new(|| Ok(())),
            ready: Box::new(move || {
                let ready = ready.load(Ordering::Relaxed);
                ready.then_some(()).ok_or_else(|| "not synced".to_owned())
            }),
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(address, probes).await.unwrap();
        let address = server.local_address().unwrap();
        tokio::spawn(server.serve());
        address
    }

    async fn request(to: SocketAddr, line: &str) -> (String, String) {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: statlink\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn answers_by_what_the_probes_say() {
        let ready = Arc::new(AtomicBool::new(false));
        let to = start(Arc::clone(&ready)).await;
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
            assert_eq!(request(to, line).await, expected, "{line}");
        }
        ready.store(true, Ordering::Relaxed);
        assert_eq!(request(to, "GET /readyz").await.0, "HTTP/1.1 200 OK");
    }

    #[tokio::test]
    async fn a_silent_client_does_not_keep_its_place() {
        let to = start(Arc::default()).await;
        let mut silent = Vec::new();
        for _ in 0..MOST_CONNECTIONS {
            silent.push(TcpStream::connect(to).await.unwrap());
        }
        // Every place is taken until the header timeout frees one.
        assert_eq!(request(to, "GET /healthz").await.0, "HTTP/1.1 200 OK");
    }

    #[test]
    fn every_address_is_ipv4_s_where_there_is_no_ipv6() {
        let unknown = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
        let taken = io::Error::from_raw_os_error(libc::EADDRINUSE);
        let every: SocketAddr = "[::]:8082".parse().unwrap();
        let ipv4 = "0.0.0.0:8082".parse().unwrap();
        assert_eq!(without_ipv6(every, &unknown), Some(ipv4));
        assert_eq!(without_ipv6(every, &taken), None);
        assert_eq!(without_ipv6("[::1]:8082".parse().unwrap(), &unknown), None);
    }

    #[tokio::test]
    async fn a_taken_address_is_named() {
        let to = start(Arc::default()).await;
        let probes = Probes {
            live: Box::new(|| Ok(())),
            ready: Box::new(|| Ok(())),
        };
        let error = Server::bind(to, probes).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("health server on {to}: ")),
            "{error}"
        );
        assert!(error.contains("os error"), "{error}");
    }
}
