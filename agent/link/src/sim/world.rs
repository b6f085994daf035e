//! The clock, chance, and the kernel half, whose records come late, twice or never.

use std::{collections::BTreeMap, time::Duration};

use statlink_ebpf::{End, Phase};

use crate::{ConnectionId, Input, MissedEnds, time::Timestamp};

/// Whether records are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    None,
    Some,
}

/// The next step of a client.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Dial,
    /// The SYN, or a retransmission of it, arrives; the mode decides what happens.
    Syn(u64),
    /// The peer answers the upgrade, if it can.
    Answer(u64),
    /// The client's own timeout.
    GiveUp(u64),
    Ping(u64),
    /// The data is retransmitted.
    Retransmit(u64),
    /// The reader's deadline, 10 s after the last pong.
    ReadDeadline(u64),
    /// The silence has reached the limit of the rules.
    Silence(u64),
    Mode,
    /// Its process is stopped, or continues.
    Freeze,
    /// The connection breaks in one of several ways.
    Break,
    /// The client is no longer needed.
    Shutdown,
}

/// The next event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// A step of one client.
    Client(u64, Step),
    /// A step of the process that only its kind has.
    Process,
    /// The driver reads the ring.
    Drain,
    Resynchronise,
    /// No more losses: the end is near.
    Quiet,
    Kill,
    Reap,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) loss: Loss,
    pub(super) now: Timestamp,
    random: u64,
    serial: u64,
    agenda: BTreeMap<(Timestamp, u64), Event>,
    losing: bool,
    ring: Vec<(Timestamp, Input)>,
    draining: bool,
    missed: MissedEnds,
    resynchronising: bool,
}

impl World {
    pub(super) fn new(seed: u64, loss: Loss) -> Self {
        Self {
            seed,
            loss,
            now: Timestamp::from_nanos(1_000_000_000_000),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5DEE_CE66,
            serial: 0,
            agenda: BTreeMap::new(),
            losing: loss == Loss::Some,
            ring: Vec::new(),
            draining: false,
            missed: MissedEnds::default(),
            resynchronising: false,
        }
    }

    /// How long a machine may take to see the truth: a record of an end arrives within the ring's
    /// delay and settles; a lost one waits for the listing.
    pub(super) fn patience(&self) -> Duration {
        match self.loss {
            Loss::None => Duration::from_millis(700),
            Loss::Some => Duration::from_millis(2_500),
        }
    }

    pub(super) fn identify(&mut self) -> ConnectionId {
        self.serial += 1;
        ConnectionId {
            sock: self.serial,
            born: self.now,
        }
    }
}

/// The agenda, and chance.
impl World {
    pub(super) fn next(&mut self) -> Option<(Timestamp, Event)> {
        let ((at, _), event) = self.agenda.pop_first()?;
        Some((at, event))
    }

    pub(super) fn plan(&mut self, delay: Duration, event: Event) {
        self.random = step(self.random);
        self.agenda.insert((self.now + delay, self.random), event);
    }

    /// Removes all planned events.
    pub(super) fn end(&mut self) {
        self.agenda.clear();
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.random = step(self.random);
        (self.random >> 33) % 100 < percent
    }

    /// A duration of whole milliseconds in the range, plus a random fraction of one after the
    /// first.
    pub(super) fn between(&mut self, from: u64, to: u64) -> Duration {
        self.random = step(self.random);
        let span = (to - from).max(1) * 1_000_000;
        Duration::from_millis(from) + Duration::from_nanos((self.random >> 11) % span)
    }
}

/// The kernel half.
impl World {
    /// Records an event; returns whether the record arrives.
    pub(super) fn record(&mut self, input: Input) -> bool {
        let lost = self.is_lost();
        if lost {
            self.lose();
        } else {
            self.deliver(input);
        }
        !lost
    }

    /// Whether the next record is lost.
    pub(super) fn is_lost(&mut self) -> bool {
        self.losing && self.chance(15)
    }

    /// The record of an end is lost.
    pub(super) fn miss(&mut self, phase: Phase, how: End) {
        self.missed.add(phase, how, 1);
        self.lose();
    }

    fn lose(&mut self) {
        if !self.resynchronising {
            self.resynchronising = true;
            let delay = self.between(300, 900);
            self.plan(delay, Event::Resynchronise);
        }
    }

    pub(super) fn deliver(&mut self, input: Input) {
        self.ring.push((self.now, input));
        if !self.draining {
            self.draining = true;
            let delay = self.between(0, 20);
            self.plan(delay, Event::Drain);
        }
    }

    /// The records in the ring. Some will come again.
    pub(super) fn drain(&mut self) -> Vec<(Timestamp, Input)> {
        self.draining = false;
        let records = std::mem::take(&mut self.ring);
        for record in &records {
            if let (at, Input::Attempted { .. } | Input::Established { .. } | Input::Ended { .. }) =
                record
                && *at + TWICE > self.now
                && self.chance(5)
            {
                self.ring.push(record.clone());
            }
        }
        records
    }

    /// Drops the records: nobody reads the ring again.
    pub(super) fn forget_records(&mut self) {
        self.ring.clear();
    }

    /// The ends that were missed since the last call.
    pub(super) fn missed(&mut self) -> MissedEnds {
        self.resynchronising = false;
        std::mem::take(&mut self.missed)
    }

    /// From now on no record is lost.
    pub(super) fn quieten(&mut self) {
        self.losing = false;
    }
}

/// One step of `SplitMix64`.
fn step(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// How long a record may come again.
const TWICE: Duration = Duration::from_secs(60);
