//! The configurations of the Collector and of Prometheus: each is one that the real program takes.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use statlink_tests::{build, deploy, netns};

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
    let tested = COLLECTOR.iter().chain(&PROMETHEUS);
    let tested: BTreeSet<_> = tested.map(|name| (*name).to_owned()).collect();
    assert_eq!(files, tested);
}

const COLLECTOR: [&str; 4] = [
    "exporter.yaml",
    "gateway.yaml",
    "node.yaml",
    "remote-write.yaml",
];

const PROMETHEUS: [&str; 2] = ["prometheus.yaml", "scrape.yaml"];
