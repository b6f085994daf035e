//! Failures that a sidecar's connections explain.

use super::{Verdict, Window, Wrong};
use crate::{
    catalogue::{Nature, Way},
    figures::ByCause,
    reported::{CONNECT_FAILED, DISCONNECTED, Event},
    truth::Sums,
};

impl Window {
    /// The agent attributes a failure to a proxy only if there is one and a fault explains it, and
    /// then for every dial that failed by it.
    pub(super) fn judge_proxies(&self, verdict: &mut Verdict, events: &[Event], sums: &Sums) {
        let of_connections =
            |event: &&Event| matches!(event.what.as_str(), CONNECT_FAILED | DISCONNECTED);
        for event in events.iter().filter(of_connections) {
            let cause = event.cause.as_deref().unwrap_or_default();
            let failed = event.what == CONNECT_FAILED;
            // The cause of a loss is judged elsewhere, whether it is a proxy's or not.
            let justified = if failed {
                self.may_fail_a_proxy(cause, sums)
            } else {
                self.way == Way::Sidecar
            };
            if event.proxy && !justified {
                verdict.wrong_causes += 1;
                let text = format!("{} for {cause} of a hop", event.what);
                verdict.add(Wrong::Cause, text);
            }
            // The agent does not know a proxy's activity before it knew the pod. A SYN that is
            // answered in the end, once its fault is healed, explains nothing.
            let certain = self.single().filter(|_| !self.birth).is_some_and(|fault| {
                let in_force = fault.healed.is_none_or(|healed| event.at <= healed);
                in_force && !fault.kind.nature().proxy.is_empty() && !fault.kind.answers_a_proxy()
            });
            let hidden = self.way == Way::Sidecar && failed && may_be_a_proxy_failure(cause);
            if certain && hidden && !event.proxy {
                verdict.wrong_causes += 1;
                let text = format!("a dial failed for {cause}, and not for its hop's failure");
                verdict.add(Wrong::Cause, text);
            }
        }
    }

    /// The failed attempts that were attributed to a proxy, by cause.
    pub(super) fn failed_by_proxies(events: &[Event]) -> ByCause {
        let mut by_proxies = ByCause::new();
        let failed = events.iter().filter(|event| event.what == CONNECT_FAILED);
        for event in failed.filter(|event| event.proxy) {
            let cause = event.cause.clone().unwrap_or_default();
            *by_proxies.entry(cause).or_default() += 1;
        }
        by_proxies
    }

    /// Whether the agent may report this cause for an attempt behind a sidecar, whatever the
    /// activator saw: a fault makes the sidecar's dials fail like this, or ends a connection of the
    /// sidecar before it is *upgraded*.
    pub(super) fn may_fail_a_proxy(&self, cause: &str, sums: &Sums) -> bool {
        let ended_early = match cause {
            "handshake_failed" => Some("peer_closed"),
            "connection_reset" => Some(cause),
            _ => None,
        };
        let ended_early = ended_early.filter(|_| sums.short.1 > 0);
        self.way == Way::Sidecar
            && self.faults.iter().any(|fault| {
                let Nature { proxy, losses, .. } = fault.kind.nature();
                proxy.contains(&cause) || ended_early.is_some_and(|end| losses.contains(&end))
            })
    }
}

/// Whether a proxy's failure may cause this error at the activator: a failed handshake, or an end
/// by the other side.
pub(super) fn may_be_a_proxy_failure(cause: &str) -> bool {
    matches!(
        cause,
        "handshake_failed" | "connection_reset" | "peer_closed"
    )
}
