//! `statlink status`.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write},
    path::Path,
    thread,
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets};

use crate::{
    control::{
        client,
        status::{LinkStatus, Status},
    },
    kernel::LossReason,
    link::State,
    terminal::{printable, write_json},
};

/// Prints the status; with `watch`, every second until interrupted.
///
/// # Errors
///
/// If no agent answers, or standard output cannot be written.
pub(super) fn run(socket: &Path, json: bool, watch: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let screen = watch && !json && out.is_terminal();
    loop {
        let status = client::status(socket)?;
        if json {
            write_json(&mut out, &serde_json::to_string(&status)?)?;
        } else {
            if screen {
                // Erase the screen and move to its top left: ED and CUP of ECMA-48.
                write!(out, "\x1b[2J\x1b[H")?;
            }
            text(&mut out, &status)?;
        }
        out.flush()?;
        if !watch {
            return Ok(());
        }
        thread::sleep(REFRESH);
    }
}

fn text(out: &mut impl Write, status: &Status) -> io::Result<()> {
    if status.links.is_empty() {
        writeln!(
            out,
            "no activator or autoscaler runs on this node (see statlink check)"
        )?;
    } else {
        writeln!(out, "{}", table(&status.links))?;
    }
    for pod in &status.unobserved {
        let name = format!("{}/{}", pod.namespace, pod.pod);
        let (name, why) = (printable(&name), printable(&pod.explanation));
        writeln!(out, "{name} is not observed: {why}")?;
    }
    for (reason, number) in &status.clients_refused {
        let reason = printable(reason);
        writeln!(
            out,
            "processes with a client's name and no link: {number} ({reason}; see statlink check)"
        )?;
    }
    for hook in &status.hooks_missing {
        let hook = printable(hook);
        writeln!(out, "hook {hook} is not attached (see statlink check)")?;
    }
    for (hook, number) in &status.events_missed {
        let hook = printable(hook);
        writeln!(
            out,
            "hook {hook} missed {number} events: causes may be missing, and counts too low"
        )?;
    }
    losses(out, &status.losses)
}

/// The losses, and whether they may affect the counts.
fn losses(out: &mut impl Write, losses: &BTreeMap<String, u64>) -> io::Result<()> {
    let is_counted = |reason: &str| {
        let known = LossReason::ALL
            .into_iter()
            .find(|known| known.name() == reason);
        known.is_none_or(LossReason::spares_counts)
    };
    let (counted, uncounted): (Vec<_>, Vec<_>) =
        losses.iter().partition(|(reason, _)| is_counted(reason));
    let records: u64 = counted.iter().map(|(_, number)| **number).sum();
    if records > 0 {
        writeln!(
            out,
            "{records} kernel records were lost: counts are right, details are missing"
        )?;
    }
    for (reason, number) in uncounted {
        let reason = printable(reason);
        writeln!(
            out,
            "{number} times a client's quota was full ({reason}): counts may be too low"
        )?;
    }
    Ok(())
}

fn table(links: &[LinkStatus]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "POD", "PEER", "STATE", "SINCE", "CAUSE", "ADDRESS", "RTT", "CHECKS", "ERRORS", "CONNECTS",
    ]);
    for link in links {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let (started, cause) = match link.state {
            State::Starting | State::Idle | State::Ended => (None, None),
            State::Reachable { since } => (since, None),
            State::Unreachable { since, cause } => (Some(since), Some(cause.as_str())),
            State::Unknown { since, reason } => (Some(since), Some(reason.as_str())),
        };
        let pod = format!("{}/{}", link.name.namespace, link.name.pod);
        table.add_row([
            printable(&pod).into_owned(),
            printable(&link.name.peer).into_owned(),
            link.state.as_str().to_owned(),
            or_dash(started.map(since)),
            or_dash(cause.map(str::to_owned)),
            or_dash(link.peer_address.map(|address| address.to_string())),
            or_dash(link.rtt_seconds.map(|rtt| format!("{:.2}ms", rtt * 1e3))),
            link.checks.to_string(),
            link.errors.to_string(),
            link.connects.to_string(),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
        if column.index >= FIRST_NUMBER {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// A duration in whole seconds, or in milliseconds below one second.
pub(super) fn since(since: Duration) -> String {
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let rounded = if millis < 1000 {
        Duration::from_millis(millis)
    } else {
        Duration::from_secs(since.as_secs())
    };
    humantime::format_duration(rounded).to_string()
}

/// The period that the help of `--watch` names.
const REFRESH: Duration = Duration::from_secs(1);
/// Index of the first column of numbers: RTT, then checks, errors and connects.
const FIRST_NUMBER: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{link::Cause, link_event::LinkName};

    fn link(pod: &str, state: State<Duration>) -> LinkStatus {
        LinkStatus {
            name: LinkName {
                peer: "autoscaler".to_owned(),
                namespace: "knative-serving".to_owned(),
                pod: pod.to_owned(),
                pid: 7,
            },
            state,
            peer_address: Some(([10, 0, 0, 1], 8080).into()),
            rtt_seconds: Some(0.000_25),
            silence_seconds: None,
            checks: 10,
            errors: 0,
            connects: 1,
            retransmits: 0,
            lives: 1,
        }
    }

    #[test]
    fn each_link_is_a_line_and_the_unknown_a_dash() {
        let up = State::Reachable {
            since: Some(Duration::from_secs_f64(3723.4)),
        };
        let mut lost = link(
            "b",
            State::Unreachable {
                since: Duration::from_millis(12),
                cause: Cause::PeerClosed,
            },
        );
        lost.rtt_seconds = None;
        let older = link("c", State::Reachable { since: None });
        let shown = table(&[link("a", up), lost, older]);
        let cells = |line: &str| -> Vec<String> {
            line.split("  ")
                .map(|cell| cell.trim().to_owned())
                .filter(|cell| !cell.is_empty())
                .collect()
        };
        let lines: Vec<_> = shown.lines().map(cells).collect();
        assert_eq!(
            lines[1],
            [
                "knative-serving/a",
                "autoscaler",
                "reachable",
                "1h 2m 3s",
                "-",
                "10.0.0.1:8080",
                "0.25ms",
                "10",
                "0",
                "1",
            ]
        );
        assert_eq!(
            lines[2],
            [
                "knative-serving/b",
                "autoscaler",
                "unreachable",
                "12ms",
                "peer_closed",
                "10.0.0.1:8080",
                "-",
                "10",
                "0",
                "1",
            ]
        );
        assert_eq!(lines[3][2..5], ["reachable", "-", "-"]);
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn a_name_cannot_write_to_the_terminal() {
        let shown = table(&[link("\u{1b}[2J\r\nfake\u{202e}", State::Idle)]);
        assert_eq!(shown.lines().count(), 2, "{shown:?}");
        let expected = r"knative-serving/\u{1b}[2J\r\nfake\u{202e}";
        assert!(shown.contains(expected), "{shown:?}");
    }

    #[test]
    fn less_than_a_second_is_shown_in_milliseconds() {
        assert_eq!(since(Duration::from_micros(12_300)), "12ms");
        assert_eq!(since(Duration::from_millis(59_900)), "59s");
    }
}
