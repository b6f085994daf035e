//! Tests: the API's knowledge and an environment in, names out.

use serde_json::json;

use super::*;
use crate::discovery::kubernetes::{WatchEvent, directory_of, pod_object, stale_pods};

const REAL: &str = "activator-1";

fn directory() -> Directory {
    directory_of(&[pod_object(
        "uid",
        REAL,
        json!([
            { "name": "activator", "containerID": "containerd://real" },
            { "name": "proxy", "containerID": "containerd://sidecar" },
        ]),
    )])
}

fn container(uid: Option<&str>, id: Option<&str>) -> Option<Container> {
    Some(Container {
        pod_uid: uid.map(str::to_owned),
        id: id.map(str::to_owned),
    })
}

fn named(pod: &str) -> PodIdentity {
    PodIdentity {
        uid: None,
        pod: pod.to_owned(),
        namespace: "knative-serving".to_owned(),
        host_network: false,
    }
}

/// Names a process whose environment names `pod`.
fn name_of(directory: Option<&Directory>, container: Option<&Container>, pod: &str) -> Naming {
    name(directory, 0, container, || Ok(Some(named(pod)))).unwrap()
}

/// The same, for an environment that may not be read.
fn unreadable(directory: Option<&Directory>, container: Option<&Container>) -> Naming {
    let denied = || {
        Err(DiscoveryError::Proc {
            path: "/proc/7/environ".to_owned(),
            source: std::io::ErrorKind::PermissionDenied.into(),
        })
    };
    name(directory, 0, container, denied).unwrap()
}

#[test]
fn once_pods_are_listed_an_environment_names_nobody_in_a_container() {
    let directory = directory();
    let elsewhere = [
        container(Some("other"), Some("x")),
        container(Some("other"), None),
        container(None, Some("x")),
    ];
    for container in &elsewhere {
        for pod in [REAL, "a-new-name"] {
            let naming = name_of(Some(&directory), container.as_ref(), pod);
            assert_eq!(naming, Naming::Waits(Unplaced::NotListed), "{container:?}");
        }
        let naming = unreadable(Some(&directory), container.as_ref());
        assert_eq!(naming, Naming::Waits(Unplaced::NotListed), "{container:?}");
    }
}

#[test]
fn once_pods_are_listed_an_environment_names_nobody_outside_of_containers() {
    let directory = directory();
    for pod in [REAL, "a-new-name"] {
        let naming = name_of(Some(&directory), None, pod);
        assert_eq!(naming, Naming::Waits(Unplaced::NoContainer));
    }
    let naming = unreadable(Some(&directory), None);
    assert_eq!(naming, Naming::Waits(Unplaced::NoContainer));
}

#[test]
fn the_api_names_by_the_pod_s_uid_or_the_container_s_id_whatever_the_environment_says() {
    let directory = directory();
    let of_the_api = PodIdentity {
        uid: Some("uid".to_owned()),
        ..named(REAL)
    };
    for (container, reported) in [
        (container(Some("uid"), Some("real")), true),
        (container(None, Some("real")), true),
        // A static pod's group has another uid than the object.
        (container(Some("other"), Some("real")), true),
        (container(Some("uid"), Some("new")), false),
        (container(Some("uid"), None), false),
    ] {
        let right = Naming::Named(NamedBy::Api { reported }, of_the_api.clone());
        let naming = name_of(Some(&directory), container.as_ref(), "another");
        assert_eq!(naming, right, "{container:?}");
        assert_eq!(unreadable(Some(&directory), container.as_ref()), right);
    }
    let sidecar = container(Some("uid"), Some("sidecar"));
    let naming = name_of(Some(&directory), sidecar.as_ref(), REAL);
    assert_eq!(naming, Naming::Nobody);
    // Of another kind of link.
    let real = container(Some("uid"), Some("real"));
    let naming = name(Some(&directory), 1, real.as_ref(), || Ok(Some(named(REAL))));
    assert_eq!(naming.unwrap(), Naming::Nobody);
}

#[test]
fn while_the_api_is_away_what_it_knows_stays_its_own() {
    let mut directory = directory();
    directory.apply(stale_pods());
    let itself = |pod| Naming::Named(NamedBy::Environment, named(pod));
    assert_eq!(
        name_of(Some(&directory), None, "newcomer"),
        itself("newcomer")
    );
    assert_eq!(
        name_of(Some(&directory), None, REAL),
        Naming::Waits(Unplaced::NoContainer)
    );
    let elsewhere = container(Some("other"), Some("x"));
    assert_eq!(
        name_of(Some(&directory), elsewhere.as_ref(), "newcomer"),
        Naming::Waits(Unplaced::NotListed)
    );
}

#[test]
fn without_the_api_the_environment_names() {
    let unlisted = Directory::new(["activator".to_owned()]);
    for directory in [None, Some(&unlisted)] {
        for container in [None, container(Some("uid"), Some("real"))] {
            let naming = name_of(directory, container.as_ref(), REAL);
            assert_eq!(naming, Naming::Named(NamedBy::Environment, named(REAL)));
            let nothing = name(directory, 0, container.as_ref(), || Ok(None));
            assert_eq!(nothing.unwrap(), Naming::Nobody);
        }
    }
    assert_eq!(
        unreadable(Some(&unlisted), None),
        Naming::Waits(Unplaced::NothingListed)
    );
}

#[test]
fn an_event_of_one_pod_is_news_for_what_waits() {
    let mut directory = directory();
    let new = container(Some("b"), Some("c"));
    assert_eq!(
        name_of(Some(&directory), new.as_ref(), REAL),
        Naming::Waits(Unplaced::NotListed)
    );
    let event = kube::runtime::watcher::Event::Apply(pod_object("b", "activator-2", json!([])));
    assert!(directory.apply(WatchEvent::Pods(0, event)).names);
    let naming = name_of(Some(&directory), new.as_ref(), REAL);
    assert!(
        matches!(&naming, Naming::Named(_, identity) if identity.pod == "activator-2"),
        "{naming:?}"
    );
}
