//! Properties of a fan-out that hold whatever happens to its peers.

use proptest::{prelude::*, sample::select};
use statlink_ebpf::{End, Phase};

use super::story::{Story, at, id, peer, to, well};
use crate::{
    CheckKind, Counts, EventKind, Fanout, Input, LinkMachine as _, MissedEnds, OpenConnection,
    Output, State,
};

/// The next step, and how many milliseconds it comes after the one before.
#[derive(Clone, Debug)]
enum Step {
    Upgraded(u64),
    Refused(u64),
    /// The newest connection to this peer ends, if there is one.
    Ends(u64, End),
    Quiet,
    /// Records are lost, and ends of unknown connections are missed.
    Lost(Phase, End, u32),
}

fn step() -> impl Strategy<Value = (i64, Step)> {
    let ends = select(&End::ALL[..End::Exiting as usize]);
    let step = prop_oneof![
        3 => (1..5_u64).prop_map(Step::Upgraded),
        3 => (1..5_u64).prop_map(Step::Refused),
        3 => (1..5_u64, ends.clone()).prop_map(|(n, how)| Step::Ends(n, how)),
        2 => Just(Step::Quiet),
        1 => (select(&Phase::ALL[..]), ends, 1..3_u32).prop_map(|(phase, how, n)| Step::Lost(phase, how, n)),
    ];
    (prop_oneof![0..600_i64, 0..30_000_i64], step)
}

/// A process, and the truth about it.
struct World {
    story: Story<Fanout>,
    now: i64,
    /// Peer and attempt of each open connection.
    open: Vec<(u64, i64)>,
    failed: u64,
    upgraded: u64,
    /// Ends of live connections: by this side, which may be no loss, and others.
    closed: u64,
    lost: u64,
}

impl World {
    fn new() -> Self {
        Self {
            story: Story::of_several(),
            now: 0,
            open: Vec::new(),
            failed: 0,
            upgraded: 0,
            closed: 0,
            lost: 0,
        }
    }

    /// Time passes; every open connection is well.
    fn pass(&mut self, ms: i64) {
        let end = self.now + ms;
        while self.now < end {
            self.now = (self.now + 400).min(end);
            self.story.until(self.now);
            for &(n, begun) in &self.open {
                self.story.sampled(self.now, to(n, begun), well(self.now));
            }
        }
    }

    fn take(&mut self, after: i64, step: &Step) {
        self.pass(after + 1);
        let now = self.now;
        match *step {
            Step::Upgraded(n) => {
                self.story.upgraded(now, to(n, now));
                self.now += 252;
                self.open.push((n, now));
                self.upgraded += 1;
            }
            Step::Refused(n) => {
                self.story.refused(now, to(n, now));
                self.now += 1;
                self.failed += 1;
            }
            Step::Ends(n, how) => {
                let found = self.open.iter().rposition(|(peer, _)| *peer == n);
                if let Some((n, begun)) = found.map(|index| self.open.remove(index)) {
                    let (begun_at, phase) = (Some(begun), Phase::Held);
                    let heard = Some(now - 200);
                    let connection = to(n, begun);
                    self.story
                        .ended_with(now, connection, begun_at, phase, how, 0, heard);
                    if matches!(how, End::LocalClosed | End::Abandoned | End::Unanswered) {
                        self.closed += 1;
                    } else {
                        self.lost += 1;
                    }
                }
            }
            Step::Quiet => {}
            Step::Lost(phase, how, n) => {
                let open = self.open.iter().map(|&(n, begun)| OpenConnection {
                    connection: id(to(n, begun)),
                    peer_address: peer(n),
                    attempted: Some(at(begun)),
                    phase: Phase::Established,
                });
                let open = open.collect();
                let mut missed = MissedEnds::default();
                missed.add(phase, how, n);
                let n = u64::from(n);
                match phase {
                    Phase::Connecting | Phase::Established => self.failed += n,
                    Phase::Held => {
                        self.upgraded += n;
                        self.lost += n;
                    }
                }
                self.story
                    .input(self.now, Input::Resynchronised { open, missed });
            }
        }
    }
}

fn errors(counts: &Counts, kind: CheckKind) -> u64 {
    let causes = crate::Cause::ALL.iter();
    causes.map(|&cause| counts.errors(kind, cause)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn counts_add_up_to_what_happened_and_outlive_targets(steps in prop::collection::vec(step(), 0..30)) {
        let mut world = World::new();
        let mut before = Counts::default();
        for (after, step) in &steps {
            world.take(*after, step);
            let counts = world.story.link.counts();
            for kind in CheckKind::ALL {
                prop_assert!(errors(&counts, kind) <= counts.checks(kind));
                prop_assert!(before.checks(kind) <= counts.checks(kind));
                prop_assert!(errors(&before, kind) <= errors(&counts, kind));
            }
            prop_assert!(before.connects() <= counts.connects());
            before = counts;
        }
        // Everything under way settles.
        world.pass(1_000);
        let counts = world.story.link.counts();
        prop_assert_eq!(errors(&counts, CheckKind::Connect), world.failed);
        prop_assert_eq!(counts.connects(), world.upgraded);
        prop_assert_eq!(counts.checks(CheckKind::Connect), world.failed + world.upgraded);
        let lost = counts.checks(CheckKind::Disconnect);
        prop_assert!((world.lost..=world.lost + world.closed).contains(&lost), "{} of {} to {}", lost, world.lost, world.lost + world.closed);
    }

    #[test]
    fn it_is_what_its_connections_are(steps in prop::collection::vec(step(), 0..30)) {
        let mut world = World::new();
        for (after, step) in &steps {
            world.take(*after, step);
        }
        // Longer than any grace and any pause, so only what is connected is left.
        world.pass(30_000);
        let state = world.story.link.state();
        prop_assert_eq!(matches!(state, State::Reachable { .. }), !world.open.is_empty(), "{:?}", state);
        prop_assert_eq!(state == State::Idle, world.open.is_empty(), "{:?}", state);
        prop_assert_eq!(world.story.link.next_deadline().is_none(), world.open.is_empty());
    }

    #[test]
    fn nothing_is_checked_while_there_is_no_target(steps in prop::collection::vec(step(), 0..20), idle in 0..100_000_i64) {
        let mut world = World::new();
        for (after, step) in &steps {
            world.take(*after, step);
        }
        world.open.clear();
        world.story.resynchronised(world.now, &[], &[]);
        world.pass(30_000);
        prop_assert_eq!(world.story.link.state(), State::Idle);
        let before = world.story.link.counts();
        world.pass(idle);
        prop_assert_eq!(before, world.story.link.counts());
    }

    #[test]
    fn each_outage_is_over_once(steps in prop::collection::vec(step(), 0..30)) {
        let mut world = World::new();
        let (mut outage, mut reachable) = (false, false);
        for (after, step) in &steps {
            world.take(*after, step);
            for told in world.story.news() {
                match told.kind {
                    EventKind::Unreachable { .. } => (outage, reachable) = (true, false),
                    EventKind::Reachable { outage: ended, .. } => {
                        prop_assert!(!reachable, "told twice");
                        prop_assert_eq!(ended.is_some(), outage);
                        prop_assert!(ended.is_none_or(|ended| ended.errors > 0));
                        (outage, reachable) = (false, true);
                    }
                    EventKind::Idle => {
                        prop_assert!(outage || reachable, "told twice");
                        (outage, reachable) = (false, false);
                    }
                    // No evidence is missing.
                    EventKind::Unknown { .. }
                    | EventKind::Discovered
                    | EventKind::Connected { .. }
                    | EventKind::ConnectFailed(_)
                    | EventKind::Disconnected { .. }
                    | EventKind::Ended => {}
                }
            }
            let state = world.story.link.state();
            prop_assert_eq!(outage, matches!(state, State::Unreachable { .. }));
            prop_assert_eq!(reachable, matches!(state, State::Reachable { .. }));
        }
    }

    #[test]
    fn targets_are_bounded_and_none_that_is_dropped_is_uncounted(peers in prop::collection::vec(0..200_u64, 1..300)) {
        let mut fanout = Fanout::default();
        let mut outputs = Vec::new();
        for (n, &number) in (1..).zip(&peers) {
            let connection = id(n * 1_000_000);
            let address = std::net::SocketAddr::from(([10, 1, 0, u8::try_from(number).unwrap_or(0)], 8080));
            fanout.handle(at(i64::try_from(n).unwrap_or(0)), Input::Attempted { connection, peer_address: address }, &mut outputs);
            prop_assert!(fanout.targets().count() <= 64);
        }
        outputs.clear();
        fanout.handle(at(1_000), Input::Resynchronised { open: vec![], missed: MissedEnds::default() }, &mut outputs);
        // All are gone, and no record of their ends comes.
        for output in std::mem::take(&mut outputs) {
            if let Output::Sample(connection) = output {
                fanout.handle(at(1_000), Input::Sampled { connection, sample: None }, &mut outputs);
            }
        }
        fanout.on_deadline(at(2_000), &mut outputs);
        prop_assert_eq!(fanout.counts().checks(CheckKind::Connect), peers.len() as u64);
    }
}
