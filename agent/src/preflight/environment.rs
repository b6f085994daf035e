//! The agent's surroundings: processes, the Collector, its own sockets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, TcpListener},
    path::Path,
};

use super::finding::{Finding, Verdict};
use crate::{
    clock,
    control::{client, server},
    discovery::{Client, Discovery, DiscoveryError, NEWS, Selector, UnobservedPod},
    link::Shape,
    link_kind::LinkKind,
    telemetry::{self, config::Config},
};

/// One finding for each kind of link: the clients that run here now.
pub(super) fn clients(discovery: &mut Discovery, selector: &Selector) -> Vec<Finding> {
    let (mut clients, mut nameless, mut failed) = (Vec::new(), Vec::new(), None);
    let now = clock::now();
    let mut found = discovery.scan(now).unwrap_or_else(|error| vec![Err(error)]);
    // Report what the API has not named by now: a check does not wait for it.
    discovery.look_for_absences(now);
    found.extend(discovery.on_deadline(now + NEWS));
    discovery.look_for_absences(now + NEWS);
    for found in found {
        match found {
            Ok(client) => clients.push(client),
            Err(error) if error.is_about_naming() => nameless.push(error),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    if let Some(error) = failed {
        // A scan fails for all kinds alike.
        let first = selector.kinds.first().map(plural).unwrap_or_default();
        let finding = Finding::new(first, CLIENTS_PURPOSE, error.problem());
        return vec![finding.with_verdict(Verdict::Failed, error.cure())];
    }
    let kinds = selector.kinds.iter();
    let of_kinds = kinds.map(|kind| clients_of(kind, &clients, discovery, selector));
    // Anybody can start many such processes: a few show what is wrong.
    let nameless = nameless.iter().take(MOST_NAMELESS).map(nameless_one);
    let unobserved = discovery.unobserved().map(unobserved_one);
    of_kinds.chain(nameless).chain(unobserved).collect()
}

/// A pod that runs here with an unknown link.
fn unobserved_one(pod: &UnobservedPod) -> Finding {
    let detail = format!("{}/{} runs here", pod.namespace, pod.pod);
    Finding::new("not observed", CLIENTS_PURPOSE, detail)
        .with_verdict(Verdict::Warning, pod.reason.explain(&pod.process))
}

/// A process with a client's process name that is not watched, because of the name it claims or
/// lacks.
fn nameless_one(error: &DiscoveryError) -> Finding {
    Finding::new("not watched", CLIENTS_PURPOSE, error.problem())
        .with_verdict(Verdict::Warning, error.cure())
}

fn clients_of(
    kind: &LinkKind,
    found: &[Client],
    discovery: &Discovery,
    selector: &Selector,
) -> Finding {
    let of_kind = found.iter().filter(|client| client.kind == *kind);
    let names: BTreeSet<String> = of_kind
        .map(|client| format!("{}/{}", client.namespace, client.pod))
        .collect();
    let finding = |detail| Finding::new(plural(kind), CLIENTS_PURPOSE, detail);
    if !names.is_empty() {
        return finding(names.into_iter().collect::<Vec<_>>().join(", "));
    }
    let process = &kind.process_name;
    let (detail, cure) = if discovery.uses_kubernetes() {
        let detail = format!("no process named {process:?} of a selected pod runs here now");
        (detail, COMPARE_WITH_API)
    } else {
        let watched = selector.namespace.as_ref();
        let watched = watched.map_or_else(String::new, |only| format!(" of namespace {only}"));
        let detail = format!(
            "no process named {process:?}{watched} with {} and {} in its environment runs here now",
            selector.pod_name_env, selector.namespace_env
        );
        (detail, COMPARE)
    };
    match kind.shape {
        Shape::One => finding(detail).with_verdict(Verdict::Warning, cure),
        // Most nodes run no autoscaler.
        Shape::PerDestination => finding(detail),
    }
}

fn plural(kind: &LinkKind) -> String {
    format!("{}s", kind.process_name)
}

/// How many unwatched processes `check` names.
const MOST_NAMELESS: usize = 8;
const CLIENTS_PURPOSE: &str = "know whose links to watch";
const COMPARE: &str = "fine where none is scheduled; otherwise compare --process-name, \
     --pod-name-env, --namespace-env and --namespace";
const COMPARE_WITH_API: &str = "fine where none is scheduled; otherwise compare --pod-selector, \
     --container, --process-name and --namespace";

/// One finding for each exported signal: whether the Collector accepts a request.
pub(super) async fn collector(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (signal, to) in [("metrics", &config.metrics), ("logs", &config.logs)] {
        let Some(to) = to else { continue };
        let purpose = format!("deliver {signal}");
        let finding = |detail| Finding::new(format!("Collector ({signal})"), &purpose, detail);
        findings.push(match telemetry::probe(to).await {
            Ok(()) => finding(format!("{} accepts", to.endpoint)),
            Err(error) => finding(format!("{}: {error}", to.endpoint)).with_verdict(
                Verdict::Failed,
                "start it there, or correct --otlp-endpoint and OTEL_EXPORTER_OTLP_PROTOCOL, _CERTIFICATE, _HEADERS",
            ),
        });
    }
    let warnings = config.warnings.iter().map(|warning| {
        Finding::new("Collector", "deliver metrics", warning)
            .with_verdict(Verdict::Warning, "ask for what is used")
    });
    if findings.is_empty() {
        let finding = Finding::new("Collector", "deliver metrics", "exports are switched off");
        findings.push(finding.with_verdict(
            Verdict::Warning,
            "unset OTEL_SDK_DISABLED and OTEL_METRICS_EXPORTER=none",
        ));
    }
    findings.into_iter().chain(warnings).collect()
}

/// An address to listen on, if its flag gives one.
pub(super) struct Listen {
    pub(super) name: &'static str,
    pub(super) purpose: &'static str,
    pub(super) flag: &'static str,
    pub(super) address: Option<SocketAddr>,
}

/// Whether the control socket and the addresses can be bound, or a running agent already holds
/// them.
pub(super) fn sockets(path: &Path, addresses: &[Listen]) -> Vec<Finding> {
    let finding = |detail| Finding::new("control socket", "answer status and events", detail);
    let place = path.display();
    if let Ok(status) = client::status(path) {
        let version = status.version;
        let answers = finding(format!("{place}: statlink {version} answers"));
        return vec![answers, missed_events(&status.events_missed)];
    }
    let socket = match server::Server::bind(path) {
        Ok(_) => finding(format!("{place} can be bound")),
        Err(error) => {
            finding(error.to_string()).with_verdict(Verdict::Failed, "name another with --socket")
        }
    };
    let addresses = addresses.iter().filter_map(can_listen);
    [socket].into_iter().chain(addresses).collect()
}

/// What the running agent reports: whether programs miss events shows only after a while.
fn missed_events(missed: &BTreeMap<String, u64>) -> Finding {
    let finding = |detail| Finding::new("missed events", "see each event", detail);
    if missed.is_empty() {
        return finding("none since the running agent was started".to_owned());
    }
    let hooks = missed.iter();
    let hooks: Vec<_> = hooks
        .map(|(hook, count)| format!("{count} by {hook}"))
        .collect();
    finding(hooks.join(", ")).with_verdict(
        Verdict::Warning,
        "none is known: this kernel may interrupt the programs; see deploy/docs/limits.md",
    )
}

fn can_listen(listen: &Listen) -> Option<Finding> {
    let address = listen.address?;
    let finding = |detail| Finding::new(listen.name, listen.purpose, detail);
    Some(match TcpListener::bind(address) {
        Ok(_) => finding(format!("{address} can be bound")),
        Err(error) => finding(format!("{address}: {error}")).with_verdict(
            Verdict::Failed,
            format!(
                "stop what listens there, or name another with {}",
                listen.flag
            ),
        ),
    })
}
