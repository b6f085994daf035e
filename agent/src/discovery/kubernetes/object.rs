//! The API's objects, reduced to the fields in use. Decoding drops the rest, which is most of an
//! object and would be most of the agent's memory.

use std::{borrow::Cow, collections::BTreeSet, net::IpAddr};

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::Time};
use kube::{Resource, api::ObjectMeta};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

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
    runtime_class_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
    #[serde(deserialize_with = "nullable")]
    container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    init_container_statuses: Vec<ContainerStatus>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Clone, Debug, Deserialize)]
struct ContainerStatus {
    name: String,
    #[serde(rename = "containerID", default)]
    id: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    state: ContainerState,
}

/// The field that is present says which state a container is in; at most one is (`ContainerState`
/// of `k8s.io/api/core/v1`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerState {
    waiting: Option<IgnoredAny>,
    terminated: Option<IgnoredAny>,
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
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "clusterIPs", deserialize_with = "nullable")]
    cluster_ips: Vec<String>,
    #[serde(rename = "externalIPs", deserialize_with = "nullable")]
    external_ips: Vec<String>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct EndpointSlice {
    #[serde(deserialize_with = "metadata")]
    pub(super) metadata: ObjectMeta,
    #[serde(default, rename = "addressType")]
    address_type: String,
    #[serde(default, deserialize_with = "nullable")]
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, Deserialize)]
struct Endpoint {
    #[serde(default, deserialize_with = "nullable")]
    addresses: Vec<String>,
}

impl Pod {
    /// Whether its end is expected: it is being deleted, has ended, or will be ended for a reason
    /// outside of it. The kubelet sets no deletion timestamp when it evicts a pod or shuts its node
    /// down: the condition comes first, and the phase once the containers have stopped.
    pub(super) fn is_terminating(&self) -> bool {
        let status = &self.status;
        let disrupted = |condition: &Condition| {
            condition.kind == "DisruptionTarget" && condition.status == "True"
        };
        self.metadata.deletion_timestamp.is_some()
            || ["Succeeded", "Failed"].contains(&status.phase.as_str())
            || status.conditions.iter().any(disrupted)
    }

    /// Whether it uses its node's network instead of its own.
    pub(super) fn is_on_host_network(&self) -> bool {
        self.spec.host_network
    }

    /// The RuntimeClass that it asks for.
    pub(super) fn runtime_class(&self) -> Option<&str> {
        let class = self.spec.runtime_class_name.as_deref();
        class.filter(|name| !name.is_empty())
    }

    /// The names of its containers that have started, do not wait and have not ended.
    pub(super) fn running(&self) -> impl Iterator<Item = &str> {
        let statuses = self.status.container_statuses.iter();
        let runs = |status: &&ContainerStatus| {
            let ContainerState {
                waiting,
                terminated,
            } = &status.state;
            status.id.is_some() && waiting.is_none() && terminated.is_none()
        };
        statuses.filter(runs).map(|status| status.name.as_str())
    }

    /// The names of its containers, started or not, without init and ephemeral ones.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let statuses = self.status.container_statuses.iter();
        statuses.map(|status| status.name.as_str())
    }

    /// The names and ids of its containers, the ids without the runtime's prefix.
    pub(super) fn containers(&self) -> impl Iterator<Item = (&str, &str)> {
        let PodStatus {
            container_statuses,
            init_container_statuses,
            ephemeral_container_statuses,
            ..
        } = &self.status;
        let all = container_statuses
            .iter()
            .chain(init_container_statuses)
            .chain(ephemeral_container_statuses);
        all.filter_map(|status| {
            // `containerd://<id>`
            let (_runtime, id) = status.id.as_deref()?.split_once("://")?;
            Some((status.name.as_str(), id))
        })
    }
}

impl Service {
    /// The addresses that clients dial: an empty set for a headless Service, `None` if only a name
    /// server knows them.
    pub(super) fn addresses(&self) -> Option<BTreeSet<IpAddr>> {
        let spec = &self.spec;
        let all = spec.cluster_ips.iter().chain(&spec.external_ips);
        (spec.kind != "ExternalName").then(|| addresses(all))
    }
}

impl EndpointSlice {
    /// The addresses of its endpoints, ready or not: an endpoint that is starting or stopping is
    /// still the peer. `None` if they are names.
    pub(super) fn addresses(&self) -> Option<BTreeSet<IpAddr>> {
        let all = self.endpoints.iter().flat_map(|one| &one.addresses);
        (self.address_type != "FQDN").then(|| addresses(all))
    }
}

/// Skips text that is no address, such as a headless Service's `None`.
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

/// Keeps the name and what the watch needs. Labels, annotations and managed fields are most of an
/// object.
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

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    /// Pods as runtimes, meshes and kubelets in use produce them.
    #[test]
    fn the_activator_of_every_pod_of_the_field_is_found() {
        const ID: &str = "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961";
        for (text, ending, containers) in [
            (
                include_str!("object/cases/activator-containerd.json"),
                false,
                1,
            ),
            (include_str!("object/cases/activator-docker.json"), false, 1),
            (
                include_str!("object/cases/activator-evicted-by-kubelet.json"),
                true,
                1,
            ),
            (
                include_str!("object/cases/activator-istio-native-sidecar.json"),
                false,
                4,
            ),
        ] {
            let pod: Pod = serde_json::from_str(text).unwrap();
            let found: Vec<_> = pod.containers().collect();
            assert_eq!(found.len(), containers, "{found:?}");
            assert_eq!(found[0], ("activator", ID));
            assert_eq!(pod.is_terminating(), ending, "{text}");
        }
    }

    #[test]
    fn a_pod_that_is_being_ended_is_terminating_and_one_that_is_not_ready_is_not() {
        let terminating = |status: serde_json::Value| {
            let pod: Pod = serde_json::from_value(serde_json::json!({
                "metadata": {}, "status": status,
            }))
            .unwrap();
            pod.is_terminating()
        };
        let condition = |kind: &str, status: &str| {
            serde_json::json!({
                "phase": "Running", "conditions": [{ "type": kind, "status": status }],
            })
        };
        assert!(terminating(condition("DisruptionTarget", "True")));
        assert!(!terminating(condition("DisruptionTarget", "False")));
        assert!(!terminating(condition("Ready", "False")));
        for (phase, ended) in [
            ("Pending", false),
            ("Running", false),
            ("Unknown", false),
            ("Succeeded", true),
            ("Failed", true),
        ] {
            let status = serde_json::json!({
                "phase": phase, "conditions": null, "containerStatuses": null,
            });
            assert_eq!(terminating(status), ended, "{phase}");
        }
    }

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
            service.addresses().unwrap(),
            expected.iter().map(|one| one.parse().unwrap()).collect()
        );
        let headless: Service = serde_json::from_value(serde_json::json!({
            "metadata": {}, "spec": { "clusterIPs": ["None"] },
        }))
        .unwrap();
        assert!(headless.addresses().unwrap().is_empty());
        let slice: EndpointSlice = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "autoscaler-x" },
            "endpoints": [{ "addresses": ["10.1.0.2"], "conditions": { "ready": false } }, {}],
        }))
        .unwrap();
        assert_eq!(slice.addresses().unwrap().len(), 1);
        let empty: EndpointSlice = serde_json::from_value(serde_json::json!({
            "metadata": {}, "endpoints": null,
        }))
        .unwrap();
        assert!(empty.addresses().unwrap().is_empty());
        let elsewhere: Service = serde_json::from_value(serde_json::json!({
            "metadata": {}, "spec": { "type": "ExternalName", "externalIPs": ["192.0.2.1"] },
        }))
        .unwrap();
        assert_eq!(elsewhere.addresses(), None);
        let names: EndpointSlice = serde_json::from_value(serde_json::json!({
            "metadata": {}, "addressType": "FQDN", "endpoints": [{ "addresses": ["a.example"] }],
        }))
        .unwrap();
        assert_eq!(names.addresses(), None);
    }
}
