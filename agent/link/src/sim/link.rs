//! An activator and its link.

use std::net::SocketAddr;

use super::{
    client::{Client, other_family},
    life::{Kind, Life, live},
    world::{Event, Loss},
};
use crate::{Cause, CheckKind, Input, Link, MissedEnds, State, time::Timestamp};

#[test]
fn the_link_tells_the_truth_about_many_lives() {
    let hours = live::<Activator>((0..400).chain(ONCE_WRONG), Loss::None);
    assert!(hours > 200, "{hours} simulated hours");
}

#[test]
fn counts_stay_true_when_records_are_lost() {
    live::<Activator>((10_000..10_300).chain(ONCE_WRONG_WITH_LOSS), Loss::Some);
}

/// Each seed once showed a mistake in the core or in this model: another name is looked up, and the
/// client is stopped before it dials; it is killed after its handshake took too long; an answer to
/// a stopped client is held for a moment, or is a refusal.
const ONCE_WRONG: [u64; 4] = [755, 4_051, 8_942, 13_317];
/// The same, with lost records: an answer that is held between two looks; a close that is the
/// peer's first data; the end of a dial that had failed; a stopped client that closes.
const ONCE_WRONG_WITH_LOSS: [u64; 4] = [10_653, 16_128, 18_299, 918];

#[derive(Default)]
struct Activator;

impl Kind for Activator {
    type LinkMachine = Link;

    fn machine(discovered: Timestamp) -> Link {
        Link::discovered(discovered)
    }

    fn begin(life: &mut Life<Self>) {
        let world = &mut life.world;
        let mut client = Client::new(0, peer(), true);
        let older = world.chance(20);
        client.begin(older, 8_000, world);
        let span = world.between(60_000, 3_600_000 * 2);
        world.plan(span, Event::Quiet);
        // An activator that looks up something else before its first dial is taken for one whose
        // lookups fail: the rule's known limit.
        let first = world.between(8_000, 68_000);
        world.plan(first, Event::Process);
        life.clients.insert(0, client);
        if older {
            life.list(MissedEnds::default());
        }
    }

    /// It looks up another name, and the peer's addresses change.
    fn act(life: &mut Life<Self>) {
        for client in life.clients.values_mut().filter(|client| !client.frozen) {
            client.look_elsewhere(&mut life.world);
        }
        if life.world.chance(20) {
            let known = || [peer().ip(), other_family().ip()].into();
            let known = life.world.chance(80).then(known);
            life.tell(life.world.now, Input::PeerAddresses(known));
        }
        let next = life.world.between(50, 15_000);
        life.world.plan(next, Event::Process);
    }

    fn judge(life: &mut Life<Self>) {
        let (now, patience) = (life.world.now, life.world.patience());
        for client in life.clients.values_mut() {
            let Some((truth, since)) = client.certainly(now, patience) else {
                continue;
            };
            let state = life.machine.state();
            let (link, told) = match state {
                State::Reachable { .. } => (true, true),
                State::Unreachable { .. } => (false, true),
                State::Idle | State::Starting | State::Unknown { .. } => (false, !truth),
                State::Ended => return,
            };
            assert!(
                !life.alive || link == truth && told,
                "seed {}: at {now:?} the link is {state:?}, but since {since:?} the truth is {truth}: {client:?}",
                life.world.seed,
            );
        }
    }

    fn balance(life: &Life<Self>) {
        let (seed, truth, counts) = (life.world.seed, life.truth(), life.machine.counts());
        let connect = (counts.checks(CheckKind::Connect), counts.connects());
        assert_eq!(
            connect,
            (truth.failed + truth.upgraded, truth.upgraded),
            "seed {seed}: connect checks, connects; {truth:?}"
        );
        assert_eq!(counts.races_lost(), truth.races_lost, "seed {seed}: races");
        let mut clients = life.clients.values();
        let looks_nameless = clients.any(|client| client.was_nameless || client.was_misleading);
        for kind in CheckKind::ALL {
            assert_eq!(counts.errors(kind, Cause::WrongPeer), 0, "seed {seed}");
            let dns = counts.errors(kind, Cause::Dns);
            assert!(dns == 0 || looks_nameless, "seed {seed}: {dns} dns");
        }
        let disconnects = counts.checks(CheckKind::Disconnect);
        // One connection at a time, so each loss is an outage. A loss that is known only from a
        // later listing may not have been one.
        let outages = life.outages.begun - life.outages.of_the_grace;
        match life.world.loss {
            Loss::None => {
                let lost = truth.closed + truth.stalls;
                assert_eq!(disconnects, lost, "seed {seed}: losses; {truth:?}");
                assert_eq!(outages, disconnects, "seed {seed}: outages");
            }
            // A stall that heals may not be noticed, and an end may hide one.
            Loss::Some => {
                let lost = truth.closed + truth.ended_while_stalled..=truth.closed + truth.stalls;
                assert!(
                    lost.contains(&disconnects),
                    "seed {seed}: {disconnects} losses; {truth:?}"
                );
                assert!(outages <= disconnects, "seed {seed}: {outages} outages");
            }
        }
    }
}

pub(super) fn peer() -> SocketAddr {
    SocketAddr::from(([10, 96, 0, 1], 8080))
}
