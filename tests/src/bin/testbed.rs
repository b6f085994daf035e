//! The test bed by hand.
//!
//! - `testbed build` prepares what the test bed runs, so that no test waits for it
//! - `testbed up` keeps a node with an autoscaler, a Collector and an activator until interrupted

use std::{thread, time::Duration};

use anyhow::{Result, bail};
use statlink_tests::{build, peer::Traffic, scenario::Bed};

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("build") => build(),
        Some("up") => up(),
        _ => bail!("usage: testbed build | up"),
    }
}

fn build() -> Result<()> {
    let parts = build::parts()?;
    println!("collector   {}", parts.collector.display());
    println!("activator   {}", parts.activator.display());
    println!("autoscaler  {}", parts.autoscaler.display());
    Ok(())
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
