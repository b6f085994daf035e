//! The test bed by hand.
//!
//! - `testbed build` builds the peers and the Collector, so that no test waits for them
//! - `testbed parts ARCHITECTURE` builds peers and Collector for guests of this architecture (Go's
//!   name)
//! - `testbed build api` adds the API server of Kubernetes
//! - `testbed build cluster` adds all parts of the cluster
//! - `testbed cluster` keeps a Kubernetes of one node with Knative on it until interrupted
//! - `testbed up` keeps a node with an autoscaler, a Collector and an activator until interrupted

use std::{thread, time::Duration};

use anyhow::{Result, bail};
use statlink_tests::{
    build,
    cluster::{Cluster, OTLP},
    peer::Traffic,
    scenario::Bed,
};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["build"] => build(),
        ["parts", architecture] => parts(architecture),
        ["build", "api"] => build_api(),
        ["build", "cluster"] => build_cluster(),
        ["cluster"] => cluster(),
        ["up"] => up(),
        _ => bail!(
            "usage: testbed build | parts ARCHITECTURE | build api | build cluster | cluster | up"
        ),
    }
}

fn build() -> Result<()> {
    tell(&build::parts()?);
    Ok(())
}

fn parts(architecture: &str) -> Result<()> {
    tell(&build::parts_for(architecture)?);
    Ok(())
}

fn tell(parts: &build::Parts) {
    println!("collector   {}", parts.collector.display());
    println!("activator   {}", parts.activator.display());
    println!("autoscaler  {}", parts.autoscaler.display());
}

fn build_api() -> Result<()> {
    build()?;
    println!("kubernetes  {}", build::kubernetes()?.display());
    Ok(())
}

fn build_cluster() -> Result<()> {
    build_api()?;
    println!("pause       {}", build::pause()?.display());
    println!("Knative     {}", build::serving()?.manifests.display());
    println!("coredns     {}", build::coredns()?.display());
    println!("helm        {}", build::tools()?.helm.display());
    Ok(())
}

fn cluster() -> Result<()> {
    let cluster = Cluster::start()?;
    println!(
        "node        nsenter --net={}",
        cluster.namespace().path().display()
    );
    println!(
        "kubectl     {} kubectl --kubeconfig {}, on the node",
        build::kubernetes()?.display(),
        cluster.kubeconfig().display()
    );
    println!("Collector   {OTLP} from pods");
    println!("exports     {}", cluster.exports.file().display());
    println!("up");
    loop {
        thread::park();
    }
}

fn up() -> Result<()> {
    let bed = Bed::new()?;
    let mut activator = bed.activator("activator", Traffic::Every(Duration::from_secs(1)))?;
    activator.wait_connected(Duration::from_secs(10))?;
    let pid = activator.process.pid();
    println!(
        "activator   {} (pid {pid}), connected to {}",
        activator.pod.name,
        bed.target()
    );
    println!(
        "node        nsenter --net={}",
        bed.network.node().path().display()
    );
    println!(
        "its pod     nsenter --net={}",
        activator.pod.namespace.path().display()
    );
    println!(
        "Collector   {} in the node's namespace",
        bed.collector.grpc_endpoint()
    );
    println!("exports     {}", bed.collector.file().display());
    println!("up");
    loop {
        thread::park();
    }
}
