//! The stand-in for a Collector.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tokio_rustls::TlsAcceptor;

use crate::telemetry::config::Protocol;

/// What should happen has happened by then. It bounds a failing test, not a passing one.
pub(super) const HANG: Duration = Duration::from_secs(60);

/// One request as the stand-in saw it.
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) bytes: usize,
    pub(super) body: Bytes,
}

/// Answers as a Collector does.
pub(super) struct Collector {
    pub(super) address: SocketAddr,
    pub(super) requests: mpsc::UnboundedReceiver<Seen>,
    /// The bytes of its connections in both directions, headers included.
    pub(super) exchanged: Arc<AtomicUsize>,
    /// A change ends every connection.
    pub(super) tls: watch::Sender<Option<Arc<ServerConfig>>>,
}

/// A connection that counts what goes over it.
struct Counted {
    stream: TcpStream,
    exchanged: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        self.exchanged.fetch_add(bytes, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.exchanged.fetch_add(*bytes, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Collector {
    pub(super) async fn start(protocol: Protocol, tls: Option<Arc<ServerConfig>>) -> Self {
        Self::start_on("127.0.0.1:0", protocol, tls).await
    }

    pub(super) async fn start_on(
        address: &str,
        protocol: Protocol,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, requests) = mpsc::unbounded_channel();
        let exchanged = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&exchanged);
        let (tls, renewed) = watch::channel(tls);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let exchanged = Arc::clone(&counter);
                let stream = Counted { stream, exchanged };
                let (mut renewed, seen) = (renewed.clone(), seen.clone());
                let tls = renewed.borrow_and_update().clone();
                let served = async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                                serve(stream, protocol, seen).await;
                            }
                        }
                        None => serve(stream, protocol, seen).await,
                    }
                };
                tokio::spawn(async move {
                    tokio::select! {
                        () = served => {}
                        _ = renewed.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            requests,
            exchanged,
            tls,
        }
    }

    pub(super) async fn next(&mut self) -> Seen {
        let next = self.requests.recv();
        let next = tokio::time::timeout(HANG, next).await;
        next.expect("no request came").unwrap()
    }
}

async fn serve<S>(stream: S, protocol: Protocol, seen: mpsc::UnboundedSender<Seen>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| respond(request, protocol, seen.clone()));
    let stream = TokioIo::new(stream);
    // How the connection ends is not tested.
    let _ = match protocol {
        Protocol::Grpc => {
            let server = http2::Builder::new(TokioExecutor::new());
            server.serve_connection(stream, service).await
        }
        Protocol::Http => {
            http1::Builder::new()
                .serve_connection(stream, service)
                .await
        }
    };
}

async fn respond(
    request: Request<Incoming>,
    protocol: Protocol,
    seen: mpsc::UnboundedSender<Seen>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let _ = seen.send(Seen {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        bytes: body.len(),
        body,
    });
    Ok(match protocol {
        Protocol::Grpc => {
            let status = HeaderMap::from_iter([(
                "grpc-status".parse().unwrap(),
                HeaderValue::from_static("0"),
            )]);
            // One empty message.
            let body = Full::from(vec![0; 5]).with_trailers(async move { Some(Ok(status)) });
            Response::builder()
                .header("content-type", "application/grpc")
                .body(body.boxed())
                .unwrap()
        }
        Protocol::Http => Response::new(Full::default().boxed()),
    })
}

/// Writes a new authority and the certificates of a server and a client to `dir`; returns a server
/// that demands the client's.
pub(super) fn mutual_tls(dir: &Path, protocol: Protocol) -> Arc<ServerConfig> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    let issue = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let (certificate, key) = issue("statlink");
    fs::write(dir.join("tls.crt"), certificate).unwrap();
    fs::write(dir.join("tls.key"), key).unwrap();

    let (certificate, key) = issue("localhost");
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    if protocol == Protocol::Grpc {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    Arc::new(config)
}
