//! Connects to the Collector, in plain text or over TLS, as the endpoint's scheme says.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tower::{BoxError, Service};

use super::credentials::Credentials;
use crate::telemetry::config::{Destination, Protocol};

/// Makes connections, each with the certificates that the files hold at that time.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tcp: HttpConnector,
    credentials: Arc<Credentials>,
    protocol: Protocol,
}

impl Connector {
    pub(super) fn new(to: &Destination) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(to.timeout));
        // Without it, a gRPC connection whose other end vanished stays in use until the kernel
        // gives up on it, after about 15 minutes (`tcp_retries2`, tcp(7)). HTTP/2 pings would
        // notice too, but gRPC servers close connections that ping often (`too_many_pings`).
        tcp.set_tcp_user_timeout(Some(to.timeout));
        Self {
            tcp,
            credentials: Arc::new(Credentials::new(&to.tls)),
            protocol: to.protocol,
        }
    }

    async fn connect(self, to: Uri) -> Result<Stream, BoxError> {
        let credentials = Arc::clone(&self.credentials);
        let config = if credentials.has_files() {
            tokio::task::spawn_blocking(move || credentials.current()).await?
        } else {
            credentials.current()
        };
        let tls = HttpsConnectorBuilder::new()
            .with_tls_config(config.as_ref().clone())
            .https_or_http();
        let mut connector = match self.protocol {
            Protocol::Grpc => tls.enable_http2().wrap_connector(self.tcp),
            Protocol::Http => tls.enable_http1().wrap_connector(self.tcp),
        };
        poll_fn(|context| connector.poll_ready(context)).await?;
        connector.call(to).await
    }
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        Box::pin(self.clone().connect(to))
    }
}
