//! What the agent costs those it does not watch.

use std::{
    io::Read as _,
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use statlink_tests::scenario::Bed;

use crate::figures::{Figures, quantile};

/// Rounds with and without the agent by turns, so that what else the machine does falls on both.
pub(crate) fn measure(bed: &mut Bed, figures: &mut Figures) -> Result<()> {
    let server = Server::start()?;
    round(&server)?; // warms up
    let (mut with, mut without, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let alone = round(&server)?.as_secs_f64();
        bed.start_agent()?;
        let watched = round(&server)?.as_secs_f64();
        bed.agent = None;
        let again = round(&server)?.as_secs_f64();
        let base = f64::midpoint(alone, again);
        without.push(base * 1e6 / f64::from(CONNECTIONS));
        with.push(watched * 1e6 / f64::from(CONNECTIONS));
        ratios.push(watched / base);
    }
    let spread = quantile(&mut ratios, 0.9).unwrap_or_default()
        - quantile(&mut ratios, 0.1).unwrap_or_default();
    figures.median(
        "connect and close, unrelated port, without",
        without,
        "µs",
        "",
    );
    figures.median("connect and close, unrelated port, with", with, "µs", "");
    figures.median("connect storm, with / without", ratios, "", "≤ 1.01");
    figures.add("  noise of that: p90 - p10 of the rounds", spread, "", "");
    Ok(())
}

/// A server on loopback that accepts and waits for the end.
struct Server(std::net::SocketAddr);

impl Server {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
        let address = listener.local_addr()?;
        ensure!(
            address.port() != statlink_tests::peer::PORT,
            "the watched port"
        );
        thread::spawn(move || {
            let mut buffer = [0];
            for stream in listener.incoming() {
                // The client ends it by RST.
                let _ = stream.and_then(|mut stream| stream.read(&mut buffer));
            }
        });
        Ok(Self(address))
    }
}

fn round(server: &Server) -> Result<Duration> {
    let start = Instant::now();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(server.0).context("connect")?;
        // RST instead of FIN: TIME_WAIT would use up the ports.
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    }
    Ok(start.elapsed())
}

const ROUNDS: usize = 9;
const CONNECTIONS: u32 = 20_000;
