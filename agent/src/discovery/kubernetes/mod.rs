//! Who is who, by the Kubernetes API: this node's activator pods, the peer's Service and its
//! EndpointSlices.
//!
//! [`watch`] keeps asking, whatever happens; what it hears goes to a [`Directory`].

mod directory;
mod object;
mod outage;

use std::fmt::Debug;

use futures_util::{StreamExt as _, TryStreamExt as _};
use kube::{
    Api, Client, Resource,
    api::ListParams,
    runtime::{WatchStreamExt as _, watcher, watcher::Event},
};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::sync::mpsc;

pub(crate) use self::directory::{Directory, News, Who};
use self::{
    object::{EndpointSlice, Pod, Service},
    outage::Outage,
};
use crate::chain::chain;

/// What to ask the API for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of Knative Serving.
    pub namespace: String,
    /// This node's name.
    pub node: String,
    /// Which pods are activators: a label selector.
    pub pod_selector: String,
    /// Name of the activator's container.
    pub container: String,
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
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// Finds the API: the pod's own ServiceAccount, or KUBECONFIG.
pub async fn client() -> Result<Client, ConfigError> {
    let failed = |error: &(dyn std::error::Error + 'static)| ConfigError {
        reason: chain(error),
    };
    let config = kube::Config::infer().await.map_err(|e| failed(&e))?;
    Client::try_from(config).map_err(|e| failed(&e))
}

/// Watches for as long as `news` is received. Must be called within a tokio runtime.
pub(crate) fn watch(client: &Client, settings: &Settings, news: &mpsc::Sender<News>) {
    let Selections {
        pods,
        services,
        slices,
    } = Selections::of(settings);
    let namespace = &settings.namespace;
    spawn(client, namespace, pods, news, News::Pods);
    spawn(client, namespace, services, news, News::Services);
    spawn(client, namespace, slices, news, News::EndpointSlices);
}

/// Lists one of each resource for real.
pub(crate) async fn probe(client: &Client, settings: &Settings) -> [Access; 3] {
    let Selections {
        pods,
        services,
        slices,
    } = Selections::of(settings);
    let namespace = &settings.namespace;
    [
        list::<Pod>("pods", client, namespace, &pods).await,
        list::<Service>("services", client, namespace, &services).await,
        list::<EndpointSlice>("endpointslices", client, namespace, &slices).await,
    ]
}

/// What of each resource is asked for.
struct Selections {
    pods: watcher::Config,
    services: watcher::Config,
    slices: watcher::Config,
}

impl Selections {
    fn of(settings: &Settings) -> Self {
        let Settings {
            node,
            pod_selector,
            service,
            ..
        } = settings;
        let all = watcher::Config::default;
        Self {
            pods: all()
                .labels(pod_selector)
                .fields(&format!("spec.nodeName={node}")),
            services: all().fields(&format!("metadata.name={service}")),
            slices: all().labels(&format!("kubernetes.io/service-name={service}")),
        }
    }
}

fn spawn<K>(
    client: &Client,
    namespace: &str,
    selection: watcher::Config,
    news: &mpsc::Sender<News>,
    of: fn(Event<K>) -> News,
) where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let mut outage = Outage::new(&K::plural(&()), namespace);
    let news = news.clone();
    tokio::spawn(async move {
        let mut events = watcher(api, selection).default_backoff().boxed();
        loop {
            match events.try_next().await {
                Ok(Some(event)) => {
                    // Init is told before anything was received.
                    if !matches!(event, Event::Init) {
                        outage.over();
                    }
                    if news.send(of(event)).await.is_err() {
                        // The agent is stopping.
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => outage.seen(&error),
            }
        }
    });
}

async fn list<K>(
    resource: &'static str,
    client: &Client,
    namespace: &str,
    selection: &watcher::Config,
) -> Access
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let parameters = ListParams {
        label_selector: selection.label_selector.clone(),
        field_selector: selection.field_selector.clone(),
        limit: Some(1),
        ..ListParams::default()
    };
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let listed = tokio::time::timeout(PATIENCE, api.list(&parameters)).await;
    let refused = match listed {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(outage::reason(&error)),
        Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    Access { resource, refused }
}

/// How long `statlink check` waits for an answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
