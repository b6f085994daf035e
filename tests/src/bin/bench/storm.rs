//! The agent's cost to connections that it does not watch.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::net::sockopt::set_socket_linger;
use statlink_tests::{observe::quantile, peer::PORT, scenario::Bed};

use crate::figures::Figures;

/// Alternates rounds with and without the agent, so that other load of the machine affects both.
pub(crate) fn measure(bed: &mut Bed, figures: &mut Figures) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
    ensure!(listener.local_addr()?.port() != PORT, "the watched port");
    round(&listener)?; // warms up
    let (mut with, mut without, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let before = round(&listener)?.as_secs_f64();
        bed.start_agent()?;
        let watched = round(&listener)?.as_secs_f64();
        bed.agent = None;
        let after = round(&listener)?.as_secs_f64();
        let base = f64::midpoint(before, after);
        without.push(base * 1e6 / f64::from(CONNECTIONS));
        with.push(watched * 1e6 / f64::from(CONNECTIONS));
        ratios.push(watched / base);
    }
    let noise = quantile(&mut ratios, 0.9).unwrap_or_default()
        - quantile(&mut ratios, 0.1).unwrap_or_default();
    figures.median("connect and close, without the agent", without, "µs", "");
    figures.median("connect and close, with the agent", with, "µs", "");
    figures.median("connect storm, with / without", ratios, "", "≤ 1.01");
    figures.add("  noise of that: p90 - p10", noise, "", "");
    Ok(())
}

/// One thread does both ends: the handshake is complete when connect() returns, and no queue fills.
fn round(listener: &TcpListener) -> Result<Duration> {
    let address = listener.local_addr()?;
    let start = Instant::now();
    for _ in 0..CONNECTIONS {
        let client = TcpStream::connect(address).context("connect")?;
        let _server = listener.accept().context("accept")?;
        // RST instead of FIN: TIME_WAIT would use up the ports.
        set_socket_linger(&client, Some(Duration::ZERO))?;
    }
    Ok(start.elapsed())
}

const ROUNDS: usize = 15;
const CONNECTIONS: u32 = 20_000;
