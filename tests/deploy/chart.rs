//! The Helm chart.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};
use statlink_tests::deploy;

use crate::render::{Objects, helm, stderr, template, template_all};

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
        ("image.digest=sha256:abc", "digest"),
        (
            "security.extraCapabilities[0]=CAP_SYS_RESOURCE",
            "extraCapabilities",
        ),
        ("security.seLinuxOptions.typ=spc_t", "typ"),
        ("security.seccompProfile.type=None", "type"),
        ("extraVolumes[0].name=tls", "name"),
        ("extraObjects[0].kind=ConfigMap", "apiVersion"),
        ("networkPolicy.apiServerPorts[0]=0", "apiServerPorts"),
        ("extraEnv[0].value=x", "name"),
        ("extraEnv[0].nmae=x", "nmae"),
        ("metrics.port=0", "port"),
        ("metrics.from[0].pods.a=b", "pods"),
        ("podMonitor.interval=10", "interval"),
        ("state.hostPath=run/statlink-state", "hostPath"),
        ("state.hostPath=//run", "hostPath"),
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
        ("otlp.enabled=false", "metrics.enabled"),
        ("state.hostPath=/run/statlink-state", "state.enabled"),
        ("pins.enabled=true", "state.enabled"),
        ("podMonitor.enabled=true", "metrics.enabled"),
        ("serviceMonitor.enabled=true", "metrics.enabled"),
        (
            "metrics.enabled=true,metrics.from[0].podSelector.matchLabels.a=b",
            "networkPolicy.enabled",
        ),
        (
            "networkPolicy.enabled=true,metrics.from[0].podSelector.matchLabels.a=b",
            "metrics.enabled",
        ),
        (
            "metrics.enabled=true,podMonitor.enabled=true,serviceMonitor.enabled=true",
            "serviceMonitor.enabled: podMonitor.enabled",
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
            let path = volume.pointer("/hostPath/path");
            assert!(
                path.is_none_or(|path| [TRACEFS, STATE, BPFFS].iter().any(|it| path == it)),
                "{values}: {volume}"
            );
        }
        let mounts = spec.pointer("/containers/0/volumeMounts").unwrap();
        for mount in mounts.as_array().unwrap() {
            let is_writable = ["/run/statlink", STATE, BPFFS].map(|it| mount["mountPath"] == it);
            let is_writable = is_writable.contains(&true);
            assert!(
                is_writable || mount["readOnly"] == true,
                "{values}: {mount}"
            );
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
    assert_eq!(
        pod(&restricted)["volumes"][0],
        json!({ "name": "tracefs", "hostPath": { "path": TRACEFS, "type": "Directory" } })
    );
    assert_eq!(
        container(&restricted)["volumeMounts"][0],
        json!({ "name": "tracefs", "mountPath": TRACEFS, "readOnly": true })
    );
    for objects in [&mut privileged, &mut restricted] {
        let daemonset = objects.get_mut("DaemonSet statlink/statlink").unwrap();
        let spec = daemonset.pointer_mut("/spec/template/spec").unwrap();
        spec.as_object_mut().unwrap().remove("securityContext");
        for list in ["/volumes", "/containers/0/volumeMounts"] {
            let list = spec.pointer_mut(list).unwrap().as_array_mut().unwrap();
            list.retain(|one| one["name"] != "tracefs");
        }
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
fn the_hook_of_connect_is_the_agent_s_own_choice_unless_it_is_named() {
    let hook = |way: &str| {
        let set = format!("connectHook={way}");
        let objects = template(&[&["--set", &set][..], &RESTRICTED].concat());
        let value = variable(&objects, "STATLINK_CONNECT_HOOK").map(|env| env["value"].clone());
        (value, pod(&objects).to_string().contains(TRACEFS))
    };
    assert_eq!(hook("auto"), (None, true));
    // Only tracepoints take the node's tracefs.
    for (way, tracefs) in [("fexit", false), ("tracepoints", true), ("off", false)] {
        assert_eq!(hook(way), (Some(json!(way)), tracefs));
    }
}

/// The directory has to be one that can be written to, in both profiles alike.
#[test]
fn what_is_left_to_the_next_agent_is_in_a_volume_of_the_pod_or_the_node() {
    for profile in ["privileged", "restricted"] {
        let profile = format!("security.profile={profile}");
        let directory = |set: &str| {
            let objects = template(&["--set", &profile, "--set", set]);
            let value = variable(&objects, "STATLINK_STATE_DIR").map(|env| env["value"].clone());
            let mounts = container(&objects)["volumeMounts"].as_array().unwrap();
            let mount = mounts
                .iter()
                .find(|it| Some(&it["mountPath"]) == value.as_ref());
            let name = mount.map(|mount| {
                assert_eq!(mount.get("readOnly"), None);
                mount["name"].clone()
            });
            let volumes = pod(&objects)["volumes"].as_array().unwrap();
            let volume = volumes.iter().find(|it| Some(&it["name"]) == name.as_ref());
            (value, volume.cloned())
        };
        assert_eq!(directory("state.enabled=false"), (None, None));
        let (value, volume) = directory("state.enabled=true");
        assert_eq!(value, Some(json!("/run/statlink")));
        assert_eq!(
            volume.unwrap()["emptyDir"],
            json!({ "medium": "Memory", "sizeLimit": "8Mi" })
        );
        let (value, volume) = directory("state.enabled=true,state.hostPath=/run/kept");
        assert_eq!(value, Some(json!(STATE)));
        assert_eq!(
            volume.unwrap()["hostPath"],
            json!({ "path": "/run/kept", "type": "DirectoryOrCreate" })
        );
    }
}

#[test]
fn the_nodes_bpffs_is_mounted_in_both_profiles_where_pins_are_asked_for_and_else_in_none() {
    let profiles = ["privileged", "restricted"];
    for (profile, enabled) in profiles
        .into_iter()
        .flat_map(|it| [(it, true), (it, false)])
    {
        let profile = format!("security.profile={profile}");
        let enabled_value = format!("state.enabled=true,pins.enabled={enabled}");
        let objects = template(&["--set", &profile, "--set", &enabled_value]);
        let directory =
            variable(&objects, "STATLINK_PIN_DIRECTORY").map(|env| env["value"].clone());
        let in_bpffs = json!("/sys/fs/bpf/statlink");
        assert_eq!(directory, enabled.then_some(in_bpffs), "{profile}");
        let named = |list: &Value| {
            let mut list = list.as_array().unwrap().iter();
            list.find(|one| one["name"] == "bpffs").cloned()
        };
        let path = json!({ "path": BPFFS, "type": "Directory" });
        let volume = json!({ "name": "bpffs", "hostPath": path });
        assert_eq!(named(&pod(&objects)["volumes"]), enabled.then_some(volume));
        let mounted = json!({ "name": "bpffs", "mountPath": BPFFS });
        let mounts = named(&container(&objects)["volumeMounts"]);
        assert_eq!(mounts, enabled.then_some(mounted));
    }
}

/// It needs what the other one leaves, and that is in directories of the node.
#[test]
fn the_next_agent_comes_first_where_it_can_go_on_with_all_that_is_left() {
    let strategy = |values: &str| {
        let objects = template(&["--set", values]);
        let strategy = &objects["DaemonSet statlink/statlink"]["spec"]["updateStrategy"];
        strategy["rollingUpdate"].clone()
    };
    let one_after_the_other = json!({ "maxUnavailable": "10%" });
    assert_eq!(
        strategy("state.enabled=true,pins.enabled=true"),
        one_after_the_other
    );
    let kept = "state.enabled=true,state.hostPath=/run/kept";
    assert_eq!(strategy(kept), one_after_the_other);
    let pinned = format!("{kept},pins.enabled=true");
    assert_eq!(
        strategy(&pinned),
        json!({ "maxSurge": "10%", "maxUnavailable": 0 })
    );
    let three = format!("{pinned},updateStrategy.rollingUpdate.maxUnavailable=3");
    assert_eq!(
        strategy(&three),
        json!({ "maxSurge": 3, "maxUnavailable": 0 })
    );
}

#[test]
fn both_architectures_are_asked_for() {
    let objects = template(&[]);
    assert_eq!(
        pod(&objects)["affinity"]["nodeAffinity"],
        json!({ "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{
            "matchExpressions": [
                { "key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"] },
            ],
        }] } })
    );
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

const TRACEFS: &str = "/sys/kernel/tracing";
/// Of the agent's container, and of nodes where the examples say so.
const STATE: &str = "/run/statlink-state";
/// Where the node has its bpffs.
const BPFFS: &str = "/sys/fs/bpf";

const RESTRICTED: [&str; 2] = ["--set", "security.profile=restricted"];

#[test]
fn each_part_of_the_restricted_profile_can_be_changed() {
    let more = [
        "--set-json",
        r#"security={"tracefs":false,"extraCapabilities":["SYS_RESOURCE"],"seccompProfile":{"type":"Localhost","localhostProfile":"statlink.json"}}"#,
    ];
    let objects = template(&[&more[..], &RESTRICTED].concat());
    assert_eq!(
        container(&objects)["securityContext"]["capabilities"]["add"],
        json!(["BPF", "PERFMON", "SYS_RESOURCE"])
    );
    assert_eq!(
        pod(&objects)["securityContext"]["seccompProfile"]["localhostProfile"],
        "statlink.json"
    );
    assert!(!pod(&objects).to_string().contains(TRACEFS));
    for profile in ["privileged", "restricted"] {
        let profile = format!("security.profile={profile},security.seLinuxOptions.type=spc_t");
        let objects = template(&["--set", &profile]);
        let context = &container(&objects)["securityContext"];
        assert_eq!(context["seLinuxOptions"], json!({ "type": "spc_t" }));
    }
}

#[test]
fn an_image_is_named_by_registry_and_digest() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let by_digest = format!("image.registry=registry.example:5000,image.digest={digest}");
    let digest = format!("registry.example:5000/statlink@{digest}");
    for (values, image) in [
        ("image.tag=v1", "statlink:v1"),
        (
            "image.registry=a.example/,image.tag=v1",
            "a.example/statlink:v1",
        ),
        (by_digest.as_str(), digest.as_str()),
    ] {
        let objects = template_all(&["--set", values]);
        assert_eq!(container(&objects)["image"], image);
        let check = &objects["Pod statlink/statlink-check"];
        assert_eq!(check["spec"]["containers"][0]["image"], image);
    }
}

#[test]
fn names_and_labels_can_be_given() {
    let values = "fullnameOverride=agent,nameOverride=watch,commonLabels.team=platform,\
                  commonAnnotations.owner=me";
    let objects = template_all(&["--set", values]);
    let keys: Vec<_> = objects.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "DaemonSet statlink/agent",
            "Pod statlink/agent-check",
            "Role knative-serving/agent",
            "RoleBinding knative-serving/agent",
            "ServiceAccount statlink/agent",
        ]
    );
    for (key, object) in &objects {
        assert_eq!(object["metadata"]["labels"]["team"], "platform", "{key}");
    }
    let daemonset = &objects["DaemonSet statlink/agent"];
    let selector = &daemonset["spec"]["selector"]["matchLabels"];
    // What can be changed later selects nothing.
    assert_eq!(
        *selector,
        json!({ "app.kubernetes.io/name": "watch", "app.kubernetes.io/instance": "statlink" })
    );
    let template = &daemonset["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"]["owner"], "me");
    assert_eq!(template["spec"]["serviceAccountName"], "agent");
    // The DaemonSet must not take the test's pod for one of its own.
    let check = &objects["Pod statlink/agent-check"]["metadata"]["labels"];
    assert_ne!(
        check["app.kubernetes.io/name"],
        selector["app.kubernetes.io/name"]
    );
}

#[test]
fn the_test_of_helm_is_a_check_with_the_agent_s_own_rights() {
    for profile in ["privileged", "restricted"] {
        let profile = format!("security.profile={profile}");
        let objects = template_all(&["--set", &profile]);
        let check = &objects["Pod statlink/statlink-check"];
        assert_eq!(check["metadata"]["annotations"]["helm.sh/hook"], "test");
        let its = check.pointer("/spec/containers/0").unwrap();
        assert_eq!(its["args"], json!(["check"]));
        for same in ["env", "image", "securityContext", "volumeMounts"] {
            assert_eq!(its[same], container(&objects)[same], "{same}");
        }
        for same in [
            "hostPID",
            "securityContext",
            "serviceAccountName",
            "volumes",
        ] {
            assert_eq!(check["spec"][same], pod(&objects)[same], "{same}");
        }
    }
}

#[test]
fn openshift_gets_constraints_and_nobody_else() {
    let openshift = [
        "--api-versions",
        "security.openshift.io/v1/SecurityContextConstraints",
    ];
    const KEY: &str = "SecurityContextConstraints -/statlink-statlink";
    assert!(!template(&[]).contains_key(KEY));
    let refused = ["--set", "openshift.createConstraints=false"];
    assert!(!template(&[&openshift[..], &refused].concat()).contains_key(KEY));
    let privileged = template(&openshift);
    assert_eq!(privileged[KEY]["allowPrivilegedContainer"], true);
    assert_eq!(privileged[KEY]["allowHostDirVolumePlugin"], false);
    let objects = template(&[&openshift[..], &RESTRICTED].concat());
    let constraints = &objects[KEY];
    assert_eq!(constraints["allowHostPID"], true);
    assert_eq!(constraints["allowPrivilegedContainer"], false);
    assert_eq!(constraints["allowHostDirVolumePlugin"], true);
    assert_eq!(
        constraints["allowedCapabilities"],
        json!(["BPF", "PERFMON"])
    );
    let kept = ["--set", "state.enabled=true,state.hostPath=/run/kept"];
    let keeping = template(&[&openshift[..], &kept].concat());
    assert_eq!(keeping[KEY]["allowHostDirVolumePlugin"], true);
    let pinned = [
        "--set",
        "security.tracefs=false,state.enabled=true,pins.enabled=true",
    ];
    let pinning = template(&[&openshift[..], &pinned].concat());
    assert_eq!(pinning[KEY]["allowHostDirVolumePlugin"], true);
    let role = &objects["Role statlink/statlink-constraints"]["rules"][0];
    assert_eq!(role["resourceNames"], json!(["statlink-statlink"]));
    assert_eq!(role["verbs"], json!(["use"]));
    let binding = &objects["RoleBinding statlink/statlink-constraints"];
    assert_eq!(binding["subjects"][0]["namespace"], "statlink");
}

#[test]
fn a_network_policy_admits_the_node_alone() {
    const KEY: &str = "NetworkPolicy statlink/statlink";
    assert!(!template(&[]).contains_key(KEY));
    for (endpoint, port) in [
        ("http://collector:4317", 4317),
        ("https://collector", 443),
        ("http://[fd00::1]:14317", 14317),
    ] {
        let values = format!(
            "networkPolicy.enabled=true,otlp.tls.secretName={},otlp.endpoint={endpoint}",
            if endpoint.starts_with("https") {
                "tls"
            } else {
                ""
            }
        );
        let objects = template(&["--set", &values]);
        let spec = &objects[KEY]["spec"];
        assert_eq!(spec["ingress"], json!([]));
        assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(spec["egress"][1]["ports"][0]["port"], port, "{endpoint}");
        let labels = &objects["DaemonSet statlink/statlink"]["spec"]["selector"]["matchLabels"];
        assert_eq!(spec["podSelector"]["matchLabels"], *labels);
    }
}

#[test]
fn a_network_policy_admits_to_the_page_whom_it_names() {
    let ingress = |values: &[&str]| {
        let switches = "networkPolicy.enabled=true,metrics.enabled=true";
        let objects = template(&[&["--set", switches], values].concat());
        objects["NetworkPolicy statlink/statlink"]["spec"]["ingress"].clone()
    };
    let ports = json!([{ "protocol": "TCP", "port": 9464 }]);
    assert_eq!(ingress(&[]), json!([{ "ports": ports }]));
    let from = json!([{
        "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } },
        "podSelector": { "matchLabels": { "app.kubernetes.io/name": "prometheus" } },
    }]);
    let others = json!([{ "from": [{ "ipBlock": { "cidr": "10.0.0.0/8" } }] }]);
    let admitted = ingress(&[
        "--set-json",
        &format!("metrics.from={from}"),
        "--set-json",
        &format!("networkPolicy.ingress={others}"),
    ]);
    assert_eq!(
        admitted,
        json!([{ "ports": ports, "from": from }, others[0]])
    );
}

#[test]
fn more_volumes_and_objects_are_taken() {
    let more = [
        "--set-json",
        r#"extraVolumes=[{"name":"ca","configMap":{"name":"ca"}}]"#,
        "--set-json",
        r#"extraVolumeMounts=[{"name":"ca","mountPath":"/etc/ca","readOnly":true}]"#,
        "--set-json",
        r#"extraObjects=[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"{{ .Release.Name }}-more","namespace":"statlink"}}]"#,
    ];
    let objects = template(&more);
    assert!(objects.contains_key("ConfigMap statlink/statlink-more"));
    let volumes = pod(&objects)["volumes"].as_array().unwrap();
    assert!(volumes.iter().any(|volume| volume["name"] == "ca"));
    let mounts = container(&objects)["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["mountPath"] == "/etc/ca"));
}

/// Argo CD renders again and again, and compares what it gets with what the cluster has.
#[test]
fn it_renders_the_same_each_time_and_nothing_that_the_api_drops() {
    for values in examples() {
        let arguments = ["--values", values.as_str()];
        let objects = template_all(&arguments);
        assert_eq!(objects, template_all(&arguments), "{values}");
        for (key, object) in &objects {
            assert!(!has_null(object), "{values}: {key}: {object}");
            let cluster_wide = key.contains(" -/");
            assert!(!cluster_wide, "{values}: {key} has no namespace of its own");
        }
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(members) => members.iter().any(has_null),
        Value::Object(members) => members.values().any(has_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[test]
fn rules_and_dashboards_are_objects_with_the_labels_that_find_them() {
    let values = deploy::chart().join("ci/monitoring-values.yaml");
    let objects = template(&["--values", values.to_str().unwrap()]);
    for (kind, directory, extension, prefix) in [
        ("PrometheusRule", "prometheus/rules", "yaml", "statlink-"),
        ("ConfigMap", "grafana", "json", "statlink-dashboard-"),
    ] {
        let of_kind = objects.keys().filter(|key| key.starts_with(kind)).count();
        let files = sources(directory, extension);
        assert_eq!(of_kind, files.len(), "{kind}: {:?}", objects.keys());
        for (name, text) in files {
            let object = &objects[&format!("{kind} statlink/{prefix}{name}")];
            let labels = &object["metadata"]["labels"];
            assert_eq!(labels["app.kubernetes.io/name"], "statlink");
            if kind == "ConfigMap" {
                assert_eq!(labels["grafana_dashboard"], "1");
                assert_eq!(
                    object["metadata"]["annotations"]["grafana_folder"],
                    "Knative"
                );
                let shown = object["data"][format!("statlink-{name}.json")].as_str();
                assert_eq!(shown.map(str::trim), Some(text.trim()), "{name}");
            } else {
                assert_eq!(labels["release"], "kube-prometheus-stack");
                let rules: Value = serde_saphyr::from_str(&text).unwrap();
                assert_eq!(object["spec"], rules, "{name}");
            }
        }
    }
    // Off by default.
    let none = template(&[]);
    assert!(!none.keys().any(|key| key.starts_with("PrometheusRule")));
    assert!(!none.keys().any(|key| key.starts_with("ConfigMap")));
}

#[test]
fn what_the_chart_has_of_rules_and_dashboards_is_what_they_are() {
    for (directory, extension, inside) in [
        ("prometheus/rules", "yaml", "rules"),
        ("grafana", "json", "dashboards"),
    ] {
        let copies = sources(&format!("helm/statlink/files/{inside}"), extension);
        let same = copies == sources(directory, extension);
        assert!(same, "{directory}: run `cargo xtask chart`");
    }
}

/// The files of a directory of `deploy`, by their names without the extension.
fn sources(directory: &str, extension: &str) -> BTreeMap<String, String> {
    let directory = deploy::directory().join(directory);
    let paths = fs::read_dir(directory).unwrap();
    let paths = paths.map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|end| end == extension));
    let read = files.map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(&path).unwrap())
    });
    read.collect()
}

#[test]
fn a_prometheus_that_scrapes_finds_each_agent_by_its_node() {
    let example = |name: &str, cluster: &str| {
        let values = deploy::chart().join("ci").join(name);
        let cluster = format!("clusterName={cluster}");
        template(&["--values", values.to_str().unwrap(), "--set", &cluster])
    };
    let by_pod = example("scraped-values.yaml", "east");
    let by_service = example("scraped-by-service-values.yaml", "");
    // As the agent names itself.
    let node = json!(["__meta_kubernetes_pod_node_name"]);
    let of_node = json!({ "sourceLabels": node, "targetLabel": "instance" });
    let mut of_cluster = of_node.clone();
    of_cluster["replacement"] = json!("east/$1");
    for (objects, key, list, labels, port, instance) in [
        (
            &by_pod,
            "PodMonitor statlink/statlink",
            "podMetricsEndpoints",
            &by_pod["DaemonSet statlink/statlink"]["spec"]["template"]["metadata"]["labels"],
            9464,
            of_cluster,
        ),
        (
            &by_service,
            "ServiceMonitor statlink/statlink",
            "endpoints",
            &by_service["Service statlink/statlink-metrics"]["metadata"]["labels"],
            19464,
            of_node,
        ),
    ] {
        let spec = &objects[key]["spec"];
        for (label, value) in spec["selector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(labels[label], *value, "{key}: {label}");
        }
        let target = &spec[list][0];
        assert_eq!(target["port"], "metrics", "{key}");
        let relabelings = target["relabelings"].as_array().unwrap();
        let job = json!({ "targetLabel": "job", "replacement": "statlink" });
        assert!(relabelings.contains(&job), "{key}");
        assert!(relabelings.contains(&instance), "{key}: {relabelings:?}");
        let address = variable(objects, "STATLINK_METRICS_ADDRESS").unwrap();
        assert_eq!(address["value"], format!("[::]:{port}"), "{key}");
        let named = json!({ "name": "metrics", "containerPort": port });
        let ports = container(objects)["ports"].as_array().unwrap();
        assert!(ports.contains(&named), "{key}: {ports:?}");
    }
    let exporter = variable(&by_pod, "OTEL_METRICS_EXPORTER").unwrap();
    assert_eq!(exporter["value"], "none");
    assert!(variable(&by_service, "OTEL_METRICS_EXPORTER").is_none());
    let admitted = &by_pod["NetworkPolicy statlink/statlink"]["spec"]["ingress"];
    assert_eq!(
        *admitted,
        json!([{ "ports": [{ "protocol": "TCP", "port": 9464 }] }])
    );
    // Off by default.
    let none = template(&[]);
    assert!(none.keys().all(|key| !key.contains("Monitor")));
    assert!(variable(&none, "STATLINK_METRICS_ADDRESS").is_none());
}
