//! The exports of an agent without a link, and their size on the wire.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use statlink_tests::{scenario::Bed, wait};

use crate::figures::{Figures, UNLIMITED, at_most};

/// Measures on `bed`, whose agent it replaces, for this many `minutes`: by default such an agent
/// exports once a minute.
pub(crate) fn measure(bed: &mut Bed, minutes: u32, figures: &mut Figures) -> Result<()> {
    eprintln!("an agent without a link, for {minutes} min");
    let collector = bed.collector.grpc_endpoint();
    let collector = collector.trim_start_matches("http://").parse()?;
    let relay = bed.network.node().run(|| Relay::start(collector))??;
    let mut options = crate::without_link(bed.agent_options());
    options.endpoint = Some(format!("http://{}", relay.address));
    bed.agent = None;
    bed.start_agent_with(&options)?;
    // The first export, with the handshakes of the connection.
    let first = bed.collector.mark();
    wait::until("export", crate::PATIENCE, || {
        Ok((bed.collector.mark() > first).then_some(()))
    })?;
    let mark = bed.collector.mark();
    let (bytes, packets) = (relay.bytes(), relay.packets()?);
    thread::sleep(Duration::from_secs(60) * minutes);
    let (bytes, packets) = (relay.bytes() - bytes, relay.packets()? - packets);
    let exports = bed.collector.exports();
    let exports = exports.get(mark..).unwrap_or_default();
    let points: usize = exports.iter().map(|export| export.points.len()).sum();
    let per_minute = |count: f64| count / f64::from(minutes);
    figures.add(
        "no link, on the wire a minute",
        per_minute(bytes as f64),
        "B",
        at_most(1_000.0),
    );
    figures.add(
        "no link, with the packets' heads a minute",
        per_minute((bytes + packets * HEADS) as f64),
        "B",
        UNLIMITED,
    );
    figures.add(
        "no link, packets a minute",
        per_minute(packets as f64),
        "",
        UNLIMITED,
    );
    figures.add(
        "no link, exports a minute",
        per_minute(exports.len() as f64),
        "",
        UNLIMITED,
    );
    figures.add(
        "no link, points a minute",
        per_minute(points as f64),
        "",
        UNLIMITED,
    );
    bed.agent = None;
    Ok(())
}

/// Forwards data both ways and counts it: TCP's payload, without packet headers.
struct Relay {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
    /// The agent's connections.
    agents: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
        let address = listener.local_addr()?;
        let bytes = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&bytes);
        let agents = Arc::<Mutex<Vec<_>>>::default();
        let kept = Arc::clone(&agents);
        // The thread stays in this namespace, and ends with the process.
        thread::spawn(move || {
            for from in listener.incoming() {
                let relayed = from.and_then(|from| {
                    lock(&kept).push(from.try_clone()?);
                    relay(&from, &TcpStream::connect(to)?, &counter)
                });
                if let Err(error) = relayed {
                    eprintln!("relay: {error}");
                }
            }
        });
        Ok(Self {
            address,
            bytes,
            agents,
        })
    }

    /// How many packets the agent's connections took, both ways.
    fn packets(&self) -> Result<u64> {
        lock(&self.agents).iter().map(packets).sum()
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn relay(agent: &TcpStream, collector: &TcpStream, bytes: &Arc<AtomicU64>) -> io::Result<()> {
    for (from, to) in [(agent, collector), (collector, agent)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        let bytes = Arc::clone(bytes);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                bytes.fetch_add(length as u64, Ordering::Relaxed);
                let read = buffer.get(..length).unwrap_or_default();
                if to.write_all(read).is_err() {
                    break;
                }
            }
            // Either side may have closed it.
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}

/// `tcpi_segs_out` and `tcpi_segs_in` of `struct tcp_info`, `include/uapi/linux/tcp.h`.
fn packets(of: &TcpStream) -> Result<u64> {
    let mut info = [0_u32; 36];
    let mut length = libc::socklen_t::try_from(size_of_val(&info))?;
    // SAFETY: the kernel writes at most `length` bytes, for which there is room, and any bytes are valid.
    let result = unsafe {
        libc::getsockopt(
            of.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    ensure!(result == 0, io::Error::last_os_error());
    let [.., out, into] = info;
    Ok(u64::from(out) + u64::from(into))
}

fn lock<T>(what: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of IPv4, of TCP, and its time stamps.
const HEADS: u64 = 20 + 20 + 12;
