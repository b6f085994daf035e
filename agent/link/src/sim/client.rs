//! One of Knative's websocket clients: its dials, its connection, and what the peer and the path to
//! it do.

use std::{net::SocketAddr, time::Duration};

use statlink_ebpf::{End, Phase};

use super::{
    socket::Socket,
    truth::Truth,
    world::{Event, Loss, Step, World},
};
use crate::{
    ConnectionId, Input, OpenConnection, Sample,
    cause::is_local,
    time::Timestamp,
    timings::{BEFORE_A_PING, CLOSE_ANSWER, SETTLE, SETTLE_ANSWER},
};

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

#[derive(Debug)]
pub(super) struct Client {
    pub(super) name: u64,
    pub(super) peer: SocketAddr,
    /// It looks up a name before it dials.
    by_name: bool,
    mode: Mode,
    /// Its process is stopped: what it is to do waits.
    pub(super) frozen: bool,
    waiting: Vec<Step>,
    /// Its last dial was held, and refused all the same.
    wary: bool,
    /// A connect() of this dial to another address has failed.
    racing: bool,
    /// Lookups fail.
    nameless: bool,
    pub(super) was_nameless: bool,
    socket: Option<Socket>,
    back_off: i32,
    /// It is not needed, or its process is gone: it dials no more.
    shut: bool,
    /// When the machine heard of it, or since when it says so.
    pub(super) begun: Option<Timestamp>,
    /// Since when there is nothing left of it, and whether it was withdrawn while live.
    pub(super) over: Option<(Timestamp, bool)>,
    /// The newest answer on a connection that was upgraded.
    pub(super) upgraded: Option<Timestamp>,
    /// Failed attempts since.
    pub(super) failures: u32,
    /// It has closed a live connection, and not dialled since.
    closed: bool,
    pub(super) truth: Truth,
    /// Closes by this side, and whether they are failures: undone if the process ends next.
    unsettled: Vec<(Timestamp, bool)>,
    /// Since when it should be known that it is (`true`) or is not live.
    certain: Option<(bool, Timestamp)>,
}

impl Client {
    pub(super) fn new(name: u64, peer: SocketAddr, by_name: bool) -> Self {
        Self {
            name,
            peer,
            by_name,
            mode: Mode::Up,
            frozen: false,
            waiting: Vec::new(),
            wary: false,
            racing: false,
            nameless: false,
            was_nameless: false,
            socket: None,
            back_off: 0,
            shut: false,
            begun: None,
            over: None,
            upgraded: None,
            failures: 0,
            closed: false,
            truth: Truth::default(),
            unsettled: Vec::new(),
            certain: None,
        }
    }

    /// It is connected already, which a listing is to show, or dials within `wait` milliseconds.
    pub(super) fn begin(&mut self, older: bool, wait: u64, world: &mut World) {
        if older {
            self.connected_before(world);
        } else {
            let wait = world.between(0, wait);
            self.plan(world, wait, Step::Dial);
        }
        let first = world.between(0, 60_000);
        self.plan(world, first, Step::Mode);
        let first = world.between(1_000, 60_000);
        self.plan(world, first, Step::Break);
        if self.by_name {
            let first = world.between(1_000, 300_000);
            self.plan(world, first, Step::Freeze);
        }
    }

    /// It has been connected since before the agent.
    fn connected_before(&mut self, world: &mut World) {
        let id = world.identify();
        let heard = world.now - world.between(300, 3_000);
        self.socket = Some(Socket {
            attempted: None,
            established: Some(heard),
            answered: Some(heard),
            heard: Some(heard),
            ..Socket::new(id, heard)
        });
        self.begun = Some(world.now);
        self.plan(world, Duration::from_millis(400), Step::Ping(id.sock));
        self.plan(
            world,
            Duration::from_millis(9_000),
            Step::ReadDeadline(id.sock),
        );
    }

    pub(super) fn plan(&self, world: &mut World, delay: Duration, step: Step) {
        world.plan(delay, Event::Client(self.name, step));
    }

    pub(super) fn happen(&mut self, step: Step, world: &mut World) {
        let by_itself = matches!(
            step,
            Step::Dial | Step::GiveUp(_) | Step::Ping(_) | Step::ReadDeadline(_) | Step::Shutdown
        );
        if self.frozen && by_itself {
            self.waiting.push(step);
            return;
        }
        match step {
            Step::Dial => self.dial(world),
            Step::Syn(sock) => self.syn(sock, world),
            Step::Answer(sock) => self.answer(sock, world),
            Step::GiveUp(sock) => {
                if self.is_open(sock, |socket| socket.answered.is_none() || socket.refused) {
                    self.give_up(world);
                }
            }
            Step::Ping(sock) => self.ping(sock, world),
            Step::Retransmit(sock) => self.retransmit(sock, world),
            Step::ReadDeadline(sock) => {
                if self.is_open(sock, |_| true)
                    && let Some(heard) = self.socket.as_ref().and_then(|socket| socket.heard)
                {
                    if world.now >= heard + READ_DEADLINE {
                        self.end(End::LocalClosed, 0, world);
                    } else {
                        let left = (heard + READ_DEADLINE).saturating_since(world.now);
                        self.plan(world, left, step);
                    }
                }
            }
            Step::Silence(sock) => {
                let due = |at: Option<Timestamp>| at.is_some_and(|at| at <= world.now);
                let is_up = |socket: &Socket| !socket.stalled && socket.is_upgraded(world.now);
                if self.is_open(sock, |socket| is_up(socket) && due(socket.silent_at())) {
                    self.stall();
                }
                let is_due = |socket: &Socket| due(socket.locally_silent_at());
                if self.is_open(sock, |socket| is_up(socket) && is_due(socket)) {
                    self.stall();
                    if let Some(socket) = &mut self.socket {
                        socket.silent_since = socket.locally_silent_at();
                    }
                }
            }
            Step::Freeze => self.freeze(world),
            Step::Mode => self.change_mode(world),
            Step::Break => self.break_connection(world),
            Step::Shutdown => self.shut_down(world),
        }
    }

    fn dial(&mut self, world: &mut World) {
        if self.shut || self.socket.is_some() {
            return;
        }
        if self.by_name {
            world.record(Input::LookedUp);
        }
        if self.nameless {
            let pause = self.pause(world);
            self.plan(world, HANDSHAKE + pause, Step::Dial);
            return;
        }
        self.race(world);
        let connection = world.identify();
        self.socket = Some(Socket {
            wary: self.wary,
            ..Socket::new(connection, world.now)
        });
        let input = Input::Attempted {
            connection,
            peer_address: self.peer,
        };
        let told = self.record(input, world);
        self.truth.dubious += u64::from(self.closed && !told);
        self.closed = false;
        self.plan(world, HANDSHAKE, Step::GiveUp(connection.sock));
        let latency = world.between(1, 3);
        self.plan(world, latency, Step::Syn(connection.sock));
    }

    fn syn(&mut self, sock: u64, world: &mut World) {
        let Some(socket) = self
            .open(sock)
            .filter(|socket| socket.established.is_none())
        else {
            return;
        };
        socket.syns += 1;
        match self.mode {
            Mode::Blackhole => self.plan(world, Duration::from_secs(1), Step::Syn(sock)),
            Mode::Refusing => self.end(End::Refused, 111, world),
            Mode::Up | Mode::Frozen => {
                if let Some(socket) = &mut self.socket {
                    socket.established = Some(world.now);
                    self.truth.races_lost += u64::from(std::mem::take(&mut self.racing));
                    let (connection, attempted) = (socket.id, socket.attempted);
                    let input = Input::Established {
                        connection,
                        peer_address: self.peer,
                        attempted,
                    };
                    self.record(input, world);
                }
                let latency = world.between(1, 20);
                self.plan(world, latency, Step::Answer(sock));
            }
        }
    }

    fn answer(&mut self, sock: u64, world: &mut World) {
        let mode = self.mode;
        let Some(socket) = self.open(sock).filter(|socket| socket.answered.is_none()) else {
            return;
        };
        match mode {
            // The answer waits for the peer, or for the network.
            Mode::Frozen | Mode::Blackhole => {
                self.plan(world, Duration::from_millis(50), Step::Answer(sock));
            }
            Mode::Up | Mode::Refusing => {
                socket.answered = Some(world.now);
                socket.heard = Some(world.now);
                // The upgrade may be refused: closed at once.
                if world.chance(3) {
                    self.end(End::LocalClosed, 0, world);
                    return;
                }
                // Or never closed by the peer: the client waits for its end.
                if self.by_name && world.loss == Loss::None && world.chance(5) {
                    if let Some(socket) = &mut self.socket {
                        socket.refused = true;
                    }
                    return;
                }
                self.back_off = 0;
                self.plan(world, PING, Step::Ping(sock));
                self.plan(world, READ_DEADLINE, Step::ReadDeadline(sock));
                self.expect_silence(world);
            }
        }
    }

    fn give_up(&mut self, world: &mut World) {
        let how = match &self.socket {
            Some(Socket {
                established: Some(_),
                ..
            }) => End::LocalClosed,
            Some(Socket { syns: 0 | 1, .. }) => End::Abandoned,
            Some(_) | None => End::Unanswered,
        };
        self.end(how, 0, world);
    }

    fn ping(&mut self, sock: u64, world: &mut World) {
        // `Shutdown()` keeps everybody from writing.
        if self.shut {
            return;
        }
        let mode = self.mode;
        let Some(socket) = self.open(sock) else {
            return;
        };
        let now = world.now;
        socket.send(now);
        if socket
            .heard
            .is_some_and(|heard| now > heard + BEFORE_A_PING)
        {
            socket.first_unanswered.get_or_insert(now);
        }
        let idle = socket.unacknowledged.is_none();
        match mode {
            Mode::Up | Mode::Refusing if idle => socket.hear(now + Duration::from_nanos(1)),
            Mode::Up | Mode::Refusing | Mode::Frozen => {}
            Mode::Blackhole if idle => {
                socket.unacknowledged = Some(now);
                socket.timeouts = 0;
                self.plan(world, RETRANSMIT, Step::Retransmit(sock));
            }
            Mode::Blackhole => {}
        }
        self.plan(world, PING, Step::Ping(sock));
        self.expect_silence(world);
    }

    /// Plans when what is unanswered now, or not said, becomes a stall.
    fn expect_silence(&mut self, world: &mut World) {
        let Some(socket) = &self.socket else {
            return;
        };
        let (sock, now) = (socket.id.sock, world.now);
        for at in [socket.silent_at(), socket.locally_silent_at()] {
            if let Some(at) = at {
                self.plan(world, at.saturating_since(now), Step::Silence(sock));
            }
        }
    }

    /// Another address is tried first, and refused at once.
    fn race(&mut self, world: &mut World) {
        if !self.by_name || world.loss == Loss::Some || !world.chance(20) {
            return;
        }
        let loser = Socket::new(world.identify(), world.now);
        world.deliver(Input::Attempted {
            connection: loser.id,
            peer_address: other_family(),
        });
        world.deliver(loser.ended(other_family(), Phase::Connecting, End::Refused, 111));
        self.racing = true;
    }

    /// Its process is stopped, or goes on with what it was to do.
    fn freeze(&mut self, world: &mut World) {
        self.frozen = !self.frozen;
        let next = if self.frozen {
            world.between(100, 60_000)
        } else {
            world.between(1_000, 600_000)
        };
        self.plan(world, next, Step::Freeze);
        self.expect_silence(world);
        if !self.frozen {
            // Its reader is the first to run.
            let mut waiting = std::mem::take(&mut self.waiting);
            waiting.sort_by_key(|step| !matches!(step, Step::ReadDeadline(_)));
            for step in waiting {
                self.happen(step, world);
            }
        }
    }

    fn retransmit(&mut self, sock: u64, world: &mut World) {
        let (now, mode) = (world.now, self.mode);
        let Some(socket) = self.open(sock) else {
            return;
        };
        if socket.unacknowledged.is_none() {
            return;
        }
        match mode {
            Mode::Blackhole => {
                socket.timeouts += 1;
                let (connection, timeouts) = (socket.id, socket.timeouts);
                let stalls = timeouts >= 2 && !socket.stalled && socket.is_upgraded(now);
                let next = RETRANSMIT * 2u32.pow(u32::from(timeouts));
                self.plan(world, next, Step::Retransmit(sock));
                let told = world.record(Input::RetransmissionTimeout {
                    connection,
                    timeouts,
                });
                if stalls {
                    self.truth.dubious += u64::from(!told);
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
                self.expect_silence(world);
            }
        }
    }

    fn stall(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.stalled = true;
            self.truth.stalls += 1;
        }
    }

    fn change_mode(&mut self, world: &mut World) {
        if self.over.is_some() {
            return;
        }
        let before = self.mode;
        self.mode = match (before, world.between(0, 3).as_millis()) {
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
            socket.hear(world.now);
            self.expect_silence(world);
        }
        self.nameless = self.by_name && self.mode != Mode::Up && world.chance(20);
        self.was_nameless |= self.nameless;
        let next = match self.mode {
            Mode::Up => world.between(2_000, 120_000),
            Mode::Refusing | Mode::Blackhole | Mode::Frozen => world.between(1_000, 30_000),
        };
        self.plan(world, next, Step::Mode);
    }

    fn break_connection(&mut self, world: &mut World) {
        if self.over.is_some() {
            return;
        }
        let next = world.between(50, 120_000);
        self.plan(world, next, Step::Break);
        let now = world.now;
        let Some(socket) = &mut self.socket else {
            return;
        };
        let Some(established) = socket.established else {
            return;
        };
        match world.between(0, 4).as_millis() {
            0 if self.mode != Mode::Blackhole => self.end(End::Reset, 104, world),
            1 if matches!(self.mode, Mode::Up | Mode::Refusing) => {
                // The peer's good-bye. On a young connection it cannot be told from a refusal.
                if established + HANDSHAKE < now {
                    socket.hear(now);
                }
                self.end(End::PeerClosed, 0, world);
            }
            2 if world.chance(50) => self.end(End::Aborted, 103, world),
            2 => self.end(End::HostUnreachable, 113, world),
            // A client that shuts down waits for its reader, and one that may let go of its peer
            // closes a live connection for no other reason. What cannot be told from a refusal is
            // none here.
            _ if !self.shut && self.by_name && !self.frozen && !socket.may_look_refused(now) => {
                self.end(End::LocalClosed, 0, world);
            }
            _ => {}
        }
    }

    /// `Shutdown()` of a live connection waits for the reader, which gives up 10 s after the last
    /// pong; a dial is given up at once.
    fn shut_down(&mut self, world: &mut World) {
        if self.shut {
            return;
        }
        self.shut = true;
        let now = world.now;
        match &self.socket {
            // It cannot be told from one that closed its connection for that.
            None if self.closed => {
                self.unsettled.pop();
                self.truth.closed -= 1;
                self.truth.withdrawn += 1;
                self.over = Some((now, true));
            }
            None => self.over = Some((now, false)),
            Some(socket) if socket.is_upgraded(now) => {}
            Some(_) => self.give_up(world),
        }
    }

    fn end(&mut self, how: End, errno: u16, world: &mut World) {
        let now = world.now;
        let Some(socket) = self.socket.take() else {
            return;
        };
        let phase = socket.phase(now);
        let lost = world.is_lost();
        // Where nobody sees the end, the kernel half's own word is the truth.
        let upgraded = if lost {
            phase == Phase::Held
        } else {
            socket.was_upgraded(now)
        };
        let local = is_local(how);
        // Who won nothing has failed, too.
        self.truth.failed += u64::from(std::mem::take(&mut self.racing));
        self.wary = if upgraded {
            how == End::LocalClosed && !lost && socket.looks_refused(now)
        } else {
            self.wary
        };
        let withdrawn = self.shut && local && upgraded && !socket.stalled;
        if upgraded {
            self.certain = None;
            self.upgraded = socket.answered.or(self.upgraded);
            self.failures = 0;
            self.truth.upgraded += u64::from(socket.attempted.is_some());
            let count = if socket.stalled {
                &mut self.truth.ended_while_stalled
            } else if withdrawn {
                &mut self.truth.withdrawn
            } else {
                &mut self.truth.closed
            };
            *count += 1;
        } else {
            self.truth.failed += 1;
            self.failures += 1;
        }
        if local && !withdrawn && !(upgraded && socket.stalled) {
            let answers = how == End::LocalClosed
                && socket
                    .heard
                    .is_some_and(|heard| now.saturating_since(heard) <= CLOSE_ANSWER);
            let settle = if answers { SETTLE_ANSWER } else { SETTLE };
            self.unsettled.push((now + settle, !upgraded));
            self.closed = upgraded && !answers && !lost;
        }
        if lost {
            self.truth.dubious += u64::from(local && upgraded);
            world.miss(phase, how);
        } else {
            self.told(socket.attempted);
            world.deliver(socket.ended(self.peer, phase, how, errno));
        }
        if self.shut {
            self.over = Some((now, withdrawn && !lost));
            return;
        }
        let pause = self.pause(world);
        self.plan(world, pause, Step::Dial);
    }

    /// The client's next pause.
    fn pause(&mut self, world: &mut World) -> Duration {
        let step = Duration::from_millis(100).mul_f64(1.3f64.powi(self.back_off));
        self.back_off = (self.back_off + 1) % 20;
        step + world.between(0, 500).mul_f64(step.as_secs_f64())
    }

    /// Its process is killed.
    pub(super) fn kill(&mut self, world: &mut World) {
        self.shut = true;
        let now = world.now;
        let Some(socket) = self.socket.take() else {
            return;
        };
        self.truth.failed += u64::from(std::mem::take(&mut self.racing));
        if socket.was_upgraded(now) {
            self.truth.upgraded += u64::from(socket.attempted.is_some());
            self.truth.ended_while_stalled += u64::from(socket.stalled);
        }
        world.deliver(socket.ended(self.peer, socket.phase(now), End::Exiting, 0));
    }

    /// Its process is seen to have ended.
    pub(super) fn reap(&mut self, ended: Timestamp) {
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
    }

    /// Its connection does something that is recorded; whether the record arrives.
    fn record(&mut self, input: Input, world: &mut World) -> bool {
        let attempted = self.socket.as_ref().and_then(|socket| socket.attempted);
        let arrives = world.record(input);
        if arrives {
            self.told(attempted);
            if let Some(socket) = &mut self.socket {
                socket.known = true;
            }
        }
        arrives
    }

    /// The machine hears of a connection that was attempted then.
    fn told(&mut self, attempted: Option<Timestamp>) {
        self.begun = self.begun.or(attempted);
    }

    /// A look at `connection`; `None` if it is not this client's.
    pub(super) fn sample(&mut self, connection: ConnectionId, now: Timestamp) -> Option<Sample> {
        let socket = self.socket.as_mut()?;
        if socket.id != connection {
            return None;
        }
        // A stall is over when a look finds all well.
        socket.stalled &= !socket.is_well(now);
        Some(socket.sample())
    }

    /// Its entry in a listing of all that are open. The walk misses what is moved in the map
    /// meanwhile: an entry of a connection that was there before.
    pub(super) fn list(&mut self, world: &mut World) -> Option<OpenConnection> {
        let now = world.now;
        let socket = self.socket.as_mut()?;
        if std::mem::replace(&mut socket.known, true) && world.is_lost() {
            return None;
        }
        let listed = OpenConnection {
            connection: socket.id,
            peer_address: self.peer,
            attempted: socket.attempted,
            phase: socket.phase(now).min(Phase::Established),
        };
        self.told(listed.attempted);
        Some(listed)
    }

    /// Whether it is live, where that has been clear for longer than this, and since when.
    pub(super) fn certainly(
        &mut self,
        now: Timestamp,
        patience: Duration,
    ) -> Option<(bool, Timestamp)> {
        let truth = match &self.socket {
            None => Some(false),
            Some(socket) if !socket.is_upgraded(now) => Some(false),
            // Healed: both model and machine see it within a look.
            Some(socket) if socket.stalled => (!socket.is_well(now)).then_some(false),
            Some(socket) => socket.is_well(now).then_some(true),
        };
        if let Some(socket) = &self.socket
            && socket.is_upgraded(now)
        {
            self.upgraded = socket.answered;
        }
        match (truth, self.certain) {
            (None, _) => self.certain = None,
            (Some(truth), Some((before, _))) if truth == before => {}
            (Some(truth), _) => self.certain = Some((truth, now)),
        }
        self.certain.filter(|(_, since)| *since + patience < now)
    }

    fn is_open(&self, sock: u64, and: impl Fn(&Socket) -> bool) -> bool {
        self.socket
            .as_ref()
            .is_some_and(|socket| socket.id.sock == sock && and(socket))
    }

    fn open(&mut self, sock: u64) -> Option<&mut Socket> {
        self.socket.as_mut().filter(|socket| socket.id.sock == sock)
    }
}

/// Where the peer is by its other family.
pub(super) fn other_family() -> SocketAddr {
    SocketAddr::from(([10, 96, 9, 9], 8080))
}

/// The client's timers.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(3);
const PING: Duration = Duration::from_millis(3_333);
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// The first retransmission timeout.
const RETRANSMIT: Duration = Duration::from_millis(208);
