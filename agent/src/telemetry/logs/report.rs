//! A line of a link's story as one log event.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use tracing::field::{DisplayValue, display};

use super::story::{Line, Summary};
use crate::{
    link::Cause,
    link_kind::client_of,
    report::{EndedOutage, EventKind, FailedAttempt, LinkName},
};

/// Logs `line` about `link`: outages at ERROR, their ends at INFO, what happens to single
/// connections at DEBUG.
pub fn log(link: &LinkName, line: &Line) {
    match line {
        Line::Report(what) => log_report(link, what),
        Line::Flaps => flaps(link),
        Line::Summary(summary) => summed_up(link, summary),
        Line::Settled => settled(link),
    }
}

fn log_report(link: &LinkName, what: &EventKind) {
    match what {
        EventKind::Discovered => discovered(link),
        EventKind::Idle => idle(link),
        EventKind::Ended => ended(link),
        EventKind::Reachable {
            outage,
            peer_address,
        } => reachable(link, outage.as_ref(), *peer_address),
        EventKind::Unreachable {
            cause,
            peer_address,
            proxy_address,
            attempts,
        } => unreachable(link, *cause, *peer_address, *proxy_address, attempts),
        EventKind::Connected {
            peer_address,
            duration,
        } => connected(link, *peer_address, *duration),
        EventKind::ConnectFailed(attempt) => connect_failed(link, attempt),
        EventKind::Disconnected {
            peer_address,
            cause,
            proxy_address,
        } => disconnected(link, *peer_address, *cause, *proxy_address),
    }
}

/// An event about one link, with the attributes of its metrics.
macro_rules! event {
    ($level:ident, $name:literal, $link:ident, $message:literal $(, $key:literal = $value:expr)*) => {
        tracing::event!(
            name: $name,
            target: "statlink",
            tracing::Level::$level,
            "peer" = $link.peer,
            "k8s.namespace.name" = $link.namespace,
            "k8s.pod.name" = $link.pod,
            "process.pid" = $link.pid,
            $($key = $value,)*
            $message
        )
    };
}

fn discovered(link: &LinkName) {
    let client = client_of(&link.peer);
    event!(
        INFO,
        "statlink.link.discovered",
        link,
        "An {client} was discovered."
    );
}

fn idle(link: &LinkName) {
    let client = client_of(&link.peer);
    event!(
        INFO,
        "statlink.link.idle",
        link,
        "The {client} has nothing to be connected to any more."
    );
}

fn ended(link: &LinkName) {
    let client = client_of(&link.peer);
    event!(INFO, "statlink.link.ended", link, "The {client} ended.");
}

fn reachable(link: &LinkName, outage: Option<&EndedOutage>, to: SocketAddr) {
    let client = client_of(&link.peer);
    event!(
        INFO,
        "statlink.link.reachable",
        link,
        "Autoscaler is reachable from {client}.",
        "network.peer.address" = display(to.ip()),
        "network.peer.port" = to.port(),
        "outage.duration" = outage.map(|outage| outage.duration.as_secs_f64()),
        "error.type" = outage.map(|outage| outage.cause.as_str()),
        "errors" = outage.map(|outage| outage.errors),
        "attempts" = outage.and_then(|outage| attempts_told(&outage.attempts))
    );
}

fn unreachable(
    link: &LinkName,
    cause: Cause,
    to: Option<SocketAddr>,
    hop: Option<SocketAddr>,
    attempts: &[FailedAttempt],
) {
    let client = client_of(&link.peer);
    event!(
        ERROR,
        "statlink.link.unreachable",
        link,
        "Autoscaler is not reachable from {client}.",
        "error.type" = cause.as_str(),
        "network.peer.address" = to.map(|to| display(to.ip())),
        "network.peer.port" = to.map(|to| to.port()),
        "hop.address" = hop.map(display),
        "attempts" = attempts_told(attempts)
    );
}

fn flaps(link: &LinkName) {
    event!(
        INFO,
        "statlink.link.flaps",
        link,
        "Outages follow each other: from here on they are summed up, once a minute."
    );
}

fn summed_up(link: &LinkName, summary: &Summary) {
    let client = client_of(&link.peer);
    let Summary {
        length,
        outages,
        unreachable,
        errors,
        under_way,
    } = summary;
    event!(
        ERROR,
        "statlink.link.flapped",
        link,
        "Autoscaler was not reachable from {client}, again and again.",
        "period" = length.as_secs_f64(),
        "outages" = outages.values().sum::<u64>(),
        "error.types" = display(Numbers(outages)),
        "outage.duration" = unreachable,
        "errors" = errors,
        "reachable" = !under_way
    );
}

fn settled(link: &LinkName) {
    let client = client_of(&link.peer);
    event!(
        INFO,
        "statlink.link.settled",
        link,
        "Autoscaler has been reachable from {client} for a minute."
    );
}

fn connected(link: &LinkName, to: SocketAddr, duration: Option<Duration>) {
    event!(
        DEBUG,
        "statlink.link.connected",
        link,
        "Connection came up.",
        "network.peer.address" = display(to.ip()),
        "network.peer.port" = to.port(),
        "connect.duration" = duration.map(|took| took.as_secs_f64())
    );
}

fn connect_failed(link: &LinkName, attempt: &FailedAttempt) {
    event!(
        DEBUG,
        "statlink.link.connect_failed",
        link,
        "FailedAttempt failed.",
        "network.peer.address" = attempt.peer_address.map(|to| display(to.ip())),
        "network.peer.port" = attempt.peer_address.map(|to| to.port()),
        "error.type" = attempt.cause.as_str(),
        "hop.address" = attempt.proxy_address.map(display),
        "errno" = attempt.errno,
        "connect.duration" = attempt.duration.map(|took| took.as_secs_f64())
    );
}

fn disconnected(link: &LinkName, to: SocketAddr, cause: Cause, hop: Option<SocketAddr>) {
    event!(
        DEBUG,
        "statlink.link.disconnected",
        link,
        "Connection was lost.",
        "network.peer.address" = display(to.ip()),
        "network.peer.port" = to.port(),
        "error.type" = cause.as_str(),
        "hop.address" = hop.map(display)
    );
}

fn attempts_told(attempts: &[FailedAttempt]) -> Option<DisplayValue<Attempts<'_>>> {
    (!attempts.is_empty()).then(|| display(Attempts(attempts)))
}

/// The last attempts on one line, oldest first, each with the time at which it failed.
struct Attempts<'a>(&'a [FailedAttempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, attempt) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{} ", humantime::format_rfc3339_millis(attempt.at.0))?;
            if let Some(to) = attempt.peer_address {
                write!(f, "{to} ")?;
            }
            write!(f, "{}", attempt.cause)?;
            if let Some(hop) = attempt.proxy_address {
                write!(f, " of a hop to {hop}")?;
            }
            if let Some(errno) = attempt.errno {
                write!(f, " (errno {errno})")?;
            }
            if let Some(took) = attempt.duration {
                write!(f, " after {:.3} s", took.as_secs_f64())?;
            }
        }
        Ok(())
    }
}

/// Outages by cause on one line.
struct Numbers<'a>(&'a BTreeMap<Cause, u64>);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (cause, number)) in self.0.iter().enumerate() {
            let separator = if position > 0 { ", " } else { "" };
            write!(f, "{separator}{number} {cause}")?;
        }
        Ok(())
    }
}
