//! Who is who, by the Kubernetes API: this node's pods of each peering, the peer's Service and its
//! EndpointSlices.
//!
//! [`watch`] keeps asking, whatever happens; what it hears goes to a [`Directory`].

mod directory;
mod object;
mod outage;
mod watch;

use std::{path::Path, sync::Arc};

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

pub(crate) use self::directory::{Directory, Named, News, Who};
use self::{
    object::{EndpointSlice, Pod, Service},
    watch::{Answered, Kind, follow},
};
use crate::{chain::chain, peering::Peering};

/// What to ask the API for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of Knative Serving.
    pub namespace: String,
    /// This node's name.
    pub node: String,
    /// Whose pods to ask for.
    pub peerings: Vec<Peering>,
    /// Name of the peer's Service.
    pub service: String,
}

/// Why the API cannot be asked at all.
#[derive(Debug, Error)]
#[error("configure the Kubernetes client: {reason}; needs a ServiceAccount's token, or KUBECONFIG")]
pub struct ConfigError {
    reason: String,
}

/// Whether one resource can be asked for.
#[derive(Debug)]
pub struct Access {
    /// Its plural, as in a Role.
    pub resource: &'static str,
    /// Why not.
    pub refused: Option<String>,
}

/// Whether this process runs in a pod that has been given access to the API.
pub fn in_cluster() -> bool {
    // Every pod has the variable; one without access lacks the token.
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && Path::new(TOKEN).exists()
}

/// Finds the API: the pod's own ServiceAccount, or KUBECONFIG.
pub async fn find() -> Result<kube::Config, ConfigError> {
    kube::Config::infer().await.map_err(|error| failed(&error))
}

/// Watches for as long as `news` is received. Must be called within a tokio runtime.
pub(crate) fn watch(
    server: &kube::Config,
    settings: &Settings,
    news: &mpsc::Sender<News>,
) -> Result<(), ConfigError> {
    let Selections {
        pods,
        services,
        slices,
    } = Selections::of(settings);
    let namespace = &settings.namespace;
    for (row, pods) in pods.into_iter().enumerate() {
        let of = move |event| News::Pods(row, event);
        // Whoever may see some pods of a namespace may see all: one warning will do.
        spawn(server, namespace, pods, news, of, row == 0)?;
    }
    spawn(server, namespace, services, news, News::Services, true)?;
    spawn(server, namespace, slices, news, News::EndpointSlices, true)
}

/// Asks for each resource for real, in each way.
pub(crate) async fn probe(
    server: &kube::Config,
    settings: &Settings,
) -> Result<[Access; 3], ConfigError> {
    let client = Client::try_from(server.clone()).map_err(|error| failed(&error))?;
    let Selections {
        pods,
        services,
        slices,
    } = Selections::of(settings);
    let namespace = &settings.namespace;
    // As in `watch`.
    let pods = pods.first().cloned().unwrap_or_default();
    Ok([
        try_out::<Pod>("pods", &client, namespace, &pods).await,
        try_out::<Service>("services", &client, namespace, &services).await,
        try_out::<EndpointSlice>("endpointslices", &client, namespace, &slices).await,
    ])
}

/// What of each resource is asked for.
struct Selections {
    /// Of each peering.
    pods: Vec<watcher::Config>,
    services: watcher::Config,
    slices: watcher::Config,
}

impl Selections {
    fn of(settings: &Settings) -> Self {
        let Settings {
            node,
            peerings,
            service,
            ..
        } = settings;
        let all = watcher::Config::default;
        let pods = |of: &Peering| {
            all()
                .labels(&of.pod_selector)
                .fields(&format!("spec.nodeName={node}"))
        };
        Self {
            pods: peerings.iter().map(pods).collect(),
            services: all().fields(&format!("metadata.name={service}")),
            slices: all().labels(&format!("kubernetes.io/service-name={service}")),
        }
    }
}

fn spawn<K>(
    server: &kube::Config,
    namespace: &str,
    selection: watcher::Config,
    news: &mpsc::Sender<News>,
    of: impl Fn(Event<K>) -> News + Send + 'static,
    tells: bool,
) -> Result<(), ConfigError>
where
    K: Kind,
{
    // A watch takes up a connection of its own anyway.
    let answered = Answered::default();
    let client = connect(server, &answered).map_err(|error| failed(&error))?;
    let api: Api<K> = Api::namespaced(client, namespace);
    tokio::spawn(follow(api, selection, answered, of, tells, news.clone()));
    Ok(())
}

/// A client that tells of every answer that is no refusal.
fn connect(server: &kube::Config, answered: &Answered) -> Result<Client, kube::Error> {
    let answered = Arc::clone(answered);
    let tell = MapResponseLayer::new(move |response: Response<_>| {
        if response.status().is_success() {
            answered.notify_one();
        }
        response
    });
    let builder = ClientBuilder::try_from(server.clone())?;
    Ok(builder.with_layer(&tell).build())
}

async fn try_out<K: Kind>(
    resource: &'static str,
    client: &Client,
    namespace: &str,
    selection: &watcher::Config,
) -> Access {
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
    let tried = async {
        api.list(&list).await.map_err(|error| ("list", error))?;
        let watched = api.watch(&watch, "0").await;
        watched.map(drop).map_err(|error| ("watch", error))
    };
    let refused = match tokio::time::timeout(PATIENCE, tried).await {
        Ok(Ok(())) => None,
        Ok(Err((verb, error))) => Some(format!("{verb}: {}", outage::reason(&error))),
        Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    Access { resource, refused }
}

fn failed(error: &(dyn std::error::Error + 'static)) -> ConfigError {
    ConfigError {
        reason: chain(error),
    }
}

const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// How long `statlink check` waits for an answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
