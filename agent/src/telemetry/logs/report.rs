//! A report as one log event.

use std::{fmt, net::SocketAddr};

use crate::{
    link::Cause,
    report::{Attempt, LinkName, Report, What},
};

/// Logs `report`: transitions of a link at ERROR and INFO, what happens to single connections at
/// DEBUG.
pub fn log_report(report: &Report) {
    let Report { link, what, .. } = report;
    match what {
        What::Discovered => discovered(link),
        What::Ended => ended(link),
        What::Reachable {
            outage,
            cause,
            peer_address,
        } => reachable(link, *outage, *cause, *peer_address),
        What::Unreachable {
            cause,
            peer_address,
            hop_address,
            attempts,
        } => unreachable(link, *cause, *peer_address, *hop_address, attempts),
        What::Connected {
            peer_address,
            duration,
        } => connected(link, *peer_address, *duration),
        What::ConnectFailed(attempt) => connect_failed(link, attempt),
        What::Disconnected {
            peer_address,
            cause,
            hop_address,
        } => disconnected(link, *peer_address, *cause, *hop_address),
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
    event!(
        INFO,
        "statlink.link.discovered",
        link,
        "Activator discovered."
    );
}

fn ended(link: &LinkName) {
    event!(INFO, "statlink.link.ended", link, "Activator ended.");
}

fn reachable(link: &LinkName, outage: Option<f64>, cause: Option<Cause>, to: SocketAddr) {
    event!(
        INFO,
        "statlink.link.reachable",
        link,
        "Autoscaler is reachable from activator.",
        "network.peer.address" = display(to.ip()),
        "network.peer.port" = to.port(),
        "outage.duration" = outage,
        "error.type" = cause.map(Cause::as_str)
    );
}

fn unreachable(
    link: &LinkName,
    cause: Cause,
    to: Option<SocketAddr>,
    hop: Option<SocketAddr>,
    attempts: &[Attempt],
) {
    event!(
        ERROR,
        "statlink.link.unreachable",
        link,
        "Autoscaler is not reachable from activator.",
        "error.type" = cause.as_str(),
        "network.peer.address" = to.map(|to| display(to.ip())),
        "network.peer.port" = to.map(|to| to.port()),
        "hop.address" = hop.map(display),
        "attempts" = (!attempts.is_empty()).then(|| display(Attempts(attempts)))
    );
}

fn connected(link: &LinkName, to: SocketAddr, duration: Option<f64>) {
    event!(
        DEBUG,
        "statlink.link.connected",
        link,
        "Connection came up.",
        "network.peer.address" = display(to.ip()),
        "network.peer.port" = to.port(),
        "connect.duration" = duration
    );
}

fn connect_failed(link: &LinkName, attempt: &Attempt) {
    event!(
        DEBUG,
        "statlink.link.connect_failed",
        link,
        "Attempt failed.",
        "network.peer.address" = attempt.peer_address.map(|to| display(to.ip())),
        "network.peer.port" = attempt.peer_address.map(|to| to.port()),
        "error.type" = attempt.cause.as_str(),
        "hop.address" = attempt.hop_address.map(display),
        "errno" = attempt.errno,
        "connect.duration" = attempt.duration
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

/// The last attempts on one line, oldest first.
struct Attempts<'a>(&'a [Attempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, attempt) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            if let Some(to) = attempt.peer_address {
                write!(f, "{to} ")?;
            }
            write!(f, "{}", attempt.cause)?;
            if let Some(hop) = attempt.hop_address {
                write!(f, " of a hop to {hop}")?;
            }
            if let Some(errno) = attempt.errno {
                write!(f, " (errno {errno})")?;
            }
            if let Some(seconds) = attempt.duration {
                write!(f, " after {seconds:.3} s")?;
            }
        }
        Ok(())
    }
}
