//! The test client of the link: it does what Knative's client cannot be made to do. It runs under
//! the name `activator`. The first argument selects the behaviour:
//!
//! - `idle`: never dials
//! - `cancel ADDRESS [EVERY_MS AFTER_MS]`: starts to connect and gives up, again and again
//! - `flap ADDRESS RATE COUNT`: COUNT connections, RATE a second (0: as fast as possible), each
//!   closed as soon as it is made or has failed
//! - `hold ADDRESS`: upgrades to a websocket and sends pings as Knative's client does. SIGUSR1
//!   closes the connection, or dials again if there is none
//! - `resolve SERVER ADDRESS`: the same once the name server has answered, without a timeout
//!
//! It reports what it does as JSON lines on standard output. `[::ffff:10.0.0.1]:8080` makes an IPv6
//! socket to an IPv4 address.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
use statlink_tests::report;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    report("started", [("pid", std::process::id().into())]);
    match *args {
        ["idle"] => loop {
            thread::park();
        },
        ["cancel", address] => cancel(address, 1000, 100),
        ["cancel", address, every, after] => cancel(
            address,
            every.parse().context("EVERY_MS")?,
            after.parse().context("AFTER_MS")?,
        ),
        ["flap", address, rate, count] => flap(
            address,
            rate.parse().context("RATE")?,
            count.parse().context("COUNT")?,
        ),
        ["hold", address] => hold(address.parse().context("ADDRESS")?),
        ["resolve", server, address] => {
            let address = address.parse().context("ADDRESS")?;
            resolve(server)?;
            hold(address)
        }
        _ => bail!(
            "usage: test_client idle | cancel ADDRESS [EVERY_MS AFTER_MS] | flap ADDRESS RATE COUNT | hold ADDRESS \
             | resolve SERVER ADDRESS"
        ),
    }
}

fn cancel(address: &str, every_ms: u64, after_ms: u64) -> Result<()> {
    let address: SocketAddr = address.parse().context("ADDRESS")?;
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    loop {
        let socket = socket_with(family, SocketType::STREAM, flags, None).context("socket")?;
        let result = connect(&socket, &address);
        thread::sleep(Duration::from_millis(after_ms));
        drop(socket);
        report(
            "cancelled",
            [("errno", result.err().map(Errno::raw_os_error).into())],
        );
        thread::sleep(Duration::from_millis(every_ms.saturating_sub(after_ms)));
    }
}

fn flap(address: &str, rate: u32, count: u64) -> Result<()> {
    let address: SocketAddr = address.parse().context("ADDRESS")?;
    let gap = Duration::from_secs(1).checked_div(rate).unwrap_or_default();
    let started = Instant::now();
    let mut due = started;
    let mut failed = BTreeMap::<i32, u64>::new();
    for _ in 0..count {
        // By the schedule, not by the last connection, which would lower the rate.
        thread::sleep(due.saturating_duration_since(Instant::now()));
        due += gap;
        match TcpStream::connect(address) {
            // RST instead of FIN: TIME_WAIT would use up the ports.
            Ok(stream) => rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?,
            Err(e) => {
                *failed
                    .entry(e.raw_os_error().unwrap_or_default())
                    .or_default() += 1;
            }
        }
    }
    let errors: u64 = failed.values().sum();
    report(
        "flapped",
        [
            ("count", count.into()),
            ("connected", (count - errors).into()),
            ("failed", serde_json::json!(failed)),
            ("seconds", started.elapsed().as_secs_f64().into()),
        ],
    );
    loop {
        thread::park(); // its end would end the link
    }
}

fn hold(address: SocketAddr) -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGUSR1])
        .context("listen to signals")?;
    loop {
        let stream = upgrade(address).with_context(|| format!("upgrade to {address}"))?;
        report("upgraded", []);
        let (stop, stopped) = mpsc::channel();
        thread::scope(|scope| {
            let (reading, writing) = (&stream, &stream);
            scope.spawn(|| read(reading));
            scope.spawn(|| ping(writing, stopped));
            signals.forever().next();
            // Like Close() of Knative's client: without a close frame, and without waiting for the
            // server, whose socket stays open until Go's garbage collector finds it.
            let _ = stream.shutdown(Shutdown::Both);
            drop(stop);
        });
        drop(stream);
        report("closed", []);
        signals.forever().next();
    }
}

fn resolve(server: &str) -> Result<()> {
    // RFC 1035: a recursive query, one question: the address of `a`.
    const QUERY: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(server).context("SERVER")?;
    socket.send(QUERY)?;
    socket.recv(&mut [0; 512])?;
    Ok(())
}

fn upgrade(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    ensure!(
        answer.starts_with(b"HTTP/1.1 101 "),
        "answer: {}",
        String::from_utf8_lossy(&answer)
    );
    Ok(stream)
}

/// Discards pongs; reports the end of the stream.
fn read(mut stream: &TcpStream) {
    let end = io::copy(&mut stream, &mut io::sink());
    report(
        "read_ended",
        [("errno", end.err().and_then(|e| e.raw_os_error()).into())],
    );
}

fn ping(mut stream: &TcpStream, stopped: Receiver<()>) {
    // FIN, opcode ping; masked, no payload; the mask.
    const PING: [u8; 6] = [0x89, 0x80, 1, 2, 3, 4];
    // A third of Knative's pong timeout.
    const PERIOD: Duration = Duration::from_millis(3333);
    while stream.write_all(&PING).is_ok() {
        if stopped.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}
