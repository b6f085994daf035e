//! An activator and its link, whose agent is replaced again and again. Nothing goes unseen
//! meanwhile: this tests what one agent leaves to the next.

use std::time::Duration;

use super::{
    client::Client,
    life::{Kind, Life, live},
    link::peer,
    world::{Event, Loss},
};
use crate::{CheckKind, Link, State, time::Timestamp};

#[test]
fn over_many_agents_each_loss_is_told_once() {
    let hours = live::<Replaced>(20_000..20_200, Loss::None);
    assert!(hours > 100, "{hours} simulated hours");
}

#[derive(Default)]
struct Replaced {
    /// How often it was replaced, and when last.
    times: u64,
    last: Option<Timestamp>,
}

impl Kind for Replaced {
    type LinkMachine = Link;

    fn machine(discovered: Timestamp) -> Link {
        Link::discovered(discovered)
    }

    fn begin(life: &mut Life<Self>) {
        let world = &mut life.world;
        let mut client = Client::new(0, peer(), true);
        client.begin(false, 8_000, world);
        let span = world.between(60_000, 3_600_000 * 2);
        world.plan(span, Event::Quiet);
        world.plan(Duration::from_secs(1), Event::Process);
        life.clients.insert(0, client);
    }

    /// The agent is replaced, unless a dial is under way: the agent is known to lose those.
    fn act(life: &mut Life<Self>) {
        let now = life.world.now;
        life.drain();
        if life.clients.values().all(|client| client.is_settled(now)) {
            life.replace();
            life.kind.times += 1;
            life.kind.last = Some(now);
        }
        let next = life.world.between(50, 20_000);
        life.world.plan(next, Event::Process);
    }

    fn judge(life: &mut Life<Self>) {
        let (now, patience) = (life.world.now, life.world.patience());
        for client in life.clients.values_mut() {
            let Some((truth, since)) = client.certainly(now, patience) else {
                continue;
            };
            let is_new = life.kind.last.is_some_and(|last| now <= last + SETTLES);
            let state = life.machine.state();
            let is_true = match state {
                State::Reachable { .. } => truth,
                // During its grace it shows nothing.
                State::Starting => !truth,
                State::Unreachable { .. } | State::Unknown { .. } | State::Idle => !truth,
                State::Ended => return,
            };
            assert!(
                !life.alive || is_new || is_true,
                "seed {}: at {now:?} the link is {state:?}, but since {since:?} the truth is {truth}: {client:?}",
                life.world.seed,
            );
        }
    }

    fn balance(life: &Life<Self>) {
        let (seed, truth) = (life.world.seed, life.truth());
        let disconnects = life.counted_before.checks(CheckKind::Disconnect)
            + life.machine.counts().checks(CheckKind::Disconnect);
        let lost = truth.closed + truth.stalls;
        assert_eq!(
            disconnects, lost,
            "seed {seed}: losses over {} agents; {truth:?}",
            life.kind.times
        );
        let outages = life.outages.begun - life.outages.of_the_grace;
        assert_eq!(outages, disconnects, "seed {seed}: outages");
    }
}

/// A successor sees only the last thing that was sent, so it may notice a stall later: by a ping
/// and the grace for its answer.
const SETTLES: Duration = Duration::from_secs(5);
