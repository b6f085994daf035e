//! The traffic between a client and its peer: dials, answers, pings, retransmissions.

use std::time::Duration;

use statlink_ebpf::End;

use super::{Client, HANDSHAKE, Mode, PING, READ_DEADLINE, RETRANSMIT};
use crate::{
    Input,
    sim::{
        socket::Socket,
        world::{Loss, Step, World},
    },
    timings::BEFORE_A_PING,
};

impl Client {
    pub(super) fn dial(&mut self, world: &mut World) {
        if self.shut || self.socket.is_some() {
            return;
        }
        self.looked_elsewhere = false;
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

    pub(super) fn syn(&mut self, sock: u64, world: &mut World) {
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
                    if self.record(input, world)
                        && let Some(socket) = &mut self.socket
                    {
                        socket.is_seen(world.now);
                    }
                }
                let latency = world.between(1, 20);
                self.plan(world, latency, Step::Answer(sock));
            }
        }
    }

    pub(super) fn answer(&mut self, sock: u64, world: &mut World) {
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
                // The upgrade may be refused: a running client closes at once.
                if world.chance(3) && !self.frozen {
                    self.end(End::LocalClosed, 0, world);
                    return;
                }
                // The peer may also never end its refusal: the client waits for the end.
                if self.by_name && world.loss == Loss::None && world.chance(5) {
                    if let Some(socket) = &mut self.socket {
                        socket.refused = true;
                    }
                    // A stopped client holds it until it continues.
                    self.expect_silence(world);
                    return;
                }
                self.back_off = 0;
                self.plan(world, PING, Step::Ping(sock));
                self.plan(world, READ_DEADLINE, Step::ReadDeadline(sock));
                self.expect_silence(world);
            }
        }
    }

    pub(super) fn give_up(&mut self, world: &mut World) {
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

    pub(super) fn ping(&mut self, sock: u64, world: &mut World) {
        // `Shutdown()` blocks all writers.
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

    /// Plans the moment when missing answers or the client's silence become a stall.
    pub(super) fn expect_silence(&mut self, world: &mut World) {
        let Some(socket) = &self.socket else {
            return;
        };
        let (sock, now) = (socket.id.sock, world.now);
        let due = [socket.silent_at(), socket.locally_silent_at()];
        for at in due.into_iter().flatten() {
            self.plan(world, at.saturating_since(now), Step::Silence(sock));
        }
    }

    pub(super) fn retransmit(&mut self, sock: u64, world: &mut World) {
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

    pub(super) fn stall(&mut self) {
        if let Some(socket) = &mut self.socket {
            socket.stalled = true;
            self.truth.stalls += 1;
        }
    }
}
