//! The Kustomize base and its overlay render the same objects as the chart.

use serde_json::Value;

use crate::render::{Objects, kustomize, template};

/// Without the namespace, which Helm creates itself, and without labels that name the tool.
fn comparable(mut objects: Objects) -> Objects {
    objects.remove("Namespace -/statlink");
    for object in objects.values_mut() {
        strip(object);
    }
    objects
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("app.kubernetes.io/managed-by");
            members.remove("helm.sh/chart");
            members.values_mut().for_each(strip);
        }
        Value::Array(members) => members.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[track_caller]
fn assert_same(directory: &str, arguments: &[&str]) {
    let (kustomize, helm) = (
        comparable(kustomize(directory)),
        comparable(template(arguments)),
    );
    let keys = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&kustomize), keys(&helm));
    for (key, object) in &helm {
        assert_eq!(
            serde_json::to_string_pretty(&kustomize[key]).unwrap(),
            serde_json::to_string_pretty(object).unwrap(),
            "{key}: run `helm template statlink deploy/helm/statlink --namespace statlink`, and \
             carry over what differs"
        );
    }
}

#[test]
fn the_base_is_the_chart_s_default() {
    assert_same("base", &[]);
}

#[test]
fn the_overlay_is_the_chart_s_restricted_profile() {
    assert_same("restricted", &["--set", "security.profile=restricted"]);
}

#[test]
fn its_namespace_admits_the_agent() {
    for directory in ["base", "restricted", "own-namespace"] {
        let objects = kustomize(directory);
        let namespace = objects.iter().find(|(key, _)| key.starts_with("Namespace"));
        let labels = &namespace.unwrap().1["metadata"]["labels"];
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "privileged");
    }
}

/// `namespace:` moves every object, the Role and its binding, too.
#[test]
fn an_overlay_with_its_own_namespace_leaves_the_role_in_knative_s() {
    let objects = kustomize("own-namespace");
    let keys: Vec<_> = objects.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "DaemonSet observability/statlink",
            "Namespace -/observability",
            "Role knative-serving/statlink",
            "RoleBinding knative-serving/statlink",
            "ServiceAccount observability/statlink",
        ]
    );
    let binding = &objects["RoleBinding knative-serving/statlink"];
    assert_eq!(
        binding["subjects"],
        serde_json::json!([
            { "kind": "ServiceAccount", "name": "statlink", "namespace": "observability" }
        ])
    );
    assert_eq!(binding["roleRef"]["name"], "statlink");
}
