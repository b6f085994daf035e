//! The Collector's configuration.

use std::{net::SocketAddr, path::Path};

use super::Tls;

/// OTLP over gRPC and HTTP in, a line of JSON for each request out, and metrics on to `forward`.
pub(crate) fn text(
    grpc: SocketAddr,
    http: SocketAddr,
    exports: &Path,
    tls: Option<&Tls>,
    forward: Option<&str>,
) -> String {
    let (exporter, name) = match forward {
        // As in deploy/collector/gateway.yaml.
        Some(endpoint) => (
            format!("  otlp_http:\n    endpoint: {endpoint}\n"),
            ", otlp_http",
        ),
        None => (String::new(), ""),
    };
    let tls = tls.map(tls_text).unwrap_or_default();
    let exports = exports.display();
    format!(
        "receivers:
  otlp:
    protocols:
      grpc:
        endpoint: {grpc}
{tls}
      http:
        endpoint: {http}
{tls}
exporters:
  file:
    path: {exports}
    append: true
    flush_interval: 20ms
{exporter}service:
  telemetry:
    metrics:
      level: none
  pipelines:
    metrics:
      receivers: [otlp]
      exporters: [file{name}]
    logs:
      receivers: [otlp]
      exporters: [file]
"
    )
}

fn tls_text(tls: &Tls) -> String {
    let mut text = format!(
        "        tls:
          cert_file: {}
          key_file: {}",
        tls.certificate.display(),
        tls.key.display()
    );
    if let Some(ca) = &tls.client_ca {
        text.push_str(&format!("\n          client_ca_file: {}", ca.display()));
    }
    text
}
