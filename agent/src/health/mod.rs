//! The optional health server: `/healthz` for liveness, `/readyz` for readiness.
//!
//! The caller defines live and ready. Neither may depend on the Collector: its outage would restart
//! every agent of the cluster.
//!
//! Any pod of the cluster can reach the port, and a kubelet that gets no answer restarts the agent.
//! So the server has a thread of its own. It accepts every connection at once, so that none waits
//! behind another; it answers what has arrived before it closes anything; and if there are too many
//! connections, it closes the oldest one of the address that holds most ([`Places`]). So nobody can
//! keep a probe waiting: a probe loses its place only if, before its request has arrived, as many
//! connections as there are places overtake it, from as many addresses.

mod head;
mod places;
mod probes;
mod request;

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::request::{Request, answer};
pub(crate) use self::{
    head::Head,
    places::{Place, Places},
    probes::Probes,
};

/// A server that is bound and does not serve yet.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    probes: Probes,
    stopped: OwnedFd,
}

/// Stops the server when it is dropped.
#[derive(Debug)]
pub(crate) struct Stop(
    #[expect(dead_code, reason = "its end is what the server waits for")] OwnedFd,
);

/// Why the health server could not be bound.
#[derive(Debug, thiserror::Error)]
#[error(
    "health server on {address}: {source}; stop what listens there, or name another with \
     --health-address"
)]
pub(crate) struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The errno of bind(2).
    pub source: io::Error,
}

impl Server {
    /// Binds `address`; port 0 takes a free one. `[::]` means every address of the machine, even if
    /// it has only IPv4.
    ///
    /// # Errors
    ///
    /// If the address is in use, is not this machine's, or needs a privilege.
    pub(crate) fn bind(address: SocketAddr, probes: Probes) -> Result<(Self, Stop), BindError> {
        let server = listen(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            // Listen again, for a longer queue than the standard library's 128: the kernel uses the
            // newest length.
            rustix::net::listen(&listener, BACKLOG)?;
            let (stopped, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            let server = Self {
                listener,
                probes,
                stopped,
            };
            Ok((server, Stop(stop)))
        });
        server.map_err(|source| BindError { address, source })
    }

    /// Serves until its [`Stop`] is dropped. Blocks: give it a thread.
    pub(crate) fn serve(self) {
        self.serve_within(DEADLINE);
    }

    fn serve_within(self, deadline: Duration) {
        let mut places = Places::new(MAX_CONNECTIONS);
        while self.wait(&places, deadline) {
            let now = Instant::now();
            places.retain(|place| {
                place.held.poll(&self.probes) == Outcome::Waits
                    && now.duration_since(place.since) < deadline
            });
            self.take_in(&mut places, now);
        }
    }

    /// Waits until there is something to do; returns `false` if the server must stop.
    fn wait(&self, places: &Places<Connection>, deadline: Duration) -> bool {
        let mut fds = vec![
            PollFd::new(&self.stopped, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        let streams = places.iter().map(|place| &place.held.stream);
        fds.extend(streams.map(|stream| PollFd::new(stream, PollFlags::IN)));
        let left = places
            .oldest()
            .map(|since| deadline.saturating_sub(since.elapsed()));
        // A moment longer, because `poll` may wake early by the rounding of a millisecond.
        let timeout = left.and_then(|left| Timespec::try_from(left + POLL_ROUNDING).ok());
        // The result does not matter, because every connection is checked: after an error the next
        // round tries again.
        let _ = poll(&mut fds, timeout.as_ref());
        fds.first()
            .is_some_and(|stopped| stopped.revents().is_empty())
    }

    /// Accepts waiting connections while there are places: the next round accepts the rest.
    fn take_in(&self, places: &mut Places<Connection>, now: Instant) {
        for _ in 0..MAX_CONNECTIONS {
            let (stream, peer) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The client went away, or no file descriptor is free: closing the oldest
                // connection frees one.
                Err(error) => {
                    tracing::debug!(%error, "Health server could not accept.");
                    if places.remove_victim().is_none() {
                        thread::sleep(ACCEPT_PAUSE);
                    }
                    return;
                }
            };
            // Accepted sockets do not inherit it (accept(2)).
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let mut connection = Connection::new(stream);
            if connection.poll(&self.probes) == Outcome::Done {
                continue;
            }
            if places.is_full()
                && let Some(mut victim) = places.remove_victim()
            {
                // Its request may have arrived since this round began.
                victim.held.poll(&self.probes);
            }
            places.push(Place {
                peer: peer.ip().to_canonical(),
                since: now,
                held: connection,
            });
        }
    }
}

/// A connection whose request has not arrived in full; its socket does not block.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// The state of a connection after a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It waits for the rest of its request.
    Waits,
    /// It was answered, or is broken.
    Done,
}

impl Connection {
    const fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
        }
    }

    /// Reads what has arrived, without waiting, and answers if that is a request.
    fn poll(&mut self, probes: &Probes) -> Outcome {
        let mut buffer = [0; MAX_REQUEST_BYTES];
        loop {
            let free = buffer.len() - self.received.len();
            match self.stream.read(buffer.get_mut(..free).unwrap_or_default()) {
                Ok(0) => return Outcome::Done,
                Ok(read) => self.received.extend(buffer.iter().take(read)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Outcome::Waits,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Outcome::Done,
            }
            if let Some(request) = Request::read(&self.received, MAX_REQUEST_BYTES) {
                self.answer(request, probes);
                return Outcome::Done;
            }
        }
    }

    /// Sends an answer. It is far smaller than the buffer of a new socket, so one write sends all
    /// of it, or never will.
    fn answer(&mut self, request: Request, probes: &Probes) {
        let written = self.stream.write(answer(request, probes).as_bytes());
        let ended = written.and_then(|_| self.stream.shutdown(Shutdown::Write));
        if let Err(error) = ended {
            tracing::debug!(%error, "Health request could not be answered.");
        }
    }
}

/// How many connections may be without a request at one time. The kubelet needs two, and its
/// request follows its connection within a round trip; the rest may overtake it in that time.
const MAX_CONNECTIONS: usize = 64;
/// A connection without a request is closed after this time. It is the kubelet's default timeout:
/// no probe waits longer.
const DEADLINE: Duration = Duration::from_secs(1);
/// A kubelet's request has some 150 bytes.
const MAX_REQUEST_BYTES: usize = 4 * 1024;
/// How many connections the kernel queues until the server accepts them, which it does at once. The
/// kernel's own bound is `net.core.somaxconn`, 4,096.
const BACKLOG: i32 = 1024;
/// If accept(2) fails and nothing can be freed, it fails again at once: do not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// poll(2) counts in milliseconds, and may wake early by the rounding of one.
const POLL_ROUNDING: Duration = Duration::from_millis(1);

/// Binds `address`; `[::]` means every address of the machine, even if it has only IPv4.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).or_else(|error| match without_ipv6(address, &error) {
        Some(instead) => TcpListener::bind(instead),
        None => Err(error),
    })
}

/// The address to bind instead of `[::]` if the kernel has no IPv6 (`ipv6.disable=1`).
fn without_ipv6(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let any = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let no_ipv6 = error.raw_os_error() == Some(libc::EAFNOSUPPORT);
    (any && no_ipv6).then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

#[cfg(test)]
mod tests;
