//! One of Knative's websocket clients: its dials, its connection, and the behaviour of the peer and
//! the path to it.

mod trouble;
mod wire;

use std::{net::SocketAddr, time::Duration};

use statlink_ebpf::{End, Phase};

use super::{
    socket::Socket,
    truth::Truth,
    world::{Event, Step, World},
};
use crate::{
    ConnectionId, Input, OpenConnection, Sample,
    cause::is_local,
    time::Timestamp,
    timings::{SETTLE, SETTLE_ANSWER},
};

/// The state of the path to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Up,
    /// Nobody listens; established connections work on.
    Refusing,
    /// Every packet is dropped.
    Blackhole,
    /// The peer is stopped; its kernel works on.
    Frozen,
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) name: u64,
    pub(super) peer: SocketAddr,
    /// It looks up a name before it dials.
    by_name: bool,
    mode: Mode,
    /// Its process is stopped: its steps wait.
    pub(super) frozen: bool,
    waiting: Vec<Step>,
    /// Its last dial was held and then refused.
    wary: bool,
    /// A connect() of this dial to another address has failed.
    racing: bool,
    /// Lookups fail.
    nameless: bool,
    pub(super) was_nameless: bool,
    /// Its process has looked up something else since its last dial.
    looked_elsewhere: bool,
    /// It was stopped then, so a lookup without a dial is taken for one that failed.
    pub(super) was_misleading: bool,
    socket: Option<Socket>,
    back_off: i32,
    /// It is not needed, or its process has ended: it no longer dials.
    shut: bool,
    /// When the machine heard of it, or since when it should have.
    pub(super) begun: Option<Timestamp>,
    /// Since when nothing is left of it, and whether it was withdrawn while live.
    pub(super) over: Option<(Timestamp, bool)>,
    /// The newest answer on a connection that was upgraded.
    pub(super) upgraded: Option<Timestamp>,
    /// Failed attempts since.
    pub(super) failures: u32,
    /// It has closed a live connection and not dialled since.
    closed: bool,
    pub(super) truth: Truth,
    /// Closes by this side, and whether they count as failures: undone if the process ends next.
    unsettled: Vec<(Timestamp, bool)>,
    /// Since when the machine should know that it is live (`true`) or not.
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
            looked_elsewhere: false,
            was_misleading: false,
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

    /// It is connected already, and a listing will show that, or it dials within `wait`
    /// milliseconds.
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
            known_established: Some(world.now),
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

    fn end(&mut self, how: End, errno: u16, world: &mut World) {
        let now = world.now;
        let Some(socket) = self.socket.take() else {
            return;
        };
        self.looked_elsewhere = false;
        let phase = socket.phase(now);
        let lost = world.is_lost();
        let upgraded = if lost {
            socket.may_be_upgraded(now)
        } else {
            socket.was_upgraded(now)
        };
        let local = is_local(how);
        // The connect()s that won nothing have failed, too.
        self.truth.failed += u64::from(std::mem::take(&mut self.racing));
        self.wary = if upgraded {
            how == End::LocalClosed && !lost && socket.makes_wary(now)
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
            let answers = how == End::LocalClosed && socket.answers_a_close(now);
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
        } else {
            self.truth.failed += u64::from(socket.is_overdue(now));
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

    /// Whether it has a connection that is up, or none and no dial under way, and everything before
    /// is known.
    pub(super) fn is_settled(&self, now: Timestamp) -> bool {
        let socket = self.socket.as_ref();
        socket.is_none_or(|socket| socket.is_upgraded(now))
            && !self.racing
            && self.unsettled.iter().all(|(until, _)| *until < now)
    }

    /// An agent that starts now finds its connection, and has not seen it begin.
    pub(super) fn becomes_older(&mut self) {
        if let Some(socket) = &mut self.socket {
            self.truth.upgraded += u64::from(socket.attempted.is_some());
            socket.attempted = None;
        }
    }

    /// Its connection does something that is recorded; returns whether the record arrives.
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

    /// The machine learns of a connection that was attempted then.
    fn told(&mut self, attempted: Option<Timestamp>) {
        self.begun = self.begun.or(attempted);
    }

    /// A look at `connection`; `None` if it is not this client's.
    pub(super) fn sample(&mut self, connection: ConnectionId, now: Timestamp) -> Option<Sample> {
        let socket = self.socket.as_mut()?;
        if socket.id != connection {
            return None;
        }
        // A stall is over when a look finds the connection well.
        socket.stalled &= !socket.is_well(now);
        Some(socket.sample(now))
    }

    /// Its entry in a listing of all open connections. The walk misses entries that move in the map
    /// meanwhile: here, an entry of a connection that existed before.
    pub(super) fn list(&mut self, world: &mut World) -> Option<OpenConnection> {
        let now = world.now;
        let socket = self.socket.as_mut()?;
        if std::mem::replace(&mut socket.known, true) && world.is_lost() {
            return None;
        }
        socket.is_seen(now);
        let listed = OpenConnection {
            connection: socket.id,
            peer_address: self.peer,
            attempted: socket.attempted,
            phase: socket.phase(now).min(Phase::Established),
        };
        self.told(listed.attempted);
        Some(listed)
    }

    /// Whether it is live, if that has been clear for longer than `patience`, and since when.
    pub(super) fn certainly(
        &mut self,
        now: Timestamp,
        patience: Duration,
    ) -> Option<(bool, Timestamp)> {
        let truth = match &self.socket {
            None => Some(false),
            Some(socket) if !socket.is_upgraded(now) => Some(false),
            // It has healed: model and machine both see it within one look.
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

    /// Its process looks up something else.
    pub(super) fn look_elsewhere(&mut self, world: &mut World) {
        world.record(Input::LookedUp);
        self.looked_elsewhere = true;
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

/// The peer's address in the other family.
pub(super) fn other_family() -> SocketAddr {
    SocketAddr::from(([10, 96, 9, 9], 8080))
}

/// The client's timers.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(3);
const PING: Duration = Duration::from_millis(3_333);
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// The first retransmission timeout.
const RETRANSMIT: Duration = Duration::from_millis(208);
