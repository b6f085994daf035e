//! `statlink events`.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use serde::Deserialize;

use crate::{
    control::{client, wire::MissedEvents},
    link_event::{EndedOutage, EventKind, FailedAttempt, LinkEvent},
    terminal::{json_printable, printable},
};

/// One line from the agent.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Event(Box<LinkEvent>),
    Missed(MissedEvents),
}

/// Prints events until the agent stops or the reader of standard output is gone.
///
/// # Errors
///
/// If no agent answers, or it stops; and if standard output cannot be written.
pub(super) fn run(socket: &Path, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for line in client::events(socket)? {
        let line = line.with_context(|| format!("read events from {}", socket.display()))?;
        let line = if json {
            json_printable(&line).into_owned()
        } else {
            text(&line)?
        };
        writeln!(out, "{line}")?;
        out.flush()?;
    }
    anyhow::bail!("the agent on {} has stopped", socket.display())
}

/// One event, for a person to read.
pub(super) fn text(line: &str) -> anyhow::Result<String> {
    let line = serde_json::from_str(line)
        .with_context(|| format!("an event in a form unknown here: {line}"))?;
    let text = match line {
        Line::Event(event) => event_text(&event),
        Line::Missed(MissedEvents { missed }) => format!("({missed} events were missed)"),
    };
    Ok(printable(&text).into_owned())
}

fn event_text(event: &LinkEvent) -> String {
    let time = humantime::format_rfc3339_millis(event.at.0);
    let link = &event.link;
    let kind = kind_text(&event.kind);
    format!("{time}  {}/{}  {kind}", link.namespace, link.pod)
}

fn kind_text(kind: &EventKind) -> String {
    match kind {
        EventKind::Discovered => "discovered".to_owned(),
        EventKind::Connected {
            peer_address,
            duration,
        } => format!("connected to {peer_address}{}", after(*duration)),
        EventKind::ConnectFailed(failed) => format!("connect failed: {}", attempt(failed)),
        EventKind::Disconnected {
            peer_address,
            cause,
            proxy_address,
        } => format!(
            "disconnected from {peer_address}: {cause}{}",
            through(*proxy_address)
        ),
        EventKind::Reachable {
            outage,
            peer_address,
        } => {
            let mut text = format!("reachable at {peer_address}");
            if let Some(outage) = outage {
                let EndedOutage {
                    duration,
                    cause,
                    errors,
                    ..
                } = outage;
                // Writing to a string does not fail.
                let seconds = duration.as_secs_f64();
                let _ = write!(text, ", after {seconds:.3} s ({cause}), errors: {errors}");
            }
            text
        }
        EventKind::Unreachable {
            cause,
            peer_address,
            proxy_address,
            attempts,
        } => {
            let mut text = format!("not reachable: {cause}{}", through(*proxy_address));
            if let Some(address) = peer_address {
                // Writing to a string does not fail.
                let _ = write!(text, ", {address}");
            }
            if !attempts.is_empty() {
                let attempts: Vec<_> = attempts.iter().map(attempt).collect();
                let _ = write!(text, "; last attempts: {}", attempts.join(", "));
            }
            text
        }
        EventKind::Unknown { reason } => format!("unknown: {}", reason.describe()),
        EventKind::Idle => "idle: no peer to be connected to".to_owned(),
        EventKind::Ended => "ended".to_owned(),
    }
}

/// Names the proxy's connection if its failure is the cause.
fn through(proxy: Option<SocketAddr>) -> String {
    proxy.map_or_else(String::new, |to| {
        format!(" of the proxy's connection to {to}")
    })
}

fn attempt(failed: &FailedAttempt) -> String {
    let mut text = format!("{}{}", failed.cause, through(failed.proxy_address));
    if let Some(errno) = failed.errno {
        let name = io::Error::from_raw_os_error(errno.into());
        // Writing to a string does not fail.
        let _ = write!(text, " ({name})");
    }
    if let Some(address) = failed.peer_address {
        let _ = write!(text, " at {address}");
    }
    text + &after(failed.duration)
}

fn after(duration: Option<Duration>) -> String {
    duration
        .map(|took| format!(" after {:.1} ms", took.as_secs_f64() * 1e3))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_one_line() {
        let line = r#"{"at":1.5,"known_at":1.6,"peer":"autoscaler","namespace":"n","pod":"p","pid":3,
            "event":"unreachable","cause":"connection_refused","peer_address":"10.0.0.1:8080",
            "attempts":[{"at":1.4,"peer_address":"10.0.0.1:8080","cause":"connection_refused","errno":111,"duration":0.0005}]}"#;
        assert_eq!(
            text(line).unwrap(),
            "1970-01-01T00:00:01.500Z  n/p  not reachable: connection_refused, 10.0.0.1:8080; \
             last attempts: connection_refused (Connection refused (os error 111)) at 10.0.0.1:8080 \
             after 0.5 ms"
        );
    }

    #[test]
    fn a_failed_attempt_is_one_line() {
        // The key `at` occurs twice.
        let line = r#"{"at":1.5,"known_at":1.6,"peer":"autoscaler","namespace":"n","pod":"p","pid":3,
            "event":"connect_failed","at":1.5,"peer_address":"10.0.0.1:8080","cause":"timeout",
            "hop_address":"10.0.0.2:8080"}"#;
        assert_eq!(
            text(line).unwrap(),
            "1970-01-01T00:00:01.500Z  n/p  connect failed: timeout of the proxy's connection to \
             10.0.0.2:8080 at 10.0.0.1:8080"
        );
    }

    #[test]
    fn a_name_cannot_write_to_the_terminal() {
        let line = r#"{"at":1.5,"known_at":1.6,"peer":"autoscaler","namespace":"n\u202e","pod":"\u001b[2J\r\nfake","pid":3,
            "event":"idle"}"#;
        assert_eq!(
            text(line).unwrap(),
            "1970-01-01T00:00:01.500Z  n\\u{202e}/\\u{1b}[2J\\r\\nfake  idle: no peer to be \
             connected to"
        );
    }

    #[test]
    fn missed_events_are_reported() {
        assert_eq!(text(r#"{"missed":3}"#).unwrap(), "(3 events were missed)");
    }

    #[test]
    fn a_line_that_is_not_understood_is_shown() {
        let error = format!("{:#}", text(r#"{"event":"new"}"#).unwrap_err());
        assert!(error.contains(r#"{"event":"new"}"#), "{error}");
    }
}
