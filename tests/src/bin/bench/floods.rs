//! The cost of floods by strangers: memory and CPU of the agent, for each flood on its own, beside
//! a healthy link that must not be lost.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::{fs::symlink, process::CommandExt as _},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use rustix::{
    net::sockopt::set_socket_linger,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use statlink_tests::{
    fault::{Fault, Route},
    netns::{Namespace, Network},
    peer::{Activator, PORT, Traffic},
    scenario::{Bed, metric},
};
use tempfile::TempDir;

use crate::{
    PATIENCE,
    figures::{Figures, UNLIMITED, at_most},
    observed,
};

/// Measures on `bed`, whose agent it replaces.
pub(crate) fn measure(bed: &mut Bed, length: Duration, figures: &mut Figures) -> Result<()> {
    allow_files()?;
    bed.agent = None;
    let health: SocketAddr = (Network::NODE, 8082).into();
    let options = bed.agent_options();
    let options = options.arg("--health-address").arg(health.to_string());
    bed.start_agent_with(&options)?;
    let activator = bed.activator("beside-floods", Traffic::Idle)?;
    bed.wait_reachable(&activator, 1, PATIENCE)?;
    // By then the memory of the start is released.
    thread::sleep(Duration::from_secs(2));

    let row = |bed: &Bed, what: &str, figures: &mut Figures| {
        let agent = observed(bed)?;
        let (cpu, start) = (agent.cpu()?, Instant::now());
        thread::sleep(length);
        let share = (agent.cpu()? - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
        figures.add(
            format!("CPU, {what}"),
            share * 100.0,
            "% of a core",
            UNLIMITED,
        );
        let memory = agent.resident_mb()?;
        figures.add(
            format!("resident memory, {what}"),
            memory,
            "MB",
            at_most(24.0),
        );
        anyhow::Ok(())
    };
    row(bed, "no flood", figures)?;

    let holders = (0..HOLDERS).map(|number| bed.network.pod(&format!("holder-{number}")));
    let holders = holders.collect::<Result<Vec<_>>>()?;
    let held = holders.iter().map(|pod| hold(&pod.namespace));
    let held = held.collect::<Result<Vec<_>>>()?;
    row(bed, "1,200 held connections of others", figures)?;
    drop(held);

    let crowd = Crowd::of(CROWD, "", &bed.network.system_namespace())?;
    row(bed, "200 processes that name themselves", figures)?;
    drop(crowd);
    // The kernel accepts 128 kB a variable at most (`MAX_ARG_STRLEN`).
    let long = "x".repeat(120 * 1024);
    let crowd = Crowd::of(LONG, &long, &bed.network.system_namespace())?;
    row(bed, "10 processes with an environment of 120 kB", figures)?;
    drop(crowd);

    let silent = bed.network.pod("silent")?;
    let connect = || -> io::Result<Vec<TcpStream>> {
        (0..SILENT).map(|_| TcpStream::connect(health)).collect()
    };
    let held = silent
        .namespace
        .run(connect)?
        .context("connect to the health port")?;
    row(bed, "500 silent connections to its health port", figures)?;
    drop(held);

    let storm = bed.network.pod("storm")?;
    thread::scope(|scope| {
        let storm = scope.spawn(|| storm.namespace.run(|| dial_for(length + MARGIN)));
        row(bed, "others connect in a row on the port", figures)?;
        let dials = storm
            .join()
            .map_err(|_| anyhow::anyhow!("the storm panicked"))??;
        let rate = f64::from(dials?) / (length + MARGIN).as_secs_f64();
        figures.add(
            "others connect in a row on the port, how many",
            rate,
            "/s",
            UNLIMITED,
        );
        anyhow::Ok(())
    })?;

    let nowhere = Ipv4Addr::new(192, 0, 2, 1);
    let pod = bed.network.pod("unreachable")?;
    let _route = Fault::route(&pod.namespace, Route::Unreachable, [nowhere.into()])?;
    let count = (length + MARGIN).as_secs() * UNREACHABLE;
    let to = format!("{nowhere}:{PORT}");
    let (rate, count) = (UNREACHABLE.to_string(), count.to_string());
    let dialling = Activator::stand_in(&pod, ["flap", &to, &rate, &count])?;
    row(
        bed,
        "a link's 500 dials a second that no route leads to",
        figures,
    )?;
    drop(dialling);

    let lost = bed.count(&activator, metric::ERRORS, &[]);
    ensure!(lost == 0.0, "the healthy link had {lost} errors");
    Ok(())
}

/// Processes with an activator's name and environment, which end with this value.
struct Crowd {
    all: Vec<Child>,
    _directory: TempDir,
}

impl Crowd {
    fn of(number: usize, more: &str, namespace: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let program = directory.path().join("activator");
        symlink("/bin/sleep", &program)?;
        let start = |n: usize| {
            Command::new(&program)
                .arg0("sleep")
                .arg("1000")
                .env_clear()
                .env("POD_NAME", format!("a-{n}{more}"))
                .env("SYSTEM_NAMESPACE", namespace)
                .stdin(Stdio::null())
                .spawn()
        };
        Ok(Self {
            all: (0..number).map(start).collect::<io::Result<_>>()?,
            _directory: directory,
        })
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for process in &mut self.all {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Connections on loopback with both ends, like queue-proxy's in every Knative pod.
fn hold(at: &Namespace) -> Result<Vec<(TcpStream, TcpStream)>> {
    let connect = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
        let pair = |_| {
            let client = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
            Ok((client, listener.accept()?.0))
        };
        (0..HELD).map(pair).collect::<io::Result<_>>()
    };
    at.run(connect)?.context("hold connections")
}

/// As many connections as one thread makes.
fn dial_for(length: Duration) -> io::Result<u32> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
    let end = Instant::now() + length;
    let mut dials = 0;
    while Instant::now() < end {
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
        let _server = listener.accept()?;
        // RST instead of FIN: TIME_WAIT would use up the ports.
        set_socket_linger(&client, Some(Duration::ZERO))?;
        dials += 1;
    }
    Ok(dials)
}

/// This process holds both ends of all connections.
pub(crate) fn allow_files() -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: current.max(Some(FILES)),
        maximum: maximum.max(Some(FILES)),
    };
    setrlimit(Resource::Nofile, limit).context("raise the limit of open files")
}

/// Once, 12 pods with 100 each pushed a sidecar's connection out of the map.
const HOLDERS: usize = 12;
const HELD: usize = 100;
/// More than the 150 that once hid a real outage.
const CROWD: usize = 200;
/// This many once made `status` fail; six ended the agent.
const LONG: usize = 10;
/// Far more than the 16 that once kept every probe waiting.
const SILENT: usize = 500;
const UNREACHABLE: u64 = 500;
/// A flood lasts longer than it is measured.
const MARGIN: Duration = Duration::from_secs(2);
const FILES: u64 = 8 * 1024;
