//! What the agent talks to: processes, the Collector, its own sockets.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
};

use super::{Finding, Verdict};
use crate::{
    control::{client, server},
    discovery::{Discovery, Selector},
    telemetry::{self, config::Config},
};

pub(super) fn activators(discovery: &Discovery, selector: &Selector) -> Finding {
    let finding = |detail| Finding::new("activators", "know whose links to watch", detail);
    let found = match discovery.scan() {
        Ok(found) => found,
        Err(error) => {
            return finding(error.to_string())
                .but(Verdict::Failed, "mount /proc with its processes visible");
        }
    };
    let mut names = Vec::new();
    for activator in found {
        match activator {
            Ok(activator) => names.push(format!("{}/{}", activator.namespace, activator.pod)),
            Err(error) => {
                return finding(error.to_string()).but(
                    Verdict::Failed,
                    "add CAP_SYS_PTRACE, and hostPID in Kubernetes",
                );
            }
        }
    }
    if names.is_empty() {
        let detail = format!(
            "no process named {:?} with {} and {} in its environment runs here now",
            selector.process_name, selector.pod_name_env, selector.namespace_env
        );
        return finding(detail).but(
            Verdict::Warning,
            "fine where none is scheduled; otherwise compare --process-name, --pod-name-env, \
             --namespace-env and --namespace, and set hostPID in Kubernetes",
        );
    }
    names.sort();
    finding(names.join(", "))
}

pub(super) async fn collector(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (signal, to) in [("metrics", &config.metrics), ("logs", &config.logs)] {
        let Some(to) = to else { continue };
        let purpose = format!("deliver {signal}");
        let finding = |detail| Finding::new(format!("Collector ({signal})"), &purpose, detail);
        findings.push(match telemetry::probe(to).await {
            Ok(()) => finding(format!("{} accepts", to.endpoint)),
            Err(error) => finding(format!("{}: {error}", to.endpoint)).but(
                Verdict::Failed,
                "start it there, or correct --otlp-endpoint and OTEL_EXPORTER_OTLP_PROTOCOL, _CERTIFICATE, _HEADERS",
            ),
        });
    }
    if findings.is_empty() {
        let finding = Finding::new("Collector", "deliver metrics", "exports are switched off");
        findings.push(finding.but(
            Verdict::Warning,
            "unset OTEL_SDK_DISABLED and OTEL_METRICS_EXPORTER=none",
        ));
    }
    findings
}

/// The control socket, and the health address if there is one. Where an agent is running, it
/// holds both.
pub(super) fn sockets(path: &Path, health: Option<SocketAddr>) -> Vec<Finding> {
    let finding = |detail| Finding::new("control socket", "answer status and events", detail);
    let place = path.display();
    if let Ok(status) = client::status(path) {
        let version = status.version;
        return vec![finding(format!("{place}: statlink {version} answers"))];
    }
    let socket = match server::Server::bind(path) {
        Ok(_) => finding(format!("{place} can be bound")),
        Err(error) => finding(error.to_string()).but(Verdict::Failed, "name another with --socket"),
    };
    [socket].into_iter().chain(health.map(address)).collect()
}

fn address(address: SocketAddr) -> Finding {
    let finding = |detail| Finding::new("health address", "answer probes", detail);
    match TcpListener::bind(address) {
        Ok(_) => finding(format!("{address} can be bound")),
        Err(error) => finding(format!("{address}: {error}")).but(
            Verdict::Failed,
            "free it, or name another with --health-address",
        ),
    }
}
