//! The life of one machine, from its discovery to the end of its process.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use super::{
    client::Client,
    truth::Truth,
    world::{Event, Loss, World},
};
use crate::{Counts, EventKind, Input, LinkMachine, MissedEnds, Output, State, time::Timestamp};

/// The properties of one kind of machine.
pub(super) trait Kind: Default {
    type LinkMachine: LinkMachine;

    fn machine(discovered: Timestamp) -> Self::LinkMachine;

    /// Plans the first events.
    fn begin(life: &mut Life<Self>);

    /// The process does something that only this kind does.
    fn act(life: &mut Life<Self>);

    /// Compares the state with the truth, if that has been clear for long enough.
    fn judge(life: &mut Life<Self>);

    /// Compares the counts of a whole life.
    fn balance(life: &Life<Self>);
}

pub(super) struct Life<K: Kind> {
    pub(super) world: World,
    pub(super) clients: BTreeMap<u64, Client>,
    pub(super) machine: K::LinkMachine,
    pub(super) kind: K,
    pub(super) alive: bool,
    pub(super) outages: Outages,
    /// The counts of earlier agents.
    pub(super) counted_before: Counts,
}

/// The reported outages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outages {
    pub(super) begun: u64,
    /// Among them, the one that began at the end of the first grace.
    pub(super) of_the_grace: u64,
    under_way: bool,
    was_reachable: bool,
}

/// Runs one life for each seed; returns how many hours were simulated.
pub(super) fn live<K: Kind>(seeds: impl IntoIterator<Item = u64>, loss: Loss) -> u64 {
    let asked_for = asked_for();
    let is_asked_for = asked_for.is_some();
    let seeds: Vec<u64> = asked_for.map_or_else(|| seeds.into_iter().collect(), Range::collect);
    let mut simulated = Duration::ZERO;
    let mut bad = Vec::new();
    for seed in seeds {
        let life = || Life::<K>::new(seed, loss).live();
        match std::panic::catch_unwind(life) {
            Ok(lived) => simulated += lived,
            Err(_) => bad.push(seed),
        }
    }
    assert!(
        bad.is_empty(),
        "each alone by STATLINK_SIM_SEEDS=<seed>: {bad:?}"
    );
    if is_asked_for {
        return u64::MAX;
    }
    simulated.as_secs() / 3_600
}

/// The requested seeds: `STATLINK_SIM_SEEDS=755`, or `=0..20000`.
fn asked_for() -> Option<Range<u64>> {
    let seeds = std::env::var("STATLINK_SIM_SEEDS").ok()?;
    let (first, end) = match seeds.split_once("..") {
        Some((first, end)) => (first.parse().expect("a seed"), end.parse().expect("a seed")),
        None => {
            let seed = seeds.parse().expect("a seed, or a range of them");
            (seed, seed + 1)
        }
    };
    Some(first..end)
}

impl<K: Kind> Life<K> {
    fn new(seed: u64, loss: Loss) -> Self {
        let world = World::new(seed, loss);
        let mut life = Self {
            machine: K::machine(world.now),
            world,
            clients: BTreeMap::new(),
            kind: K::default(),
            alive: true,
            outages: Outages::default(),
            counted_before: Counts::default(),
        };
        K::begin(&mut life);
        life
    }

    fn live(mut self) -> Duration {
        let began = self.world.now;
        while let Some((at, event)) = self.world.next() {
            self.wake_until(at);
            self.world.now = at;
            self.happen(event);
            K::judge(&mut self);
        }
        let seed = self.world.seed;
        assert_eq!(self.machine.state(), State::Ended, "seed {seed}");
        K::balance(&self);
        self.world.now.saturating_since(began)
    }

    /// The driver wakes for each deadline before `at`.
    fn wake_until(&mut self, at: Timestamp) {
        while let Some(due) = self.machine.next_deadline()
            && due <= at
        {
            let now = self.world.now.max(due);
            self.world.now = now;
            let mut outputs = Vec::new();
            self.machine.on_deadline(now, &mut outputs);
            let next = self.machine.next_deadline();
            assert!(
                next.is_none_or(|next| next > now),
                "seed {}: deadline in the past",
                self.world.seed
            );
            self.perform(outputs);
            K::judge(self);
        }
    }

    pub(super) fn tell(&mut self, at: Timestamp, input: Input) {
        let mut outputs = Vec::new();
        self.machine.handle(at, input, &mut outputs);
        self.perform(outputs);
    }

    fn perform(&mut self, outputs: Vec<Output>) {
        let seed = self.world.seed;
        let mut samples = Vec::new();
        for output in outputs {
            let event = match output {
                Output::Sample(id) => {
                    samples.push(id);
                    continue;
                }
                Output::Event(event) => event,
                Output::OutageGoesOn => continue,
            };
            match event.kind {
                EventKind::Unreachable { .. } if !self.outages.under_way => {
                    self.outages.begun += 1;
                    self.outages.of_the_grace += u64::from(!self.outages.was_reachable);
                    self.outages.under_way = true;
                    // Each onset has an error of its own.
                    let errors =
                        self.machine.counts().total_errors() + self.counted_before.total_errors();
                    assert!(errors >= self.outages.begun, "seed {seed}");
                }
                EventKind::Reachable { outage, .. } => {
                    let under_way = self.outages.under_way;
                    assert_eq!(outage.is_some(), under_way, "seed {seed}: an outage's end");
                    assert!(outage.is_none_or(|outage| outage.errors > 0), "seed {seed}");
                    self.outages.under_way = false;
                    self.outages.was_reachable = true;
                }
                EventKind::Idle => self.outages.under_way = false,
                EventKind::Unknown { .. }
                | EventKind::Discovered
                | EventKind::Connected { .. }
                | EventKind::ConnectFailed(_)
                | EventKind::Disconnected { .. }
                | EventKind::Unreachable { .. }
                | EventKind::Ended => {}
            }
        }
        let counts = self.machine.counts();
        assert!(
            counts.total_errors() <= counts.total_checks(),
            "seed {seed}"
        );
        let now = self.world.now;
        for connection in samples {
            let mut clients = self.clients.values_mut();
            let sample = clients.find_map(|client| client.sample(connection, now));
            self.tell(now, Input::Sampled { connection, sample });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Client(name, step) => {
                if let Some(client) = self.clients.get_mut(&name) {
                    client.happen(step, &mut self.world);
                }
            }
            Event::Process => K::act(self),
            Event::Drain => self.drain(),
            Event::Resynchronise => {
                self.drain();
                let missed = self.world.missed();
                self.list(missed);
            }
            Event::Quiet => {
                self.world.quieten();
                self.world.plan(Duration::from_millis(1_500), Event::Kill);
            }
            Event::Kill => {
                self.alive = false;
                for client in self.clients.values_mut() {
                    client.kill(&mut self.world);
                }
                let reaped = self.world.between(21, 60);
                self.world.plan(reaped, Event::Reap);
            }
            Event::Reap => {
                self.drain();
                let ended = self.world.now;
                for client in self.clients.values_mut() {
                    client.reap(ended);
                }
                self.tell(ended, Input::ProcessEnded);
                self.world.end();
            }
        }
    }

    /// The machine gets a listing of all open connections: it comes from a walk, and cannot be lost
    /// like a record.
    pub(super) fn list(&mut self, missed: MissedEnds) {
        let now = self.world.now;
        let world = &mut self.world;
        let clients = self.clients.values_mut();
        let open = clients.filter_map(|client| client.list(world)).collect();
        self.tell(now, Input::Resynchronised { open, missed });
    }

    /// Another agent replaces this one, and finds its legacy and the open connections.
    pub(super) fn replace(&mut self) {
        let now = self.world.now;
        let legacy = self.machine.legacy();
        self.counted_before.add(&self.machine.counts());
        self.machine = K::machine(now);
        self.world.forget_records();
        for client in self.clients.values_mut() {
            client.becomes_older();
        }
        self.tell(now, Input::Inherited(legacy));
        self.list(MissedEnds::default());
    }

    pub(super) fn drain(&mut self) {
        for (at, input) in self.world.drain() {
            self.tell(at, input);
        }
    }

    /// The truth about all present clients.
    pub(super) fn truth(&self) -> Truth {
        let mut truth = Truth::default();
        for client in self.clients.values() {
            truth.add(&client.truth);
        }
        truth
    }
}
