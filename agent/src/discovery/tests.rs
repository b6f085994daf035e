//! Tests with processes of this machine.

use std::{
    os::unix::{fs::symlink, process::CommandExt as _},
    process::{Child, Command},
};

use serde_json::{Value, json};

use super::{
    claims::{Claim, Place},
    naming::NamedBy,
    *,
};
use crate::{clock::now, link_kind::ACTIVATOR};

/// A process named like an activator, which ends with the test.
struct Process {
    child: Child,
    _directory: tempfile::TempDir,
}

impl Process {
    fn with(environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("activator");
        symlink("/bin/sleep", &path).unwrap();
        let mut command = Command::new(path);
        command.arg0("sleep").arg("1000").env_clear();
        let child = command.envs(environment.iter().copied()).spawn().unwrap();
        // The parent continues before the child's new memory has its environment.
        let environ = format!("/proc/{}/environ", child.id());
        while std::fs::read(&environ).unwrap().is_empty() {
            std::thread::yield_now();
        }
        Self {
            child,
            _directory: directory,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn discovery() -> Discovery {
    Discovery::new(Selector {
        kinds: vec![ACTIVATOR.clone()],
        pod_name_env: "POD_NAME".to_owned(),
        namespace_env: "SYSTEM_NAMESPACE".to_owned(),
        namespace: Some("knative-serving".to_owned()),
    })
}

#[tokio::test]
async fn a_process_is_named_by_its_environment_or_an_error_names_it() {
    const NAMESPACE: (&str, &str) = ("SYSTEM_NAMESPACE", "knative-serving");
    let inspect = |environment: &[(&str, &str)]| {
        let process = Process::with(environment);
        let pid = process.child.id();
        let found = discovery().inspect(pid, now());
        found
            .map(|client| client.map(|client| client.pod))
            .map_err(|error| error.to_string().replace(&pid.to_string(), "PID"))
    };
    let named = inspect(&[("POD_NAME", "activator-1"), NAMESPACE]);
    assert_eq!(named, Ok(Some("activator-1".to_owned())));
    assert_eq!(inspect(&[NAMESPACE]), Ok(None));
    let elsewhere = inspect(&[("POD_NAME", "activator-1"), ("SYSTEM_NAMESPACE", "knative")]);
    assert_eq!(
        elsewhere.unwrap_err(),
        "process PID (activator) is of the namespace knative, and knative-serving is watched; \
         if it is Knative's, name that namespace with --namespace (the chart's \
         knative.namespace)"
    );
    let hostile = inspect(&[("POD_NAME", "\u{1b}[2J\r\nfake"), NAMESPACE]).unwrap_err();
    let expected = r#"process PID has POD_NAME="\u{1b}[2J\r\nfake", which is not a valid name"#;
    assert!(hostile.starts_with(expected), "{hostile}");
    // Variables are in the order of their names.
    let long = "x".repeat(100_000);
    let cut = inspect(&[("A", &long), ("POD_NAME", "activator-1"), NAMESPACE]).unwrap_err();
    assert!(
        cut.starts_with("process PID names no pod in the first 64 KiB"),
        "{cut}"
    );
    let cut = inspect(&[("POD_NAME", &long), NAMESPACE]).unwrap_err();
    assert!(cut.starts_with("process PID "), "{cut}");
}

/// A discovery whose API has listed the pods of these uids, names and containerStatuses.
fn with_pods(pods: &[(&str, &str, Value)]) -> Discovery {
    let mut discovery = Discovery::with_kubernetes(discovery().selector);
    for event in kubernetes::listing(pods) {
        discovery.apply(event);
    }
    discovery
}

fn refused(discovery: &Discovery) -> Vec<(&'static str, u64)> {
    let mut refused = discovery.refused();
    refused.retain(|(_, number)| *number > 0);
    refused
}

#[tokio::test]
async fn an_impostor_waits_for_the_api_and_is_then_told_once() {
    let impostor = Process::with(&[
        ("POD_NAME", "activator-1"),
        ("SYSTEM_NAMESPACE", "knative-serving"),
    ]);
    let pid = impostor.child.id();
    let mut discovery = with_pods(&[("uid", "activator-1", json!([]))]);
    let start = now();
    assert!(discovery.inspect(pid, start).unwrap().is_none());
    assert_eq!(discovery.next_deadline(), Some(start + NEWS));
    // While it waits, each look gives the same result.
    assert!(discovery.inspect(pid, start).unwrap().is_none());
    assert_eq!(refused(&discovery), []);
    let found = discovery.on_deadline(start + NEWS);
    let [Err(error)] = &found[..] else {
        panic!("{found:?}");
    };
    let text = error.to_string();
    let expected = format!("process {pid} (activator) is in no container");
    assert!(text.starts_with(&expected), "{text}");
    assert_eq!(refused(&discovery), [("unplaced", 1)]);
    assert_eq!(discovery.next_deadline(), None);
    drop(impostor);
    discovery.scan(start).unwrap();
    assert_eq!(refused(&discovery), []);
}

#[tokio::test]
async fn what_is_gone_before_its_time_is_up_is_no_warning() {
    let mut discovery = with_pods(&[]);
    let start = now();
    let process = Process::with(&[("A", "b")]);
    assert!(
        discovery
            .inspect(process.child.id(), start)
            .unwrap()
            .is_none()
    );
    drop(process);
    assert!(discovery.on_deadline(start + NEWS).is_empty());
    assert_eq!(
        (refused(&discovery), discovery.next_deadline()),
        (vec![], None)
    );
}

#[tokio::test]
async fn a_client_that_named_itself_loses_its_name_to_the_api() {
    const ITSELF: [(&str, &str); 2] = [
        ("POD_NAME", "activator-1"),
        ("SYSTEM_NAMESPACE", "knative-serving"),
    ];
    let process = Process::with(&ITSELF);
    let pid = process.child.id();
    let mut discovery = Discovery::with_kubernetes(discovery().selector);
    assert!(discovery.inspect(pid, now()).unwrap().is_some());
    // It is found once.
    assert!(discovery.inspect(pid, now()).unwrap().is_none());
    let listing = kubernetes::listing(&[("uid", "activator-1", json!([]))]);
    let updates = listing.into_iter().map(|event| discovery.apply(event));
    let last = updates.last().unwrap();
    assert!(last.rescan);
    assert_eq!(last.lost, [pid]);
    assert!(discovery.inspect(pid, now()).unwrap().is_none());
}

#[tokio::test]
async fn without_room_the_api_s_client_goes_before_one_that_named_itself() {
    let named = Process::with(&[
        ("POD_NAME", "activator-1"),
        ("SYSTEM_NAMESPACE", "knative-serving"),
    ]);
    let mut discovery = discovery();
    let pid = named.child.id();
    assert!(discovery.inspect(pid, now()).unwrap().is_some());
    assert_eq!(discovery.found_no_room(pid), None, "it named itself");
    assert_eq!(refused(&discovery), [("no_room", 1)]);
    // There may be room later.
    assert!(discovery.inspect(pid, now()).unwrap().is_some());
    assert_eq!(refused(&discovery), []);
}

#[tokio::test]
async fn a_pod_that_runs_without_a_process_is_unobserved_until_it_ends() {
    let running = json!([{ "name": "activator", "containerID": "containerd://1" }]);
    let mut discovery = with_pods(&[("uid", "activator-1", running)]);
    assert!(discovery.look_for_absences(now()).is_empty());
    let deadline = discovery.next_deadline().unwrap();
    assert!(discovery.on_deadline(deadline).is_empty());
    let news = discovery.look_for_absences(deadline);
    let [AbsenceNews::Unobserved(told)] = &news[..] else {
        panic!("{news:?}");
    };
    assert_eq!(told.pod, "activator-1");
    assert_eq!(discovery.unobserved().count(), 1);
    for event in kubernetes::listing(&[]) {
        discovery.apply(event);
    }
    assert_eq!(
        discovery.look_for_absences(deadline),
        [AbsenceNews::Over(told.clone())]
    );
    assert_eq!(discovery.unobserved().count(), 0);
}

#[tokio::test]
async fn a_client_without_room_makes_no_news_of_its_pod_each_time_it_is_tried() {
    let running = json!([{ "name": "activator", "containerID": "containerd://1" }]);
    let mut discovery = with_pods(&[("uid", "activator-1", running)]);
    discovery.look_for_absences(now());
    let deadline = discovery.next_deadline().unwrap();
    assert_eq!(discovery.look_for_absences(deadline).len(), 1);
    let claim = Claim {
        kind: 0,
        identity: PodIdentity {
            uid: Some("uid".to_owned()),
            pod: "activator-1".to_owned(),
            namespace: "knative-serving".to_owned(),
            host_network: false,
        },
        by: NamedBy::Api { reported: true },
        place: Place::default(),
    };
    discovery.claims.admit(7, claim.clone()).unwrap();
    assert_eq!(discovery.found_no_room(7), None, "nobody named itself");
    assert_eq!(discovery.look_for_absences(deadline), []);
    discovery.claims.admit(7, claim).unwrap();
    discovery.pods_may_differ = true;
    assert_eq!(discovery.look_for_absences(deadline).len(), 1, "it is over");
}
