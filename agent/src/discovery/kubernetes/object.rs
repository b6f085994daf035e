//! The API's objects, reduced to the fields in use: the rest is dropped while decoding, because it is
//! most of an object and would be most of the agent's memory.

use std::{borrow::Cow, collections::BTreeSet, net::IpAddr};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::Time};
use kube::{Resource, api::ObjectMeta};
use serde::{Deserialize, Deserializer};

/// A pod.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Pod {
    #[serde(deserialize_with = "metadata")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    host_network: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Deserialize)]
struct ContainerStatus {
    name: String,
    #[serde(rename = "containerID", default)]
    id: Option<String>,
}

/// A Service.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Service {
    #[serde(deserialize_with = "metadata")]
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ServiceSpec {
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs")]
    external_ips: Vec<String>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EndpointSlice {
    #[serde(deserialize_with = "metadata")]
    pub(super) metadata: ObjectMeta,
    #[serde(default, deserialize_with = "nullable")]
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Deserialize)]
struct Endpoint {
    #[serde(default)]
    addresses: Vec<String>,
}

impl Pod {
    /// Whether it is being deleted.
    pub(super) fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether it uses its node's network rather than one of its own.
    pub(super) fn is_on_host_network(&self) -> bool {
        self.spec.host_network
    }

    /// Names and ids of its containers, the ids without the runtime's prefix.
    pub(super) fn containers(&self) -> impl Iterator<Item = (&str, &str)> {
        let PodStatus {
            container_statuses,
            init_container_statuses,
        } = &self.status;
        let all = container_statuses.iter().chain(init_container_statuses);
        all.filter_map(|status| {
            // `containerd://<id>`
            let (_runtime, id) = status.id.as_deref()?.split_once("://")?;
            Some((status.name.as_str(), id))
        })
    }
}

impl Service {
    /// The addresses that clients dial; none for a headless Service.
    pub(super) fn addresses(&self) -> BTreeSet<IpAddr> {
        addresses(self.spec.cluster_ips.iter().chain(&self.spec.external_ips))
    }
}

impl EndpointSlice {
    /// The addresses of its endpoints, ready or not: one that is starting or stopping is still
    /// the peer.
    pub(super) fn addresses(&self) -> BTreeSet<IpAddr> {
        addresses(self.endpoints.iter().flat_map(|one| &one.addresses))
    }
}

/// Skips what is no address: a headless Service's `None`, and the names in a slice of type FQDN.
fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> BTreeSet<IpAddr> {
    texts
        .filter_map(|text| text.parse::<IpAddr>().ok())
        .map(|address| address.to_canonical())
        .collect()
}

macro_rules! resource {
    ($type:ident, $group:literal, $plural:literal) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                stringify!($type).into()
            }

            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(Pod, "", "pods");
resource!(Service, "", "services");
resource!(EndpointSlice, "discovery.k8s.io", "endpointslices");

/// Keeps what names an object and what the watch needs. Labels, annotations and managed fields are
/// most of an object.
fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Slim {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        deletion_timestamp: Option<Time>,
    }
    let slim = Slim::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: slim.name,
        namespace: slim.namespace,
        uid: slim.uid,
        resource_version: slim.resource_version,
        deletion_timestamp: slim.deletion_timestamp,
        ..ObjectMeta::default()
    })
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_fields_in_use_are_kept_of_a_pod() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "kind": "Pod",
            "apiVersion": "v1",
            "metadata": {
                "name": "activator-1",
                "namespace": "knative-serving",
                "uid": "u",
                "resourceVersion": "7",
                "deletionTimestamp": "2026-01-02T03:04:05Z",
                "labels": { "app": "activator" },
                "managedFields": [{ "manager": "kubelet" }],
            },
            "spec": { "hostNetwork": true, "containers": [{ "name": "activator" }] },
            "status": {
                "containerStatuses": [
                    { "name": "activator", "containerID": "containerd://abc" },
                    { "name": "waiting" },
                ],
                "initContainerStatuses": [{ "name": "sidecar", "containerID": "cri-o://def" }],
            },
        }))
        .unwrap();
        assert!(pod.is_terminating() && pod.is_on_host_network());
        assert_eq!(pod.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(pod.metadata.labels, None);
        let containers: Vec<_> = pod.containers().collect();
        assert_eq!(containers, [("activator", "abc"), ("sidecar", "def")]);
    }

    #[test]
    fn addresses_of_both_families_are_kept_and_a_headless_service_has_none() {
        let service: Service = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "autoscaler" },
            "spec": { "clusterIPs": ["10.96.0.9", "fd00::9"], "externalIPs": ["192.0.2.1"] },
        }))
        .unwrap();
        let expected = ["10.96.0.9", "192.0.2.1", "fd00::9"];
        assert_eq!(
            service.addresses(),
            expected.iter().map(|one| one.parse().unwrap()).collect()
        );
        let headless: Service = serde_json::from_value(serde_json::json!({
            "metadata": {}, "spec": { "clusterIPs": ["None"] },
        }))
        .unwrap();
        assert!(headless.addresses().is_empty());
        let slice: EndpointSlice = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "autoscaler-x" },
            "endpoints": [{ "addresses": ["10.1.0.2"], "conditions": { "ready": false } }, {}],
        }))
        .unwrap();
        assert_eq!(slice.addresses().len(), 1);
        let empty: EndpointSlice = serde_json::from_value(serde_json::json!({
            "metadata": {}, "endpoints": null,
        }))
        .unwrap();
        assert!(empty.addresses().is_empty());
    }
}
