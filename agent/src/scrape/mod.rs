//! The optional page of metrics, for a Prometheus that scrapes: `/metrics`.
//!
//! Any pod of the cluster can reach the port. So a page is made at most so often, whoever asks; a client has
//! its place for as long as Prometheus waits by default; and where there are too many the oldest goes, so
//! that nobody keeps a scrape out for long. Probes have a server of their own ([`crate::health`]).

mod request;

use std::{collections::VecDeque, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Mutex,
    task::JoinSet,
    time::{Instant, timeout},
};

use self::request::Request;
use crate::{health, snapshot::Snapshots, telemetry::Telemetry};

/// A server that is bound and does not serve yet.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
}

/// Why the page's server could not be bound.
#[derive(Debug, thiserror::Error)]
#[error(
    "page of metrics on {address}: {source}; stop what listens there, or name another with \
     --metrics-address"
)]
pub(crate) struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The errno of bind(2).
    pub source: io::Error,
}

impl Server {
    /// Binds `address`; port 0 takes a free one. `[::]` means every address of the machine, even if it has
    /// only IPv4. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the address is in use, is not this machine's, or needs a privilege.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let listener = health::listen(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        let listener = listener.map_err(|source| BindError { address, source })?;
        Ok(Self { listener })
    }

    /// Serves until it is dropped, which ends all connections.
    pub(crate) async fn serve(self, telemetry: Telemetry, snapshots: Snapshots) {
        self.serve_within(DEADLINE, telemetry, snapshots).await;
    }

    async fn serve_within(self, deadline: Duration, telemetry: Telemetry, snapshots: Snapshots) {
        let pages = Arc::new(Pages {
            telemetry,
            snapshots,
            newest: Mutex::default(),
        });
        let mut clients = JoinSet::new();
        let mut places = VecDeque::new();
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                // The client went away, or there is no file descriptor: do not spin.
                Err(error) => {
                    tracing::debug!(%error, "Server of metrics could not accept.");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            while clients.try_join_next().is_some() {}
            places.retain(|place: &tokio::task::AbortHandle| !place.is_finished());
            if places.len() >= MAX_CONNECTIONS
                && let Some(oldest) = places.pop_front()
            {
                oldest.abort();
            }
            let answer = timeout(deadline, answer(stream, Arc::clone(&pages)));
            places.push_back(clients.spawn(async move {
                // Whoever is too slow is let go of.
                if let Ok(Err(error)) = answer.await {
                    tracing::debug!(%error, "Request for metrics could not be answered.");
                }
            }));
        }
    }
}

/// Where pages come from.
struct Pages {
    telemetry: Telemetry,
    snapshots: Snapshots,
    newest: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Pages {
    /// A page that is at most [`PAGE_LIFE`] old; `None` if the agent is stopping.
    async fn newest(self: Arc<Self>) -> Option<Arc<str>> {
        // A task of its own: a page that nobody waits for any longer is kept for who asks next, for it may
        // be the one that shows a pod's zeros.
        let page = tokio::spawn(async move {
            let mut newest = self.newest.lock().await;
            if let Some((made, page)) = &*newest
                && made.elapsed() < PAGE_LIFE
            {
                return Some(Arc::clone(page));
            }
            let snapshot = self.snapshots.take().await?;
            let page: Arc<str> = self.telemetry.page(snapshot).await?.into();
            *newest = Some((Instant::now(), Arc::clone(&page)));
            Some(page)
        });
        page.await.ok().flatten()
    }
}

/// Reads one request and answers it.
async fn answer(mut stream: TcpStream, pages: Arc<Pages>) -> io::Result<()> {
    let mut received = Vec::new();
    let request = loop {
        if let Some(request) = Request::read(&received, MAX_REQUEST_BYTES) {
            break request;
        }
        let mut some = [0; 1024];
        let read = stream.read(&mut some).await?;
        if read == 0 {
            return Ok(());
        }
        received.extend(some.iter().take(read));
    };
    let page = match request {
        Request::Page { .. } => pages.newest().await,
        Request::Unknown | Request::Method | Request::Malformed => None,
    };
    let answer = request.answer(page.as_deref());
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// How many clients have a place at one time: some Prometheus replicas, and a person who looks.
const MAX_CONNECTIONS: usize = 16;
/// After this a client goes. It is Prometheus' default time-out of a scrape: it waits no longer.
const DEADLINE: Duration = Duration::from_secs(10);
/// A Prometheus' request has some 300 bytes.
const MAX_REQUEST_BYTES: usize = 4 * 1024;
/// For how long a page is served again. A page of 200 links takes some 10 ms: asked for without end, a tenth
/// of a core. As short as the shortest time between two exports.
const PAGE_LIFE: Duration = Duration::from_millis(200);
/// Where accept(2) fails it may fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
