//! The Kubernetes API: this node's pods of each kind of link, the peer's Service and its
//! EndpointSlices.
//!
//! [`watch()`] sends every change as a [`WatchEvent`] for as long as the agent runs; a
//! [`Directory`] holds the resulting state.

mod directory;
mod failure;
mod listing;
mod object;
#[cfg(test)]
mod samples;
mod watch;

use std::{path::Path, sync::Arc, time::Duration};

use http::Response;
use kube::{
    Api, Client,
    api::{ListParams, WatchParams},
    client::ClientBuilder,
    runtime::{watcher, watcher::Event},
};
use thiserror::Error;
use tokio::sync::mpsc;
use tower::util::MapResponseLayer;

pub(crate) use self::directory::{ContainerOwner, Directory, PodIdentity, RunningPod, WatchEvent};
pub(crate) use self::failure::RequestFailure;
#[cfg(test)]
pub(super) use self::samples::{directory_of, listing, pod_object, stale_pods};
pub(crate) use self::watch::Doubts;
use self::{
    directory::Watched,
    failure::WatchLog,
    object::{EndpointSlice, Pod, Service},
    watch::{Answered, Doubted, Signals, Watchable, follow},
};
use crate::{chain::chain, link_kind::LinkKind};

/// What to watch.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Namespace of Knative Serving.
    pub namespace: String,
    /// This node's name.
    pub node: String,
    /// The kinds of link whose pods to watch.
    pub kinds: Vec<LinkKind>,
    /// Name of the peer's Service.
    pub service: String,
}

/// Why the API cannot be used at all.
#[derive(Debug, Error)]
#[error("configure the Kubernetes client: {reason}; {cure}", cure = Self::CURE)]
pub(crate) struct ConfigError {
    reason: String,
}

impl ConfigError {
    /// What to do about it.
    pub(crate) const CURE: &str = "needs a ServiceAccount's token, or KUBECONFIG";

    fn new(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            reason: chain(error),
        }
    }

    /// What is wrong, without the cure.
    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }
}

/// Whether the agent may list and watch one resource.
#[derive(Debug)]
pub(crate) struct Access {
    /// Plural of the resource, as in a Role.
    pub resource: &'static str,
    /// Why it may not.
    pub refused: Option<AccessError>,
}

/// Why one resource cannot be listed and watched.
#[derive(Debug, Error)]
pub(crate) enum AccessError {
    /// The request failed.
    #[error("{}: {}", .0.verb, .0.reason)]
    Failed(RequestFailure),
    /// The API server did not answer in time.
    #[error("no answer within {} s", PROBE_TIMEOUT.as_secs())]
    NoAnswer,
}

impl AccessError {
    /// What to do about it.
    pub(crate) fn cure(&self) -> &'static str {
        const REACH: &str = "check that the API server is reached from here";
        match self {
            Self::Failed(failure) => failure.cure.unwrap_or(REACH),
            Self::NoAnswer => REACH,
        }
    }
}

/// How many events may wait to be applied. A watch waits for room: nothing is lost, and a long listing
/// is taken in as it comes.
const EVENT_QUEUE: usize = 64;
/// How long `statlink check` waits for the answers about one resource. An API server lists a few
/// objects in milliseconds; one that takes seconds is of no use to the agent either.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Where the kubelet mounts a ServiceAccount's token.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Whether this process runs in a pod that may use the API.
pub(crate) fn in_cluster() -> bool {
    // Every pod has the variable; one without access lacks the token.
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(TOKEN).exists()
}

/// Finds the API server from the pod's ServiceAccount or KUBECONFIG.
///
/// # Errors
///
/// If there is neither, or it cannot be read.
pub(crate) async fn find() -> Result<kube::Config, ConfigError> {
    let found = kube::Config::infer().await;
    found.map_err(|error| ConfigError::new(&error))
}

/// The queue between the watches and whoever applies what they report.
pub(crate) fn event_queue() -> (mpsc::Sender<WatchEvent>, mpsc::Receiver<WatchEvent>) {
    mpsc::channel(EVENT_QUEUE)
}

/// Starts the watches. They run until the receiver of `events` is dropped. Those of the peer's
/// addresses answer the doubts that are returned. Must be called within a tokio runtime.
///
/// # Errors
///
/// If no client can be built for `server`, for example because a certificate is invalid.
pub(crate) fn watch(
    server: &kube::Config,
    settings: &Settings,
    events: &mpsc::Sender<WatchEvent>,
) -> Result<Doubts, ConfigError> {
    let Selections {
        pods,
        services,
        slices,
    } = Selections::of(settings);
    let mut doubts = Doubts::default();
    let watches = Watches {
        server,
        namespace: &settings.namespace,
        events,
    };
    for (kind, pods) in pods.into_iter().enumerate() {
        let wrap = move |event| WatchEvent::Pods(kind, event);
        // A Role grants access to all pods of a namespace or to none, so only the first watch logs.
        let (watched, logs) = (Watched::Pods(kind), kind == 0);
        watches.start(pods, wrap, watched, Doubted::default(), logs)?;
    }
    watches.start(
        services,
        WatchEvent::Services,
        Watched::Services,
        doubts.add(),
        true,
    )?;
    watches.start(
        slices,
        WatchEvent::EndpointSlices,
        Watched::EndpointSlices,
        doubts.add(),
        true,
    )?;
    Ok(doubts)
}

/// Lists and watches each resource once, to see whether the agent may.
///
/// # Errors
///
/// If no client can be built for `server`. A refusal by the API server is part of the result.
pub(crate) async fn probe(
    server: &kube::Config,
    settings: &Settings,
) -> Result<[Access; 3], ConfigError> {
    let client = Client::try_from(server.clone()).map_err(|error| ConfigError::new(&error))?;
    let Selections {
        pods,
        services,
        slices,
    } = Selections::of(settings);
    let namespace = &settings.namespace;
    // The first kind's pods stand for all, as in `watch`.
    let pods = pods.first().cloned().unwrap_or_default();
    Ok([
        try_access::<Pod>("pods", &client, namespace, &pods).await,
        try_access::<Service>("services", &client, namespace, &services).await,
        try_access::<EndpointSlice>("endpointslices", &client, namespace, &slices).await,
    ])
}

/// Which objects of each resource to watch.
struct Selections {
    /// One for each kind of link.
    pods: Vec<watcher::Config>,
    services: watcher::Config,
    slices: watcher::Config,
}

impl Selections {
    fn of(settings: &Settings) -> Self {
        let Settings {
            node,
            kinds,
            service,
            ..
        } = settings;
        let all = watcher::Config::default;
        let pods = |kind: &LinkKind| {
            all()
                .labels(&kind.pod_selector)
                .fields(&format!("spec.nodeName={node}"))
        };
        Self {
            pods: kinds.iter().map(pods).collect(),
            services: all().fields(&format!("metadata.name={service}")),
            slices: all().labels(&format!("kubernetes.io/service-name={service}")),
        }
    }
}

/// What all watches have in common.
struct Watches<'a> {
    server: &'a kube::Config,
    namespace: &'a str,
    events: &'a mpsc::Sender<WatchEvent>,
}

impl Watches<'_> {
    /// Starts one watch of `watched`. `logs` says whether it logs its failures.
    fn start<K: Watchable>(
        &self,
        selection: watcher::Config,
        wrap: impl Fn(Event<K>) -> WatchEvent + Send + 'static,
        watched: Watched,
        doubted: Doubted,
        logs: bool,
    ) -> Result<(), ConfigError> {
        // One client per watch, so that `answered` belongs to this watch. This costs nothing: a
        // watch has its own connection anyway.
        let answered = Answered::default();
        let client = connect(self.server, &answered).map_err(|error| ConfigError::new(&error))?;
        let api: Api<K> = Api::namespaced(client, self.namespace);
        let log = logs.then(|| WatchLog::new(&K::plural(&()), self.namespace));
        let signals = Signals { answered, doubted };
        let events = self.events.clone();
        tokio::spawn(follow(api, selection, signals, wrap, watched, log, events));
        Ok(())
    }
}

/// A client that notifies `answered` of every successful response.
fn connect(server: &kube::Config, answered: &Answered) -> Result<Client, kube::Error> {
    let answered = Arc::clone(answered);
    let notify = MapResponseLayer::new(move |response: Response<_>| {
        if response.status().is_success() {
            answered.notify_one();
        }
        response
    });
    let builder = ClientBuilder::try_from(server.clone())?;
    Ok(builder.with_layer(&notify).build())
}

async fn try_access<K: Watchable>(
    resource: &'static str,
    client: &Client,
    namespace: &str,
    selection: &watcher::Config,
) -> Access {
    // One object and one second are enough to see whether the requests are allowed.
    let list = ListParams {
        label_selector: selection.label_selector.clone(),
        field_selector: selection.field_selector.clone(),
        limit: Some(1),
        ..ListParams::default()
    };
    let watch = WatchParams {
        label_selector: selection.label_selector.clone(),
        field_selector: selection.field_selector.clone(),
        timeout: Some(1),
        ..WatchParams::default()
    };
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let requests = async {
        let listed = api.list(&list).await;
        listed.map_err(|error| RequestFailure::new("list", &error))?;
        let watched = api.watch(&watch, "0").await;
        let watched = watched.map(drop);
        watched.map_err(|error| RequestFailure::new("watch", &error))
    };
    let refused = match tokio::time::timeout(PROBE_TIMEOUT, requests).await {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(AccessError::Failed(failure)),
        Err(_) => Some(AccessError::NoAnswer),
    };
    Access { resource, refused }
}
