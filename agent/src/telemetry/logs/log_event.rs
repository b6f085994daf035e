//! Writes a [`LogEntry`] as one structured log event.

use std::{collections::BTreeMap, fmt, net::SocketAddr, time::Duration};

use tracing::field::{DisplayValue, display};

use super::flap_filter::{FlapSummary, LogEntry};
use crate::{
    link::{Cause, UnknownReason},
    link_event::{EndedOutage, EventKind, FailedAttempt, LinkName},
    link_kind::client_of,
    runbook,
};

/// Logs `entry` about `link`: outages at ERROR, unknown states at WARN, the ends of both at INFO,
/// single connections at DEBUG.
pub(crate) fn log(link: &LinkName, entry: &LogEntry) {
    match entry {
        LogEntry::Event(event) => log_event(link, event),
        LogEntry::Flapping => flapping(link),
        LogEntry::Summary(summary) => flapped(link, summary),
        LogEntry::Settled => settled(link),
    }
}

fn log_event(link: &LinkName, event: &EventKind) {
    match event {
        EventKind::Discovered => discovered(link),
        EventKind::Unknown { reason } => unknown(link, *reason),
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

/// A log event about one link, with the attributes that its metrics have.
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
        "The {client} is idle: it has no peer to be connected to."
    );
}

fn unknown(link: &LinkName, reason: UnknownReason) {
    let client = client_of(&link.peer);
    event!(
        WARN,
        "statlink.link.unknown",
        link,
        "It is unknown whether autoscaler is reachable from {client}.",
        "statlink.unknown.reason" = reason.as_str(),
        "reason" = reason.describe()
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
        "attempts" = outage.and_then(|outage| attempts_field(&outage.attempts))
    );
}

fn unreachable(
    link: &LinkName,
    cause: Cause,
    to: Option<SocketAddr>,
    proxy: Option<SocketAddr>,
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
        "hop.address" = proxy.map(display),
        "attempts" = attempts_field(attempts),
        "runbook" = runbook::of_cause(cause)
    );
}

fn flapping(link: &LinkName) {
    event!(
        INFO,
        "statlink.link.flaps",
        link,
        "The link is flapping: from now on its outages are summed up once a minute."
    );
}

fn flapped(link: &LinkName, summary: &FlapSummary) {
    let client = client_of(&link.peer);
    let FlapSummary {
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
        "Autoscaler was repeatedly not reachable from {client}.",
        "period" = length.as_secs_f64(),
        "outages" = outages.values().sum::<u64>(),
        "error.types" = display(OutagesByCause(outages)),
        "outage.duration" = unreachable.as_secs_f64(),
        "errors" = errors,
        "reachable" = !under_way,
        "runbook" = runbook::FLAPPING.url()
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
        "connect.duration" = duration.map(|duration| duration.as_secs_f64())
    );
}

fn connect_failed(link: &LinkName, attempt: &FailedAttempt) {
    event!(
        DEBUG,
        "statlink.link.connect_failed",
        link,
        "Attempt failed.",
        "network.peer.address" = attempt.peer_address.map(|to| display(to.ip())),
        "network.peer.port" = attempt.peer_address.map(|to| to.port()),
        "error.type" = attempt.cause.as_str(),
        "hop.address" = attempt.proxy_address.map(display),
        "errno" = attempt.errno,
        "connect.duration" = attempt.duration.map(|duration| duration.as_secs_f64())
    );
}

fn disconnected(link: &LinkName, to: SocketAddr, cause: Cause, proxy: Option<SocketAddr>) {
    event!(
        DEBUG,
        "statlink.link.disconnected",
        link,
        "Connection was lost.",
        "network.peer.address" = display(to.ip()),
        "network.peer.port" = to.port(),
        "error.type" = cause.as_str(),
        "hop.address" = proxy.map(display)
    );
}

/// The field `attempts`; absent if there are none.
fn attempts_field(attempts: &[FailedAttempt]) -> Option<DisplayValue<Attempts<'_>>> {
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
            if let Some(proxy) = attempt.proxy_address {
                write!(f, " of a hop to {proxy}")?;
            }
            if let Some(errno) = attempt.errno {
                write!(f, " (errno {errno})")?;
            }
            if let Some(duration) = attempt.duration {
                write!(f, " after {:.3} s", duration.as_secs_f64())?;
            }
        }
        Ok(())
    }
}

/// Numbers of outages by cause on one line: `3 connection_reset, 1 stalled`.
struct OutagesByCause<'a>(&'a BTreeMap<Cause, u64>);

impl fmt::Display for OutagesByCause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (cause, number)) in self.0.iter().enumerate() {
            let separator = if position > 0 { ", " } else { "" };
            write!(f, "{separator}{number} {cause}")?;
        }
        Ok(())
    }
}
