//! The agent's cost to connections that it does not watch.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::net::sockopt::set_socket_linger;
use statlink_tests::{netns::Namespace, peer::PORT, scenario::Bed};

use crate::{
    Build,
    figures::{Figures, UNLIMITED, at_most},
};

/// Alternates rounds without an agent and with each build's, so that other load of the machine
/// affects all; then the same on the watched port, as strangers.
pub(crate) fn measure(bed: &mut Bed, builds: &[Build], figures: &mut Figures) -> Result<()> {
    let strangers = Strangers {
        at: bed.network.pod("strangers")?.namespace,
    };
    let unrelated = strangers.listen(UNRELATED)?;
    let watched = strangers.listen(PORT)?;
    let mut storm = |on, budget, listener| {
        storm(bed, builds, figures, (on, budget), &|| {
            strangers.round(listener, CONNECTIONS)
        })
    };
    storm("an unrelated port", 1.01, &unrelated)?;
    storm("the port, by strangers", 1.02, &watched)
}

/// Processes in a namespace without an activator.
pub(crate) struct Strangers {
    pub(crate) at: Namespace,
}

impl Strangers {
    pub(crate) fn listen(&self, port: u16) -> Result<TcpListener> {
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        self.at.run(listen)?.context("listen")
    }

    /// The time for this many connections.
    pub(crate) fn round(&self, listener: &TcpListener, connections: u32) -> Result<Duration> {
        self.at.run(|| round(listener, connections))?
    }
}

fn storm(
    bed: &mut Bed,
    builds: &[Build],
    figures: &mut Figures,
    (on, budget): (&str, f64),
    round: &dyn Fn() -> Result<Duration>,
) -> Result<()> {
    round()?; // warms up
    let mut without = Vec::new();
    let mut ratios: Vec<Vec<f64>> = builds.iter().map(|_| Vec::new()).collect();
    let mut more = ratios.clone();
    for _ in 0..ROUNDS {
        let mut before = round()?.as_secs_f64();
        for (build, (ratios, more)) in builds.iter().zip(ratios.iter_mut().zip(&mut more)) {
            bed.start_agent_with(&build.options(bed))?;
            let watched = round()?.as_secs_f64();
            bed.agent = None;
            let after = round()?.as_secs_f64();
            let base = f64::midpoint(before, after);
            without.push(base * 1e9 / f64::from(CONNECTIONS));
            ratios.push(watched / base);
            more.push((watched - base) * 1e9 / f64::from(CONNECTIONS));
            before = after;
        }
    }
    figures.several(
        format!("connect and close on {on}, no agent"),
        without,
        "ns",
        UNLIMITED,
    );
    figures.of_builds(
        format!("connect and close on {on}, what the agent adds"),
        more,
        "ns",
        UNLIMITED,
    );
    figures.of_builds(
        format!("connect storm on {on}, with / without"),
        ratios,
        "",
        at_most(budget),
    );
    Ok(())
}

/// One thread does both ends: the handshake is complete when connect() returns, and no queue fills.
fn round(listener: &TcpListener, connections: u32) -> Result<Duration> {
    let address = listener.local_addr()?;
    let start = Instant::now();
    for _ in 0..connections {
        let client = TcpStream::connect(address).context("connect")?;
        let _server = listener.accept().context("accept")?;
        // RST instead of FIN: TIME_WAIT would use up the ports.
        set_socket_linger(&client, Some(Duration::ZERO))?;
    }
    Ok(start.elapsed())
}

/// A port other than the watched one.
pub(crate) const UNRELATED: u16 = PORT + 1;
const ROUNDS: usize = 15;
const CONNECTIONS: u32 = 20_000;
