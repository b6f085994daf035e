//! Tests: events of the API in, owners of containers out.

use serde_json::json;

use super::*;

fn pod(uid: &str, name: &str, terminating: bool) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "namespace": "knative-serving",
            "uid": uid,
            "deletionTimestamp": terminating.then_some("2026-01-02T03:04:05Z"),
        },
        "status": { "containerStatuses": [
            { "name": "activator", "containerID": format!("containerd://{uid}-activator") },
            { "name": "proxy", "containerID": format!("containerd://{uid}-proxy") },
        ]},
    }))
    .unwrap()
}

fn container(uid: &str, name: &str) -> Container {
    Container {
        pod_uid: Some(uid.to_owned()),
        id: Some(format!("{uid}-{name}")),
    }
}

fn listed(directory: &mut Directory, pods: &[Pod]) -> Change {
    directory.apply(WatchEvent::Pods(0, Event::Init));
    for pod in pods {
        directory.apply(WatchEvent::Pods(0, Event::InitApply(pod.clone())));
    }
    directory.apply(WatchEvent::Pods(0, Event::InitDone))
}

pub(super) fn directory(pods: &[Pod]) -> Directory {
    let mut directory = Directory::new(["activator".to_owned(), "autoscaler".to_owned()]);
    listed(&mut directory, pods);
    directory.apply(WatchEvent::Pods(1, Event::InitDone));
    directory
}

fn activator(uid: &str, pod: &str) -> ContainerOwner {
    owner_of(uid, pod, true)
}

/// The client, in a container that the kubelet has not reported.
fn unreported(uid: &str, pod: &str) -> ContainerOwner {
    owner_of(uid, pod, false)
}

fn owner_of(uid: &str, pod: &str, reported: bool) -> ContainerOwner {
    ContainerOwner::Client {
        kind: 0,
        reported,
        identity: PodIdentity {
            uid: Some(uid.to_owned()),
            pod: pod.to_owned(),
            namespace: "knative-serving".to_owned(),
            host_network: false,
        },
    }
}

#[test]
fn the_activator_s_container_alone_is_the_activator() {
    let directory = directory(&[pod("a", "activator-1", false)]);
    assert_eq!(
        directory.owner(&container("a", "activator")),
        activator("a", "activator-1")
    );
    assert_eq!(
        directory.owner(&container("a", "proxy")),
        ContainerOwner::Other
    );
    assert_eq!(
        directory.owner(&container("b", "activator")),
        ContainerOwner::Unknown
    );
}

#[test]
fn each_kind_of_link_has_pods_of_its_own() {
    let mut directory = directory(&[pod("a", "activator-1", false)]);
    let other = WatchEvent::Pods(1, Event::Apply(pod("b", "autoscaler-1", false)));
    assert!(directory.apply(other).names);
    let unreported = container("b", "new");
    let ContainerOwner::Client { kind, identity, .. } = directory.owner(&unreported) else {
        panic!("{:?}", directory.owner(&unreported));
    };
    assert_eq!((kind, identity.pod.as_str()), (1, "autoscaler-1"));
    assert_eq!(
        directory.owner(&container("b", "activator")),
        ContainerOwner::Other
    );
    // A listing of one kind's pods says nothing about the other's.
    assert_eq!(listed(&mut directory, &[]).ended, ["a"]);
    assert_ne!(directory.owner(&unreported), ContainerOwner::Other);
}

#[test]
fn a_pod_on_its_node_s_network_is_marked() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "activator-1", "namespace": "knative-serving", "uid": "a" },
        "spec": { "hostNetwork": true },
    }))
    .unwrap();
    let owner = directory(&[pod]).owner(&container("a", "activator"));
    assert!(
        matches!(&owner, ContainerOwner::Client { identity, .. } if identity.host_network),
        "{owner:?}"
    );
}

#[test]
fn a_container_the_kubelet_has_not_reported_yet_is_taken_for_it() {
    let directory = directory(&[pod("a", "activator-1", false)]);
    assert_eq!(
        directory.owner(&container("a", "restarted")),
        unreported("a", "activator-1")
    );
}

#[test]
fn a_terminating_pod_has_ended_once_and_for_all() {
    let mut directory = directory(&[pod("a", "activator-1", false)]);
    let terminating = WatchEvent::Pods(0, Event::Apply(pod("a", "activator-1", true)));
    assert_eq!(directory.apply(terminating.clone()).ended, ["a"]);
    assert!(directory.apply(terminating).ended.is_empty(), "ended twice");
    // Its process still runs, now and after the object is gone.
    assert_eq!(
        directory.owner(&container("a", "activator")),
        ContainerOwner::Other
    );
    let deleted = WatchEvent::Pods(0, Event::Delete(pod("a", "activator-1", true)));
    assert!(directory.apply(deleted).ended.is_empty());
    assert_eq!(
        directory.owner(&container("a", "activator")),
        ContainerOwner::Other
    );
}

#[test]
fn a_pod_that_is_deleted_at_once_has_ended() {
    let mut directory = directory(&[pod("a", "activator-1", false)]);
    let deleted = WatchEvent::Pods(0, Event::Delete(pod("a", "activator-1", false)));
    assert_eq!(directory.apply(deleted).ended, ["a"]);
    assert_eq!(
        directory.owner(&container("a", "activator")),
        ContainerOwner::Other
    );
}

#[test]
fn a_pod_that_is_gone_from_a_new_listing_has_ended() {
    let mut directory = directory(&[pod("a", "one", false), pod("b", "two", false)]);
    // An aborted listing changes nothing.
    directory.apply(WatchEvent::Pods(0, Event::Init));
    directory.apply(WatchEvent::Pods(
        0,
        Event::InitApply(pod("b", "two", false)),
    ));
    assert_eq!(
        directory.owner(&container("a", "activator")),
        activator("a", "one")
    );
    let change = listed(&mut directory, &[pod("b", "two", false)]);
    assert_eq!(change.ended, ["a"]);
    assert_eq!(
        directory.owner(&container("b", "activator")),
        activator("b", "two")
    );
}

#[test]
fn a_pod_of_the_same_name_is_told_apart_by_its_uid() {
    let mut directory = directory(&[pod("a", "activator-0", false)]);
    directory.apply(WatchEvent::Pods(
        0,
        Event::Apply(pod("a", "activator-0", true)),
    ));
    directory.apply(WatchEvent::Pods(
        0,
        Event::Delete(pod("a", "activator-0", true)),
    ));
    let change = directory.apply(WatchEvent::Pods(
        0,
        Event::Apply(pod("b", "activator-0", false)),
    ));
    assert!(change.names && change.ended.is_empty());
    assert_eq!(
        directory.owner(&container("a", "activator")),
        ContainerOwner::Other
    );
    assert_eq!(
        directory.owner(&container("b", "activator")),
        activator("b", "activator-0")
    );
}

#[test]
fn the_ended_are_remembered_within_bounds() {
    let mut directory = directory(&[]);
    for n in 0..2 * MOST_ENDED {
        let uid = n.to_string();
        directory.apply(WatchEvent::Pods(0, Event::Apply(pod(&uid, "x", true))));
        directory.apply(WatchEvent::Pods(0, Event::Delete(pod(&uid, "x", true))));
    }
    assert_eq!(directory.ended.len(), MOST_ENDED);
    assert!(directory.pods[0].1.known().is_empty());
}

#[test]
fn a_container_whose_pod_is_not_visible_is_found_by_its_id() {
    let mut directory = directory(&[pod("a", "activator-1", false)]);
    let by_id = |name: &str| Container {
        pod_uid: None,
        id: Some(format!("a-{name}")),
    };
    assert_eq!(
        directory.owner(&by_id("activator")),
        activator("a", "activator-1")
    );
    assert_eq!(directory.owner(&by_id("proxy")), ContainerOwner::Other);
    assert_eq!(directory.owner(&by_id("debugger")), ContainerOwner::Unknown);
    // A static pod's group has another uid than the object that represents it in the API.
    let of_static_pod = Container {
        pod_uid: Some("0123456789abcdef0123456789abcdef".to_owned()),
        ..by_id("activator")
    };
    assert_eq!(
        directory.owner(&of_static_pod),
        activator("a", "activator-1")
    );
    // Its process may outlive its pod's object.
    let gone = pod("a", "activator-1", false);
    directory.apply(WatchEvent::Pods(0, Event::Delete(gone)));
    assert_eq!(directory.owner(&by_id("activator")), ContainerOwner::Other);
}

#[test]
fn a_pod_whose_label_was_put_back_is_watched_again() {
    let labelled = || pod("a", "activator-1", false);
    let mut directory = directory(&[labelled()]);
    let change = directory.apply(WatchEvent::Pods(0, Event::Delete(labelled())));
    assert_eq!(change.ended, ["a"]);
    let container = container("a", "activator");
    assert_eq!(directory.owner(&container), ContainerOwner::Other);
    let change = directory.apply(WatchEvent::Pods(0, Event::Apply(labelled())));
    assert!(change.names && change.ended.is_empty(), "{change:?}");
    assert_eq!(directory.owner(&container), activator("a", "activator-1"));
    // It can end once more.
    let change = directory.apply(WatchEvent::Pods(0, Event::Delete(labelled())));
    assert_eq!(change.ended, ["a"]);
    // The same if a whole listing brings it back.
    assert!(listed(&mut directory, &[labelled()]).ended.is_empty());
    assert_eq!(directory.owner(&container), activator("a", "activator-1"));
}

#[test]
fn a_pod_that_the_kubelet_ends_is_an_expected_end() {
    let evicted = include_str!("object/cases/activator-evicted-by-kubelet.json");
    let mut evicted: serde_json::Value = serde_json::from_str(evicted).unwrap();
    let disrupted = evicted["status"]["conditions"].take();
    let running: Pod = serde_json::from_value(evicted.clone()).unwrap();
    let mut directory = directory(&[running]);
    evicted["status"]["conditions"] = disrupted;
    let evicted: Pod = serde_json::from_value(evicted).unwrap();
    let change = directory.apply(WatchEvent::Pods(0, Event::Apply(evicted)));
    assert_eq!(change.ended, ["2c48913c-b29f-11e7-9350-020968147796"]);
}

#[test]
fn a_pod_whose_name_is_none_is_nobody() {
    let long = "a".repeat(254);
    for name in ["", "Activator", "a\u{1b}[2J", long.as_str()] {
        let owner = directory(&[pod("a", name, false)]).owner(&container("a", "activator"));
        assert_eq!(owner, ContainerOwner::Unknown, "{name:?}");
    }
}

#[test]
fn the_pods_that_run_here_are_those_whose_client_s_container_runs() {
    let with = |uid: &str, state: serde_json::Value, id: Option<&str>| -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": uid, "namespace": "knative-serving", "uid": uid },
            "spec": { "runtimeClassName": "gvisor" },
            "status": { "containerStatuses": [
                { "name": "activator", "containerID": id, "state": state },
                { "name": "proxy", "containerID": "containerd://p", "state": { "running": {} } },
            ]},
        }))
        .unwrap()
    };
    let id = Some("containerd://1");
    let directory = directory(&[
        with("running", json!({ "running": { "startedAt": null } }), id),
        with("not-said", json!(null), id),
        with(
            "waiting",
            json!({ "waiting": { "reason": "CrashLoopBackOff" } }),
            id,
        ),
        with("ended", json!({ "terminated": { "exitCode": 1 } }), id),
        with("not-started", json!({}), None),
        pod("terminating", "terminating", true),
        pod("plain", "plain", false),
    ]);
    let running: Vec<_> = directory.running().collect();
    let uids: Vec<_> = running.iter().map(|pod| pod.uid).collect();
    assert_eq!(uids, ["not-said", "plain", "running"]);
    assert_eq!(running[0].runtime_class, Some("gvisor"));
    assert_eq!((running[1].runtime_class, running[1].kind), (None, 0));
}

/// Whoever has renamed it is told, not shown nothing.
#[test]
fn a_pod_without_a_container_of_the_client_s_name_runs_if_any_of_its_containers_does() {
    let with = |uid: &str, state: serde_json::Value| -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": uid, "namespace": "knative-serving", "uid": uid },
            "status": {
                "containerStatuses": [
                    { "name": "renamed", "containerID": "containerd://1", "state": state },
                ],
                "initContainerStatuses": [
                    { "name": "activator", "containerID": "containerd://2" },
                ],
            },
        }))
        .unwrap()
    };
    let directory = directory(&[
        with("running", json!({ "running": {} })),
        with("ended", json!({ "terminated": { "exitCode": 1 } })),
        pod("plain", "plain", false),
    ]);
    let running: Vec<_> = directory.running().collect();
    let found: Vec<_> = running
        .iter()
        .map(|pod| (pod.uid, pod.lacks_container))
        .collect();
    assert_eq!(found, [("plain", None), ("running", Some("activator"))]);
}

#[test]
fn a_name_is_known_while_its_pod_is_listed() {
    let mut directory = directory(&[pod("a", "activator-1", false)]);
    let name = |pod: &str, namespace: &str| PodIdentity {
        uid: None,
        pod: pod.to_owned(),
        namespace: namespace.to_owned(),
        host_network: false,
    };
    assert!(directory.knows_name(&name("activator-1", "knative-serving")));
    assert!(!directory.knows_name(&name("activator-1", "default")));
    assert!(!directory.knows_name(&name("activator-2", "knative-serving")));
    directory.apply(WatchEvent::Pods(
        0,
        Event::Delete(pod("a", "activator-1", false)),
    ));
    assert!(!directory.knows_name(&name("activator-1", "knative-serving")));
}

#[test]
fn pods_are_told_of_while_each_of_their_watches_is_current() {
    let mut directory = Directory::new(["activator".to_owned(), "autoscaler".to_owned()]);
    listed(&mut directory, &[]);
    assert!(!directory.tells_of_pods(), "the second kind is not listed");
    directory.apply(WatchEvent::Pods(1, Event::InitDone));
    assert!(directory.tells_of_pods());
    let mut apply = |watch, health| {
        let change = directory.apply(WatchEvent::Health(watch, health));
        (directory.tells_of_pods(), change.names)
    };
    // Addresses are another matter.
    assert_eq!(apply(Watched::Services, WatchHealth::Stale), (true, false));
    assert_eq!(apply(Watched::Pods(1), WatchHealth::Stale), (false, true));
    assert_eq!(apply(Watched::Pods(0), WatchHealth::Stale), (false, false));
    assert_eq!(
        apply(Watched::Pods(1), WatchHealth::Current),
        (false, false)
    );
    assert_eq!(apply(Watched::Pods(0), WatchHealth::Current), (true, false));
}
