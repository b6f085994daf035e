//! Tests: what a successor finds, however its predecessor ended.

mod believed;
mod directory;

use super::{
    file::{FILE, LOCK, NEW},
    *,
};
use crate::{
    link::{
        Cause, CheckKind, ConnectionId, CountedConnection, FailedAttempt, Legacy, OutageUnderWay,
    },
    snapshot::PodCounts,
    time::Timestamp,
};

const BEGAN: u64 = 1_700_000_000_000_000_000;
const BOOT: &str = "boot-1";
/// A moment after every time that is remembered in these tests.
const NOW: Timestamp = Timestamp::from_nanos(10);

fn name(pod: &str) -> SeriesName {
    SeriesName::of_activator(pod)
}

fn counted(errors: u64) -> PodCounts {
    let mut total = PodCounts {
        retransmits: 3,
        lives: 2,
        ..PodCounts::default()
    };
    let counts = &mut total.counts;
    counts.pass(CheckKind::Liveness, 17);
    counts.fail(CheckKind::Connect, Cause::ConnectionRefused, errors);
    counts.fail(CheckKind::Disconnect, Cause::Other, 1);
    counts.connect(1);
    total
}

fn pod(of: &str, errors: u64) -> Pod {
    let outage = OutageUnderWay {
        since: Timestamp::from_nanos(5),
        cause: Cause::PeerClosed,
        errors,
        attempts: vec![FailedAttempt {
            at: Timestamp::from_nanos(6),
            peer_address: Some(([10, 0, 0, 1], 8080).into()),
            cause: Cause::ConnectionRefused,
            proxy_address: None,
            errno: Some(111),
            duration: None,
        }],
    };
    Pod {
        name: name(of),
        uid: Some("uid".to_owned()),
        series_began: BEGAN,
        total: Tally::from(&counted(errors)),
        unreached: None,
        last_seen: Timestamp::from_nanos(9),
        processes: vec![Process {
            id: ProcessId { pid: 7, started: 8 },
            unreached: None,
            reading: None,
            legacy: Legacy {
                was_reachable: true,
                outage: Some(outage),
                wary: true,
            },
        }],
    }
}

fn told(of: &str, ended: Option<u64>) -> Told {
    Told {
        to: Receiver::Collector,
        name: name(of),
        ended: ended.map(|lives| Ended { lives, at: NOW }),
    }
}

fn open(directory: &Path) -> (Arc<Memory>, Result<Left, Refusal>) {
    open_in(directory, BOOT)
}

fn open_in(directory: &Path, boot: &str) -> (Arc<Memory>, Result<Left, Refusal>) {
    let Opened { memory, left, .. } = free(|| Memory::open_for_boot(directory, boot, || NOW));
    (memory, left)
}

/// Opens a directory that another memory has just released.
pub(crate) fn open_again(directory: &Path) -> Arc<Memory> {
    free(|| Memory::open(directory)).memory
}

/// Tests run in one process: a child that another test forks holds the lock until it calls exec:
/// flock(2).
fn free(open: impl Fn() -> Result<Opened, MemoryError>) -> Opened {
    loop {
        match open() {
            Err(MemoryError::Taken(_)) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

fn file_of(pods: &[Pod], told: &[Told]) -> Vec<u8> {
    let pods = pods.iter().map(format::line_of_pod);
    let lines: Vec<_> = pods.chain(told.iter().map(format::line_of_told)).collect();
    file_with(lines.iter().map(String::as_str))
}

fn file_with<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    format::encode(&format::body(BOOT, lines.into_iter()))
}

#[test]
fn how_far_a_pinned_kernel_half_was_read_is_left_beside_the_counts() {
    let directory = tempfile::tempdir().unwrap();
    let (memory, _) = open(directory.path());
    let mut of_half = pod("a", 1);
    of_half.processes[0].reading = Some(Reading {
        half: 12,
        netns: 5,
        retransmits: 3,
        ended: vec![0, 2],
        counted: vec![CountedConnection {
            connection: ConnectionId {
                sock: 0xffff_8880_0000_0040,
                born: NOW,
            },
            peer_address: ([10, 0, 0, 1], 8080).into(),
            stalled: Some(NOW),
        }],
    });
    memory.reads(Some(12));
    memory.write_down([of_half.clone()]);
    drop(memory);
    let (memory, left) = open(directory.path());
    let left = left.unwrap();
    assert_eq!((left.half, left.pods), (Some(12), vec![of_half]));
    // An agent whose kernel half ends with it tells of the pinned one that it is told by others.
    memory.reads(None);
    memory.write_down([]);
    drop(memory);
    assert_eq!(open(directory.path()).1.unwrap().half, None);
}

#[test]
fn a_node_without_pods_goes_on_with_its_pinned_kernel_half() {
    let directory = tempfile::tempdir().unwrap();
    let (memory, _) = open(directory.path());
    memory.reads(Some(12));
    memory.write_down([]);
    drop(memory);
    let left = open(directory.path()).1.unwrap();
    assert_eq!((left.half, left.pods), (Some(12), Vec::new()));
}

#[test]
fn a_successor_finds_all_that_was_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let (memory, left) = open(directory.path());
    assert_eq!(left, Ok(Left::default()));
    memory.write_down([pod("a", 1), pod("b", 2)]);
    memory.write_down([pod("a", 3)]);
    memory.tell([told("a", None), told("b", Some(2))]);
    drop(memory);

    let (memory, left) = open(directory.path());
    let expected = Left {
        pods: vec![pod("a", 3), pod("b", 2)],
        told: vec![told("a", None), told("b", Some(2))],
        ..Left::default()
    };
    assert_eq!(left, Ok(expected));
    let [found, _] = &left.unwrap().pods[..] else {
        panic!("two pods");
    };
    assert_eq!(PodCounts::from(&found.total), counted(3));
    let heard = [told("a", None), told("b", Some(2))];
    assert_eq!(memory.told(Receiver::Collector), heard);
    assert_eq!(memory.told(Receiver::Page), []);
    let began = memory.series_began(&name("a"), u64::MAX);
    assert_eq!(began, Some(BEGAN));
    memory.retain(|name| name.pod == "b");
    memory.write_news();
    drop(memory);
    let (_, left) = open(directory.path());
    let left = left.unwrap();
    assert_eq!(
        (left.pods, left.told),
        (vec![pod("b", 2)], vec![told("b", Some(2))])
    );
}

#[test]
fn two_agents_cannot_use_one_directory_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    let second = Memory::open_for_boot(directory.path(), BOOT, || NOW);
    assert!(matches!(second, Err(MemoryError::Taken(_))), "{second:?}");
    drop(first);
    assert!(open(directory.path()).1.is_ok());
}

#[test]
fn of_another_boot_nothing_is_believed() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).0.write_down([pod("a", 1)]);
    let (memory, left) = open_in(directory.path(), "boot-2");
    assert_eq!(left, Err(Refusal::OtherBoot));
    // The next write replaces it.
    memory.write_down([pod("b", 1)]);
    drop(memory);
    let (_, left) = open_in(directory.path(), "boot-2");
    assert_eq!(left.unwrap().pods, [pod("b", 1)]);
}

/// Ends the pause after a failure.
fn end_pause(memory: &Memory) {
    memory.writer.lock().unwrap().pause = Pause::default();
}

#[test]
fn a_write_that_fails_leaves_nothing_that_is_old() {
    let directory = tempfile::tempdir().unwrap();
    let (memory, _) = open(directory.path());
    memory.write_down([pod("a", 1)]);
    // Now the new file cannot be written beside the old one.
    fs::create_dir(directory.path().join(NEW)).unwrap();
    memory.write_down([pod("a", 2)]);
    assert!(!directory.path().join(FILE).exists());
    // No second try at once: each failed try would log a line.
    fs::remove_dir(directory.path().join(NEW)).unwrap();
    memory.write_down([pod("a", 3)]);
    assert!(!directory.path().join(FILE).exists());
    // After the pause it is written, with or without a change.
    end_pause(&memory);
    memory.write_down([]);
    drop(memory);
    let (_, left) = open(directory.path());
    assert_eq!(left.unwrap().pods, [pod("a", 3)]);
}

#[test]
fn half_of_a_new_file_is_not_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (memory, _) = open(directory.path());
    // A directory has the file's name, so the new file cannot be renamed to it.
    fs::create_dir(directory.path().join(FILE)).unwrap();
    memory.write_down([pod("a", 1)]);
    assert!(!directory.path().join(NEW).exists());
}

/// The new file is written beside the old one, into the chart's `emptyDir`.
#[test]
fn the_memory_of_a_full_node_has_room_for_its_successor() {
    let template = include_str!("../../../deploy/helm/statlink/templates/_pod.tpl");
    let limit = template.split_once("sizeLimit: {{ ternary \"").unwrap().1;
    let (mebibytes, _) = limit.split_once("Mi").unwrap();
    let room = mebibytes.parse::<usize>().unwrap() << 20;
    let mut total = PodCounts::default();
    for kind in CheckKind::ALL {
        for cause in Cause::ALL {
            total.counts.fail(kind, cause, 1_000_000);
        }
    }
    // The largest number of accounts, with the longest names.
    let names: Vec<_> = (0..600).map(SeriesName::longest).collect();
    let pods = names.iter().map(|name| Pod {
        name: name.clone(),
        total: Tally::from(&total),
        ..pod("a", 1)
    });
    let told = names.iter().flat_map(|name| {
        [Receiver::Collector, Receiver::Page].map(|to| Told {
            to,
            name: name.clone(),
            ended: Some(Ended {
                lives: 1_000,
                at: NOW,
            }),
        })
    });
    let file = file_of(&pods.collect::<Vec<_>>(), &told.collect::<Vec<_>>());
    assert!(2 * file.len() < room, "2 × {} bytes", file.len());
}

#[test]
fn what_nobody_has_seen_for_an_hour_is_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let (memory, _) = open(directory.path());
    let later = NOW + KEPT;
    memory.write_down([
        pod("a", 1),
        Pod {
            last_seen: later,
            ..pod("b", 1)
        },
    ]);
    memory.tell([told("a", None), told("b", None), told("c", None)]);
    drop(memory);
    let opened = Memory::open_for_boot(directory.path(), BOOT, || later).unwrap();
    let left = opened.left.unwrap();
    assert_eq!(left.pods.len(), 1);
    assert_eq!(left.pods[0].name, name("b"));
    assert_eq!(left.told, [told("b", None)]);
    assert!(!opened.memory.knows(&name("a")));
    assert_eq!(opened.memory.told(Receiver::Collector), [told("b", None)]);
}

/// An agent without a memory may have counted since.
#[test]
fn a_memory_that_saw_nobody_for_ten_minutes_is_not_believed() {
    for (age, pods) in [(BELIEVED, 2), (BELIEVED + Duration::from_nanos(1), 0)] {
        let directory = tempfile::tempdir().unwrap();
        let (memory, _) = open(directory.path());
        let of_before = Pod {
            last_seen: NOW + BELIEVED,
            ..pod("b", 1)
        };
        memory.write_down([pod("a", 1), of_before]);
        memory.tell([told("a", None)]);
        drop(memory);
        let now = NOW + BELIEVED + age;
        let opened = Memory::open_for_boot(directory.path(), BOOT, || now).unwrap();
        assert_eq!(opened.left.unwrap().pods.len(), pods, "{age:?}");
        let told = opened.memory.told(Receiver::Collector).len();
        assert_eq!(told, pods.min(1), "{age:?}");
    }
}

/// This agent runs without the memory, so a successor must not continue from it.
#[tokio::test]
async fn a_directory_that_cannot_be_used_is_left_without_a_memory() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).0.write_down([pod("a", 1)]);
    let lock = directory.path().join(LOCK);
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    // Whoever does not run without it leaves it: another agent may be at work.
    let opened = Memory::open(directory.path());
    assert!(matches!(opened, Err(MemoryError::Io { .. })), "{opened:?}");
    assert!(directory.path().join(FILE).exists());
    let opened = Memory::open_soon(directory.path()).await;
    assert!(matches!(opened, Err(MemoryError::Io { .. })), "{opened:?}");
    assert!(!directory.path().join(FILE).exists());
}

#[test]
fn the_memory_of_another_agent_that_runs_stays() {
    let directory = tempfile::tempdir().unwrap();
    let (first, _) = open(directory.path());
    first.write_down([pod("a", 1)]);
    let second = Memory::open_for_boot(directory.path(), BOOT, || NOW);
    assert!(matches!(second, Err(MemoryError::Taken(_))), "{second:?}");
    assert!(directory.path().join(FILE).exists());
}

/// Two agents run at once. One leaves its counts, and the other has shown lower ones since.
#[tokio::test(start_paused = true)]
async fn what_an_agent_left_that_ended_beside_another_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    let (first, _) = open(directory.path());
    first.write_down([pod("a", 1)]);
    let clearing = tokio::spawn(Memory::clear_after(directory.path().to_owned()));
    tokio::time::sleep(CLEAR_CADENCE * 3).await;
    assert!(file.exists());
    drop(first);
    tokio::time::sleep(CLEAR_CADENCE * 2).await;
    assert!(!file.exists());
    // It holds the directory until it ends.
    let third = Memory::open_for_boot(directory.path(), BOOT, || NOW);
    assert!(matches!(third, Err(MemoryError::Taken(_))), "{third:?}");
    clearing.abort();
    assert!(clearing.await.is_err());
    assert_eq!(open(directory.path()).1, Ok(Left::default()));
}

#[tokio::test]
async fn where_the_boot_is_not_known_nothing_is_left() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).0.write_down([pod("a", 1)]);
    let absent = directory.path().join("absent");
    let opened = Memory::open_soon_with(directory.path(), &absent).await;
    assert!(matches!(opened, Err(MemoryError::Io { .. })), "{opened:?}");
    assert!(!directory.path().join(FILE).exists());
}

#[test]
fn a_directory_that_is_not_there_is_made() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("state");
    open(&directory).0.write_down([pod("a", 1)]);
    let mode = fs::metadata(&directory).unwrap().permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o700
    );
}

/// An agent that believed it would show a link as unreachable until then.
#[test]
fn a_memory_of_what_has_not_happened_yet_is_refused() {
    for now in [4, 5, 8] {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path()).0.write_down([pod("a", 1)]);
        let now = Timestamp::from_nanos(now);
        let opened = Memory::open_for_boot(directory.path(), BOOT, || now).unwrap();
        assert_eq!(opened.left, Err(Refusal::OfTheFuture), "{now:?}");
        assert!(!opened.memory.knows(&name("a")));
    }
}

#[test]
fn a_receiver_that_is_new_is_told_which_pods_counted_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let (memory, _) = open(directory.path());
    assert_eq!(memory.join(Receiver::Collector), []);
    memory.write_down([pod("a", 1)]);
    drop(memory);
    let (memory, _) = open(directory.path());
    assert_eq!(memory.join(Receiver::Collector), []);
    assert_eq!(memory.join(Receiver::Page), [name("a")]);
    assert_eq!(memory.join(Receiver::Page), []);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_ending_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let (first, _) = open(directory.path());
    let ending = async {
        // Its last export may take 5 s.
        tokio::time::sleep(Duration::from_secs(6)).await;
        drop(first);
    };
    let (opened, ()) = tokio::join!(Memory::open_soon(directory.path()), ending);
    let first = opened.unwrap();
    // An agent that does not end keeps the directory.
    let second = Memory::open_soon(directory.path()).await;
    assert!(matches!(second, Err(MemoryError::Taken(_))), "{second:?}");
    drop(first);
}

/// The clock was set back after the series began.
#[test]
fn a_series_that_began_in_the_future_has_one_begin_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let (memory, _) = open(directory.path());
    memory.write_down([pod("a", 1)]);
    assert_eq!(memory.series_began(&name("a"), BEGAN - 9), Some(BEGAN - 9));
    assert_eq!(memory.series_began(&name("a"), BEGAN - 5), Some(BEGAN - 9));
    // The ledger still has the former start.
    memory.write_down([pod("a", 2)]);
    assert_eq!(memory.series_began(&name("a"), BEGAN + 5), Some(BEGAN - 9));
    drop(memory);
    let (memory, _) = open(directory.path());
    assert_eq!(memory.series_began(&name("a"), BEGAN), Some(BEGAN - 9));
}
