//! Tests: running pods and time in, changes out.

use super::*;
use crate::{discovery::kubernetes::PodIdentity, link_kind::ACTIVATOR};

fn s(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

/// Updates at each of these moments with the pod unobserved or not; returns the changes.
struct Node {
    absences: Absences,
    identity: PodIdentity,
}

impl Node {
    fn new() -> Self {
        Self {
            absences: Absences::default(),
            identity: PodIdentity {
                uid: Some("uid".to_owned()),
                pod: "activator-1".to_owned(),
                namespace: "knative-serving".to_owned(),
                host_network: false,
            },
        }
    }

    fn at(&mut self, now: Timestamp, unobserved: bool, tells: bool) -> Vec<AbsenceNews> {
        let pod = RunningPod {
            kind: 0,
            uid: "uid",
            identity: &self.identity,
            runtime_class: None,
            lacks_container: None,
        };
        let pods = if unobserved { vec![pod] } else { vec![] };
        let kinds = [ACTIVATOR.clone()];
        self.absences
            .update(&pods, tells, &kinds, now, |_| AbsenceReason::Unplaced)
    }
}

#[test]
fn a_pod_is_told_once_after_its_grace_and_once_when_it_is_over() {
    let mut node = Node::new();
    assert!(node.at(s(1), true, true).is_empty());
    assert_eq!(node.absences.next_deadline(), Some(s(11)));
    assert!(node.at(s(10), true, true).is_empty());
    assert_eq!(node.absences.told().count(), 0);
    let news = node.at(s(11), true, true);
    let [AbsenceNews::Unobserved(pod)] = &news[..] else {
        panic!("{news:?}");
    };
    assert_eq!((pod.pod.as_str(), pod.since), ("activator-1", s(1)));
    assert_eq!(
        (pod.peer.as_str(), pod.reason.name()),
        ("autoscaler", "unplaced")
    );
    assert_eq!(node.absences.next_deadline(), None);
    assert!(node.at(s(60), true, true).is_empty());
    assert_eq!(node.absences.told().collect::<Vec<_>>(), [pod]);
    assert_eq!(
        node.at(s(61), false, true),
        [AbsenceNews::Over(pod.clone())]
    );
    assert_eq!(node.absences.told().count(), 0);
}

#[test]
fn a_pod_that_is_observed_within_its_grace_is_no_news() {
    let mut node = Node::new();
    node.at(s(1), true, true);
    assert!(node.at(s(9), false, true).is_empty());
    // A restart begins a new grace.
    node.at(s(10), true, true);
    assert!(node.at(s(19), true, true).is_empty());
    assert_eq!(node.at(s(20), true, true).len(), 1);
}

#[test]
fn while_the_api_is_away_no_pod_becomes_unobserved_and_one_stays_so() {
    let mut node = Node::new();
    node.at(s(1), true, true);
    assert!(node.at(s(2), true, false).is_empty());
    assert!(node.at(s(30), true, false).is_empty());
    // Its grace begins when the API reports every change again.
    node.at(s(31), true, true);
    assert!(node.at(s(40), true, true).is_empty());
    assert_eq!(node.at(s(41), true, true).len(), 1);
    assert!(node.at(s(42), true, false).is_empty());
    assert_eq!(node.absences.told().count(), 1);
    assert_eq!(node.at(s(43), false, false).len(), 1);
}

#[test]
fn each_reason_has_a_name_and_a_sentence() {
    let class = AbsenceReason::RuntimeClass("gvisor".to_owned());
    let container = AbsenceReason::NoContainer("client".to_owned());
    for (reason, name, part) in [
        (AbsenceReason::Denied, "denied", "activator"),
        (AbsenceReason::NoHostPid, "no_host_pid", "hostPID"),
        (container, "no_container", "named client"),
        (AbsenceReason::NoProcess, "no_process", "activator"),
        (AbsenceReason::NoRoom, "no_room", "no room"),
        (class, "runtime_class", "RuntimeClass gvisor"),
        (AbsenceReason::Unplaced, "unplaced", "activator"),
    ] {
        assert_eq!(reason.name(), name);
        let sentence = reason.explain("activator");
        assert!(sentence.contains(part), "{sentence}");
    }
}
