//! Tests: when a resynchronisation is made, how far it looks, and which sources it takes for
//! settled.

use std::time::Duration;

use super::super::registry::tests::{POD, registry_of};
use super::{fake::FakeKernel, *};

/// A reconciler with its links and a fake kernel half.
struct World {
    kernel: FakeKernel,
    registry: Registry,
    reconciler: Reconciler,
    links: Vec<LinkId>,
}

/// Just after the links were discovered, at 0.
const BEGIN: Timestamp = Timestamp::from_nanos(1_000_000);
const FIRST: Source = Source {
    netns: POD,
    tgid: 7,
};
const SECOND: Source = Source {
    netns: POD,
    tgid: 8,
};
/// More time than the reconciler needs for anything.
const LONG: Duration = Duration::from_secs(3);

impl World {
    /// A world with a link for each of these sources, just discovered.
    fn discovered(sources: &[Source]) -> Self {
        let processes = sources.iter().map(|source| (source.netns, source.tgid));
        let processes: Vec<_> = processes.collect();
        let (registry, links) = registry_of(&processes);
        Self {
            kernel: FakeKernel::at(BEGIN),
            registry,
            reconciler: Reconciler::default(),
            links,
        }
    }

    /// The same, after everything owed at discovery was done.
    async fn settled(sources: &[Source]) -> Self {
        let mut world = Self::discovered(sources);
        world.run_until(BEGIN + LONG).await;
        assert_eq!(world.deadline(), None);
        world.kernel.now = BEGIN + LONG;
        world.kernel.walks = 0;
        world
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.reconciler.next_deadline(&self.registry)
    }

    fn advance(&mut self) -> Vec<(LinkId, Inventory)> {
        let now = self.kernel.now;
        let advanced = self
            .reconciler
            .advance(&mut self.kernel, &mut self.registry, now);
        advanced.unwrap()
    }

    /// Looks for losses, as the loop does before it advances.
    fn check_losses(&mut self) -> Lost {
        let lost = self
            .reconciler
            .check_losses(&self.kernel, &mut self.registry);
        lost.unwrap()
    }

    /// Looks for missed events; returns whether an execution may be among them.
    fn check_missed_events(&mut self) -> bool {
        self.reconciler
            .check_missed_events(&self.kernel, &mut self.registry)
    }

    /// Waits like the loop for the deadline or the files, and advances. Stops at `until`, or when
    /// there is nothing to wait for.
    async fn run_until(&mut self, until: Timestamp) -> Vec<(LinkId, Inventory)> {
        let mut inventories = Vec::new();
        loop {
            inventories.extend(self.advance());
            if self.is_reading() {
                self.reconciler.files_read().await.unwrap();
                continue;
            }
            match self.deadline() {
                Some(at) if at <= until => self.kernel.now = self.kernel.now.max(at),
                _ => return inventories,
            }
        }
    }

    fn is_reading(&self) -> bool {
        let stage = self.reconciler.pass.as_ref().map(|pass| &pass.stage);
        matches!(stage, Some(Stage::ReadingFiles(_)))
    }

    /// Advances past the walk; the listing settles then.
    fn list(&mut self) {
        assert!(self.advance().is_empty(), "a listing has to settle");
        let stage = self.reconciler.pass.as_ref().map(|pass| &pass.stage);
        assert!(matches!(stage, Some(Stage::Settling(..))), "{stage:?}");
    }
}

/// The links that got an inventory, with the sockets in each.
fn sockets(inventories: &[(LinkId, Inventory)]) -> Vec<(LinkId, Vec<u64>)> {
    let of_link = |(id, inventory): &(LinkId, Inventory)| {
        let sockets = inventory.open.iter().map(|(sock, _)| *sock);
        (*id, sockets.collect())
    };
    inventories.iter().map(of_link).collect()
}

#[tokio::test]
async fn a_new_link_is_looked_at_at_once_and_once_more_a_second_later() {
    let mut world = World::discovered(&[FIRST]);
    world.kernel.connect(0xA, FIRST);
    assert_eq!(world.deadline(), Some(AT_ONCE));
    let first = world.run_until(BEGIN + Duration::from_millis(10)).await;
    assert_eq!(sockets(&first), [(world.links[0], vec![0xA])]);
    assert_eq!((world.kernel.walks, world.kernel.files_read()), (1, 1));

    assert_eq!(world.deadline(), Some(Timestamp::from_nanos(1_000_000_000)));
    // A program looked the source up before it was tracked, and wrote after the listing.
    world.kernel.connect(0xB, FIRST);
    let second = world.run_until(BEGIN + LONG).await;
    assert_eq!(sockets(&second), [(world.links[0], vec![0xA, 0xB])]);
    assert_eq!((world.kernel.walks, world.kernel.files_read()), (2, 2));
    assert_eq!(world.deadline(), None);
}

#[tokio::test]
async fn a_pass_waits_for_nothing_but_the_files_and_the_settling() {
    let mut world = World::discovered(&[FIRST]);
    assert!(world.advance().is_empty());
    // Another thread reads; the loop has nothing to do.
    assert!(world.is_reading());
    assert_eq!(world.deadline(), None);
    assert_eq!(world.kernel.walks, 0);
    world.reconciler.files_read().await.unwrap();
    assert_eq!(world.deadline(), Some(AT_ONCE));
    world.kernel.walk = Duration::from_millis(5);
    world.list();
    // The listing settles from the end of the walk, however long the walk took.
    let settled = BEGIN + Duration::from_millis(5) + LISTING_SETTLES;
    assert_eq!(world.deadline(), Some(settled));
    world.kernel.now = settled - Duration::from_nanos(1);
    assert!(world.advance().is_empty());
    world.kernel.now = settled;
    let inventories = world.advance();
    assert_eq!(inventories.len(), 1);
    // The inventory holds as of the beginning of the walk.
    assert!(inventories.iter().all(|(_, found)| found.at == BEGIN));
}

#[tokio::test]
async fn any_number_of_links_cost_one_walk_and_one_pass_over_the_files() {
    for links in [1, 10, 200] {
        let sources = (1..=links).map(|tgid| Source { netns: POD, tgid });
        let sources: Vec<_> = sources.collect();
        let mut world = World::discovered(&sources);
        for source in &sources {
            world.kernel.connect(u64::from(source.tgid), *source);
        }
        let found = world.run_until(BEGIN + Duration::from_millis(10)).await;
        let expected = world.links.iter().zip(&sources);
        let expected: Vec<_> = expected
            .map(|(id, source)| (*id, vec![u64::from(source.tgid)]))
            .collect();
        assert_eq!(sockets(&found), expected);
        assert_eq!((world.kernel.walks, world.kernel.files_read()), (1, 1));
    }
}

#[tokio::test]
async fn what_is_gone_without_an_end_that_was_counted_before_the_walk_is_looked_at_again() {
    let mut world = World::settled(&[FIRST, SECOND]).await;
    world.kernel.connect(0xA, FIRST);
    world.kernel.connect(0xB, SECOND);
    world.kernel.lose(LossReason::RingFull);
    world.check_losses();
    // The walk finds neither the connection nor its end: a program is between its two steps.
    let ending = world.kernel.remove(0xA);
    world.list();
    world.kernel.count_missed(ending);
    world.kernel.now = world.deadline().unwrap();
    let first = world.advance();
    assert_eq!(sockets(&first), [(world.links[1], vec![0xB])]);

    // The source that changed is listed again, and now has its end.
    let again = world.run_until(world.kernel.now + LONG).await;
    assert_eq!(sockets(&again), [(world.links[0], vec![])]);
    let missed = again.iter().map(|(_, inventory)| inventory.missed);
    let missed: u32 = missed.flatten().flatten().sum();
    assert_eq!(missed, 1);
    assert_eq!(world.kernel.walks, 2);
}

#[tokio::test]
async fn lost_records_need_no_look_at_the_files_and_missed_events_do() {
    let mut world = World::settled(&[FIRST]).await;
    let files_read = world.kernel.files_read();
    world.kernel.lose(LossReason::RingFull);
    world.check_losses();
    assert_eq!(
        world.deadline(),
        Some(AT_ONCE.max(world.reconciler.pace.next))
    );
    assert_eq!(world.run_until(world.kernel.now + LONG).await.len(), 1);
    assert_eq!(
        (world.kernel.walks, world.kernel.files_read()),
        (1, files_read)
    );

    world.kernel.missed_events = vec![("inet_sock_set_state", 1)];
    assert!(!world.check_missed_events());
    assert_eq!(world.run_until(world.kernel.now + LONG).await.len(), 1);
    assert_eq!(world.kernel.files_read(), files_read + 1);

    // A missed execution concerns no link.
    world.kernel.missed_events.push((EXECUTIONS, 1));
    assert!(world.check_missed_events());
    assert_eq!(world.deadline(), None);
}

#[tokio::test]
async fn nothing_new_is_lost_between_two_looks() {
    let mut world = World::settled(&[FIRST]).await;
    world.kernel.lose(LossReason::RingFull);
    world.check_losses();
    world.run_until(world.kernel.now + LONG).await;
    assert_eq!(world.check_losses(), Lost::default());
    assert_eq!(world.deadline(), None);
}

#[tokio::test]
async fn a_pass_that_loses_records_itself_backs_off() {
    let mut world = World::settled(&[FIRST]).await;
    let mut gaps = Vec::new();
    for loses in [false, true, true, false] {
        world.kernel.lose(LossReason::RingFull);
        world.check_losses();
        world.kernel.now = world.kernel.now.max(world.deadline().unwrap());
        world.list();
        if loses {
            world.kernel.lose(LossReason::RingFull);
        }
        world.kernel.now = world.deadline().unwrap();
        assert_eq!(world.advance().len(), 1);
        let ended = world.kernel.now;
        // Records are lost again: the next pass is due at once, and still keeps its distance.
        world.kernel.lose(LossReason::RingFull);
        world.check_losses();
        let next = world.deadline().unwrap();
        let walks = world.kernel.walks;
        world.kernel.now = next - Duration::from_nanos(1);
        assert!(world.advance().is_empty());
        assert_eq!(world.kernel.walks, walks, "too early");
        gaps.push(next.saturating_since(ended).as_millis());
    }
    assert_eq!(gaps, [100, 200, 200, 100]);
}

#[tokio::test]
async fn a_map_that_changes_too_fast_to_be_walked_is_walked_again_later() {
    let mut world = World::settled(&[FIRST]).await;
    world.kernel.connect(0xA, FIRST);
    world.kernel.lose(LossReason::RingFull);
    world.check_losses();
    world.kernel.restless = true;
    assert!(world.advance().is_empty());
    assert_eq!(world.kernel.walks, 1);
    let next = world.deadline().unwrap();
    assert!(next > world.kernel.now, "not at once");
    world.kernel.restless = false;
    let found = world.run_until(next + LONG).await;
    assert_eq!(sockets(&found), [(world.links[0], vec![0xA])]);
}

#[tokio::test]
async fn an_unreadable_pass_over_the_files_is_an_error_with_the_kernels_answer() {
    let mut world = World::discovered(&[FIRST]);
    world.kernel.unreadable = true;
    world.advance();
    let error = world.reconciler.files_read().await.unwrap_err();
    assert_eq!(error.to_string(), "run enumerate: unreadable");
}

#[tokio::test]
async fn the_last_pass_takes_over_the_one_under_way_and_reads_no_files() {
    let mut world = World::discovered(&[FIRST, SECOND]);
    world.kernel.connect(0xA, FIRST);
    world.advance();
    assert!(world.is_reading());
    let now = world.kernel.now;
    let begun = world
        .reconciler
        .begin_last(&world.kernel, &mut world.registry, now);
    begun.unwrap();
    world.list();
    world.kernel.now = world.kernel.now + LISTING_SETTLES;
    let expected = [(world.links[0], vec![0xA]), (world.links[1], vec![])];
    assert_eq!(sockets(&world.advance()), expected);
    assert_eq!(world.kernel.walks, 1);
}

#[test]
fn lost_records_call_for_a_pass_and_refused_connections_for_none() {
    let before = LossReason::ALL.map(|reason| (reason, 5));
    let after = |changed: &[LossReason]| {
        let mut now = before;
        for (reason, count) in &mut now {
            *count += u64::from(changed.contains(reason));
        }
        Lost::between(&before, &now)
    };
    let nothing = Lost::default();
    assert_eq!(after(&[]), nothing);
    for reason in LossReason::ALL {
        let expected = match reason {
            LossReason::RingFull => Lost {
                records: true,
                ..nothing
            },
            LossReason::ConnectionsFull => Lost {
                connections: true,
                ..nothing
            },
            LossReason::ExecutionLost => Lost {
                executions: true,
                ..nothing
            },
            LossReason::TotalsFull
            | LossReason::CallsFull
            | LossReason::NeighbourRingFull
            | LossReason::NeighbourConnectionsFull
            | LossReason::NeighbourCallsFull => nothing,
        };
        assert_eq!(after(&[reason]), expected, "{reason:?}");
    }
    let zero = LossReason::ALL.map(|reason| (reason, 0));
    assert_eq!(Lost::between(&[], &zero), nothing);
}
