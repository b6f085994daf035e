//! Tests: what a series shows over the lives of its pod's processes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{super::snapshot::of_pods, *};
use crate::{
    link::{CheckKind, Counts, Legacy, OutageUnderWay},
    snapshot::LinkSnapshot,
};

fn seconds(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

fn name(pod: &str) -> SeriesName {
    SeriesName::of_activator(pod)
}

fn refused(n: u64) -> PodCounts {
    let mut counts = Counts::default();
    counts.fail(CheckKind::Connect, Cause::ConnectionRefused, n);
    PodCounts {
        counts,
        retransmits: n,
        lives: 0,
    }
}

fn process(pod: &str, total: PodCounts) -> LinkSnapshot {
    LinkSnapshot {
        total,
        ..LinkSnapshot::starting(pod)
    }
}

/// Errors, retransmitted segments and lives.
fn figures(total: &PodCounts) -> (u64, u64, u64) {
    (total.counts.total_errors(), total.retransmits, total.lives)
}

#[test]
fn a_pods_counts_go_on_when_its_container_is_restarted() {
    let mut ledger = Ledger::default();
    ledger.begin(name("a"), Some("1"), seconds(0));
    let shown = of_pods([process("a", refused(500))], &ledger);
    assert_eq!(figures(&shown[0].total), (500, 500, 1));

    ledger.end(&name("a"), None, &refused(500), None, seconds(9));
    let departed = ledger.departed();
    assert_eq!(departed[0].name, name("a"));
    assert_eq!(figures(&departed[0].total), (500, 500, 1));

    ledger.begin(name("a"), Some("1"), seconds(10));
    assert_eq!(ledger.departed(), []);
    let shown = of_pods([process("a", refused(2))], &ledger);
    assert_eq!(figures(&shown[0].total), (502, 502, 2));
}

/// The series showed 500, then 0, then 500 under one start time, and `increase()` made 1,000 of it.
#[test]
fn a_second_process_of_the_pod_that_comes_and_goes_leaves_its_counts() {
    let mut ledger = Ledger::default();
    ledger.begin(name("a"), None, seconds(0));
    ledger.begin(name("a"), None, seconds(10));
    let both = [process("a", refused(500)), process("a", refused(3))];
    assert_eq!(figures(&of_pods(both, &ledger)[0].total), (503, 503, 2));
    ledger.end(&name("a"), None, &refused(3), None, seconds(13));
    assert_eq!(ledger.departed(), []);
    let one = [process("a", refused(500))];
    assert_eq!(figures(&of_pods(one, &ledger)[0].total), (503, 503, 2));
}

#[test]
fn the_next_life_is_told_of_the_last_one_of_the_same_pod() {
    let mut ledger = Ledger::default();
    let refused_life = Some(Cause::ConnectionRefused);
    let begin = |ledger: &mut Ledger, uid, at| ledger.begin(name("a"), Some(uid), seconds(at));
    let end = |ledger: &mut Ledger, unreached, at| {
        ledger.end(&name("a"), None, &refused(1), unreached, seconds(at));
    };
    assert_eq!(begin(&mut ledger, "1", 0), None);
    end(&mut ledger, refused_life, 2);
    assert_eq!(begin(&mut ledger, "1", 3), refused_life);
    // A process that starts beside a running one does not follow it.
    assert_eq!(begin(&mut ledger, "1", 4), None);
    end(&mut ledger, refused_life, 5);
    end(&mut ledger, None, 6);
    // The last one was reachable.
    assert_eq!(begin(&mut ledger, "1", 7), None);
    end(&mut ledger, refused_life, 8);
    // Another pod of the same name is a new one; its series is the same.
    assert_eq!(begin(&mut ledger, "2", 9), None);
    assert_eq!(figures(&ledger.settled(&name("a"))), (4, 4, 5));
}

/// The process is found before the API has named its pod.
#[test]
fn a_life_without_a_uid_is_the_same_pods() {
    let mut ledger = Ledger::default();
    let cause = Some(Cause::Timeout);
    for uid in [None, Some("1"), None] {
        ledger.begin(name("a"), None, seconds(0));
        ledger.end(&name("a"), uid, &refused(1), cause, seconds(1));
    }
    assert_eq!(ledger.begin(name("a"), Some("1"), seconds(2)), cause);
    ledger.end(&name("a"), Some("1"), &refused(1), cause, seconds(3));
    assert_eq!(ledger.begin(name("a"), Some("2"), seconds(4)), None);
}

#[test]
fn an_account_is_kept_for_as_long_as_its_pod_is_listed_and_an_hour() {
    let mut ledger = Ledger::default();
    for (pod, uid) in [
        ("listed", Some("1")),
        ("gone", Some("2")),
        ("nameless", None),
    ] {
        ledger.begin(name(pod), uid, seconds(0));
    }
    let listed = |uid: &str| uid == "1";
    // Accounts with a running process have no age.
    ledger.close_old(seconds(100_000), listed);
    for pod in ["listed", "gone", "nameless"] {
        ledger.end(&name(pod), None, &refused(1), None, seconds(100_000));
    }
    let pods = |ledger: &Ledger| -> Vec<String> {
        let departed = ledger.departed().into_iter();
        departed.map(|departed| departed.name.pod).collect()
    };
    ledger.close_old(seconds(103_600), listed);
    assert_eq!(pods(&ledger), ["gone", "listed", "nameless"]);
    ledger.close_old(seconds(103_601), listed);
    assert_eq!(pods(&ledger), ["listed"]);
    ledger.close_old(seconds(107_201), |_| false);
    assert_eq!(pods(&ledger), ["listed"]);
    ledger.close_old(seconds(107_202), |_| false);
    assert_eq!(pods(&ledger), [""; 0]);
}

#[test]
fn of_too_many_departed_pods_the_oldest_are_forgotten() {
    let mut ledger = Ledger::default();
    ledger.begin(name("present"), None, seconds(0));
    for n in 0..MOST_DEPARTED as u64 + 10 {
        let pod = name(&format!("pod-{n:04}"));
        ledger.begin(pod.clone(), None, seconds(n));
        ledger.end(&pod, None, &refused(1), None, seconds(n));
    }
    ledger.close_old(seconds(1_000), |_| false);
    let departed = ledger.departed();
    assert_eq!(departed.len(), MOST_DEPARTED);
    assert_eq!(departed[0].name, name("pod-0010"));
    assert_eq!(figures(&ledger.settled(&name("present"))), (0, 0, 1));
}

/// What happens to the processes of three pods.
#[derive(Clone, Copy, Debug)]
enum Step {
    Begin(usize),
    /// Ends the oldest or the newest process of the pod.
    End(usize, bool),
    Pass(usize, u64),
    Fail(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let pod = 0..3_usize;
    prop_oneof![
        pod.clone().prop_map(Step::Begin),
        (pod.clone(), any::<bool>()).prop_map(|(pod, newest)| Step::End(pod, newest)),
        (pod.clone(), 0..100_u64).prop_map(|(pod, n)| Step::Pass(pod, n)),
        (pod, 0..100_u64).prop_map(|(pod, n)| Step::Fail(pod, n)),
    ]
}

proptest! {
    #[test]
    fn no_count_of_a_pod_ever_falls_and_each_is_counted_once(
        steps in prop::collection::vec(step(), 0..200)
    ) {
        let mut ledger = Ledger::default();
        let mut lives: [Vec<PodCounts>; 3] = Default::default();
        let mut truth = [(0, 0, 0); 3];
        let mut before: BTreeMap<String, PodCounts> = BTreeMap::new();
        for (at, step) in (0..).zip(steps) {
            match step {
                Step::Begin(pod) => {
                    ledger.begin(name(&pod.to_string()), None, seconds(at));
                    lives[pod].push(PodCounts::default());
                    truth[pod].2 += 1;
                }
                Step::End(pod, newest) => {
                    let ended = if newest || lives[pod].is_empty() {
                        lives[pod].pop()
                    } else {
                        Some(lives[pod].remove(0))
                    };
                    if let Some(counted) = ended {
                        let name = name(&pod.to_string());
                        ledger.end(&name, None, &counted, None, seconds(at));
                    }
                }
                Step::Pass(pod, n) => {
                    if let Some(life) = lives[pod].first_mut() {
                        life.counts.pass(CheckKind::Liveness, n);
                        truth[pod].0 += n;
                    }
                }
                Step::Fail(pod, n) => {
                    if let Some(life) = lives[pod].last_mut() {
                        life.add(&refused(n));
                        truth[pod].0 += n;
                        truth[pod].1 += n;
                    }
                }
            }
            ledger.close_old(seconds(at), |_| false);
            let processes = (0..3_usize).flat_map(|pod| {
                let lives = lives[pod].iter().cloned();
                lives.map(move |total| process(&pod.to_string(), total))
            });
            let shown = of_pods(processes, &ledger).into_iter();
            let shown = shown.map(|link| (link.name.pod, link.total));
            let departed = ledger.departed().into_iter();
            let departed = departed.map(|departed| (departed.name.pod, departed.total));
            let now: BTreeMap<_, _> = shown.chain(departed).collect();
            for (pod, total) in &now {
                let (checks, errors, lives) = truth[pod.parse::<usize>().unwrap()];
                prop_assert_eq!(total.counts.total_checks(), checks);
                prop_assert_eq!(figures(total), (errors, errors, lives));
                prop_assert!(errors <= checks);
                if let Some(before) = before.get(pod) {
                    prop_assert!(before.counts.total_checks() <= checks);
                    prop_assert!(before.retransmits <= total.retransmits);
                }
            }
            prop_assert!(before.keys().all(|pod| now.contains_key(pod)), "one is gone");
            before = now;
        }
    }
}

/// The ledger of the next agent; `present` are the processes with their counts.
fn succeed(ledger: &mut Ledger, present: Vec<(Option<Process>, PodCounts)>) -> Ledger {
    let left = ledger.remembered(&name("a"), present, |_| 1_700);
    let mut next = Ledger::default();
    next.restore(left.unwrap());
    next
}

fn running(pid: u32) -> Process {
    Process {
        id: ProcessId { pid, started: 9 },
        unreached: Some(Cause::Timeout),
        reading: None,
        legacy: Legacy {
            was_reachable: false,
            wary: false,
            outage: Some(OutageUnderWay {
                since: seconds(0),
                cause: Cause::Timeout,
                errors: 5,
                attempts: Vec::new(),
            }),
        },
    }
}

#[test]
fn counts_go_on_when_the_agent_is_replaced() {
    let mut first = Ledger::default();
    first.begin(name("a"), Some("1"), seconds(0));
    first.end(&name("a"), None, &refused(3), None, seconds(1));
    first.begin(name("a"), Some("1"), seconds(2));
    let mut second = succeed(&mut first, vec![(Some(running(7)), refused(5))]);
    // Its process may still be found, so these are not its last counts.
    assert_eq!(second.departed(), []);
    second.await_only(|_| true);
    let id = running(7).id;
    let known = second.resume(&name("a"), Some("1"), id, seconds(3));
    assert_eq!(known, Some(running(7)));
    // The number of lives stays; what its link has counted since is added.
    let shown = of_pods([process("a", refused(10))], &second);
    assert_eq!(figures(&shown[0].total), (18, 18, 2));
    // Another process is another life, and no process is awaited any more.
    assert_eq!(second.resume(&name("a"), None, id, seconds(4)), None);
    second.begin(name("a"), Some("1"), seconds(4));
    let mut third = succeed(&mut second, vec![(None, refused(10)), (None, refused(1))]);
    assert_eq!(figures(&third.departed()[0].total), (19, 19, 3));
    // The start time of its series stays.
    let began = third.remembered(&name("a"), [], |_| 9_999).unwrap();
    assert_eq!(began.series_began, 1_700);
}

#[test]
fn a_process_that_ended_while_no_agent_watched_leaves_its_counts() {
    let mut first = Ledger::default();
    first.begin(name("a"), None, seconds(0));
    let mut second = succeed(&mut first, vec![(Some(running(7)), refused(5))]);
    let another = ProcessId {
        pid: 7,
        started: 10,
    };
    second.await_only(|process| process == another);
    assert_eq!(figures(&second.departed()[0].total), (5, 5, 1));
    assert_eq!(second.resume(&name("a"), None, another, seconds(1)), None);
    // It never connected, so the pod's next life has no grace.
    let former = second.begin(name("a"), None, seconds(1));
    assert_eq!(former, Some(Cause::Timeout));
}

/// Nobody saw whether it connected after that.
#[test]
fn a_process_that_was_in_its_grace_when_the_agent_died_is_not_taken_for_unreached() {
    let mut first = Ledger::default();
    first.begin(name("a"), None, seconds(0));
    let mut process = running(7);
    process.legacy.outage = None;
    let mut second = succeed(&mut first, vec![(Some(process), refused(0))]);
    second.await_only(|_| false);
    assert_eq!(second.begin(name("a"), None, seconds(1)), None);
}

/// Its pod is not departed, however long it takes to find the process.
#[test]
fn an_account_is_kept_while_a_process_of_before_may_be_found() {
    let mut first = Ledger::default();
    first.begin(name("a"), None, seconds(0));
    let mut second = succeed(&mut first, vec![(Some(running(7)), refused(5))]);
    for n in 0..MOST_DEPARTED + 1 {
        let name = name(&format!("gone-{n}"));
        second.begin(name.clone(), None, seconds(1));
        second.end(&name, None, &refused(1), None, seconds(2));
    }
    second.close_old(seconds(3), |_| false);
    assert!(second.has(&name("a")));
    second.close_old(seconds(7200), |_| false);
    assert!(second.has(&name("a")));
    second.await_only(|_| false);
    second.close_old(seconds(7200 + 3601), |_| false);
    assert!(!second.has(&name("a")));
}

#[test]
fn that_a_pod_is_still_seen_is_no_news_for_a_successor_more_often_than_once_a_minute() {
    let mut ledger = Ledger::default();
    ledger.begin(name("a"), None, seconds(0));
    let mut told = BTreeSet::new();
    for second in 0..600 {
        ledger.close_old(seconds(second), |_| false);
        told.insert(ledger.remembered(&name("a"), [], |_| 0).unwrap().last_seen);
    }
    assert_eq!(told.len(), 10);
    assert_eq!(told.last(), Some(&seconds(540)));
}

/// The next agent is killed, too, before it has found the process.
#[test]
fn what_was_not_found_yet_is_left_to_the_next() {
    let mut first = Ledger::default();
    first.begin(name("a"), None, seconds(0));
    let mut second = succeed(&mut first, vec![(Some(running(7)), refused(5))]);
    let mut third = succeed(&mut second, Vec::new());
    let known = third.resume(&name("a"), None, running(7).id, seconds(1));
    assert_eq!(known, Some(running(7)));
    assert_eq!(third.settled(&name("a")), {
        let mut total = refused(5);
        total.lives = 1;
        total
    });
}
