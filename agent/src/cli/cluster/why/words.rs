//! States, causes and lengths of time in plain words.

use std::time::Duration;

use crate::{cli::cluster::status::Link, link::Cause};

/// The meaning of a link's state, after "POD on NODE".
pub(crate) fn in_words(link: &Link) -> String {
    let Link {
        peer,
        state,
        errors,
        checks,
        ..
    } = link;
    let since = link.since();
    let lasting = since.map_or_else(String::new, |since| format!(" for {}", length(since)));
    match state.as_str() {
        "reachable" => {
            let rtt = link.rtt_seconds.map_or_else(String::new, |rtt| {
                format!(", round-trip time {:.2} ms", rtt * 1e3)
            });
            format!(
                "has been connected to its {peer}{lasting}{rtt}. {errors} of {checks} checks failed so far."
            )
        }
        "unreachable" => {
            let cause = link.cause.as_deref().unwrap_or("_OTHER");
            let to = link
                .peer_address
                .as_ref()
                .map_or_else(String::new, |to| format!(" at {to}"));
            format!(
                "has been cut off from its {peer}{to}{lasting}: {cause}. {errors} of {checks} checks failed so far."
            )
        }
        "starting" => {
            format!("has just been discovered; its link to the {peer} is not judged yet.")
        }
        "idle" => format!("has no {peer} to be connected to."),
        "unknown" => {
            let why = link
                .unknown_reason
                .as_deref()
                .unwrap_or("it gives no reason");
            format!(
                "may be connected to its {peer} or not: the agent cannot tell{lasting} ({why})."
            )
        }
        state => format!("is in the state {state}{lasting}, which this program does not know."),
    }
}

/// The meaning of a cause for the person on call.
pub(crate) const fn meaning(cause: Cause) -> &'static str {
    match cause {
        Cause::ConnectionRefused => {
            "nobody listens at the address. Usually no autoscaler is ready, or a policy rejects."
        }
        Cause::Timeout => {
            "connect() is not answered. Usually a NetworkPolicy or a firewall drops it, or the node is gone."
        }
        Cause::Cancelled => {
            "the activator gave up a dial before an answer could come; it was slow, or terminating."
        }
        Cause::HostUnreachable => {
            "the network says that there is no way to the host: it is gone, or a firewall rejects with ICMP."
        }
        Cause::NetworkUnreachable => "this node has no route to the address.",
        Cause::PermissionDenied => "a policy on this node refuses connect() itself.",
        Cause::AddressUnavailable => "this pod is out of local ports.",
        Cause::ConnectionReset => {
            "somebody on the way resets the connection: a proxy, connection tracking, or a crashed autoscaler."
        }
        Cause::ConnectionAborted => {
            "this node was told to destroy the socket, as a CNI does with connections to a removed backend."
        }
        Cause::HandshakeFailed => {
            "the connection opens, and the websocket does not come up: a mesh answers 403 or 503, or the \
             server is no autoscaler."
        }
        Cause::PeerClosed => "the autoscaler closed the connection, as it does when it restarts.",
        Cause::LocalClosed => {
            "the activator closed the connection itself: its pings were not answered in time, or it is \
             starved of CPU."
        }
        Cause::Stalled => {
            "the connection looks established, but carries no answer: packets are dropped, or the \
             autoscaler is frozen."
        }
        Cause::LocalStalled => {
            "the activator itself is silent: frozen, starved of CPU, or deadlocked."
        }
        Cause::WrongPeer => "it is connected to an address that is not one of the autoscaler's.",
        Cause::Dns => "it does not dial, because its name lookups fail.",
        Cause::NoAttempt => "it neither has a connection nor tries to make one.",
        Cause::Other => "no other cause fits; the log has the errno.",
    }
}

/// A duration in words, to the second where it is that long.
pub(crate) fn length(duration: Duration) -> String {
    let whole = if duration.as_secs() > 0 {
        Duration::from_secs(duration.as_secs())
    } else {
        Duration::from_millis(u64::from(duration.subsec_millis()))
    };
    humantime::format_duration(whole).to_string()
}
