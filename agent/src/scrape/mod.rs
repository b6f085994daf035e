//! The optional page of metrics, for a Prometheus that scrapes: `/metrics`.
//!
//! Any pod of the cluster can reach the port. So the server makes one page at a time, and serves it
//! again for a short while, whoever asks. A client keeps its place for as long as Prometheus waits
//! by default. If too many clients are silent, the address that holds most loses its oldest one
//! ([`Places`]). Each address has a limit of running answers ([`Answering`]), so that slow readers
//! do not keep everybody else out. A client whose request has been read gets an answer, even if it
//! is a refusal. Probes have a server of their own ([`crate::health`]).

mod answering;
mod request;

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Mutex, oneshot},
    task::JoinSet,
    time::{Instant, timeout},
};

use self::{
    answering::Answering,
    request::{Answer, NoPage, Request},
};
use crate::{
    health::{self, Place, Places},
    snapshot::{Purpose, Snapshots},
    telemetry::Telemetry,
};

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
            answering: Answering::default(),
        });
        let mut clients = JoinSet::new();
        let mut places = Places::new(MAX_CONNECTIONS);
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                // The client went away, or no file descriptor is free: do not spin.
                Err(error) => {
                    tracing::debug!(%error, "Server of metrics could not accept.");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            while clients.try_join_next().is_some() {}
            // A client that has sent its request, or is gone, no longer needs its place.
            places.retain(|place: &mut Place<oneshot::Sender<Infallible>>| !place.held.is_closed());
            if places.is_full() {
                // Dropping its place closes the client.
                drop(places.remove_victim());
            }
            let peer = peer.ip().to_canonical();
            let (held, lost) = oneshot::channel();
            places.push(Place {
                peer,
                since: std::time::Instant::now(),
                held,
            });
            let pages = Arc::clone(&pages);
            clients.spawn(async move {
                let client = Client { stream, peer };
                // A client that is too slow is closed.
                if let Ok(Err(error)) = timeout(deadline, client.serve(lost, &pages)).await {
                    tracing::debug!(%error, "Request for metrics could not be answered.");
                }
            });
        }
    }
}

/// The source of pages.
struct Pages {
    telemetry: Telemetry,
    snapshots: Snapshots,
    newest: Mutex<Option<(Instant, Arc<str>)>>,
    answering: Answering,
}

impl Pages {
    /// A page that is at most [`PAGE_LIFE`] old; `None` if the agent is stopping. One page is made
    /// at a time, and clients that ask meanwhile wait for it. If the client that had it made
    /// disconnects, the next one starts over.
    async fn newest(&self) -> Option<Arc<str>> {
        let mut newest = self.newest.lock().await;
        if let Some((made, page)) = &*newest
            && made.elapsed() < PAGE_LIFE
        {
            return Some(Arc::clone(page));
        }
        let snapshot = self.snapshots.take(Purpose::Look).await?;
        let page: Arc<str> = self.telemetry.page(snapshot).await?.into();
        *newest = Some((Instant::now(), Arc::clone(&page)));
        Some(page)
    }
}

/// One client.
struct Client {
    stream: TcpStream,
    peer: IpAddr,
}

impl Client {
    /// Reads one request and answers it. Until the request has been read, `lost` ends the client.
    async fn serve(mut self, lost: oneshot::Receiver<Infallible>, pages: &Pages) -> io::Result<()> {
        let request = tokio::select! {
            // A request that has arrived counts, even if the client has lost its place meanwhile.
            biased;
            request = self.request() => request?,
            _ = lost => None,
        };
        let Some(request) = request else {
            return Ok(());
        };
        // Other answers are short and are written at once.
        let is_page = matches!(request, Request::Page { .. });
        let under_way = is_page.then(|| pages.answering.enter(self.peer)).flatten();
        let page = match &under_way {
            Some(_) => pages.newest().await.ok_or(NoPage::Stopping),
            None => Err(NoPage::Busy),
        };
        let Answer { head, body } = request.answer(page);
        self.stream.write_all(head.as_bytes()).await?;
        if let Some(body) = body {
            self.stream.write_all(body.as_bytes()).await?;
        }
        // Release the place before the client sees the end: it may ask again at once.
        drop(under_way);
        self.stream.shutdown().await
    }

    /// The client's request; `None` if it has disconnected.
    async fn request(&mut self) -> io::Result<Option<Request>> {
        let mut received = Vec::new();
        loop {
            if let Some(request) = Request::read(&received, MAX_REQUEST_BYTES) {
                return Ok(Some(request));
            }
            let mut some = [0; 1024];
            let read = self.stream.read(&mut some).await?;
            if read == 0 {
                return Ok(None);
            }
            received.extend(some.iter().take(read));
        }
    }
}

/// How many clients may be without a request at one time. A Prometheus' request follows its
/// connection within a round trip; the rest may overtake it in that time. As many as the health
/// server has.
const MAX_CONNECTIONS: usize = 64;
/// A client is closed after this time. It is Prometheus' default timeout of a scrape, so Prometheus
/// waits no longer.
const DEADLINE: Duration = Duration::from_secs(10);
/// A Prometheus' request has some 300 bytes.
const MAX_REQUEST_BYTES: usize = 4 * 1024;
/// How long a page is served again. A page of 200 links takes some 10 ms, so endless requests cost
/// a twentieth of a core. As short as the shortest time between two exports.
const PAGE_LIFE: Duration = Duration::from_millis(200);
/// accept(2) may fail again at once: do not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
