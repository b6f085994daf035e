//! The configurations of the Collector and of Prometheus: each is one that the real program takes.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use statlink_tests::{build, deploy, netns};

use crate::render::kustomize;

fn directory() -> PathBuf {
    deploy::directory().join("collector")
}

#[test]
fn the_collector_takes_each_configuration() {
    let collector = build::operators_collector().unwrap();
    for name in COLLECTOR {
        let mut validate = Command::new(&collector);
        let config = directory().join(name);
        validate.args(["validate", "--config"]).arg(config);
        // As its DaemonSet has it.
        validate.env("KUBE_NODE_NAME", "node-1");
        netns::run(&mut validate).unwrap_or_else(|e| panic!("{name}: {e:#}"));
    }
}

#[test]
fn prometheus_takes_each_of_its() {
    for name in PROMETHEUS {
        let config = format!("../collector/{name}");
        let output = deploy::promtool(&["check", "config", &config]).unwrap();
        assert!(output.status.success(), "{name}: {output:?}");
    }
}

#[test]
fn the_page_which_to_choose_knows_each() {
    let page = fs::read_to_string(directory().join("README.md")).unwrap();
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "README.md" {
            assert!(page.contains(&format!("[{name}]({name})")), "{name}");
            files.insert(name);
        }
    }
    let tested = COLLECTOR.iter().chain(&PROMETHEUS).chain(&DEPLOYED);
    let tested: BTreeSet<_> = tested.map(|name| (*name).to_owned()).collect();
    assert_eq!(files, tested);
}

const COLLECTOR: [&str; 4] = [
    "exporter.yaml",
    "gateway.yaml",
    "node.yaml",
    "remote-write.yaml",
];

/// The gateway is deployed as it is: what Kustomize builds has gateway.yaml whole, and a volume, ports and probe
/// that fit it.
#[test]
fn the_gateway_s_deployment_fits_its_configuration() {
    let objects = kustomize("../collector");
    let gateway = fs::read_to_string(directory().join("gateway.yaml")).unwrap();
    let config = objects.iter().find(|(key, _)| key.starts_with("ConfigMap"));
    let (_, config) = config.unwrap();
    assert_eq!(config["data"]["gateway.yaml"], *gateway);

    let deployment = &objects["Deployment observability/statlink-gateway"];
    let pod = &deployment["spec"]["template"]["spec"];
    let name = config["metadata"]["name"].as_str().unwrap();
    assert_eq!(pod["volumes"][0]["configMap"]["name"], name);
    let container = &pod["containers"][0];
    let endpoint = &container["env"][0];
    assert_eq!(endpoint["name"], "PROMETHEUS_OTLP_ENDPOINT");
    // The configuration's own default, so that the two files agree.
    let value = endpoint["value"].as_str().unwrap();
    assert!(gateway.contains(&format!("${{env:PROMETHEUS_OTLP_ENDPOINT:-{value}}}")));
    let ports = container["ports"].as_array().unwrap().iter();
    let ports = ports.map(|port| &port["containerPort"]);
    for port in ports.chain([&container["readinessProbe"]["httpGet"]["port"]]) {
        assert!(
            gateway.contains(&format!("endpoint: 0.0.0.0:{port}\n")),
            "{port}"
        );
    }
}

const PROMETHEUS: [&str; 2] = ["prometheus.yaml", "scrape.yaml"];

/// For Kubernetes.
const DEPLOYED: [&str; 2] = ["gateway-deployment.yaml", "kustomization.yaml"];
