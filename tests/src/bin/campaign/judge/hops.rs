//! What a sidecar's connections explain: the rules of the link's hops.

use super::{Verdict, Window, Wrong};
use crate::{
    catalogue::{Nature, Way},
    figures::ByCause,
    told::{CONNECT_FAILED, DISCONNECTED, Event},
    truth::Sums,
};

impl Window {
    /// A hop is told of where there is one; for what a fault does to its dials; and of each dial
    /// that failed by that.
    pub(super) fn judge_hops(&self, verdict: &mut Verdict, events: &[Event], sums: &Sums) {
        let of_connections =
            |event: &&Event| matches!(event.what.as_str(), CONNECT_FAILED | DISCONNECTED);
        for event in events.iter().filter(of_connections) {
            let cause = event.cause.as_deref().unwrap_or_default();
            let failed = event.what == CONNECT_FAILED;
            // Of losses the cause has its own rule, a hop's or not.
            let justified = if failed {
                self.may_fail_a_hop(cause, sums)
            } else {
                self.way == Way::Sidecar
            };
            if event.hop && !justified {
                verdict.wrong_causes += 1;
                let text = format!("{} for {cause} of a hop", event.what);
                verdict.add(Wrong::Cause, text);
            }
            // What a hop did before the agent knew of its pod, it does not know; and a SYN that is
            // answered in the end, once its fault is healed, explains nothing.
            let certain = self.single().filter(|_| !self.birth).is_some_and(|fault| {
                let in_force = fault.healed.is_none_or(|healed| event.at <= healed);
                in_force && !fault.kind.nature().hop.is_empty() && !fault.kind.answers_a_hop()
            });
            let hidden = self.way == Way::Sidecar && failed && may_be_a_hop_s(cause);
            if certain && hidden && !event.hop {
                verdict.wrong_causes += 1;
                let text = format!("a dial failed for {cause}, and not for its hop's failure");
                verdict.add(Wrong::Cause, text);
            }
        }
    }

    /// The failed attempts that were told as a hop's, by cause.
    pub(super) fn failed_by_hops(events: &[Event]) -> ByCause {
        let mut by_hops = ByCause::new();
        let failed = events.iter().filter(|event| event.what == CONNECT_FAILED);
        for event in failed.filter(|event| event.hop) {
            let cause = event.cause.clone().unwrap_or_default();
            *by_hops.entry(cause).or_default() += 1;
        }
        by_hops
    }

    /// Whether an attempt may be told so where there is a sidecar, whatever the activator saw: what
    /// a fault does to the sidecar's dials, and to a connection of its that was not held for long
    /// enough to be *upgraded*.
    pub(super) fn may_fail_a_hop(&self, cause: &str, sums: &Sums) -> bool {
        let ended_early = match cause {
            "handshake_failed" => Some("peer_closed"),
            "connection_reset" => Some(cause),
            _ => None,
        };
        let ended_early = ended_early.filter(|_| sums.short.1 > 0);
        self.way == Way::Sidecar
            && self.faults.iter().any(|fault| {
                let Nature { hop, losses, .. } = fault.kind.nature();
                hop.contains(&cause) || ended_early.is_some_and(|end| losses.contains(&end))
            })
    }
}

/// Whether a hop's failure may be behind an end that is this to the activator: the handshake's, or
/// one by the other side.
pub(super) fn may_be_a_hop_s(cause: &str) -> bool {
    matches!(
        cause,
        "handshake_failed" | "connection_reset" | "peer_closed"
    )
}
