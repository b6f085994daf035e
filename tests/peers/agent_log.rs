//! The agent's log lines about one link.

use statlink_tests::{peer::Activator, process::Line, scenario::Bed, wait};

use crate::PATIENCE;

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

/// The same once there are this many: the agent logs before it exports, but the test may read the line
/// later than the export.
#[track_caller]
pub(crate) fn wait_log(bed: &Bed, activator: &Activator, level: &str, lines: usize) -> Vec<Line> {
    let logged = wait::until("log line of the link", PATIENCE, || {
        let logged = log(bed, activator, level);
        Ok(Some(logged).filter(|logged| logged.len() >= lines))
    });
    logged.unwrap()
}

/// Asserts that there is one ERROR line, with this cause and peer address.
#[track_caller]
pub(crate) fn assert_outage_logged(bed: &Bed, activator: &Activator, cause: &str, to: &str) {
    let lines = wait_log(bed, activator, "ERROR", 1);
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
    let line = wait::until("log line of the recovery", PATIENCE, || {
        let last = log(bed, activator, "INFO").pop();
        Ok(last.filter(|line| line.get("error.type") == cause))
    });
    let line = line.unwrap();
    let length = line.get("outage.duration").as_f64().unwrap();
    assert!(length > 0.0, "{}", line.text);
    let errors = line.get("errors").as_u64().unwrap();
    assert!(errors > 0, "{}", line.text);
}
