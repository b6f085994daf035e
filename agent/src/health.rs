//! The optional health server: `/healthz` for liveness, `/readyz` for readiness.
//!
//! The caller says what live and ready mean. Neither may depend on the Collector: its outage would
//! restart every agent of the cluster. Connections are bounded in number and in time.

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

/// What a probe found: all is well, or in one line what is not.
pub(crate) type ProbeResult = Result<(), String>;

/// The probes. They run on every request and must not block.
pub(crate) struct Probes {
    /// Whether the agent's loop runs and metrics are collected. If not, restart it.
    pub live: Box<dyn Fn() -> ProbeResult + Send + Sync>,
    /// Whether the hooks are attached and the first sync is done.
    pub ready: Box<dyn Fn() -> ProbeResult + Send + Sync>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}

/// A server that is bound and does not serve yet.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    probes: Arc<Probes>,
}

/// Why the health server could not be bound.
#[derive(Debug, thiserror::Error)]
#[error(
    "health server on {address}: {source}; stop what listens there, or name another with \
     --health-address"
)]
pub(crate) struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The errno of bind(2).
    pub source: io::Error,
}

impl Server {
    /// Binds `address`; port 0 takes a free one. `[::]` means every address of the machine, even if
    /// it has only IPv4.
    ///
    /// # Errors
    ///
    /// If the address is in use, is not this machine's, or needs a privilege.
    pub(crate) async fn bind(address: SocketAddr, probes: Probes) -> Result<Self, BindError> {
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

    /// Serves until it is dropped; its connections are dropped with it.
    pub(crate) async fn serve(self) -> Infallible {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            // The semaphore is never closed. Without a permit, clients wait in the kernel's backlog.
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

/// Answers one request and closes the connection. A client that goes away is no failure.
async fn connection(stream: TcpStream, probes: &Probes) {
    let service = service_fn(async |request| Ok::<_, Infallible>(respond(&request, probes)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let outcome = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
    if let Ok(Err(error)) = outcome {
        tracing::debug!(%error, "Health request failed.");
    }
}

fn respond(request: &Request<Incoming>, probes: &Probes) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return answer(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD");
    }
    let result = match request.uri().path() {
        "/healthz" => (probes.live)(),
        "/readyz" => (probes.ready)(),
        _ => return answer(StatusCode::NOT_FOUND, "/healthz or /readyz"),
    };
    match result {
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

/// The kubelet needs two: its liveness and its readiness probe. The rest is room for people.
const MAX_CONNECTIONS: usize = 16;
/// The kubelet sends its header at once; its default probe timeout is 1 s.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// Bounds how long a client that does not read its answer keeps a place.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The smallest buffer that hyper accepts.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// When accept(2) fails, mostly for want of file descriptors, it fails again at once: do not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address to bind instead of `[::]` if the kernel has no IPv6 (`ipv6.disable=1`).
fn without_ipv6(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let any = address.ip() == Ipv6Addr::UNSPECIFIED;
    let no_ipv6 = error.raw_os_error() == Some(libc::EAFNOSUPPORT);
    (any && no_ipv6).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
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
        let address = server.listener.local_addr().unwrap();
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
    async fn the_answer_is_what_the_probe_says() {
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
    async fn a_silent_client_loses_its_place() {
        let to = start(Arc::default()).await;
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            silent.push(TcpStream::connect(to).await.unwrap());
        }
        // Every place is taken until the header timeout frees one.
        assert_eq!(request(to, "GET /healthz").await.0, "HTTP/1.1 200 OK");
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
