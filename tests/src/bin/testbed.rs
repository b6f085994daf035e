//! `testbed build` prepares what the test bed runs, so that no test waits for it.

use anyhow::{Result, bail};
use statlink_tests::build;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("build") => {
            let parts = build::parts()?;
            println!("collector   {}", parts.collector.display());
            println!("activator   {}", parts.activator.display());
            println!("autoscaler  {}", parts.autoscaler.display());
            Ok(())
        }
        _ => bail!("usage: testbed build"),
    }
}
