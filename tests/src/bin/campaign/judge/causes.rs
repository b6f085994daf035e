//! The cause of each loss, and whether each stall and each recovery was real.

use std::time::{Duration, SystemTime};

use super::{Injected, Verdict, Window, Wrong, proxies::may_be_a_proxy_failure};
use crate::{
    catalogue::{Kind, Way},
    reported::{CONNECTED, DISCONNECTED, Event, REACHABLE, STALLED},
    truth::{GAVE_UP, Saw, Seen},
};

/// Stalls that the connection survived, so that the activator does not know them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stalls {
    pub(crate) healed: u64,
}

/// An event of the link, from the agent or from the activator.
#[derive(Clone, Copy, Debug)]
enum Turn<'a> {
    /// Reported by the agent.
    Disconnected(&'a Event),
    Reachable(&'a Event),
    /// Logged by the activator.
    Established,
    Lost(&'static [&'static str]),
}

impl Window {
    /// Judges losses: for each loss that the activator saw, the agent reported one with a cause
    /// that the activator's error allows, or a stall before. It reported no other loss.
    pub(super) fn judge_losses(
        &self,
        verdict: &mut Verdict,
        seen: &[Seen],
        events: &[Event],
    ) -> Stalls {
        let mut stalls = Stalls::default();
        // The cause that the agent reported for this connection, until the activator sees the loss.
        let mut reported: Option<&str> = None;
        let mut of_proxy = false;
        let mut healed = false;
        let mut established = (!self.birth).then_some(self.start);
        for (at, turn) in turns(seen, events) {
            match turn {
                Turn::Disconnected(event) => {
                    let cause = event.cause.as_deref().unwrap_or_default();
                    verdict.causes += 1;
                    if let Err(why) = self.may_be_lost(event.at, cause, seen) {
                        verdict.wrong_causes += 1;
                        verdict.add(Wrong::Cause, format!("lost for {cause}: {why}"));
                    }
                    reported = Some(cause);
                    of_proxy = event.proxy;
                }
                Turn::Reachable(event) => {
                    let fresh = events.iter().any(|other| {
                        // Both have the time of the peer's answer, each by its own reading of the
                        // two clocks.
                        other.what == CONNECTED && apart(other.at, event.at) <= CLOCKS
                    });
                    if fresh {
                        // It has the time of the answer; the activator prints a line soon after.
                        let made = seen.iter().any(|seen| {
                            seen.what == Saw::Established && self.is_near(event.at, seen.at)
                        });
                        if !made {
                            let text = "told reachable, but nothing was established".to_owned();
                            verdict.add(Wrong::Missed, text);
                        }
                        continue;
                    }
                    let stalled = reported.take().is_some_and(|cause| STALLS.contains(&cause));
                    if stalled && established.is_some() {
                        stalls.healed += 1;
                        healed = true;
                    }
                    if let Some(kind) = self.blocked(event.at) {
                        let text = format!("told reachable during {}", kind.name());
                        verdict.add(Wrong::Missed, text);
                    } else if established.is_none() {
                        let text = "told reachable without a connection".to_owned();
                        verdict.add(Wrong::Missed, text);
                    }
                }
                Turn::Established => {
                    established = Some(at);
                    (reported, healed) = (None, false);
                }
                Turn::Lost(causes) => {
                    // If nothing was reported, the connection was too short to be upgraded, or the
                    // report is missing. The counts distinguish these.
                    if let Some(cause) = reported.filter(|cause| !STALLS.contains(cause))
                        && !causes.contains(&cause)
                        && !(of_proxy && causes.iter().any(|own| may_be_a_proxy_failure(own)))
                    {
                        verdict.wrong_causes += 1;
                        let text =
                            format!("lost for {cause}; the activator's error says {causes:?}");
                        verdict.add(Wrong::Cause, text);
                    }
                    // An activator that was frozen for less than 12 s gives up when it thaws.
                    let was_frozen = self.has(Kind::ActivatorFrozen);
                    let stalled = reported.is_some_and(|cause| STALLS.contains(&cause));
                    if causes == GAVE_UP && !stalled && !healed && !was_frozen {
                        let text = "10 s without a pong, and no stall was told".to_owned();
                        verdict.add(Wrong::Missed, text);
                    }
                    (established, reported, healed) = (None, None, false);
                }
            }
        }
        stalls
    }

    /// Whether a fault in force at that time explains a loss for this cause.
    fn may_be_lost(&self, at: SystemTime, cause: &str, seen: &[Seen]) -> Result<(), String> {
        let justified = if STALLS.contains(&cause) {
            self.faults.iter().any(|fault| {
                let from = fault.at + fault.kind.stalls_after(self.way);
                // A stall that was due before the fault was healed is noticed at the next timeout.
                let until = fault.healed.map(|healed| healed + self.lingers(fault));
                fault.kind.nature().losses.contains(&cause)
                    && at >= from
                    && until.is_none_or(|until| at <= until)
            })
        } else if cause == "local_closed" {
            // The activator's deadline passed, although the connection had just healed.
            let gave_up = |seen: &Seen| seen.what == Saw::Lost(GAVE_UP);
            seen.iter()
                .any(|seen| gave_up(seen) && self.is_near(at, seen.at))
        } else {
            let before = self.faults.iter().filter(|fault| fault.at <= at);
            let mut kinds = before.map(|fault| fault.kind);
            // Dropped data is retransmitted: to a server that has ended, and whose RST or FIN had
            // been dropped, too.
            let lagging = |kind: Kind| kind.drops() || kind == Kind::RejectAll;
            let resets = cause == "connection_reset" && self.faults.iter().any(|f| lagging(f.kind));
            kinds.any(|kind| kind.nature().losses.contains(&cause) || resets && lagging(kind))
        };
        if justified {
            return Ok(());
        }
        let faults: Vec<_> = self.faults.iter().map(|fault| fault.kind.name()).collect();
        Err(format!("not by {faults:?} at that time"))
    }

    /// Whether the activator's line at `word` is about the event at `moment`.
    fn is_near(&self, moment: SystemTime, word: SystemTime) -> bool {
        moment <= word + TICKS + self.stall && word <= moment + PRINTED + self.stall
    }

    /// How long after a fault was healed it may still cause a stall. This includes the silence of a
    /// peer behind a sidecar, whose TCP waits as long again as it has waited.
    fn lingers(&self, fault: &Injected) -> Duration {
        let own = fault.kind.lingers() + self.stall;
        match self.way {
            Way::Direct | Way::Name => own,
            Way::Sidecar => own + fault.aftermath(),
        }
    }

    /// The fault that blocks an established connection at `at`.
    fn blocked(&self, at: SystemTime) -> Option<Kind> {
        let mut faults = self.faults.iter().filter(|fault| fault.kind.stalls());
        let blocking = faults.find(|fault| {
            let until = fault.healed.unwrap_or(at);
            // The kernel of a frozen peer acknowledges. A stall by another fault has healed, until
            // the peer has been silent for 5 s. A connection that was not reported lost cannot be
            // reported reachable again.
            if fault.kind == Kind::ActivatorFrozen {
                return false;
            }
            let setting = if fault.kind == Kind::Frozen {
                SILENCE
            } else {
                SETTING
            };
            at > fault.at + setting && at + SETTING < until
        });
        blocking.map(|fault| fault.kind)
    }
}

/// Both sides' events in order. The kernel's event comes before the activator's log line for it.
fn turns<'a>(seen: &'a [Seen], events: &'a [Event]) -> Vec<(SystemTime, Turn<'a>)> {
    let of_agent = events.iter().filter_map(|event| match event.what.as_str() {
        DISCONNECTED => Some((event.at, Turn::Disconnected(event))),
        REACHABLE => Some((event.at, Turn::Reachable(event))),
        _ => None,
    });
    let of_activator = seen.iter().filter_map(|seen| match seen.what {
        Saw::Established => Some((seen.at, Turn::Established)),
        Saw::Lost(causes) => Some((seen.at, Turn::Lost(causes))),
        // The end of a process is no loss, and nothing more is reported about its connection.
        Saw::DialFailed(_)
        | Saw::LookupFailed
        | Saw::Flapped(_)
        | Saw::Ended
        | Saw::Accepted
        | Saw::NativeLost => None,
    });
    let mut turns: Vec<_> = of_agent.chain(of_activator).collect();
    // Stable: at the same moment, the agent's before the activator's.
    turns.sort_by_key(|(at, _)| *at);
    turns
}

fn apart(one: SystemTime, other: SystemTime) -> Duration {
    let later = one.duration_since(other);
    later.unwrap_or_else(|earlier| earlier.duration())
}

/// The causes that a connection may survive.
const STALLS: [&str; 2] = [STALLED, "local_stalled"];
/// Two readings of one moment.
const CLOCKS: Duration = Duration::from_millis(1);
/// The kernel's ticks date an answer, and they lag on a busy machine.
const TICKS: Duration = Duration::from_millis(50);
/// How late an activator that waits for the CPU may print an event.
const PRINTED: Duration = Duration::from_millis(1_000);
/// How long nft, ip or a signal takes.
const SETTING: Duration = Duration::from_millis(100);
/// The link's rule.
const SILENCE: Duration = Duration::from_secs(5);
