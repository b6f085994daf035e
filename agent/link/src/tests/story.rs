//! The vocabulary of the scenarios. Times are milliseconds after the discovery.

use std::{net::SocketAddr, time::Duration};

use statlink_ebpf::{End, Phase};

use crate::{
    Cause, CheckKind, ConnectionId, EndedOutage, Event, EventKind, FailedAttempt, Fanout, Input,
    Link, LinkMachine, MissedEnds, OpenConnection, Output, ProxyEvent, Sample, State,
    time::Timestamp,
};

/// The discovery. Far from zero, because some connections are older.
const DISCOVERED: u64 = 1_000_000;

/// The moment `ms` after the discovery.
pub(super) fn at(ms: i64) -> Timestamp {
    Timestamp::from_nanos(DISCOVERED.strict_add_signed(ms) * 1_000_000)
}

pub(super) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// The `n`th peer.
pub(super) fn peer(n: u64) -> SocketAddr {
    SocketAddr::from(([10, 96, 0, u8::try_from(n).unwrap_or(255)], 8080))
}

/// The kernel's id of the `n`th connection.
pub(super) fn id(n: u64) -> ConnectionId {
    ConnectionId {
        sock: 0xffff_8880_0000_0000 + n * 0x40,
        born: at(0) + Duration::from_nanos(n),
    }
}

pub(super) fn event(at: Timestamp, kind: EventKind) -> Event {
    Event { at, kind }
}

/// An attempt failed.
pub(super) fn failure(failed: FailedAttempt) -> Event {
    event(failed.at, EventKind::ConnectFailed(failed))
}

/// The end of an outage by the `n`th connection.
pub(super) fn back(time: i64, n: u64, outage: EndedOutage) -> Event {
    event(
        at(time),
        EventKind::Reachable {
            peer_address: peer(n),
            outage: Some(outage),
        },
    )
}

/// An outage that is over.
pub(super) fn outage(
    length: u64,
    cause: Cause,
    errors: u64,
    attempts: &[FailedAttempt],
) -> EndedOutage {
    EndedOutage {
        duration: ms(length),
        cause,
        errors,
        attempts: attempts.to_vec(),
    }
}

/// A sample of a connection on which all is well.
pub(super) fn well(heard: i64) -> Sample {
    Sample {
        established: true,
        heard: Some(at(heard)),
        sent: Some(at(heard) - ms(1)),
        unacknowledged: false,
        timeouts: 0,
        rtt: Some(ms(1)),
        looped: true,
    }
}

/// A sample of a connection on which nothing was heard yet.
pub(super) fn unanswered() -> Sample {
    Sample {
        heard: None,
        sent: None,
        ..well(0)
    }
}

/// A sample of a connection on which a message was sent at `sent`, after the peer was `heard`.
pub(super) fn silent(heard: i64, sent: i64) -> Sample {
    Sample {
        sent: Some(at(sent)),
        ..well(heard)
    }
}

/// One link or fan-out, and its events.
pub(super) struct Story<M = Link> {
    pub(super) link: M,
    pub(super) told: Vec<Output>,
    /// The destination of the `n`th connection.
    to: fn(u64) -> SocketAddr,
}

impl Story {
    pub(super) fn begins() -> Self {
        Self {
            link: Link::discovered(at(0)),
            told: Vec::new(),
            to: peer,
        }
    }

    /// A listing contains the `n`th connection and all other tracked ones.
    pub(super) fn found(
        &mut self,
        time: i64,
        n: u64,
        attempted: Option<i64>,
        phase: Phase,
    ) -> &mut Self {
        let found = OpenConnection {
            connection: id(n),
            peer_address: peer(n),
            attempted: attempted.map(at),
            phase,
        };
        // For tracked connections, such an entry changes nothing.
        let others = self.link.connections().filter(|other| *other != id(n));
        let others = others.map(|connection| OpenConnection {
            connection,
            phase: Phase::Connecting,
            ..found
        });
        let open = others.chain([found]).collect();
        let missed = MissedEnds::default();
        self.input(time, Input::Resynchronised { open, missed })
    }
}

impl Story<Fanout> {
    /// A process with several peers: [`to`] names its connections.
    pub(super) fn of_several() -> Self {
        Self {
            link: Fanout::default(),
            told: Vec::new(),
            to: |n| peer(n % 1_000_000),
        }
    }
}

/// The connection to the `n`th peer that is attempted at `time`.
pub(super) fn to(n: u64, time: i64) -> u64 {
    n + u64::try_from(time).unwrap_or(0) * 1_000_000
}

impl<M: LinkMachine> Story<M> {
    pub(super) fn input(&mut self, time: i64, input: Input) -> &mut Self {
        self.link.handle(at(time), input, &mut self.told);
        self
    }

    /// The clock reaches `time`, and the driver wakes for each deadline until then.
    pub(super) fn until(&mut self, time: i64) -> &mut Self {
        while let Some(due) = self.link.next_deadline()
            && due <= at(time)
        {
            self.link.on_deadline(due, &mut self.told);
        }
        self
    }

    pub(super) fn attempt(&mut self, time: i64, n: u64) -> &mut Self {
        let (connection, peer) = (id(n), (self.to)(n));
        self.input(
            time,
            Input::Attempted {
                connection,
                peer_address: peer,
            },
        )
    }

    pub(super) fn established(&mut self, time: i64, n: u64) -> &mut Self {
        let (connection, peer) = (id(n), (self.to)(n));
        let attempted = Some(at(time) - ms(1));
        self.input(
            time,
            Input::Established {
                connection,
                peer_address: peer,
                attempted,
            },
        )
    }

    pub(super) fn sampled(&mut self, time: i64, n: u64, sample: Sample) -> &mut Self {
        let (connection, sample) = (id(n), Some(sample));
        self.input(time, Input::Sampled { connection, sample })
    }

    pub(super) fn sampled_gone(&mut self, time: i64, n: u64) -> &mut Self {
        let (connection, sample) = (id(n), None);
        self.input(time, Input::Sampled { connection, sample })
    }

    /// connect() at `time`, the peer's answer 2 ms later, and held from then on.
    pub(super) fn upgraded(&mut self, time: i64, n: u64) -> &mut Self {
        self.attempt(time, n).established(time + 1, n);
        self.until(time + 251)
            .sampled(time + 251, n, well(time + 2))
            .until(time + 252)
            .sampled(time + 252, n, well(time + 2))
    }

    /// The end of a connection; if no attempt is known, it was at `time` - 1.
    pub(super) fn ended(
        &mut self,
        time: i64,
        n: u64,
        phase: Phase,
        how: End,
        heard: Option<i64>,
    ) -> &mut Self {
        self.ended_with(time, n, Some(time - 1), phase, how, 0, heard)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one record")]
    pub(super) fn ended_with(
        &mut self,
        time: i64,
        n: u64,
        attempted: Option<i64>,
        phase: Phase,
        how: End,
        errno: u16,
        heard: Option<i64>,
    ) -> &mut Self {
        self.input(
            time,
            Input::Ended {
                connection: id(n),
                peer_address: (self.to)(n),
                attempted: attempted.map(at),
                phase,
                how,
                errno,
                heard: heard.map(at),
            },
        )
    }

    /// An attempt at `time` that is refused 1 ms later, outside of any race.
    pub(super) fn refused(&mut self, time: i64, n: u64) -> &mut Self {
        self.refused_in_a_race(time, n).until(time + 31)
    }

    /// An attempt at `time` that is refused 1 ms later.
    pub(super) fn refused_in_a_race(&mut self, time: i64, n: u64) -> &mut Self {
        self.attempt(time, n).ended_with(
            time + 1,
            n,
            Some(time),
            Phase::Connecting,
            End::Refused,
            111,
            None,
        )
    }

    pub(super) fn timeouts(&mut self, time: i64, n: u64, timeouts: u8) -> &mut Self {
        let connection = id(n);
        self.input(
            time,
            Input::RetransmissionTimeout {
                connection,
                timeouts,
            },
        )
    }

    /// A listing contains these connections, and these ends were missed.
    pub(super) fn listed(
        &mut self,
        time: i64,
        open: &[(u64, Option<i64>, Phase)],
        ends: &[(Phase, End, u32)],
    ) -> &mut Self {
        let open = open
            .iter()
            .map(|&(n, attempted, phase)| OpenConnection {
                connection: id(n),
                peer_address: (self.to)(n),
                attempted: attempted.map(at),
                phase,
            })
            .collect();
        let mut missed = MissedEnds::default();
        for &(phase, how, n) in ends {
            missed.add(phase, how, n);
        }
        self.input(time, Input::Resynchronised { open, missed })
    }

    /// The same, and looks find that connections outside of the listing are gone.
    pub(super) fn resynchronised(
        &mut self,
        time: i64,
        open: &[(u64, Option<i64>, Phase)],
        ends: &[(Phase, End, u32)],
    ) -> &mut Self {
        let told = self.told.len();
        self.listed(time, open, ends);
        let told = self.told.get(told..).unwrap_or_default().iter();
        let asked = told.filter_map(|output| match output {
            Output::Sample(asked) => Some(*asked),
            Output::Event(_) | Output::OutageGoesOn => None,
        });
        let missing = asked.filter(|asked| open.iter().all(|(n, ..)| id(*n) != *asked));
        for connection in missing.collect::<Vec<_>>() {
            let sample = None;
            self.input(time, Input::Sampled { connection, sample });
        }
        self
    }

    /// The `n`th connection of a proxy, attempted at `time`, or at 2 ms at the latest.
    pub(super) fn proxy(&mut self, time: i64, n: u64, event: ProxyEvent) -> &mut Self {
        let attempted = match event {
            ProxyEvent::Attempted => time,
            ProxyEvent::Established | ProxyEvent::Stalled | ProxyEvent::Ended { .. } => time.min(2),
        };
        self.dialled_by_another(time, n, Some(attempted), event)
    }

    /// The `n`th connection of another process, attempted then.
    pub(super) fn dialled_by_another(
        &mut self,
        time: i64,
        n: u64,
        attempted: Option<i64>,
        event: ProxyEvent,
    ) -> &mut Self {
        let (connection, peer) = (id(500 + n), peer(200 + n));
        self.input(
            time,
            Input::Proxy {
                connection,
                peer_address: peer,
                attempted: attempted.map(at),
                event,
            },
        )
    }

    /// The `n`th connection of a proxy ends.
    pub(super) fn proxy_ended(&mut self, time: i64, n: u64, phase: Phase, how: End) -> &mut Self {
        self.proxy(time, n, ProxyEvent::Ended { phase, how })
    }

    pub(super) fn process_ended(&mut self, time: i64) -> &mut Self {
        self.input(time, Input::ProcessEnded)
    }

    /// The events since the last call.
    pub(super) fn news(&mut self) -> Vec<Event> {
        self.told
            .drain(..)
            .filter_map(|output| match output {
                Output::Event(event) => Some(event),
                Output::Sample(_) | Output::OutageGoesOn => None,
            })
            .collect()
    }

    /// The connections for which samples were requested since the last call; forgets the other
    /// outputs.
    pub(super) fn asked(&mut self) -> Vec<ConnectionId> {
        self.told
            .drain(..)
            .filter_map(|output| match output {
                Output::Sample(id) => Some(id),
                Output::Event(_) | Output::OutageGoesOn => None,
            })
            .collect()
    }

    #[track_caller]
    pub(super) fn is_reachable_since(&self, time: i64) -> &Self {
        let since = Some(at(time));
        assert_eq!(self.link.state(), State::Reachable { since });
        self
    }

    #[track_caller]
    pub(super) fn is_unreachable_since(&self, time: i64, cause: Cause) -> &Self {
        let since = at(time);
        assert_eq!(self.link.state(), State::Unreachable { since, cause });
        self
    }

    /// Checks and errors of one kind; all errors have the same cause.
    #[track_caller]
    pub(super) fn has(&self, kind: CheckKind, checks: u64, errors: &[(Cause, u64)]) -> &Self {
        let counts = self.link.counts();
        let told: Vec<_> = Cause::ALL
            .into_iter()
            .map(|cause| (cause, counts.errors(kind, cause)))
            .filter(|&(_, n)| n > 0)
            .collect();
        assert_eq!(
            (counts.checks(kind), told.as_slice()),
            (checks, errors),
            "{kind:?}"
        );
        self
    }

    #[track_caller]
    pub(super) fn has_connects(&self, connects: u64) -> &Self {
        assert_eq!(self.link.counts().connects(), connects);
        self
    }
}

pub(super) fn failed(
    time: i64,
    n: u64,
    cause: Cause,
    errno: Option<u16>,
    duration: Option<u64>,
) -> FailedAttempt {
    FailedAttempt {
        at: at(time),
        peer_address: Some(peer(n)),
        cause,
        proxy_address: None,
        errno,
        duration: duration.map(ms),
    }
}
