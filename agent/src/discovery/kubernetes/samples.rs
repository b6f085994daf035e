//! Sample objects and events of the API, for tests of discovery.

use serde_json::{Value, json};

use super::{
    Directory, Event, Pod, WatchEvent,
    directory::{WatchHealth, Watched},
};

/// A pod with these containerStatuses.
pub(in super::super) fn pod_object(uid: &str, name: &str, statuses: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "knative-serving", "uid": uid },
        "status": { "containerStatuses": statuses },
    }))
    .unwrap_or_else(|error| panic!("{error}"))
}

/// A directory that has listed these pods of its only kind.
pub(in super::super) fn directory_of(pods: &[Pod]) -> Directory {
    let mut directory = Directory::new(["activator".to_owned()]);
    directory.relist(pods);
    directory
}

/// The event that the watch of pods has failed.
pub(in super::super) fn stale_pods() -> WatchEvent {
    WatchEvent::Health(Watched::Pods(0), WatchHealth::Stale)
}

/// The events of a listing of the pods of these uids, names and containerStatuses.
pub(in super::super) fn listing(pods: &[(&str, &str, Value)]) -> Vec<WatchEvent> {
    let pods = pods.iter();
    let pods = pods.map(|(uid, name, statuses)| pod_object(uid, name, statuses.clone()));
    let events = [Event::Init]
        .into_iter()
        .chain(pods.map(Event::InitApply))
        .chain([Event::InitDone]);
    events.map(|event| WatchEvent::Pods(0, event)).collect()
}

impl Directory {
    /// Lists these pods, and no others.
    pub(in super::super) fn relist(&mut self, pods: &[Pod]) {
        self.apply(WatchEvent::Pods(0, Event::Init));
        for pod in pods {
            self.apply(WatchEvent::Pods(0, Event::InitApply(pod.clone())));
        }
        self.apply(WatchEvent::Pods(0, Event::InitDone));
    }
}
