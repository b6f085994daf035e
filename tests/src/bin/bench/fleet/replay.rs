//! The agents of a fleet, as far as a Collector can tell: a connection of its own for each, with the real
//! cadence, and what a real one does when it is refused.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::Client as Pool,
    rt::{TokioExecutor, TokioIo},
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient,
};
use prost::Message as _;
use statlink_tests::netns::Namespace;
use tokio::{net::TcpStream, sync::watch, time};
use tonic::{
    codec::CompressionEncoding,
    transport::{Channel, Endpoint},
};

use super::recorded::{Recorded, State};

/// Where a fleet sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum To {
    /// OTLP over gRPC, as agents do by default.
    Grpc(SocketAddr),
    /// OTLP over HTTP to this path.
    Http(SocketAddr, &'static str),
}

/// What nodes there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) nodes: u32,
    /// The first so many have an activator.
    pub(super) links: u32,
    /// The first so many of these have the outage.
    pub(super) hit: u32,
}

/// A fleet at work, until it is dropped.
pub(super) struct Fleet {
    log: Arc<Log>,
    outage: watch::Sender<bool>,
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// What its agents did.
#[derive(Default)]
struct Log {
    exports: Mutex<Vec<Export>>,
    connections: Mutex<Vec<Instant>>,
}

/// One export that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Export {
    pub(super) node: u32,
    pub(super) at: Instant,
    pub(super) has_arrived: bool,
}

impl Fleet {
    /// Starts all of it at once.
    pub(super) fn start(at: &Namespace, size: Size, to: To, recorded: &Arc<Recorded>) -> Self {
        let (outage, is_out) = watch::channel(false);
        let (stop, stopped) = watch::channel(());
        let log = Arc::<Log>::default();
        let (kept, at, recorded) = (Arc::clone(&log), at.clone(), Arc::clone(recorded));
        let thread = thread::spawn(move || {
            at.run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let mut stopped = stopped;
                runtime.block_on(async move {
                    for node in 0..size.nodes {
                        let agent = Agent::new(node, size, is_out.clone(), &kept);
                        tokio::spawn(agent.run(Sender::new(to, &kept)?, Arc::clone(&recorded)));
                    }
                    // The other end is dropped.
                    let _ = stopped.changed().await;
                    anyhow::Ok(())
                })
            })?
        });
        Self {
            log,
            outage,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Begins the outage of the nodes that have it, or ends it.
    pub(super) fn outage(&self, is_out: bool) {
        self.outage.send_replace(is_out);
    }

    /// The exports that ended since then.
    pub(super) fn exports_since(&self, since: Instant) -> Vec<Export> {
        let exports = lock(&self.log.exports);
        let exports = exports.iter().filter(|export| export.at >= since);
        exports.copied().collect()
    }

    /// The connections that were begun since then.
    pub(super) fn connections_since(&self, since: Instant) -> Vec<Instant> {
        let connections = lock(&self.log.connections);
        let connections = connections.iter().filter(|at| **at >= since);
        connections.copied().collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("fleet: {error:#}");
        }
    }
}

/// One node's.
struct Agent {
    node: u32,
    has_link: bool,
    /// Changes where this one has the outage.
    outage: Option<watch::Receiver<bool>>,
    interval: Duration,
    log: Arc<Log>,
}

impl Agent {
    fn new(node: u32, size: Size, outage: watch::Receiver<bool>, log: &Arc<Log>) -> Self {
        let has_link = node < size.links;
        Self {
            node,
            has_link,
            outage: (node < size.hit).then_some(outage),
            interval: if has_link { INTERVAL } else { REST },
            log: Arc::clone(log),
        }
    }

    /// Exports at each beat, and at once when its link changes. As an agent has it, chance says when the first
    /// beat comes, and when the next.
    async fn run(mut self, mut sender: Sender, recorded: Arc<Recorded>) {
        let phase = fastrand::f64();
        let mut beat = time::Instant::now() + INTERVAL.mul_f64(phase);
        let mut interval = self
            .interval
            .mul_f64(if self.has_link { 1.0 } else { phase });
        for number in 0.. {
            tokio::select! {
                () = time::sleep_until(beat) => {
                    beat += interval;
                    interval = self.interval;
                }
                Some(()) = changed(self.outage.as_mut()) => {}
            }
            let is_out = self.outage.as_ref().is_some_and(|outage| *outage.borrow());
            let state = match (self.has_link, is_out) {
                (false, _) => State::Idle,
                (true, false) => State::Up,
                (true, true) => State::Down,
            };
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
            let request = recorded.request(self.node, state, number, now);
            let has_arrived = sender.export(request).await;
            lock(&self.log.exports).push(Export {
                node: self.node,
                at: Instant::now(),
                has_arrived,
            });
        }
    }
}

/// Once the outage begins or ends; never of a node that has none.
async fn changed(outage: Option<&mut watch::Receiver<bool>>) -> Option<()> {
    match outage {
        Some(outage) => outage.changed().await.ok(),
        None => std::future::pending().await,
    }
}

/// A connection of an agent's, made at its first export, and again at the next one once it was lost.
enum Sender {
    Grpc(MetricsServiceClient<Channel>),
    Http(Box<Pool<Connector, Full<Bytes>>>, Uri),
}

impl Sender {
    fn new(to: To, log: &Arc<Log>) -> Result<Self> {
        let connector = Connector {
            log: Arc::clone(log),
        };
        Ok(match to {
            To::Grpc(address) => {
                let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
                let endpoint = endpoint.timeout(TIMEOUT).connect_timeout(TIMEOUT);
                let client =
                    MetricsServiceClient::new(endpoint.connect_with_connector_lazy(connector));
                Self::Grpc(
                    client
                        .send_compressed(CompressionEncoding::Gzip)
                        .accept_compressed(CompressionEncoding::Gzip),
                )
            }
            To::Http(address, path) => {
                let pool = Pool::builder(TokioExecutor::new())
                    .pool_max_idle_per_host(1)
                    .build(connector);
                Self::Http(Box::new(pool), format!("http://{address}{path}").parse()?)
            }
        })
    }

    /// As the SDK does it: four tries within the time of one.
    async fn export(&mut self, request: ExportMetricsServiceRequest) -> bool {
        let tries = async {
            for pause in PAUSES {
                if self.send(request.clone()).await.is_ok() {
                    return true;
                }
                time::sleep(pause + JITTER.mul_f64(fastrand::f64())).await;
            }
            self.send(request).await.is_ok()
        };
        time::timeout(TIMEOUT, tries).await.unwrap_or(false)
    }

    async fn send(&mut self, request: ExportMetricsServiceRequest) -> Result<()> {
        match self {
            Self::Grpc(client) => {
                client.export(request).await?;
            }
            Self::Http(pool, uri) => {
                let mut body = GzEncoder::new(Vec::new(), Compression::default());
                std::io::Write::write_all(&mut body, &request.encode_to_vec())?;
                let body = Full::new(Bytes::from(body.finish()?));
                let request = Request::builder()
                    .method(Method::POST)
                    .uri(uri.clone())
                    .header("content-type", "application/x-protobuf")
                    .header("content-encoding", "gzip")
                    .body(body)?;
                let answer = pool.request(request).await?;
                let status = answer.status();
                // Read to its end, so that the connection is used again.
                answer.into_body().collect().await?;
                status
                    .is_success()
                    .then_some(())
                    .with_context(|| status.to_string())?;
            }
        }
        Ok(())
    }
}

/// Connects, and notes when.
#[derive(Clone)]
struct Connector {
    log: Arc<Log>,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = std::io::Result<TokioIo<TcpStream>>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        lock(&self.log.connections).push(Instant::now());
        Box::pin(async move {
            let authority = to.authority().map(ToString::to_string);
            let authority =
                authority.ok_or_else(|| std::io::Error::other(anyhow!("no authority")))?;
            let stream = TcpStream::connect(authority).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The agent's own: `DEFAULT_INTERVAL`, `REST` and `DEFAULT_TIMEOUT`.
const INTERVAL: Duration = Duration::from_secs(10);
const REST: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(3);
/// Of `opentelemetry_otlp`'s recommended policy of retries.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];
const JITTER: Duration = Duration::from_millis(100);
