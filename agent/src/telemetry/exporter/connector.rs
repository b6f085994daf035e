//! Connects to the Collector, in plain text or over TLS, as the endpoint's scheme says.

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;

use crate::telemetry::config::{Destination, Protocol};

pub(super) fn connector(to: &Destination) -> HttpsConnector<HttpConnector> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(to.timeout));
    // Without it, a gRPC connection whose other end vanished stays in use until the kernel gives up
    // on it, after about 15 minutes (`tcp_retries2`, tcp(7)). HTTP/2 pings would notice too, but gRPC servers
    // close connections that ping often (`too_many_pings`).
    tcp.set_tcp_user_timeout(Some(to.timeout));
    let tls = HttpsConnectorBuilder::new()
        .with_tls_config(to.tls.as_ref().clone())
        .https_or_http();
    match to.protocol {
        Protocol::Grpc => tls.enable_http2().wrap_connector(tcp),
        Protocol::Http => tls.enable_http1().wrap_connector(tcp),
    }
}
