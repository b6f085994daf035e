//! What is on the way: packets, Services, names.

use std::{
    thread,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use statlink_tests::{build, cluster::KNATIVE};

use crate::{told::GOING, witness, world::World};

#[test]
fn what_happens_on_the_way_is_told_of_those_it_happens_to() {
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

/// As a policy that breaks what is established: a blackhole, then SYNs unanswered.
fn everything_dropped(world: &mut World, touched: &str, other: &str) {
    let (before, untouched) = (world.before(touched), world.before(other));
    let address = world.address(KNATIVE, touched);
    let both =
        format!("ip saddr {address} tcp dport 8080 drop\nip daddr {address} tcp sport 8080 drop");
    world.policy(&both);
    let since = SystemTime::now();
    world.told("both ways dropped", &before, since, "disconnect", |_| {
        &["stalled"]
    });
    world.gauge(&before, 0.0);
    world.told(
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

/// As a policy that lets be what is established.
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

/// With another ClusterIP: what is established stays so, to an address that is nobody's now.
fn service_recreated(world: &mut World, touched: &str) {
    let before = world.before(touched);
    let pid = world.pid(touched);
    let connections = witness::connections(pid);
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
    thread::sleep(Duration::from_secs(3));
    world.cluster.apply(&service.to_string()).unwrap();
    thread::sleep(Duration::from_secs(6));
    assert_eq!(witness::connections(pid), connections);
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
    thread::sleep(Duration::from_secs(3));
    world.steady("no name server, while connected", &before);
    // Without tracefs nobody sees lookups.
    let (before, _) = world.lose(
        "no name server, autoscaler deleted",
        touched,
        |world| world.delete_autoscaler(&["--force", "--grace-period=0"]),
        "liveness",
        |profile| match profile {
            "privileged" => &["dns"],
            _ => &["no_attempt"],
        },
    );
    world.gauge(&before, 0.0);
    world.cluster.scale(names.0, names.1, 1).unwrap();
    world.recovered(&before);
}

/// A wildcard's answer leads to another server that speaks websocket.
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
    // It is up, and stays so: to somebody else.
    let meanwhile = world.before(touched);
    thread::sleep(Duration::from_secs(6));
    world.always(&meanwhile, 0.0);
    assert_eq!(witness::connections(world.pid(touched)).len(), 1);
    world.nothing_but(&before, "connect", |_| &["wrong_peer"]);
    world.set_corefile(&right);
    let delete = ["delete", "pod", "elsewhere", "--namespace=default"];
    world.cluster.kubectl(&delete).unwrap();
    world.recovered(&before);
    world.stays_up("a right answer again", touched);
}

impl World {
    /// Rules for what the node forwards.
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

    /// What CoreDNS answers from now on.
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
