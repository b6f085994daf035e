//! One connection, from its first record to the verdict on its end.
//!
//! A connection is open, or has ended and waits for its address or for its process. `open` says
//! what an open one waits for, `handshake` how far it has come before it is upgraded, `pulse` when
//! silence is a stall, `ending` what an end means, and `ended` when that is decided. Nothing here
//! knows the link.

mod ended;
mod ending;
mod handshake;
mod open;
mod pulse;
mod stage;

use std::{net::SocketAddr, time::Duration};

use statlink_ebpf::{End, Phase};

pub(crate) use ending::{Closed, Ended, Ending, Verdict};
pub(crate) use open::{Step, Upgrade};

use self::{
    handshake::{Handshake, Origin},
    open::Open,
};
use crate::{
    ConnectionId, OpenConnection, Sample, address_check::AddressCheck, time::Timestamp,
    timings::FIRST_LOOK,
};

/// One connection that is tracked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) peer: SocketAddr,
    origin: Origin,
    /// When it was established, if known.
    established: Option<Timestamp>,
    rtt: Option<Duration>,
    /// Whether its other end is in the client's own network namespace, once a look has shown it.
    looped: Option<bool>,
    life: Life,
}

/// Whether it exists.
#[derive(Clone, Copy, Debug)]
enum Life {
    /// It exists, as far as is known.
    Open(Open),
    /// It ended before it was upgraded, while its address was in doubt: waits for the address.
    EndedInDoubt {
        handshake: Handshake,
        /// When the doubt ends.
        until: Timestamp,
        ending: Ending,
    },
    /// Its end is still settling. If this side closed it, the process may turn out to be ending. If
    /// it is a failed dial, another connect() of the same dial may succeed.
    Closed(Closed),
}

/// What is due on a connection. At the same moment, verdicts come before looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// Its end has settled.
    Settle,
    /// The doubt about its address ends.
    Condemn,
    /// Looks have found it gone for long enough, and no record of its end came.
    Gone,
    /// It must be sampled.
    Sample,
}

/// When a connection became live and when it stopped. `None` means longer than the agent knows, and
/// not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveSpan {
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
}

// === Beginning ===

impl Connection {
    /// An attempt with its SYN sent.
    pub(crate) fn connecting(
        id: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
    ) -> Self {
        Self {
            id,
            peer,
            origin: Origin {
                attempted,
                looked_up: None,
                older: false,
                outage_before: None,
            },
            established: None,
            rtt: None,
            looped: None,
            life: Life::Open(Open::connecting(attempted.unwrap_or(id.born))),
        }
    }

    /// A connection that a record says was established at `at`: it is fresh, even if its attempt
    /// was not seen.
    pub(crate) fn established(
        id: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
        at: Timestamp,
    ) -> Self {
        let mut fresh = Self::connecting(id, peer, attempted);
        fresh.establish(at, attempted);
        fresh
    }

    /// A new connection in a listing made at `at`.
    pub(crate) fn listed(found: &OpenConnection, at: Timestamp) -> Self {
        let OpenConnection {
            connection: id,
            peer_address: peer,
            attempted,
            phase,
        } = *found;
        let mut listed = Self::connecting(id, peer, attempted);
        match (phase, attempted) {
            (Phase::Connecting, _) => {}
            (Phase::Established | Phase::Held, Some(_)) => listed.is_listed(found, at),
            (Phase::Established | Phase::Held, None) => listed = Self::older(id, peer, at),
        }
        listed
    }

    /// A connection that is known only by its end.
    pub(crate) fn from_its_end(
        id: ConnectionId,
        peer: SocketAddr,
        attempted: Option<Timestamp>,
        ending: &Ending,
    ) -> Self {
        match (ending.phase, attempted) {
            (Phase::Connecting, _) | (Phase::Established | Phase::Held, Some(_)) => {
                Self::connecting(id, peer, attempted)
            }
            (Phase::Established | Phase::Held, None) => Self::older(id, peer, ending.at),
        }
    }

    /// A connection found established at `found`, older than the agent.
    pub(crate) fn older(id: ConnectionId, peer: SocketAddr, found: Timestamp) -> Self {
        let mut older = Self::connecting(id, peer, None);
        older.origin.older = true;
        if let Life::Open(open) = &mut older.life {
            open.establish(Timestamp::default(), found, found);
        }
        older.established = Some(found);
        older
    }

    /// The dial began with a lookup then.
    pub(crate) fn looked_up(&mut self, at: Option<Timestamp>) {
        self.origin.looked_up = at;
    }

    /// When the outage began that the agent before this one reported, if there was one.
    pub(crate) fn follows_outage(&mut self, began: Option<Timestamp>) {
        self.origin.outage_before = began;
    }

    /// It is stalled since `onset`, which is counted, as of `at`.
    pub(crate) fn stalled_before(&mut self, onset: Timestamp, at: Timestamp) {
        if let Life::Open(open) = &mut self.life {
            open.stalled_before(onset, at);
        }
    }

    /// The dial before this one was held and then refused.
    pub(crate) fn beware(&mut self) {
        if let Life::Open(open) = &mut self.life {
            open.beware();
        }
    }
}

// === Records, listings and looks ===

impl Connection {
    /// A record says that it was established at `at`.
    pub(crate) fn establish(&mut self, at: Timestamp, attempted: Option<Timestamp>) {
        if let Life::Open(open) = &mut self.life {
            self.origin.attempted = self.origin.attempted.or(attempted);
            open.establish(at, at, at + FIRST_LOOK);
            self.established.get_or_insert(at);
        }
    }

    /// A listing made at `at` contains it. It was established at an unknown time, no earlier than
    /// its attempt.
    pub(crate) fn is_listed(&mut self, found: &OpenConnection, at: Timestamp) {
        if let (Life::Open(open), Phase::Established | Phase::Held) = (&mut self.life, found.phase)
        {
            let earliest = found.attempted.map_or(at, |attempted| attempted.min(at));
            self.origin.attempted = self.origin.attempted.or(found.attempted);
            open.establish(earliest, at, at);
            self.established.get_or_insert(at);
        }
    }

    /// A look at `at` returned `sample`; `None` means that it does not exist.
    ///
    /// Call it until it returns no further step.
    pub(crate) fn look(&mut self, at: Timestamp, sample: Option<&Sample>) -> Option<Step> {
        let Life::Open(open) = &mut self.life else {
            return None;
        };
        match sample {
            None => open.missing(at),
            Some(sample) if !sample.established => open.not_established(at),
            Some(sample) => {
                self.rtt = sample.rtt.or(self.rtt);
                self.looped = Some(sample.looped);
                self.established.get_or_insert(at);
                return open.look(self.origin, at, sample);
            }
        }
        None
    }

    /// A listing made at `at` lacks it, so look at it. Returns when looks found it gone, if they
    /// did.
    pub(crate) fn look_for(&mut self, at: Timestamp) -> Option<Timestamp> {
        let Life::Open(open) = &mut self.life else {
            return None;
        };
        open.look_by(at);
        open.vanished
    }

    /// A sample was requested: until it comes, ask again at the cadence of its stage.
    pub(crate) fn asked(&mut self, now: Timestamp) {
        if let Life::Open(open) = &mut self.life {
            open.asked(now);
        }
    }

    /// Data on it went unacknowledged through `timeouts` retransmission timeouts. Returns the onset
    /// of the stall if this is one.
    pub(crate) fn retransmission_timeout(
        &mut self,
        at: Timestamp,
        timeouts: u8,
    ) -> Option<Timestamp> {
        match &mut self.life {
            Life::Open(open) => open.retransmission_timeout(at, timeouts),
            Life::EndedInDoubt { .. } | Life::Closed(_) => None,
        }
    }

    /// What is due next, and when.
    pub(crate) fn due(&self) -> (Timestamp, Due) {
        match &self.life {
            Life::Closed(closed) => (closed.until, Due::Settle),
            Life::EndedInDoubt { until, .. } => (*until, Due::Condemn),
            Life::Open(open) => {
                let sample = (open.next_sample(), Due::Sample);
                let condemn = match open.address {
                    AddressCheck::Doubtful { until } => Some((until, Due::Condemn)),
                    AddressCheck::Unknown | AddressCheck::Right | AddressCheck::Wrong => None,
                };
                let gone = open.gone_due().map(|due| (due, Due::Gone));
                condemn.into_iter().chain(gone).fold(sample, Ord::min)
            }
        }
    }
}

// === Destination ===

impl Connection {
    /// It is seen for the first time, and this is the verdict on its address.
    pub(crate) fn first_check(&mut self, address: AddressCheck) {
        if let Life::Open(open) = &mut self.life {
            open.address = address;
        }
    }

    /// The peer's addresses changed at `at`, and this is the new verdict. Returns its end, if that
    /// waited for the address.
    pub(crate) fn check_again(&mut self, check: AddressCheck, at: Timestamp) -> Option<Ending> {
        match (self.life, check) {
            (Life::Open(mut open), _) => {
                match (check, open.address) {
                    (AddressCheck::Unknown | AddressCheck::Right, AddressCheck::Right) => {}
                    // The former verdict stays until known addresses say otherwise: not knowing
                    // them for a while is no evidence.
                    (AddressCheck::Unknown, AddressCheck::Wrong) => {}
                    (AddressCheck::Unknown | AddressCheck::Right, _) => {
                        open.address = check;
                        open.look_by(at);
                    }
                    (_, AddressCheck::Unknown) => open.address = check,
                    _ => {}
                }
                self.life = Life::Open(open);
                None
            }
            (
                Life::EndedInDoubt {
                    handshake, ending, ..
                },
                AddressCheck::Unknown | AddressCheck::Right,
            ) => {
                self.life = Life::Open(Open::reopened(handshake, check));
                Some(ending)
            }
            (Life::EndedInDoubt { .. } | Life::Closed(_), _) => None,
        }
    }

    /// The doubt about its address ends at `at`: it is wrong. Returns its end, if that waited, and
    /// whether it was live until then.
    pub(crate) fn condemn(&mut self, at: Timestamp) -> (Option<Ending>, bool) {
        match &mut self.life {
            Life::Open(open) => (None, open.condemn(at)),
            Life::EndedInDoubt {
                handshake, ending, ..
            } => {
                let ending = *ending;
                self.life = Life::Open(Open::reopened(*handshake, AddressCheck::Wrong));
                (Some(ending), false)
            }
            Life::Closed(_) => (None, false),
        }
    }

    /// Its end, if that waits for its address, and the verdict if the address is wrong.
    pub(crate) fn condemned_end(&self) -> Option<(Ending, Verdict)> {
        match &self.life {
            Life::EndedInDoubt {
                handshake, ending, ..
            } => {
                let verdict = handshake.verdict(ending.how, ending.errno, true);
                Some((*ending, verdict))
            }
            Life::Open(_) | Life::Closed(_) => None,
        }
    }

    pub(crate) fn is_wrong(&self) -> bool {
        matches!(&self.life, Life::Open(open) if open.is_wrong())
    }
}

// === Getters ===

impl Connection {
    /// When connect() was called, or the first moment known of it.
    pub(crate) fn began(&self) -> Timestamp {
        self.origin.attempted.unwrap_or(self.id.born)
    }

    /// When it was established, if known.
    pub(crate) fn established_at(&self) -> Option<Timestamp> {
        self.established
    }

    /// When connect() was called, if that was seen.
    pub(crate) fn attempted(&self) -> Option<Timestamp> {
        self.origin.attempted
    }

    /// Whether its connect check and its upgrade are the agent's to count.
    pub(crate) fn counts_connect(&self) -> bool {
        !self.origin.older
    }

    /// Whether it is counted already if its dial failed.
    pub(crate) fn is_counted(&self) -> bool {
        self.origin.older
            || match &self.life {
                Life::Open(open) => open.stage.handshake().is_none_or(Handshake::has_failed),
                Life::EndedInDoubt { handshake, .. } => handshake.has_failed(),
                Life::Closed(closed) => !matches!(closed.verdict, Verdict::Failed { .. }),
            }
    }

    /// Since when it is stalled, if it is.
    pub(crate) fn stalled(&self) -> Option<Timestamp> {
        match &self.life {
            Life::Open(open) => open.stage.stalled(),
            Life::EndedInDoubt { .. } | Life::Closed(_) => None,
        }
    }

    /// Its end, as the kernel half told it, while it is not decided what that comes to.
    pub(crate) fn undecided(&self) -> Option<(Phase, End)> {
        match &self.life {
            Life::Open(_) => None,
            Life::EndedInDoubt { ending, .. } => Some((ending.phase, ending.how)),
            Life::Closed(closed) => Some(closed.told),
        }
    }

    /// Whether it exists, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.life, Life::Open(_))
    }

    /// Whether it is open and live.
    pub(crate) fn is_live(&self) -> bool {
        matches!(&self.life, Life::Open(open) if open.stage.live_since().is_some())
    }

    /// How far it is known to have come; `None` once it has ended.
    pub(crate) fn progress(&self) -> Option<Phase> {
        match &self.life {
            Life::Open(open) => Some(open.stage.progress()),
            Life::EndedInDoubt { .. } | Life::Closed(_) => None,
        }
    }

    /// When it was live: a close that is still settling ends the span.
    pub(crate) fn live_span(&self) -> Option<LiveSpan> {
        match &self.life {
            Life::Open(open) => open
                .stage
                .live_since()
                .map(|since| LiveSpan { since, until: None }),
            Life::Closed(Closed {
                at,
                verdict: Verdict::Lost { since, .. },
                ..
            }) => Some(LiveSpan {
                since: *since,
                until: Some(*at),
            }),
            Life::Closed(_) | Life::EndedInDoubt { .. } => None,
        }
    }

    /// When the peer was last heard on it, if it is open.
    pub(crate) fn heard(&self) -> Option<Timestamp> {
        match &self.life {
            Life::Open(open) => open.stage.heard(),
            Life::EndedInDoubt { .. } | Life::Closed(_) => None,
        }
    }

    /// When the peer answered, if it is upgraded and that was seen.
    pub(crate) fn answered(&self) -> Option<Timestamp> {
        self.live_span().and_then(|span| span.since)
    }

    /// Whether its other end is in the client's own network namespace, where that is known.
    pub(crate) fn looped(&self) -> Option<bool> {
        self.looped
    }

    /// Its smoothed round-trip time.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }
}
