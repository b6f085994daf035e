//! Strangers: activity that has nothing to do with any link, all the time. None of it may be
//! reported.
//!
//! Each kind does just enough to reproduce a mistake that it once caused: strangers that take all
//! CPU time would cause faults of their own.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, connect, socket_with,
        sockopt::{Timeout, set_socket_linger, set_socket_timeout},
    },
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use statlink_tests::{
    container::Container,
    netns::{Namespace, Pod},
    peer::{Activator, Autoscaler, PORT},
};

use crate::{
    lane::Lane,
    site::{Site, health_address, new_uid},
};

/// All strangers; they end when this is dropped.
pub(crate) struct Strangers {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    impostors: Impostors,
    pub(crate) probes: Arc<Probes>,
    /// A pod without a listener on the link's port, which is no autoscaler's.
    pub(crate) deaf: Pod,
}

/// Processes with an activator's name and environment, each with a live websocket.
struct Impostors {
    places: [Pod; 2],
    /// One in a foreign container and one in none, each with the name that it claims.
    running: [Option<(Activator, String)>; 2],
    container: Container,
    autoscaler: Autoscaler,
    next: Instant,
    rng: Rng,
}

/// The kubelet's probes, beside clients that hold the port.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    /// How often an agent was started or ended; it changes even while none runs.
    agent: AtomicU64,
    answered: AtomicU64,
    slowest: Mutex<Duration>,
    failed: Mutex<Vec<String>>,
}

impl Strangers {
    pub(crate) fn start(site: &Site, seed: u64) -> Result<Self> {
        allow_files()?;
        let network = &site.bed.network;
        let over = Arc::<AtomicBool>::default();
        let probes = Arc::<Probes>::default();
        let mut threads = Vec::new();
        let mut spawn = |at: &Namespace, work: fn(&Namespace, &Work)| {
            let at = at.clone();
            let work_of = Work {
                over: Arc::clone(&over),
                probes: Arc::clone(&probes),
            };
            let thread = thread::Builder::new().stack_size(STACK);
            threads.push(thread.spawn(move || work(&at, &work_of))?);
            anyhow::Ok(())
        };
        for number in 0..HOLDERS {
            spawn(&network.pod(&format!("holder-{number}"))?.namespace, hold)?;
        }
        spawn(&network.pod("hasty")?.namespace, come_and_go)?;
        let waiting = network.pod("waiting")?;
        waiting.namespace.nft(
            "table inet silent { chain output { type filter hook output priority 0; tcp dport 8080 drop; }; }",
        )?;
        for _ in 0..WAITING {
            spawn(&waiting.namespace, wait_in_connect)?;
        }
        spawn(&network.pod("silent")?.namespace, hold_health)?;
        spawn(network.node(), probe)?;
        let theirs = network.pod("theirs")?;
        let impostors = Impostors {
            places: [network.pod("elsewhere")?, network.pod("outside")?],
            container: Container::new(&new_uid())?,
            running: [None, None],
            autoscaler: Autoscaler::start(&theirs)?,
            next: Instant::now(),
            rng: Rng::with_seed(seed),
        };
        Ok(Self {
            over,
            threads,
            impostors,
            probes,
            deaf: network.pod("deaf")?,
        })
    }

    /// Ends the process that claims to be this pod, which will be ended: then nobody has its name,
    /// and a process outside of containers may get it.
    pub(crate) fn leave_alone(&mut self, pod: &str) {
        for running in &mut self.impostors.running {
            if running.as_ref().is_some_and(|(_, claimed)| claimed == pod) {
                *running = None;
            }
        }
    }

    /// Lets one impostor after another claim the name of one of these pods.
    pub(crate) fn look(&mut self, pods: &[&Pod]) -> Result<()> {
        self.impostors.look(pods)
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // The thread has reported why it panicked.
            let _ = thread.join();
        }
    }
}

impl Impostors {
    fn look(&mut self, pods: &[&Pod]) -> Result<()> {
        if Instant::now() < self.next || pods.is_empty() {
            return Ok(());
        }
        self.next = Instant::now() + IMPOSTOR;
        let place = self.rng.usize(..self.places.len());
        let named = pods.get(self.rng.usize(..pods.len())).context("no pod")?;
        let (Some(at), Some(running)) = (self.places.get(place), self.running.get_mut(place))
        else {
            return Ok(());
        };
        let claimed = Pod {
            name: named.name.clone(),
            ..at.clone()
        };
        let target = self.autoscaler.v4().to_string();
        // The former one first: its websocket is as good as any.
        *running = None;
        let args = ["hold", &target];
        let impostor = if place == 0 {
            Activator::stand_in_in(&self.container, &claimed, args)?
        } else {
            Activator::stand_in(&claimed, args)?
        };
        *running = Some((impostor, claimed.name));
        Ok(())
    }
}

impl Probes {
    /// The agent ends, or the next one runs.
    pub(crate) fn agent_changes(&self) {
        self.agent.fetch_add(1, Ordering::SeqCst);
    }

    /// Probes without an answer, although one agent ran all the time.
    pub(crate) fn failed(&self) -> Vec<String> {
        std::mem::take(&mut self.failed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn describe(&self) -> String {
        let slowest = *self.slowest.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = self.answered.load(Ordering::Relaxed);
        format!("{answered} probes answered, the slowest after {slowest:.3?}")
    }
}

impl Lane {
    /// Dials in the activator's pod like an engineer's curl.
    pub(crate) fn dial_as_a_stranger(&mut self, deaf: Ipv4Addr) -> Result<()> {
        let dial = || {
            let flags = SocketFlags::CLOEXEC;
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
            set_socket_timeout(&socket, Timeout::Send, Some(CURL))?;
            // Without a local port, no SYN is sent; no other fault affects this address before
            // that.
            let dialled = connect(&socket, &SocketAddr::from((deaf, PORT)));
            Ok(dialled != Err(Errno::ADDRNOTAVAIL))
        };
        let opened: Result<_, Errno> = self.pod.namespace.run(dial)?;
        self.foreign_opens += u64::from(opened.context("a stranger's socket")?);
        Ok(())
    }
}

/// The input of a stranger's thread.
struct Work {
    over: Arc<AtomicBool>,
    probes: Arc<Probes>,
}

impl Work {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Sleeps, but not beyond the end.
    fn sleep(&self, length: Duration) {
        let end = Instant::now() + length;
        while self.goes_on() && Instant::now() < end {
            thread::sleep(length.min(NAP));
        }
    }
}

/// Connections on loopback with both ends, like queue-proxy's in every Knative pod.
fn hold(at: &Namespace, work: &Work) {
    let held = at.run(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
        let pair = |_| {
            let client = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
            Ok((client, listener.accept()?.0))
        };
        (0..HELD).map(pair).collect::<io::Result<Vec<_>>>()
    });
    say("held connections", &held);
    while work.goes_on() {
        thread::sleep(NAP);
    }
}

/// The same, with short lives.
fn come_and_go(at: &Namespace, work: &Work) {
    let done = at.run(|| -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
        while work.goes_on() {
            let client = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
            let _server = listener.accept()?;
            // RST instead of FIN: TIME_WAIT would use up the ports.
            set_socket_linger(&client, Some(Duration::ZERO))?;
            thread::sleep(HASTE);
        }
        Ok(())
    });
    say("short connections", &done);
}

/// Waits inside connect(), again and again, for an answer that never comes.
fn wait_in_connect(at: &Namespace, work: &Work) {
    let done = at.run(|| -> io::Result<()> {
        while work.goes_on() {
            let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
            let socket = socket_with(family, SocketType::STREAM, flags, None)?;
            // connect() honours it (`inet_wait_for_connect()`, `net/ipv4/af_inet.c`).
            set_socket_timeout(&socket, Timeout::Send, Some(IN_CONNECT))?;
            let nobody: SocketAddr = (Ipv4Addr::new(10, 77, 0, 254), PORT).into();
            // The call is meant to fail.
            let _ = connect(&socket, &nobody);
        }
        Ok(())
    });
    say("connect() that waits", &done);
}

/// Silent connections to the agent's health port.
fn hold_health(at: &Namespace, work: &Work) {
    let done = at.run(|| -> io::Result<()> {
        let mut held: Vec<TcpStream> = Vec::new();
        while work.goes_on() {
            held.retain(is_open);
            for _ in held.len()..SILENT.min(held.len() + SILENT_AT_ONCE) {
                // There may be no agent.
                let connected = TcpStream::connect_timeout(&health_address(), PROBE_TIMEOUT);
                held.extend(connected);
            }
            work.sleep(Duration::from_secs(1));
        }
        Ok(())
    });
    say("silent connections", &done);
}

/// Whether the other side has not closed it.
fn is_open(stream: &TcpStream) -> bool {
    let peeked = stream
        .set_nonblocking(true)
        .and_then(|()| stream.peek(&mut [0]));
    peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Probes like the kubelet.
fn probe(at: &Namespace, work: &Work) {
    let probes = &work.probes;
    let done = at.run(|| {
        while work.goes_on() {
            work.sleep(PROBE_PERIOD);
            let agent = probes.agent.load(Ordering::SeqCst);
            let start = Instant::now();
            let answer = ask();
            let same = probes.agent.load(Ordering::SeqCst) == agent && !agent.is_multiple_of(2);
            let took = start.elapsed();
            match answer {
                Ok(()) => {
                    probes.answered.fetch_add(1, Ordering::Relaxed);
                    let mut slowest = probes
                        .slowest
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    *slowest = slowest.max(took);
                }
                Err(error) if same && work.goes_on() => {
                    let text = format!("the kubelet's probe failed after {took:.3?}: {error}");
                    let mut failed = probes.failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.push(text);
                }
                Err(_) => {}
            }
        }
    });
    say("probes", &done.map(|()| Ok::<(), io::Error>(())));
}

fn ask() -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&health_address(), PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    if answer == *b"HTTP/1.1 200" {
        Ok(())
    } else {
        Err(io::Error::other(
            String::from_utf8_lossy(&answer).into_owned(),
        ))
    }
}

/// This process holds both ends of all connections.
fn allow_files() -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: current.max(Some(FILES)),
        maximum: maximum.max(Some(FILES)),
    };
    setrlimit(Resource::Nofile, limit).context("raise the limit of open files")
}

/// A stranger that cannot do its work would prove nothing.
fn say<T>(what: &str, done: &Result<io::Result<T>>) {
    match done {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => println!("       no {what} any more: {error}"),
        Err(error) => println!("       no {what} any more: {error:#}"),
    }
}

/// As many as once pushed out a sidecar's: 12 pods with 100 each held more than the map's 1,024.
const HOLDERS: usize = 12;
const HELD: usize = 100;
/// Both ends of the connections, and room for everything else.
const FILES: u64 = 8 * 1024;
const HASTE: Duration = Duration::from_millis(20);
/// Threads blocked in connect(). 600 once filled the map of calls; a tenth shows whether their
/// calls are kept.
const WAITING: usize = 60;
const IN_CONNECT: Duration = Duration::from_secs(3);
/// 16 silent ones once kept every probe waiting.
const SILENT: usize = 64;
/// So did 8 new ones a second.
const SILENT_AT_ONCE: usize = 8;
/// An answer comes at once, or a fault drops it. Less than the second after which a SYN is
/// retransmitted, because that would be counted in the activator's pod.
const CURL: Duration = Duration::from_millis(50);
const IMPOSTOR: Duration = Duration::from_secs(10);
/// The kubelet's default period is 10 s.
const PROBE_PERIOD: Duration = Duration::from_secs(2);
/// Ten times the kubelet's default: the question is whether an answer comes. The time is printed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
const NAP: Duration = Duration::from_millis(200);
const STACK: usize = 128 * 1024;
