//! Faults of a client: its path changes, its connection breaks, its process is stopped, its dial is
//! a race.

use statlink_ebpf::{End, Phase};

use super::{Client, HANDSHAKE, Mode, other_family};
use crate::{
    Input,
    sim::{
        socket::Socket,
        world::{Loss, Step, World},
    },
};

impl Client {
    /// Another address is tried first, and refused at once.
    pub(super) fn race(&mut self, world: &mut World) {
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

    /// Its process is stopped, or continues.
    pub(super) fn freeze(&mut self, world: &mut World) {
        self.frozen = !self.frozen;
        self.was_misleading |= self.frozen && self.looked_elsewhere;
        let next = if self.frozen {
            world.between(100, 60_000)
        } else {
            world.between(1_000, 600_000)
        };
        self.plan(world, next, Step::Freeze);
        self.expect_silence(world);
        if !self.frozen {
            // Its reader runs first.
            let mut waiting = std::mem::take(&mut self.waiting);
            waiting.sort_by_key(|step| !matches!(step, Step::ReadDeadline(_)));
            for step in waiting {
                self.happen(step, world);
            }
        }
    }

    pub(super) fn change_mode(&mut self, world: &mut World) {
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

    pub(super) fn break_connection(&mut self, world: &mut World) {
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
                // The peer's close. On a young connection it looks like a refusal.
                if established + HANDSHAKE < now {
                    socket.hear(now);
                }
                self.end(End::PeerClosed, 0, world);
            }
            2 if world.chance(50) => self.end(End::Aborted, 103, world),
            2 => self.end(End::HostUnreachable, 113, world),
            // A client that shuts down waits for its reader, and one that may let go of its peer
            // closes a live connection for no other reason. A close that looks like a refusal is
            // left out here.
            _ if !self.shut && self.by_name && !self.frozen && !socket.may_look_refused(now) => {
                self.end(End::LocalClosed, 0, world);
            }
            _ => {}
        }
    }

    /// `Shutdown()` of a live connection waits for the reader, which gives up 10 s after the last
    /// pong; a dial is given up at once.
    pub(super) fn shut_down(&mut self, world: &mut World) {
        if self.shut {
            return;
        }
        self.shut = true;
        let now = world.now;
        match &self.socket {
            // This cannot be told from a client that closed its connection to let go.
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
}
