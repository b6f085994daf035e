//! The Helm chart.

use serde_json::{Value, json};
use statlink_tests::deploy;

use crate::render::{Objects, helm, stderr, template};

fn pod(objects: &Objects) -> &Value {
    objects["DaemonSet statlink/statlink"]
        .pointer("/spec/template/spec")
        .unwrap()
}

fn container(objects: &Objects) -> &Value {
    pod(objects).pointer("/containers/0").unwrap()
}

fn variable<'a>(objects: &'a Objects, name: &str) -> Option<&'a Value> {
    let env = container(objects)["env"].as_array().unwrap();
    env.iter().find(|variable| variable["name"] == name)
}

/// Every file of values of the chart's `ci` directory.
fn examples() -> Vec<String> {
    let files = deploy::examples().unwrap().into_iter();
    let files: Vec<_> = files.map(|file| file.display().to_string()).collect();
    assert!(files.len() >= 4, "{files:?}");
    files
}

#[test]
fn every_example_lints_and_renders() {
    for values in examples() {
        let output = helm(&["lint", "--strict", "--values", &values]);
        assert!(output.status.success(), "{values}: {output:?}");
        template(&["--values", &values]);
    }
}

#[test]
fn an_invalid_value_is_refused_by_its_name() {
    for (value, named) in [
        ("otlp.endpont=http://a:4317", "endpont"),
        ("otlp.endpoint=collector:4317", "endpoint"),
        ("otlp.endpoint=http://me:secret@collector:4317", "endpoint"),
        ("security.profile=unprivileged", "profile"),
        ("securty.profile=restricted", "securty"),
        ("knative.port=0", "port"),
        ("knative.port=http", "port"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("otlp.protocol=thrift", "protocol"),
        ("otlp.exportInterval=10", "exportInterval"),
        ("resourceAttributes.k8s\\.pod\\.name=x", "k8s.pod.name"),
        (
            "terminationGracePeriodSeconds=1",
            "terminationGracePeriodSeconds",
        ),
        ("resources.limit.memory=1Gi", "limit"),
        ("resources.limits.memory=lots", "memory"),
        ("tolerations[0].operator=Exist", "operator"),
        ("affinity.nodeAfinity.x=y", "nodeAfinity"),
        ("updateStrategy.type=Recreate", "type"),
        (
            "updateStrategy.rollingUpdate.maxUnavailable=most",
            "maxUnavailable",
        ),
        ("extraEnv[0].value=x", "name"),
        ("extraEnv[0].nmae=x", "nmae"),
    ] {
        let output = helm(&["template", "statlink", "--set", value]);
        assert!(!output.status.success(), "{value} was accepted");
        assert!(
            stderr(&output).contains(named),
            "{value}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn values_that_contradict_each_other_are_refused_with_the_cure() {
    for (values, key) in [
        ("otlp.endpoint=https://a:4317", "otlp.tls.secretName"),
        (
            "otlp.tls.clientCertificate=true",
            "otlp.tls.clientCertificate",
        ),
        ("otlp.tls.secretName=tls", "otlp.tls.secretName"),
        ("serviceAccount.create=false", "serviceAccount.name"),
        (
            "clusterName=a,resourceAttributes.k8s\\.cluster\\.name=b",
            "resourceAttributes",
        ),
        (
            "extraEnv[0].name=STATLINK_NAMESPACE,extraEnv[0].value=knative",
            "extraEnv",
        ),
        (
            "extraEnv[0].name=OTEL_EXPORTER_OTLP_ENDPOINT,extraEnv[0].value=http://a:4317",
            "OTEL_EXPORTER_OTLP_ENDPOINT has no effect beside otlp.endpoint",
        ),
        (
            "extraEnv[0].name=OTEL_METRIC_EXPORT_INTERVAL,extraEnv[0].value=1000ms",
            "OTEL_METRIC_EXPORT_INTERVAL has no effect beside otlp.exportInterval",
        ),
    ] {
        let output = helm(&["template", "statlink", "--set", values]);
        assert!(!output.status.success(), "{values} was accepted");
        assert!(
            stderr(&output).contains(key),
            "{values}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn no_example_grants_more_than_reading_one_namespace() {
    for values in examples() {
        let objects = template(&["--values", &values]);
        for key in objects.keys() {
            assert!(!key.starts_with("Cluster"), "{values}: {key}");
        }
        let roles = objects.iter().filter(|(key, _)| key.starts_with("Role "));
        for (_, role) in roles {
            for rule in role["rules"].as_array().unwrap() {
                assert_eq!(rule["verbs"], json!(["get", "list", "watch"]), "{values}");
            }
        }
        let daemonset = objects.iter().find(|(key, _)| key.starts_with("DaemonSet"));
        let (_, daemonset) = daemonset.unwrap();
        let spec = daemonset.pointer("/spec/template/spec").unwrap();
        assert_eq!(spec["hostPID"], true);
        assert_eq!(spec["enableServiceLinks"], false);
        for volume in spec["volumes"].as_array().unwrap() {
            assert!(volume.get("hostPath").is_none(), "{values}: {volume}");
        }
        // The agent's own pod is named for references alone, never as an attribute.
        let env = spec.pointer("/containers/0/env").unwrap();
        for variable in env.as_array().unwrap() {
            let of_own_pod = variable.to_string().contains("metadata.name");
            let name = variable["name"].as_str().unwrap();
            let is_reference = ["POD_NAME", "POD_NAMESPACE"].contains(&name);
            assert_eq!(of_own_pod, is_reference, "{values}: {variable}");
        }
    }
}

#[test]
fn the_profiles_differ_in_privilege_alone() {
    let mut privileged = template(&[]);
    let mut restricted = template(&["--set", "security.profile=restricted"]);
    assert_eq!(
        container(&privileged)["securityContext"],
        json!({ "runAsUser": 0, "readOnlyRootFilesystem": true, "privileged": true })
    );
    assert_eq!(
        container(&restricted)["securityContext"],
        json!({
            "runAsUser": 0,
            "readOnlyRootFilesystem": true,
            "privileged": false,
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"], "add": ["BPF", "PERFMON"] },
        })
    );
    assert_eq!(
        pod(&restricted)["securityContext"],
        json!({ "seccompProfile": { "type": "RuntimeDefault" } })
    );
    for objects in [&mut privileged, &mut restricted] {
        let daemonset = objects.get_mut("DaemonSet statlink/statlink").unwrap();
        let spec = daemonset.pointer_mut("/spec/template/spec").unwrap();
        spec.as_object_mut().unwrap().remove("securityContext");
        let container = spec.pointer_mut("/containers/0").unwrap();
        container.as_object_mut().unwrap().remove("securityContext");
    }
    assert_eq!(privileged, restricted);
}

#[test]
fn secrets_are_references_and_never_values() {
    let values = deploy::chart()
        .join("ci/tls-values.yaml")
        .display()
        .to_string();
    let objects = template(&["--values", &values]);
    let headers = variable(&objects, "OTEL_EXPORTER_OTLP_HEADERS").unwrap();
    assert_eq!(
        headers["valueFrom"]["secretKeyRef"],
        json!({ "name": "statlink-headers", "key": "headers" })
    );
    let key = variable(&objects, "OTEL_EXPORTER_OTLP_CLIENT_KEY").unwrap();
    assert_eq!(key["value"], "/etc/statlink/tls/tls.key");
}

#[test]
fn any_value_of_a_resource_attribute_is_encoded() {
    let set = r"resourceAttributes.team=a\,b=c d";
    let objects = template(&["--set", set]);
    let attributes = variable(&objects, "OTEL_RESOURCE_ATTRIBUTES").unwrap();
    assert_eq!(attributes["value"], "team=a%2Cb%3Dc%20d");
}

#[test]
fn every_variable_is_one_that_the_agent_knows() {
    let known = concat!(
        include_str!("../../agent/src/cli/args.rs"),
        include_str!("../../agent/src/cli/settings.rs")
    );
    for values in examples() {
        let objects = template(&["--values", &values]);
        let daemonset = objects.iter().find(|(key, _)| key.starts_with("DaemonSet"));
        let env = daemonset
            .unwrap()
            .1
            .pointer("/spec/template/spec/containers/0/env");
        for variable in env.unwrap().as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            if name.starts_with("STATLINK_") {
                assert!(known.contains(&format!("\"{name}\"")), "{name}");
            }
        }
    }
}

#[test]
fn what_a_value_refers_to_stands_before_it() {
    let own = "extraEnv[0].name=NODE_IP,extraEnv[0].valueFrom.fieldRef.fieldPath=status.hostIP";
    let other = "extraEnv[0].name=COLLECTOR,extraEnv[0].value=$(HOST_IP)";
    for (values, endpoint) in [
        ("logLevel=info", "http://$(NODE_IP):4317"),
        (own, "http://$(NODE_IP):4317"),
        (other, "http://$(COLLECTOR):4317"),
        (
            "logLevel=info",
            "http://$(POD_NAME).a.$(POD_NAMESPACE):4317",
        ),
        ("logLevel=info", "http://$(POD_IP):4317"),
        ("logLevel=info", "http://$(NODE_NAME):4317"),
    ] {
        let endpoint = format!("otlp.endpoint={endpoint}");
        let objects = template(&["--set", values, "--set", &endpoint]);
        let env = container(&objects)["env"].as_array().unwrap();
        let mut defined = Vec::new();
        for variable in env {
            let value = variable["value"].as_str().unwrap_or_default();
            for reference in value.split("$(").skip(1) {
                let (name, _) = reference.split_once(')').unwrap();
                assert!(defined.contains(&name), "{values}: {variable}");
            }
            let name = variable["name"].as_str().unwrap();
            assert!(!defined.contains(&name), "{values}: {name} is there twice");
            defined.push(name);
        }
        assert!(defined.contains(&"STATLINK_OTLP_ENDPOINT"));
    }
}
