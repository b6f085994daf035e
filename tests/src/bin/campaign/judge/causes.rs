//! The cause of each loss, and whether each stall and each recovery was real.

use std::time::{Duration, SystemTime};

use super::{Injected, Verdict, Window, Wrong, proxies::may_be_a_proxy_failure};
use crate::{
    catalogue::{Kind, Way},
    reported::{CONNECTED, DISCONNECTED, Event, REACHABLE, STALLED},
    truth::{GAVE_UP, Saw, Seen},
};

/// Stalls that the connection survived, and that the activator therefore knows nothing of.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stalls {
    pub(crate) healed: u64,
}

/// An event of the link, by agent or activator.
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
    /// For each loss that the activator saw, the agent reported one, of a cause that the activator's
    /// error allows, or a stall before. It reported no other loss.
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
                        // Both have the moment of the peer's answer, each with its own reading of the
                        // two clocks.
                        other.what == CONNECTED && apart(other.at, event.at) <= CLOCKS
                    });
                    if fresh {
                        // Its moment is the answer's; the activator prints a line soon after.
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
                    // If nothing was reported, it was too short to be upgraded, or is missing. The
                    // counts distinguish these.
                    if let Some(cause) = reported.filter(|cause| !STALLS.contains(cause))
                        && !causes.contains(&cause)
                        && !(of_proxy && causes.iter().any(|own| may_be_a_proxy_failure(own)))
                    {
                        verdict.wrong_causes += 1;
                        let text =
                            format!("lost for {cause}; the activator's error says {causes:?}");
                        verdict.add(Wrong::Cause, text);
                    }
                    // Who was frozen for less than 12 s gives up at its thaw.
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
                // What fell due before it was healed is noticed by the next timeout.
                let until = fault.healed.map(|healed| healed + self.lingers(fault));
                fault.kind.nature().losses.contains(&cause)
                    && at >= from
                    && until.is_none_or(|until| at <= until)
            })
        } else if cause == "local_closed" {
            // The activator's deadline passed, though the connection had just healed.
            let gave_up = |seen: &Seen| seen.what == Saw::Lost(GAVE_UP);
            seen.iter()
                .any(|seen| gave_up(seen) && self.is_near(at, seen.at))
        } else {
            let before = self.faults.iter().filter(|fault| fault.at <= at);
            let mut kinds = before.map(|fault| fault.kind);
            // What vanished is sent again: to a server that is gone, and whose RST or FIN had
            // vanished with it.
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

    /// Whether the activator's word at `word` is of what happened at `moment`.
    fn is_near(&self, moment: SystemTime, word: SystemTime) -> bool {
        moment <= word + TICKS + self.stall && word <= moment + PRINTED + self.stall
    }

    /// How long after a fault was healed a stall may still begin by it: also by the silence of who
    /// is behind a sidecar, whose TCP waits as long again as it has waited.
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
            // The kernel of a frozen peer acknowledges: what another fault stalled has healed, until
            // the peer has been silent for 5 s.
            // A connection that is not told lost cannot be told reachable again.
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

/// Both sides' events in order. The kernel's comes before the activator's log line for the same.
fn turns<'a>(seen: &'a [Seen], events: &'a [Event]) -> Vec<(SystemTime, Turn<'a>)> {
    let of_agent = events.iter().filter_map(|event| match event.what.as_str() {
        DISCONNECTED => Some((event.at, Turn::Disconnected(event))),
        REACHABLE => Some((event.at, Turn::Reachable(event))),
        _ => None,
    });
    let of_activator = seen.iter().filter_map(|seen| match seen.what {
        Saw::Established => Some((seen.at, Turn::Established)),
        Saw::Lost(causes) => Some((seen.at, Turn::Lost(causes))),
        // The end of a process is no loss, and what its client had is not told of any more.
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
/// An answer is dated by ticks of the kernel, which lag on a machine that is busy.
const TICKS: Duration = Duration::from_millis(50);
/// How late an activator that waits for the processor may print what happened.
const PRINTED: Duration = Duration::from_millis(1_000);
/// How long nft, ip or a signal take.
const SETTING: Duration = Duration::from_millis(100);
/// As the link's rule has it.
const SILENCE: Duration = Duration::from_secs(5);
