//! A forwarder and its fan-out: it has a client for the owner of each bucket, and owners change.

use std::{net::SocketAddr, time::Duration};

use super::{
    client::Client,
    life::{Kind, Life, live},
    truth::Truth,
    world::{Event, Loss, Step},
};
use crate::{
    CheckKind, Fanout, LinkMachine as _, MissedEnds, State,
    time::Timestamp,
    timings::{HOLD, longest_pause},
};

#[test]
fn the_fanout_tells_the_truth_about_many_lives() {
    let hours = live::<Forwarder>(20_000..20_060, Loss::None);
    assert!(hours > 10, "{hours} simulated hours");
}

#[test]
fn its_counts_stay_true_when_records_are_lost() {
    live::<Forwarder>(30_000..30_060, Loss::Some);
}

#[derive(Default)]
struct Forwarder {
    /// How many clients there have been.
    serial: u64,
    /// The truth about forgotten clients.
    past: Truth,
    liveness: Liveness,
    /// The number of liveness checks when it became idle.
    idle: Option<u64>,
    /// Until then, targets of replaced clients may be left.
    left_until: Timestamp,
    /// The number of dubious closes, and until when they may have consequences.
    dubious: u64,
    confused_until: Timestamp,
}

/// The least and the most liveness checks that are right.
#[derive(Clone, Copy, Debug, Default)]
struct Liveness {
    least: u64,
    most: u64,
}

impl Kind for Forwarder {
    type LinkMachine = Fanout;

    fn machine(_: Timestamp) -> Fanout {
        Fanout::default()
    }

    fn begin(life: &mut Life<Self>) {
        let span = life.world.between(60_000, 1_800_000);
        life.world.plan(span, Event::Quiet);
        for n in 1..=ADDRESSES {
            if life.world.chance(30) {
                let older = life.world.chance(30);
                life.assign(address(n), older);
            }
        }
        let first = life.world.between(0, 60_000);
        life.world.plan(first, Event::Process);
    }

    /// The owners change.
    fn act(life: &mut Life<Self>) {
        let next = if life.world.chance(10) {
            // No bucket has an owner for a while.
            for client in life.clients.values() {
                client.plan(&mut life.world, Duration::ZERO, Step::Shutdown);
            }
            life.world.between(1_000, 90_000)
        } else {
            let owner = (1..ADDRESSES).find(|_| life.world.chance(20));
            let owner = address(owner.unwrap_or(ADDRESSES));
            let known = life
                .clients
                .values()
                .find(|client| client.peer == owner && client.over.is_none());
            match known {
                Some(client) => client.plan(&mut life.world, Duration::ZERO, Step::Shutdown),
                None => life.assign(owner, false),
            }
            life.world.between(100, 40_000)
        };
        life.world.plan(next, Event::Process);
    }

    fn judge(life: &mut Life<Self>) {
        life.forget();
        if !life.alive {
            return;
        }
        let (now, patience) = (life.world.now, life.world.patience());
        let dubious = life.truth().dubious + life.kind.past.dubious;
        if dubious > life.kind.dubious {
            life.kind.dubious = dubious;
            life.kind.confused_until = now + CONFUSED;
        }
        let left = now < life.kind.left_until;
        let mut is = Expected {
            empty: !left,
            unclear: left,
            ..Expected::default()
        };
        for client in life.clients.values_mut() {
            let certain = client.certainly(now, patience).map(|(live, _)| live);
            let Some(begun) = client.begun else {
                continue;
            };
            is.empty = false;
            if client.over.is_some() {
                is.unclear = true;
                continue;
            }
            is.present
                .extend((begun + patience < now).then_some(client.peer));
            match certain {
                Some(true) => is.live += 1,
                Some(false) if begun + GRACE + patience < now => is.failing = true,
                // During its grace it changes nothing.
                Some(false) if client.upgraded.is_none() && now + patience < begun + GRACE => {}
                Some(false) | None => is.unclear = true,
            }
        }
        if life.kind.confused_until < now {
            life.compare(&is);
        }
    }

    fn balance(life: &Life<Self>) {
        let (seed, counts) = (life.world.seed, life.machine.counts());
        let (mut truth, mut liveness) = (life.truth(), life.kind.liveness);
        truth.add(&life.kind.past);
        let connect = (counts.checks(CheckKind::Connect), counts.connects());
        assert_eq!(
            connect,
            (truth.failed + truth.upgraded, truth.upgraded),
            "seed {seed}: connect checks, connects; {truth:?}"
        );
        let disconnects = counts.checks(CheckKind::Disconnect);
        match life.world.loss {
            Loss::None => {
                let lost = truth.closed + truth.stalls;
                assert_eq!(disconnects, lost, "seed {seed}: losses; {truth:?}");
                for client in life.clients.values() {
                    liveness.add(client, life.world.now);
                }
                let checks = counts.checks(CheckKind::Liveness);
                assert!(
                    (liveness.least..=liveness.most).contains(&checks),
                    "seed {seed}: {checks} liveness checks, {liveness:?}"
                );
            }
            // A stall that heals may not be noticed, and an end may hide one.
            Loss::Some => {
                let least = truth.closed + truth.ended_while_stalled;
                let most = truth.closed + truth.stalls + truth.dubious;
                assert!(
                    (least.saturating_sub(truth.dubious)..=most).contains(&disconnects),
                    "seed {seed}: {disconnects} losses; {truth:?}"
                );
            }
        }
    }
}

/// The expected state.
#[derive(Debug, Default)]
struct Expected {
    empty: bool,
    unclear: bool,
    failing: bool,
    live: usize,
    present: Vec<SocketAddr>,
}

impl Life<Forwarder> {
    /// A bucket gets a new owner, unless its former one has yet to settle.
    fn assign(&mut self, owner: SocketAddr, older: bool) {
        if !self.alive {
            return;
        }
        let now = self.world.now;
        let mut clients = self.clients.values();
        let before = clients.find(|client| client.peer == owner);
        let before = before.map(|before| (before.name, before.over));
        let goes_on = match before {
            None => None,
            Some((name, Some((over, false)))) if over + SETTLED < now => Some(name),
            Some(_) => return,
        };
        let name = self.kind.serial;
        self.kind.serial += 1;
        let mut client = Client::new(name, owner, false);
        if let Some(before) = goes_on.and_then(|name| self.clients.remove(&name)) {
            self.kind.forget(&before, now);
            self.kind.left_until = now + GIVEN_UP;
            client.failures = before.failures;
        }
        client.begin(older, 3_000, &mut self.world);
        self.clients.insert(name, client);
        if older {
            self.list(MissedEnds::default());
        }
    }

    /// Forgets clients that have been over for long enough.
    fn forget(&mut self) {
        let now = self.world.now;
        let left: Vec<_> = self
            .clients
            .values()
            .filter_map(|client| Some((client.name, self.left_until(client)?)))
            .collect();
        for (name, until) in left {
            if until + self.world.patience() < now
                && let Some(client) = self.clients.remove(&name)
            {
                self.kind.forget(&client, now);
            }
        }
    }

    /// Until when something may be left of a client that is over.
    fn left_until(&self, client: &Client) -> Option<Timestamp> {
        let (over, withdrawn) = client.over?;
        let given_up = over + longest_pause(client.failures) + SLACK;
        let clients = self.clients.values();
        let answers = clients.filter_map(|other| other.upgraded);
        let elsewhere = answers.filter(|answered| *answered > over).min();
        Some(match (self.world.loss, client.upgraded, elsewhere) {
            _ if withdrawn => over,
            (Loss::None, Some(_), _) => given_up,
            (Loss::None, None, Some(answered)) => given_up.max(answered + HOLD),
            (Loss::None, None, None) | (Loss::Some, _, _) => over + GIVEN_UP,
        })
    }

    fn compare(&mut self, is: &Expected) {
        let seed = self.world.seed;
        let (now, state) = (self.world.now, self.machine.state());
        let wrong = || format!("seed {seed}: at {now:?} it is {state:?}, but {is:?}");
        let targets: Vec<_> = self.machine.targets().collect();
        let forgotten = is.present.iter().find(|peer| !targets.contains(peer));
        assert_eq!(forgotten, None, "{}", wrong());
        for target in targets {
            let mut clients = self.clients.values();
            assert!(
                clients.any(|client| client.peer == target),
                "{}, and {target} is left",
                wrong()
            );
        }
        if is.failing {
            assert!(matches!(state, State::Unreachable { .. }), "{}", wrong());
        } else if !is.unclear && is.live > 0 {
            assert!(matches!(state, State::Reachable { .. }), "{}", wrong());
        } else if !is.unclear && !is.empty {
            assert!(
                matches!(state, State::Starting | State::Idle),
                "{}",
                wrong()
            );
        }
        if !is.unclear {
            assert!(self.machine.live().len() >= is.live, "{}", wrong());
        }
        if is.empty {
            assert_eq!(state, State::Idle, "{}", wrong());
            assert_eq!(self.machine.next_deadline(), None, "{}", wrong());
            let checks = self.machine.counts().checks(CheckKind::Liveness);
            let before = *self.kind.idle.get_or_insert(checks);
            assert_eq!(checks, before, "{}", wrong());
        } else {
            self.kind.idle = None;
        }
    }
}

impl Forwarder {
    fn forget(&mut self, client: &Client, now: Timestamp) {
        self.past.add(&client.truth);
        self.liveness.add(client, now);
    }
}

impl Liveness {
    fn add(&mut self, client: &Client, now: Timestamp) {
        let Some(begun) = client.begun else {
            return;
        };
        let (least, most) = match client.over {
            None => (now, now),
            Some((over, true)) => (over, over + SETTLED),
            Some((over, false)) => (over, over + GIVEN_UP),
        };
        let checks = |end: Timestamp| end.saturating_since(begun).as_secs() / 5;
        self.least += checks(least);
        // The rest of a client may pass into the next one's target, whose checks are then off the
        // grid.
        self.most += checks(most) + 1;
    }
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 1, 0, n], 8080))
}

/// The number of addresses that owners have.
const ADDRESSES: u8 = 5;
/// How long a target may be without a live connection at first.
const GRACE: Duration = Duration::from_secs(5);
/// Longer than any close takes to settle.
const SETTLED: Duration = Duration::from_secs(1);
/// Longer than any client pauses, with a margin.
const GIVEN_UP: Duration = Duration::from_secs(24);
/// How late a client may dial.
const SLACK: Duration = Duration::from_millis(1_500);
/// How long it may have consequences if a withdrawal is taken for a loss, or the reverse.
const CONFUSED: Duration = Duration::from_secs(40);
