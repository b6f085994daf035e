//! Packet filters, Services and DNS between activator and autoscaler.

use std::time::SystemTime;

use serde_json::{Value, json};
use statlink_tests::{build, cluster::KNATIVE};

use crate::{
    activator_sockets,
    expectations::GOING,
    world::{World, wait},
};

#[test]
fn network_faults_are_reported_only_of_the_links_that_they_affect() {
    let mut world = World::start();
    let [touched, other] = world.scale_activators();
    world.wait_reachable(&touched);
    world.wait_reachable(&other);
    everything_dropped(&mut world, &touched, &other);
    new_connections_dropped(&mut world, &touched, &other);
    service_recreated(&mut world, &touched);
    no_name_server(&mut world, &touched);
    names_lead_elsewhere(&mut world, &touched);
    world.check_invariants([0, 0]);
}

/// A policy that breaks established connections: a blackhole, then unanswered SYNs.
fn everything_dropped(world: &mut World, touched: &str, other: &str) {
    let (before, untouched) = (world.before(touched), world.before(other));
    let address = world.address(KNATIVE, touched);
    let both =
        format!("ip saddr {address} tcp dport 8080 drop\nip daddr {address} tcp sport 8080 drop");
    world.policy(&both);
    let since = SystemTime::now();
    world.wait_errors("both ways dropped", &before, since, "disconnect", |_| {
        &["stalled"]
    });
    world.gauge(&before, 0.0);
    world.wait_errors(
        "both ways dropped, dialled",
        &before,
        since,
        "connect",
        |_| &["timeout"],
    );
    world.no_policy();
    world.recovered(&before);
    world.nothing_but(&before, "disconnect", |_| &["stalled"]);
    world.nothing_but(&before, "connect", |_| &["timeout"]);
    world.steady("both ways dropped, of another", &untouched);
}

/// A policy that spares established connections.
fn new_connections_dropped(world: &mut World, touched: &str, other: &str) {
    let (before, untouched) = (world.before(touched), world.before(other));
    let address = world.address(KNATIVE, touched);
    let new = format!("ip saddr {address} tcp dport 8080 tcp flags & (syn | ack) == syn drop");
    world.policy(&new);
    world.steady("SYNs dropped, while connected", &before);
    world.steady("SYNs dropped, of another", &untouched);
    let others = world.before(other);
    let (before, _) = world.lose(
        "SYNs dropped, autoscaler rolled out",
        touched,
        |world| world.rollout_restart(&["autoscaler"]),
        "connect",
        |_| &["timeout"],
    );
    world.gauge(&before, 0.0);
    world.recovered(&others);
    world.no_policy();
    world.recovered(&before);
    world.nothing_but(&before, "connect", |_| {
        &["timeout", "connection_refused", "handshake_failed"]
    });
}

/// With another ClusterIP: the established connection stays, to an address that no Service has.
fn service_recreated(world: &mut World, touched: &str) {
    let before = world.before(touched);
    let pid = world.pid(touched);
    let connections = activator_sockets::connections(pid);
    let get = [
        "get",
        "service",
        "autoscaler",
        "--namespace",
        KNATIVE,
        "--output=json",
    ];
    let mut service: Value = serde_json::from_str(&world.cluster.kubectl(&get).unwrap()).unwrap();
    let metadata = service["metadata"].as_object_mut().unwrap();
    metadata.retain(|key, _| ["name", "namespace", "labels"].contains(&key.as_str()));
    let spec = service["spec"].as_object_mut().unwrap();
    spec.insert("clusterIP".to_owned(), json!("10.96.88.88"));
    spec.insert("clusterIPs".to_owned(), json!(["10.96.88.88"]));
    service.as_object_mut().unwrap().remove("status");
    let delete = ["delete", "service", "autoscaler", "--namespace", KNATIVE];
    world.cluster.kubectl(&delete).unwrap();
    world.wait_liveness_check(touched);
    world.cluster.apply(&service.to_string()).unwrap();
    world.wait_liveness_check(touched);
    assert_eq!(activator_sockets::connections(pid), connections);
    world.steady("Service recreated, while connected", &before);

    let (before, _) = world.lose(
        "Service recreated, autoscaler rolled out",
        touched,
        |world| world.rollout_restart(&["autoscaler"]),
        "disconnect",
        |_| &["peer_closed"],
    );
    world.recovered(&before);
    world.nothing_but(&before, "connect", GOING);
}

fn no_name_server(world: &mut World, touched: &str) {
    let before = world.before(touched);
    let names = ("kube-system", "deployment/coredns");
    world.cluster.scale(names.0, names.1, 0).unwrap();
    wait("end of CoreDNS", || {
        world.pods(names.0, "k8s-app=kube-dns").is_empty()
    });
    world.steady("no name server, while connected", &before);
    let (before, _) = world.lose(
        "no name server, autoscaler deleted",
        touched,
        |world| world.delete_autoscaler(&["--force", "--grace-period=0"]),
        "liveness",
        |_| &["dns"],
    );
    world.gauge(&before, 0.0);
    world.cluster.scale(names.0, names.1, 1).unwrap();
    world.recovered(&before);
}

/// A wildcard record leads to another server that speaks websocket.
fn names_lead_elsewhere(world: &mut World, touched: &str) {
    let program = build::parts().unwrap().autoscaler;
    let image = world.cluster.import_program("elsewhere", &program).unwrap();
    let image = format!("--image={image}");
    let run = ["run", "elsewhere", "--namespace=default", &image];
    world.cluster.kubectl(&run).unwrap();
    let wait = [
        "wait",
        "pod/elsewhere",
        "--namespace=default",
        "--for=condition=Ready",
    ];
    world
        .cluster
        .kubectl(&[&wait[..], &["--timeout=90s"]].concat())
        .unwrap();
    let elsewhere = world.address("default", "elsewhere");
    let answer = format!("{{{{ .Name }}}} 5 IN A {elsewhere}");
    let before = world.before(touched);
    let right = world.corefile();
    let wrong = right.replacen(
        "kubernetes cluster.local",
        &format!("template IN A cluster.local {{\n match ^autoscaler[.]\n answer \"{answer}\"\n}}\nkubernetes cluster.local"),
        1,
    );
    world.set_corefile(&wrong);
    world.steady("a wildcard's answer, while connected", &before);

    let (before, _) = world.lose(
        "a wildcard's answer, autoscaler rolled out",
        touched,
        |world| world.rollout_restart(&["autoscaler"]),
        "connect",
        |_| &["wrong_peer"],
    );
    world.gauge(&before, 0.0);
    // The connection stays up, but to the wrong peer.
    let meanwhile = world.before(touched);
    world.wait_liveness_check(touched);
    world.always(&meanwhile, 0.0);
    assert_eq!(activator_sockets::connections(world.pid(touched)).len(), 1);
    world.nothing_but(&before, "connect", |_| &["wrong_peer"]);
    world.set_corefile(&right);
    let delete = ["delete", "pod", "elsewhere", "--namespace=default"];
    world.cluster.kubectl(&delete).unwrap();
    world.recovered(&before);
    world.stays_up("a right answer again", touched);
}

impl World {
    /// Adds rules for what the node forwards.
    fn policy(&self, rules: &str) {
        let table = format!(
            "table inet network_policy {{\nchain forward {{\ntype filter hook forward priority 0\n{rules}\n}}\n}}\n"
        );
        self.cluster.namespace().nft(&table).unwrap();
    }

    fn no_policy(&self) {
        self.cluster
            .namespace()
            .nft("delete table inet network_policy\n")
            .unwrap();
    }

    fn corefile(&self) -> String {
        let get = ["get", "configmap", "coredns", "--namespace=kube-system"];
        let get = [&get[..], &["--output=jsonpath={.data.Corefile}"]].concat();
        self.cluster.kubectl(&get).unwrap()
    }

    /// Changes CoreDNS's configuration.
    fn set_corefile(&mut self, text: &str) {
        let patch = json!({ "data": { "Corefile": text } }).to_string();
        let patch = format!("--patch={patch}");
        let change = [
            "patch",
            "configmap",
            "coredns",
            "--namespace=kube-system",
            &patch,
        ];
        self.cluster.kubectl(&change).unwrap();
        self.rollout_restart_in("kube-system", &["coredns"]);
    }
}
