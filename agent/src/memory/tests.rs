//! What a successor finds, however its predecessor ended.

use proptest::prelude::*;

use super::*;
use crate::{
    link::{Cause, CheckKind, FailedAttempt, Legacy, OutageUnderWay},
    snapshot::PodCounts,
    time::Timestamp,
};

const BOOT: &str = "boot-1";

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
        series_began: 1_700_000_000_000_000_000,
        total: Tally::from(&counted(errors)),
        unreached: None,
        last_seen: Timestamp::from_nanos(9),
        processes: vec![Process {
            id: ProcessId { pid: 7, started: 8 },
            unreached: None,
            legacy: Legacy {
                was_reachable: true,
                outage: Some(outage),
            },
        }],
    }
}

fn told(of: &str, complete: Option<u64>) -> Told {
    Told {
        name: name(of),
        complete,
    }
}

fn open(directory: &Path) -> (Arc<Memory>, Result<Left, Refusal>) {
    open_in(directory, BOOT)
}

fn open_in(directory: &Path, boot: &str) -> (Arc<Memory>, Result<Left, Refusal>) {
    let Opened { memory, left } = Memory::open_for_boot(directory, boot).unwrap();
    (memory, left)
}

fn file_of(pods: &[Pod], told: &[Told]) -> Vec<u8> {
    let lines: Vec<_> = pods.iter().map(format::line_of_pod).collect();
    format::encode(BOOT, lines.iter().map(String::as_str), told.iter())
}

#[test]
fn a_successor_finds_all_that_was_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let (memory, left) = open(directory.path());
    assert_eq!(left, Ok(Left::default()));
    memory.remember([pod("a", 1), pod("b", 2)]);
    memory.remember([pod("a", 3)]);
    memory.tell([told("a", None), told("b", Some(2))]);
    drop(memory);

    let (memory, left) = open(directory.path());
    let expected = Left {
        pods: vec![pod("a", 3), pod("b", 2)],
        told: vec![told("a", None), told("b", Some(2))],
    };
    assert_eq!(left, Ok(expected));
    let [found, _] = &left.unwrap().pods[..] else {
        panic!("two pods");
    };
    assert_eq!(PodCounts::from(&found.total), counted(3));
    let began = memory.series_began(&name("a"));
    assert_eq!(began, Some(1_700_000_000_000_000_000));
    memory.retain(|name| name.pod == "b");
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
    let second = Memory::open_for_boot(directory.path(), BOOT);
    assert!(matches!(second, Err(MemoryError::Taken(_))), "{second:?}");
    drop(first);
    assert!(open(directory.path()).1.is_ok());
}

#[test]
fn of_another_boot_nothing_is_believed() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).0.remember([pod("a", 1)]);
    let (memory, left) = open_in(directory.path(), "boot-2");
    assert_eq!(left, Err(Refusal::OtherBoot));
    // What is remembered from here on takes its place.
    memory.remember([pod("b", 1)]);
    drop(memory);
    let (_, left) = open_in(directory.path(), "boot-2");
    assert_eq!(left.unwrap().pods, [pod("b", 1)]);
}

#[test]
fn a_write_that_fails_leaves_nothing_that_is_old() {
    let directory = tempfile::tempdir().unwrap();
    let (memory, _) = open(directory.path());
    memory.remember([pod("a", 1)]);
    // The new one cannot be written beside the old one any more.
    fs::create_dir(directory.path().join(NEW)).unwrap();
    memory.remember([pod("a", 2)]);
    assert!(!directory.path().join(FILE).exists());
    // It is made up for once it can.
    fs::remove_dir(directory.path().join(NEW)).unwrap();
    memory.remember([pod("a", 2)]);
    drop(memory);
    let (_, left) = open(directory.path());
    assert_eq!(left.unwrap().pods, [pod("a", 2)]);
}

#[test]
fn what_this_build_does_not_understand_is_refused_as_a_whole() {
    let file = String::from_utf8(file_of(&[pod("a", 1)], &[])).unwrap();
    let (first, body) = file.split_once('\n').unwrap();
    let of_tomorrow = first.replacen(" 1 ", " 2 ", 1) + "\n" + body;
    let decoded = format::decode(of_tomorrow.as_bytes(), BOOT);
    assert_eq!(decoded, Err(Refusal::OtherFormat(2)));
    let unknown = format::encode(
        BOOT,
        ["{\"pod\":{\"cause\":\"of_tomorrow\"}}\n"].into_iter(),
        [].iter(),
    );
    let decoded = format::decode(&unknown, BOOT);
    assert!(
        matches!(decoded, Err(Refusal::NotUnderstood(_))),
        "{decoded:?}"
    );
}

#[test]
fn a_file_that_was_cut_anywhere_is_not_believed() {
    let file = file_of(&[pod("a", 1), pod("b", 2)], &[told("a", None)]);
    assert!(format::decode(&file, BOOT).is_ok());
    for length in 0..file.len() {
        let cut = format::decode(&file[..length], BOOT);
        assert!(cut.is_err(), "{length} of {} bytes: {cut:?}", file.len());
    }
}

proptest! {
    /// Each page of a file may be of the old writing or of the new one; here each byte may.
    #[test]
    fn a_file_of_two_writings_is_not_believed(
        errors in 1_u64..1_000_000,
        more in 1_u64..1_000,
        cut in 0.0..1.0_f64,
    ) {
        let old = file_of(&[pod("a", errors), pod("b", errors)], &[told("a", None)]);
        let new = file_of(&[pod("a", errors + more), pod("b", errors)], &[told("a", Some(1))]);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a file")]
        let at = (cut * old.len().min(new.len()) as f64) as usize;
        let torn = [&new[..at], &old[at..]].concat();
        let decoded = format::decode(&torn, BOOT);
        prop_assert!(torn == old || torn == new || decoded.is_err(), "{decoded:?}");
    }

    #[test]
    fn a_byte_that_is_not_what_was_written_is_noticed(
        errors in any::<u64>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let file = file_of(&[pod("a", errors / 2)], &[told("a", None)]);
        let mut other = file.clone();
        let at = at.index(file.len());
        other[at] = byte;
        let decoded = format::decode(&other, BOOT);
        // What the first line says in other words, as a length with a sign, is the same.
        let first = file.iter().position(|byte| *byte == b'\n').unwrap();
        prop_assert!(other == file || at < first || decoded.is_err(), "{decoded:?}");
        if let Ok(decoded) = decoded {
            prop_assert_eq!(Ok(decoded), format::decode(&file, BOOT));
        }
    }

    #[test]
    fn whatever_is_in_the_file_is_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(format::decode(&bytes, BOOT).is_err());
    }
}
