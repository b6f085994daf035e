//! The agent's log lines about one link.

use statlink_tests::{peer::Activator, process::Line, scenario::Bed};

/// The agent's log lines of this level about the link's reachability.
pub(crate) fn log(bed: &Bed, activator: &Activator, level: &str) -> Vec<Line> {
    let message = match level {
        "ERROR" => "Autoscaler is not reachable from activator.",
        _ => "Autoscaler is reachable from activator.",
    };
    let lines = bed.agent.as_ref().unwrap().process.lines();
    lines
        .into_iter()
        .filter(|line| {
            line.get("level") == level
                && line.get("message") == message
                && line.get("k8s.pod.name") == activator.pod.name.as_str()
        })
        .collect()
}

/// Asserts that there is one ERROR line, with this cause and peer address.
#[track_caller]
pub(crate) fn assert_outage_logged(bed: &Bed, activator: &Activator, cause: &str, to: &str) {
    let lines = log(bed, activator, "ERROR");
    assert_eq!(lines.len(), 1, "one outage, one line: {lines:#?}");
    let line = lines.first().unwrap();
    assert_eq!(line.get("error.type"), cause, "{}", line.text);
    if cause != "no_attempt" {
        assert_eq!(line.get("network.peer.address"), to, "{}", line.text);
        assert_eq!(line.get("network.peer.port"), 8080, "{}", line.text);
    }
}

/// Asserts that the last INFO line ends an outage of this cause.
#[track_caller]
pub(crate) fn assert_recovery_logged(bed: &Bed, activator: &Activator, cause: &str) {
    let lines = log(bed, activator, "INFO");
    let line = lines.last().unwrap();
    assert_eq!(line.get("error.type"), cause, "{}", line.text);
    let length = line.get("outage.duration").as_f64().unwrap();
    assert!(length > 0.0, "{}", line.text);
    let errors = line.get("errors").as_u64().unwrap();
    assert!(errors > 0, "{}", line.text);
}
