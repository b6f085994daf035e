//! A model of an activator, its peer, the network and the kernel half on a virtual clock, with
//! faults drawn from a seed. It knows the truth, and holds the link to it.
//!
//! A failure names its seed; `STATLINK_SIM_SEED=<seed>` runs that life alone.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use statlink_ebpf::{End, Phase};

use super::{
    Cause, CheckKind, ConnectionId, Fact, Link, Missed, OpenConnection, Outcome, Sample, Status,
    connection::{BEFORE_A_PING, CLOSING_HANDSHAKE, HOLD},
};
use crate::time::Timestamp;

#[test]
fn the_link_tells_the_truth_about_many_lives() {
    let hours = live(0..400, Loss::None);
    assert!(hours > 200, "{hours} simulated hours");
}

#[test]
fn counts_stay_true_when_records_are_lost() {
    live(10_000..10_300, Loss::Some);
}

/// Runs one life for each seed; returns how many hours were simulated.
fn live(seeds: std::ops::Range<u64>, loss: Loss) -> u64 {
    let only: Option<u64> = std::env::var("STATLINK_SIM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut simulated = Duration::ZERO;
    for seed in seeds {
        if only.is_none_or(|only| only == seed) {
            simulated += World::new(seed, loss).live();
        }
    }
    if only.is_some() {
        return u64::MAX;
    }
    simulated.as_secs() / 3_600
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    None,
    Some,
}

/// What the path to the peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Up,
    /// Nobody listens; what is established goes on.
    Refusing,
    /// Every packet is dropped.
    Blackhole,
    /// The peer is stopped; its kernel goes on.
    Frozen,
}

/// What happens next in the world.
#[derive(Clone, Copy, Debug)]
enum Event {
    Dial,
    /// The SYN, or its repetition, arrives where the mode sends it.
    Syn(u64),
    /// The peer answers the upgrade, if it can.
    Answer(u64),
    /// The dialler's own timeout.
    GiveUp(u64),
    Ping(u64),
    /// What was sent is sent again.
    Retransmit(u64),
    /// The reader's deadline, 10 s after the last pong.
    ReadDeadline(u64),
    /// Silence has lasted for as long as the rules allow.
    Silence(u64),
    Mode,
    /// The process looks up something else, and news of the peer's addresses come.
    Chatter,
    /// The connection is broken in one of the ways it can be.
    Break,
    /// The driver reads the ring.
    Drain,
    Resynchronise,
    /// No more losses: the end is near.
    Quiet,
    Kill,
    Reap,
}

#[derive(Clone, Debug)]
struct Socket {
    id: ConnectionId,
    /// `None`: older than the agent.
    attempted: Option<Timestamp>,
    established: Option<Timestamp>,
    answered: Option<Timestamp>,
    heard: Option<Timestamp>,
    sent: Option<Timestamp>,
    /// When the oldest unacknowledged data was sent.
    unacknowledged: Option<Timestamp>,
    /// When the first ping was sent since it was heard.
    first_unanswered: Option<Timestamp>,
    timeouts: u8,
    syns: u32,
    stalled: bool,
}

/// What is true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Truth {
    failed: u64,
    upgraded: u64,
    closed: u64,
    stalls: u64,
    ended_while_stalled: u64,
}

struct World {
    seed: u64,
    random: u64,
    loss: Loss,
    losing: bool,
    now: Timestamp,
    serial: u64,
    agenda: BTreeMap<(Timestamp, u64), Event>,
    mode: Mode,
    /// Lookups fail.
    nameless: bool,
    was_nameless: bool,
    socket: Option<Socket>,
    back_off: i32,
    alive: bool,
    ring: Vec<(Timestamp, Fact)>,
    draining: bool,
    missed: Missed,
    resynchronising: bool,
    link: Link,
    truth: Truth,
    /// Closes by this side, and whether they are failures: undone if the process ends next.
    unsettled: Vec<(Timestamp, bool)>,
    /// Since when the link should know that it is (`true`) or is not reachable.
    certain: Option<(bool, Timestamp)>,
    outages: Outages,
}

/// The outages that were told.
#[derive(Clone, Copy, Debug, Default)]
struct Outages {
    begun: u64,
    /// Of those, the one that began when the grace ended.
    of_the_grace: u64,
    under_way: bool,
    was_reachable: bool,
}

impl World {
    fn new(seed: u64, loss: Loss) -> Self {
        let now = Timestamp::from_nanos(1_000_000_000_000);
        let mut world = Self {
            seed,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5DEE_CE66,
            loss,
            losing: loss == Loss::Some,
            now,
            serial: 0,
            agenda: BTreeMap::new(),
            mode: Mode::Up,
            nameless: false,
            was_nameless: false,
            socket: None,
            back_off: 0,
            alive: true,
            ring: Vec::new(),
            draining: false,
            missed: Missed::default(),
            resynchronising: false,
            link: Link::discovered(now),
            truth: Truth::default(),
            unsettled: Vec::new(),
            certain: None,
            outages: Outages::default(),
        };
        if world.chance(20) {
            world.begin_with_an_older_connection();
        } else {
            let wait = world.between(0, 8_000);
            world.plan(wait, Event::Dial);
        }
        let life = world.between(60_000, 3_600_000 * 2);
        world.plan(life, Event::Quiet);
        let first = world.between(0, 60_000);
        world.plan(first, Event::Mode);
        // An activator that looks up something else before its first dial is taken for one whose
        // lookups fail: the rule's known limit.
        world.plan(first + Duration::from_secs(8), Event::Chatter);
        let first = world.between(1_000, 60_000);
        world.plan(first, Event::Break);
        world
    }

    fn begin_with_an_older_connection(&mut self) {
        let id = self.identify();
        let heard = self.now - self.between(300, 3_000);
        self.socket = Some(Socket {
            attempted: None,
            established: Some(heard),
            answered: Some(heard),
            heard: Some(heard),
            ..Socket::new(id, heard)
        });
        self.plan(Duration::from_millis(400), Event::Ping(id.sock));
        self.plan(Duration::from_millis(9_000), Event::ReadDeadline(id.sock));
        // It is enumerated, not recorded: that cannot be lost.
        let fact = Fact::Found {
            connection: id,
            peer: peer(),
            attempted: None,
            phase: Phase::Established,
        };
        self.tell(self.now, fact);
    }

    fn live(mut self) -> Duration {
        let began = self.now;
        while let Some(((at, _), event)) = self.agenda.pop_first() {
            self.wake_link_until(at);
            self.now = at;
            self.happen(event);
            self.judge();
        }
        assert_eq!(self.link.status(), Status::Ended, "seed {}", self.seed);
        self.balance();
        self.now.saturating_since(began)
    }

    /// The driver wakes for each deadline before `at`.
    fn wake_link_until(&mut self, at: Timestamp) {
        while let Some(due) = self.link.next_deadline()
            && due <= at
        {
            self.now = self.now.max(due);
            let mut outcomes = Vec::new();
            self.link.on_deadline(self.now, &mut outcomes);
            let next = self.link.next_deadline();
            assert!(
                next > Some(self.now),
                "seed {}: deadline in the past",
                self.seed
            );
            self.perform(outcomes);
            self.judge();
        }
    }

    fn tell(&mut self, at: Timestamp, fact: Fact) {
        let mut outcomes = Vec::new();
        self.link.handle(at, fact, &mut outcomes);
        self.perform(outcomes);
    }

    fn perform(&mut self, outcomes: Vec<Outcome>) {
        let mut samples = Vec::new();
        for outcome in outcomes {
            match outcome {
                Outcome::Sample(id) => samples.push(id),
                Outcome::Unreachable { .. } if !self.outages.under_way => {
                    self.outages.begun += 1;
                    self.outages.of_the_grace += u64::from(!self.outages.was_reachable);
                    self.outages.under_way = true;
                    // Each onset has an error of its own.
                    let errors = self.link.counts().total_errors();
                    assert!(errors >= self.outages.begun, "seed {}", self.seed);
                }
                Outcome::Reachable { outage, .. } => {
                    assert_eq!(
                        outage.is_some(),
                        self.outages.under_way,
                        "seed {}",
                        self.seed
                    );
                    self.outages.under_way = false;
                    self.outages.was_reachable = true;
                }
                Outcome::Connected { .. }
                | Outcome::ConnectFailed(_)
                | Outcome::Disconnected { .. }
                | Outcome::Unreachable { .. }
                | Outcome::Idle { .. }
                | Outcome::Ended { .. } => {}
            }
        }
        let counts = self.link.counts();
        assert!(
            counts.total_errors() <= counts.total_checks(),
            "seed {}",
            self.seed
        );
        let now = self.now;
        for connection in samples {
            let sample = self
                .socket
                .as_mut()
                .filter(|socket| socket.id == connection)
                .map(|socket| {
                    // A stall is over when a look finds all well.
                    socket.stalled &= !socket.is_well(now);
                    socket.sample()
                });
            self.tell(now, Fact::Sampled { connection, sample });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Dial => self.dial(),
            Event::Syn(sock) => self.syn(sock),
            Event::Answer(sock) => self.answer(sock),
            Event::GiveUp(sock) => {
                if self.is_open(sock, |socket| socket.answered.is_none()) {
                    let how = match &self.socket {
                        Some(Socket {
                            established: Some(_),
                            ..
                        }) => End::LocalClosed,
                        Some(Socket { syns: 0 | 1, .. }) => End::Abandoned,
                        Some(_) | None => End::Unanswered,
                    };
                    self.end(how, 0);
                }
            }
            Event::Ping(sock) => self.ping(sock),
            Event::Retransmit(sock) => self.retransmit(sock),
            Event::ReadDeadline(sock) => {
                if self.is_open(sock, |_| true)
                    && let Some(heard) = self.socket.as_ref().and_then(|socket| socket.heard)
                {
                    if self.now >= heard + READ_DEADLINE {
                        self.end(End::LocalClosed, 0);
                    } else {
                        let left = (heard + READ_DEADLINE).saturating_since(self.now);
                        self.plan(left, event);
                    }
                }
            }
            Event::Silence(sock) => {
                let now = self.now;
                if self.is_open(sock, |socket| {
                    !socket.stalled && socket.silent_at().is_some_and(|at| at <= now)
                }) {
                    self.stall();
                }
            }
            Event::Mode => self.change_mode(),
            Event::Chatter => self.chatter(),
            Event::Break => self.break_connection(),
            Event::Drain => {
                self.draining = false;
                self.drain();
            }
            Event::Resynchronise => self.resynchronise(),
            Event::Quiet => {
                self.losing = false;
                self.plan(Duration::from_millis(1_500), Event::Kill);
            }
            Event::Kill => self.kill(),
            Event::Reap => {
                self.drain();
                let ended = self.now;
                for (at, failure) in std::mem::take(&mut self.unsettled) {
                    if at > ended {
                        let count = if failure {
                            &mut self.truth.failed
                        } else {
                            &mut self.truth.closed
                        };
                        *count -= 1;
                    }
                }
                self.tell(ended, Fact::ProcessEnded);
                self.agenda.clear();
            }
        }
    }

    fn dial(&mut self) {
        if !self.alive || self.socket.is_some() {
            return;
        }
        self.record(Fact::LookedUp);
        if self.nameless {
            let step = self.pause();
            self.plan(HANDSHAKE + step, Event::Dial);
            return;
        }
        let connection = self.identify();
        self.socket = Some(Socket::new(connection, self.now));
        self.record(Fact::Attempted {
            connection,
            peer: peer(),
        });
        self.plan(HANDSHAKE, Event::GiveUp(connection.sock));
        let latency = self.between(1, 3);
        self.plan(latency, Event::Syn(connection.sock));
    }

    fn syn(&mut self, sock: u64) {
        if !self.is_open(sock, |socket| socket.established.is_none()) {
            return;
        }
        if let Some(socket) = &mut self.socket {
            socket.syns += 1;
        }
        match self.mode {
            Mode::Blackhole => self.plan(Duration::from_secs(1), Event::Syn(sock)),
            Mode::Refusing => self.end(End::Refused, 111),
            Mode::Up | Mode::Frozen => {
                let now = self.now;
                if let Some(socket) = &mut self.socket {
                    socket.established = Some(now);
                    let (connection, attempted) = (socket.id, socket.attempted);
                    self.record(Fact::Established {
                        connection,
                        peer: peer(),
                        attempted,
                    });
                }
                let latency = self.between(1, 20);
                self.plan(latency, Event::Answer(sock));
            }
        }
    }

    fn answer(&mut self, sock: u64) {
        if !self.is_open(sock, |socket| socket.answered.is_none()) {
            return;
        }
        match self.mode {
            // The answer waits for the peer, or for the network.
            Mode::Frozen | Mode::Blackhole => {
                self.plan(Duration::from_millis(50), Event::Answer(sock));
            }
            Mode::Up | Mode::Refusing => {
                let now = self.now;
                if let Some(socket) = &mut self.socket {
                    socket.answered = Some(now);
                    socket.heard = Some(now);
                }
                // The upgrade may be refused: closed at once.
                if self.chance(3) {
                    self.end(End::LocalClosed, 0);
                    return;
                }
                self.back_off = 0;
                self.plan(PING, Event::Ping(sock));
                self.plan(READ_DEADLINE, Event::ReadDeadline(sock));
            }
        }
    }

    fn ping(&mut self, sock: u64) {
        if !self.is_open(sock, |_| true) {
            return;
        }
        self.plan(PING, Event::Ping(sock));
        let now = self.now;
        let Some(socket) = &mut self.socket else {
            return;
        };
        socket.sent = Some(now);
        if socket
            .heard
            .is_some_and(|heard| now > heard + BEFORE_A_PING)
        {
            socket.first_unanswered.get_or_insert(now);
        }
        match self.mode {
            Mode::Up | Mode::Refusing if socket.unacknowledged.is_none() => {
                socket.hear(now + Duration::from_nanos(1));
            }
            Mode::Up | Mode::Refusing | Mode::Frozen => {}
            Mode::Blackhole => {
                if socket.unacknowledged.is_none() {
                    socket.unacknowledged = Some(now);
                    socket.timeouts = 0;
                    self.plan(RETRANSMIT, Event::Retransmit(sock));
                }
            }
        }
        self.expect_silence();
    }

    /// When what is unanswered now becomes a stall.
    fn expect_silence(&mut self) {
        if let Some(socket) = &self.socket
            && let Some(at) = socket.silent_at()
        {
            let sock = socket.id.sock;
            self.plan(at.saturating_since(self.now), Event::Silence(sock));
        }
    }

    fn retransmit(&mut self, sock: u64) {
        if !self.is_open(sock, |socket| socket.unacknowledged.is_some()) {
            return;
        }
        let (now, mode) = (self.now, self.mode);
        let Some(socket) = &mut self.socket else {
            return;
        };
        match mode {
            Mode::Blackhole => {
                socket.timeouts += 1;
                let (connection, timeouts) = (socket.id, socket.timeouts);
                let stalls = timeouts >= 2 && !socket.stalled && socket.is_upgraded(now);
                self.plan(
                    RETRANSMIT * 2u32.pow(u32::from(timeouts)),
                    Event::Retransmit(sock),
                );
                self.record(Fact::RetransmissionTimeout {
                    connection,
                    timeouts,
                });
                if stalls {
                    self.stall();
                }
            }
            Mode::Frozen => {
                socket.unacknowledged = None;
                socket.timeouts = 0;
            }
            Mode::Up | Mode::Refusing => {
                socket.unacknowledged = None;
                socket.timeouts = 0;
                socket.hear(now);
            }
        }
    }

    fn stall(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.stalled = true;
            self.truth.stalls += 1;
        }
    }

    fn change_mode(&mut self) {
        let (now, before) = (self.now, self.mode);
        self.mode = match (before, self.between(0, 3).as_millis()) {
            (Mode::Up, 0) => Mode::Refusing,
            (Mode::Up, 1) => Mode::Blackhole,
            (Mode::Up, _) => Mode::Frozen,
            (Mode::Refusing | Mode::Blackhole | Mode::Frozen, _) => Mode::Up,
        };
        if before == Mode::Frozen
            && let Some(socket) = &mut self.socket
            && socket.sent > socket.heard
            && socket.unacknowledged.is_none()
        {
            socket.hear(now);
        }
        self.nameless = self.mode != Mode::Up && self.chance(20);
        self.was_nameless |= self.nameless;
        let next = match self.mode {
            Mode::Up => self.between(2_000, 120_000),
            Mode::Refusing | Mode::Blackhole | Mode::Frozen => self.between(1_000, 30_000),
        };
        self.plan(next, Event::Mode);
    }

    fn break_connection(&mut self) {
        let next = self.between(50, 120_000);
        self.plan(next, Event::Break);
        if !self.is_open(self.serial, |socket| socket.established.is_some()) {
            return;
        }
        let now = self.now;
        match self.between(0, 4).as_millis() {
            0 if self.mode != Mode::Blackhole => self.end(End::Reset, 104),
            1 if matches!(self.mode, Mode::Up | Mode::Refusing) => {
                // The peer's good-bye. On a young connection it cannot be told from a refusal.
                if let Some(socket) = &mut self.socket
                    && socket.established.is_some_and(|at| at + HANDSHAKE < now)
                {
                    socket.hear(now);
                }
                self.end(End::PeerClosed, 0);
            }
            2 => self.end(End::HostUnreachable, 113),
            _ => self.end(End::LocalClosed, 0),
        }
    }

    fn end(&mut self, how: End, errno: u16) {
        let now = self.now;
        let Some(socket) = self.socket.take() else {
            return;
        };
        let phase = socket.phase(now);
        let lost = self.is_lost();
        // Where nobody sees the end, the kernel half's own word is the truth.
        let upgraded = if lost {
            phase == Phase::Held
        } else {
            socket.is_upgraded(now)
        };
        if upgraded {
            self.certain = None;
            self.truth.upgraded += u64::from(socket.attempted.is_some());
            if socket.stalled {
                self.truth.ended_while_stalled += 1;
            } else {
                self.truth.closed += 1;
            }
        } else {
            self.truth.failed += 1;
        }
        if super::end::is_local(how) && !(upgraded && socket.stalled) {
            let answers = how == End::LocalClosed
                && socket
                    .heard
                    .is_some_and(|heard| now.saturating_since(heard) <= CLOSING_HANDSHAKE);
            let settle = if answers {
                super::tracking::SETTLE_ANSWER
            } else {
                super::tracking::SETTLE
            };
            self.unsettled.push((now + settle, !upgraded));
        }
        if lost {
            self.missed.add(phase, how, 1);
            self.lose();
        } else {
            self.deliver(Fact::Ended {
                connection: socket.id,
                peer: peer(),
                attempted: socket.attempted,
                phase,
                how,
                errno,
                heard: socket.heard,
            });
        }
        let pause = self.pause();
        self.plan(pause, Event::Dial);
    }

    /// The client's next pause.
    fn pause(&mut self) -> Duration {
        let step = Duration::from_millis(100).mul_f64(1.3f64.powi(self.back_off));
        self.back_off = (self.back_off + 1) % 20;
        step + self.between(0, 500).mul_f64(step.as_secs_f64())
    }

    fn chatter(&mut self) {
        self.record(Fact::LookedUp);
        if self.chance(20) {
            let known = self.chance(80).then(|| [peer().ip()].into());
            self.tell(self.now, Fact::PeerAddresses(known));
        }
        let next = self.between(50, 15_000);
        self.plan(next, Event::Chatter);
    }

    fn kill(&mut self) {
        self.alive = false;
        let now = self.now;
        if let Some(socket) = self.socket.take() {
            let phase = socket.phase(now);
            if socket.is_upgraded(now) {
                self.truth.upgraded += u64::from(socket.attempted.is_some());
                self.truth.ended_while_stalled += u64::from(socket.stalled);
            }
            let how = End::Exiting;
            self.deliver(Fact::Ended {
                connection: socket.id,
                peer: peer(),
                attempted: socket.attempted,
                phase,
                how,
                errno: 0,
                heard: socket.heard,
            });
        }
        let reaped = self.between(21, 60);
        self.plan(reaped, Event::Reap);
    }

    fn record(&mut self, fact: Fact) {
        if self.is_lost() {
            self.lose();
        } else {
            self.deliver(fact);
        }
    }

    fn is_lost(&mut self) -> bool {
        self.losing && self.chance(15)
    }

    fn lose(&mut self) {
        if !self.resynchronising {
            self.resynchronising = true;
            let delay = self.between(300, 900);
            self.plan(delay, Event::Resynchronise);
        }
    }

    fn deliver(&mut self, fact: Fact) {
        self.ring.push((self.now, fact));
        if !self.draining {
            self.draining = true;
            let delay = self.between(0, 20);
            self.plan(delay, Event::Drain);
        }
    }

    fn drain(&mut self) {
        for (at, fact) in std::mem::take(&mut self.ring) {
            self.tell(at, fact);
        }
    }

    fn resynchronise(&mut self) {
        self.drain();
        self.resynchronising = false;
        let open = self
            .socket
            .iter()
            .map(|socket| OpenConnection {
                connection: socket.id,
                peer: peer(),
                attempted: socket.attempted,
                phase: socket.phase(self.now).min(Phase::Established),
            })
            .collect();
        let missed = std::mem::take(&mut self.missed);
        self.tell(self.now, Fact::Resynchronised { open, missed });
    }

    /// Holds the link's status to the truth, where that has been clear for long enough.
    fn judge(&mut self) {
        let now = self.now;
        let truth = match &self.socket {
            None => Some(false),
            Some(socket) if !socket.is_upgraded(now) => Some(false),
            Some(socket) if socket.stalled => {
                if socket.is_well(now) {
                    // Healed: both model and link see it within a look.
                    None
                } else {
                    Some(false)
                }
            }
            Some(socket) => socket.is_well(now).then_some(true),
        };
        match (truth, self.certain) {
            (None, _) => self.certain = None,
            (Some(truth), Some((before, _))) if truth == before => {}
            (Some(truth), _) => self.certain = Some((truth, now)),
        }
        // An end is told within the ring's delay and settles; a lost one waits for the listing.
        let patience = match self.loss {
            Loss::None => Duration::from_millis(700),
            Loss::Some => Duration::from_millis(2_500),
        };
        if let Some((truth, since)) = self.certain
            && since + patience < now
            && self.alive
        {
            let (link, told) = match self.link.status() {
                Status::Reachable { .. } => (true, true),
                Status::Unreachable { .. } => (false, true),
                Status::Idle | Status::Starting => (false, !truth),
                Status::Ended => return,
            };
            assert!(
                link == truth && told,
                "seed {}: at {now:?} the link is {:?}, but since {since:?} the truth is {truth}: {:?} {:?}",
                self.seed,
                self.link.status(),
                self.mode,
                self.socket,
            );
        }
    }

    /// Compares what was counted in a whole life.
    fn balance(&self) {
        let (seed, truth, counts) = (self.seed, &self.truth, self.link.counts());
        let connect = (counts.checks(CheckKind::Connect), counts.connects());
        assert_eq!(
            connect,
            (truth.failed + truth.upgraded, truth.upgraded),
            "seed {seed}: connect checks, connects; {truth:?}"
        );
        for kind in CheckKind::ALL {
            assert_eq!(counts.errors(kind, Cause::WrongPeer), 0, "seed {seed}");
            let dns = counts.errors(kind, Cause::Dns);
            assert!(dns == 0 || self.was_nameless, "seed {seed}: {dns} dns");
        }
        let disconnects = counts.checks(CheckKind::Disconnect);
        match self.loss {
            Loss::None => assert_eq!(
                disconnects,
                truth.closed + truth.stalls,
                "seed {seed}: losses; {truth:?}"
            ),
            // A stall that heals may go unnoticed, and an end may hide one.
            Loss::Some => assert!(
                (truth.closed + truth.ended_while_stalled..=truth.closed + truth.stalls)
                    .contains(&disconnects),
                "seed {seed}: {disconnects} losses; {truth:?}"
            ),
        }
        // One connection at a time: each loss is an outage. What is known only from a listing
        // afterwards may have been none.
        let outages = self.outages.begun - self.outages.of_the_grace;
        match self.loss {
            Loss::None => assert_eq!(outages, disconnects, "seed {seed}: outages"),
            Loss::Some => assert!(outages <= disconnects, "seed {seed}: {outages} outages"),
        }
    }

    fn identify(&mut self) -> ConnectionId {
        self.serial += 1;
        ConnectionId {
            sock: self.serial,
            born: self.now,
        }
    }

    fn is_open(&self, sock: u64, and: impl Fn(&Socket) -> bool) -> bool {
        self.socket
            .as_ref()
            .is_some_and(|socket| socket.id.sock == sock && and(socket))
    }

    fn plan(&mut self, delay: Duration, event: Event) {
        self.random = step(self.random);
        self.agenda.insert((self.now + delay, self.random), event);
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random = step(self.random);
        (self.random >> 33) % 100 < percent
    }

    /// Milliseconds in the range, and a random fraction of one beyond the first.
    fn between(&mut self, from: u64, to: u64) -> Duration {
        self.random = step(self.random);
        let span = (to - from).max(1) * 1_000_000;
        Duration::from_millis(from) + Duration::from_nanos((self.random >> 11) % span)
    }
}

impl Socket {
    fn new(id: ConnectionId, attempted: Timestamp) -> Self {
        Self {
            id,
            attempted: Some(attempted),
            established: None,
            answered: None,
            heard: None,
            sent: None,
            unacknowledged: None,
            first_unanswered: None,
            timeouts: 0,
            syns: 0,
            stalled: false,
        }
    }

    fn hear(&mut self, at: Timestamp) {
        self.heard = Some(at);
        self.first_unanswered = None;
    }

    fn sample(&self) -> Sample {
        Sample {
            established: self.established.is_some(),
            heard: self.heard,
            sent: self.sent,
            unacknowledged: self.unacknowledged.is_some(),
            timeouts: self.timeouts,
            rtt: Some(Duration::from_millis(1)),
        }
    }

    fn phase(&self, now: Timestamp) -> Phase {
        match (self.established, self.heard) {
            (None, _) => Phase::Connecting,
            (Some(established), Some(_)) if established + HOLD <= now => Phase::Held,
            (Some(_), _) => Phase::Established,
        }
    }

    fn is_upgraded(&self, now: Timestamp) -> bool {
        self.answered.is_some_and(|answered| answered + HOLD <= now)
    }

    /// When silence becomes a stall; `None` while nothing waits for an answer.
    fn silent_at(&self) -> Option<Timestamp> {
        let (heard, sent) = (self.heard?, self.first_unanswered?);
        Some((heard + Duration::from_secs(5)).max(sent + Duration::from_millis(1_500)))
    }

    fn is_well(&self, now: Timestamp) -> bool {
        self.timeouts == 0 && self.silent_at().is_none_or(|silent| now < silent)
    }
}

fn peer() -> SocketAddr {
    SocketAddr::from(([10, 96, 0, 1], 8080))
}

/// One step of `SplitMix64`.
fn step(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The client's timers.
const HANDSHAKE: Duration = Duration::from_secs(3);
const PING: Duration = Duration::from_millis(3_333);
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// The first retransmission timeout.
const RETRANSMIT: Duration = Duration::from_millis(208);
