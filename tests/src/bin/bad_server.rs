//! Misbehaving servers. The first argument selects one:
//!
//! - `forbid ADDRESS`: reads the request and answers 403
//! - `unavailable ADDRESS`: the same with 503
//! - `forbid-open ADDRESS`: 403 with one byte of a body of 100, and the connection left open
//! - `forbid-slowly ADDRESS`: 403 with a body of 60 bytes that takes 1.2 s
//! - `forbid-endlessly ADDRESS`: 403 with a body that goes on, a byte every 20 ms
//! - `close ADDRESS`: accepts and closes at once, always by FIN, even with unread data
//! - `reset ADDRESS`: accepts and resets at once
//! - `sink ADDRESS`: the same as `close`, as fast as possible and without a line of output
//! - `mute ADDRESS`: accepts and never answers
//! - `proxy ADDRESS UPSTREAM`: a sidecar. SIGUSR1 makes it absorb: it continues to read and
//!   forwards nothing. Another SIGUSR1 makes it forward what arrives from then on
//! - `dns ADDRESS ANSWER [AFTER_MS]`: a name server that answers every name with ANSWER, AFTER_MS late: an
//!   IPv4 address, or one and an IPv6 address after a comma, or NXDOMAIN (`nxdomain`), or SERVFAIL
//!   (`servfail`)
//!
//! It reports what it does as JSON lines on standard output.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use statlink_tests::report;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match *args {
        ["forbid", address] => serve(address, |stream| refuse(stream, "403 Forbidden")),
        ["unavailable", address] => {
            serve(address, |stream| refuse(stream, "503 Service Unavailable"))
        }
        ["forbid-open", address] => serve(address, refuse_open),
        ["forbid-slowly", address] => serve(address, |stream| refuse_slowly(stream, 60)),
        ["forbid-endlessly", address] => serve(address, |stream| refuse_slowly(stream, 1_000)),
        ["close", address] => serve(address, close),
        ["reset", address] => serve(address, reset),
        ["sink", address] => sink(address),
        ["mute", address] => serve(address, mute),
        ["proxy", address, upstream] => proxy(address, upstream),
        ["dns", address, answer] => dns(address, answer, Duration::ZERO),
        ["dns", address, answer, after] => {
            let after = after.parse().context("AFTER_MS")?;
            dns(address, answer, Duration::from_millis(after))
        }
        _ => bail!(
            "usage: bad_server forbid|unavailable|forbid-open|forbid-slowly|forbid-endlessly|close|reset|sink|mute|proxy|dns ADDRESS [UPSTREAM|ANSWER] [AFTER_MS]"
        ),
    }
}

fn serve(address: &str, behave: impl Fn(TcpStream) + Send + Sync) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
    report("listening", []);
    thread::scope(|scope| {
        for stream in listener.incoming() {
            let stream = stream.context("accept")?;
            report("accepted", []);
            scope.spawn(|| behave(stream));
        }
        Ok(())
    })
}

fn close(mut stream: TcpStream) {
    // A socket that is dropped with unread data sends RST.
    let _ = stream.shutdown(Shutdown::Write);
    let _ = io::copy(&mut stream, &mut io::sink());
}

fn refuse(mut stream: TcpStream, status: &str) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request); // its content does not matter
    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
    // The client closes first, as it does with a server that keeps connections alive.
    let _ = stream.read(&mut request);
}

fn refuse_open(mut stream: TcpStream) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request); // its content does not matter
    let _ = write!(
        stream,
        "HTTP/1.1 403 Forbidden\r\ncontent-length: 100\r\n\r\n-"
    );
    mute(stream);
}

/// The client reads up to 1 KiB of the body, for its error, and gives up after 3 s.
fn refuse_slowly(mut stream: TcpStream, length: usize) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request); // its content does not matter
    let _ = write!(
        stream,
        "HTTP/1.1 403 Forbidden\r\ncontent-length: {length}\r\n\r\n"
    );
    for _ in 0..length {
        thread::sleep(Duration::from_millis(20));
        if stream.write_all(b"-").is_err() {
            return;
        }
    }
    mute(stream);
}

fn reset(stream: TcpStream) {
    // Closing then sends RST instead of FIN.
    let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
}

fn mute(mut stream: TcpStream) {
    let _ = io::copy(&mut stream, &mut io::sink());
}

fn sink(address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
    report("listening", []);
    listener.incoming().for_each(drop);
    Ok(())
}

fn proxy(address: &str, upstream: &str) -> Result<()> {
    let upstream: SocketAddr = upstream.parse().context("UPSTREAM")?;
    let absorbing = Arc::new(AtomicBool::new(false));
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGUSR1])
        .context("listen to signals")?;
    let toggled = Arc::clone(&absorbing);
    thread::spawn(move || {
        for _ in signals.forever() {
            let was = toggled.fetch_xor(true, Ordering::Relaxed);
            report("absorbing", [("on", (!was).into())]);
        }
    });
    serve(address, |down| {
        let Ok(up) = TcpStream::connect(upstream) else {
            return; // which closes the other side, as sidecars do
        };
        thread::scope(|scope| {
            scope.spawn(|| pass(&down, &up, &absorbing));
            pass(&up, &down, &absorbing);
        });
    })
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, absorbing: &AtomicBool) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let passed = buffer.get(..n).unwrap_or_default();
        if absorbing.load(Ordering::Relaxed) {
            report("absorbed", [("bytes", n.into())]);
        } else if to.write_all(passed).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn dns(address: &str, answer: &str, after: Duration) -> Result<()> {
    let answer = match answer {
        "nxdomain" => Err(NXDOMAIN),
        "servfail" => Err(SERVFAIL),
        addresses => Ok(Addresses::parse(addresses).context("ANSWER")?),
    };
    let socket = UdpSocket::bind(address).with_context(|| format!("listen on {address}"))?;
    report("listening", []);
    let mut query = [0; 512];
    thread::scope(|scope| {
        loop {
            let (n, from) = socket.recv_from(&mut query).context("receive")?;
            report("asked", []);
            if let Some(reply) = query.get(..n).and_then(|query| reply(query, answer)) {
                let socket = &socket;
                scope.spawn(move || {
                    thread::sleep(after);
                    // The client may have given up.
                    let _ = socket.send_to(&reply, from);
                });
            }
        }
    })
}

const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;

/// The addresses of every name.
#[derive(Clone, Copy)]
struct Addresses {
    v4: Ipv4Addr,
    v6: Option<Ipv6Addr>,
}

impl Addresses {
    fn parse(text: &str) -> Result<Self> {
        let (v4, v6) = match text.split_once(',') {
            Some((v4, v6)) => (v4, Some(v6.parse()?)),
            None => (text, None),
        };
        Ok(Self {
            v4: v4.parse()?,
            v6,
        })
    }

    /// The data of the record of this type, if the name has one: A (RFC 1035), AAAA (RFC 3596).
    fn record(self, kind: &[u8]) -> Option<Vec<u8>> {
        match kind {
            [0, 1] => Some(self.v4.octets().to_vec()),
            [0, 28] => self.v6.map(|v6| v6.octets().to_vec()),
            _ => None,
        }
    }
}

/// RFC 1035: returns the header and the question, with an answer if there is one of its type, or
/// with the code of a failure.
fn reply(query: &[u8], answer: Result<Addresses, u8>) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    let labels = query.get(HEADER..)?.iter().position(|&byte| byte == 0)?;
    let question = query.get(HEADER..HEADER + labels + 5)?;
    let kind = question.get(labels + 1..labels + 3)?;
    let code = answer.err().unwrap_or_default();
    let answer = answer.ok().and_then(|addresses| addresses.record(kind));

    let mut reply = query.get(..2)?.to_vec();
    // A response to a recursive query; one question, perhaps one answer, nothing else.
    reply.extend([
        0x81,
        0x80 | code,
        0,
        1,
        0,
        u8::from(answer.is_some()),
        0,
        0,
        0,
        0,
    ]);
    reply.extend(question);
    if let Some(data) = answer {
        // The question's name and type, class IN, TTL 1 s, and the length.
        reply.extend([0xc0, 0x0c]);
        reply.extend(kind);
        reply.extend([0, 1, 0, 0, 0, 1, 0]);
        reply.push(u8::try_from(data.len()).ok()?);
        reply.extend(data);
    }
    Some(reply)
}
