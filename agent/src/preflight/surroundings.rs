//! What the agent talks to: processes, the Collector, its own sockets.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use super::{Finding, Verdict};
use crate::{
    control::{client, server},
    discovery::{Discovery, Selector},
    link::Shape,
    peering::Peering,
    telemetry::{self, config::Config},
};

/// A finding for each kind of link.
pub(super) fn diallers(discovery: &Discovery, selector: &Selector) -> Vec<Finding> {
    let finding = |of: &str, detail| Finding::new(of, "know whose links to watch", detail);
    let subject = |peering: &Peering| format!("{}s", peering.process_name);
    // Where looking fails, it fails of all kinds alike.
    let first = selector.peerings.first().map(subject).unwrap_or_default();
    let found = match discovery.scan() {
        Ok(found) => found,
        Err(error) => {
            let finding = finding(&first, error.to_string());
            let cure = "mount /proc with its processes visible";
            return vec![finding.but(Verdict::Failed, cure)];
        }
    };
    let mut names = BTreeSet::new();
    for dialler in found {
        match dialler {
            Ok(dialler) => {
                let name = format!("{}/{}", dialler.namespace, dialler.pod);
                names.insert((dialler.peering.process_name, name));
            }
            Err(error) => {
                let cure = "add CAP_SYS_PTRACE, and hostPID in Kubernetes";
                let finding = finding(&first, error.to_string());
                return vec![finding.but(Verdict::Failed, cure)];
            }
        }
    }
    let peerings = selector.peerings.iter();
    let told = peerings.map(|peering| {
        let process = &peering.process_name;
        let subject = subject(peering);
        let of_it = names.iter().filter(|(of, _)| of == process);
        let of_it: Vec<&str> = of_it.map(|(_, name)| name.as_str()).collect();
        if !of_it.is_empty() {
            return finding(&subject, of_it.join(", "));
        }
        let (detail, cure) = if discovery.asks_api() {
            let detail =
                format!("no process named {process:?} of a pod that is asked for runs here now");
            (detail, COMPARE_WITH_API)
        } else {
            let detail = format!(
                "no process named {process:?} with {} and {} in its environment runs here now",
                selector.pod_name_env, selector.namespace_env
            );
            (detail, COMPARE)
        };
        let none = finding(&subject, detail);
        match peering.shape {
            Shape::One => none.but(Verdict::Warning, cure),
            Shape::PerDestination => none,
        }
    });
    told.collect()
}

const COMPARE: &str = "fine where none is scheduled; otherwise compare --process-name, \
     --pod-name-env, --namespace-env and --namespace";
const COMPARE_WITH_API: &str = "fine where none is scheduled; otherwise compare --pod-selector, \
     --container, --process-name and --namespace";

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
