//! Connects to the Collector, plain or over TLS as the endpoint's scheme says.

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;

use crate::telemetry::config::{Destination, Protocol};

pub(super) fn connector(to: &Destination) -> HttpsConnector<HttpConnector> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(to.timeout));
    // Or a gRPC connection whose other end vanished is used until the kernel gives up on it, a
    // quarter of an hour later. HTTP/2 pings would do too, but gRPC servers take them for abuse.
    tcp.set_tcp_user_timeout(Some(to.timeout));
    let tls = HttpsConnectorBuilder::new()
        .with_tls_config(to.tls.as_ref().clone())
        .https_or_http();
    match to.protocol {
        Protocol::Grpc => tls.enable_http2().wrap_connector(tcp),
        Protocol::Http => tls.enable_http1().wrap_connector(tcp),
    }
}
