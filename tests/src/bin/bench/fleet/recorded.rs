//! What a real agent sends, recorded: without a link, with one, and with one that is down. From it, what any
//! node of a fleet sends at any time.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    metrics::v1::{Metric, NumberDataPoint, metric::Data, number_data_point},
};
use prost::Message as _;
use statlink_tests::{
    peer::Traffic,
    scenario::{Bed, metric},
    wait,
};

use crate::PATIENCE;

/// Three requests of a real agent.
pub(super) struct Recorded {
    idle: ExportMetricsServiceRequest,
    up: ExportMetricsServiceRequest,
    down: ExportMetricsServiceRequest,
}

/// What a node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has no activator.
    Idle,
    /// Its activator's link is up.
    Up,
    /// It is down.
    Down,
}

impl Recorded {
    /// Has an agent of this build meet each of the three.
    pub(super) fn of_agent() -> Result<Self> {
        let mut bed = Bed::without_autoscaler()?;
        let recorder = bed.network.node().run(Recorder::start)??;
        // The autoscaler is on one node of a fleet, and here on the same.
        let mut options = crate::without_link(bed.agent_options())
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
            .env("STATLINK_EXPORT_INTERVAL", "1s")
            .env("STATLINK_KUBERNETES", "off")
            .env("STATLINK_NODE_NAME", "node")
            .env("STATLINK_CLUSTER_NAME", "fleet");
        options.endpoint = Some(format!("http://{}", recorder.address));
        bed.start_agent_with(&options)?;
        let idle = recorder.wait("an export without a link", |request| {
            value(request, metric::CHECKS).is_none()
        })?;
        bed.start_autoscaler()?;
        let activator = bed.activator("activator", Traffic::Every(Duration::from_secs(1)))?;
        let up = recorder.wait("an export of a link", |request| {
            value(request, metric::REACHABLE) == Some(1.0)
                && value(request, metric::CHECKS).is_some_and(|checks| checks >= 2.0)
        })?;
        bed.autoscaler = None;
        let down = recorder.wait("an export of an outage", |request| {
            value(request, metric::REACHABLE) == Some(0.0)
                && value(request, metric::ERRORS).is_some_and(|errors| errors >= 2.0)
        })?;
        drop(activator);
        Ok(Self { idle, up, down })
    }

    /// What this node sends as its export of this number.
    pub(super) fn request(
        &self,
        node: u32,
        state: State,
        number: u64,
        now: u64,
    ) -> ExportMetricsServiceRequest {
        let mut request = match state {
            State::Idle => &self.idle,
            State::Up => &self.up,
            State::Down => &self.down,
        }
        .clone();
        let name = format!("node-{node:05}");
        let pod = format!("activator-6f7d9c8b54-{node:05}");
        for of_node in &mut request.resource_metrics {
            for attribute in of_node.resource.iter_mut().flat_map(|r| &mut r.attributes) {
                if ["service.instance.id", "k8s.node.name"].contains(&attribute.key.as_str()) {
                    set(attribute, &name);
                }
            }
            let scopes = of_node.scope_metrics.iter_mut();
            for metric in scopes.flat_map(|scope| &mut scope.metrics) {
                renew(metric, &pod, number, now);
            }
        }
        request
    }
}

/// Makes a recorded metric that of another pod, at another time.
fn renew(metric: &mut Metric, pod: &str, number: u64, now: u64) {
    let attributes = |attributes: &mut Vec<KeyValue>| {
        for attribute in attributes {
            match attribute.key.as_str() {
                "k8s.pod.name" => set(attribute, pod),
                "k8s.namespace.name" => set(attribute, "knative-serving"),
                _ => {}
            }
        }
    };
    match &mut metric.data {
        Some(Data::Gauge(gauge)) => {
            for point in &mut gauge.data_points {
                attributes(&mut point.attributes);
                point.time_unix_nano = now;
            }
        }
        Some(Data::Sum(sum)) => {
            for point in &mut sum.data_points {
                attributes(&mut point.attributes);
                point.time_unix_nano = now;
                // What has counted goes on: a series that never changes costs a store next to nothing.
                if let Some(number_data_point::Value::AsInt(count @ 1..)) = &mut point.value {
                    *count = count.saturating_add_unsigned(number);
                }
            }
        }
        Some(Data::Histogram(histogram)) => {
            for point in &mut histogram.data_points {
                attributes(&mut point.attributes);
                point.time_unix_nano = now;
            }
        }
        Some(Data::ExponentialHistogram(_) | Data::Summary(_)) | None => {}
    }
}

fn set(attribute: &mut KeyValue, text: &str) {
    attribute.value = Some(AnyValue {
        value: Some(Value::StringValue(text.to_owned())),
    });
}

/// The sum of a metric's points; `None` if there is no such metric.
fn value(request: &ExportMetricsServiceRequest, name: &str) -> Option<f64> {
    let scopes = request
        .resource_metrics
        .iter()
        .flat_map(|r| &r.scope_metrics);
    let mut metrics = scopes.flat_map(|scope| &scope.metrics);
    let points = match &metrics.find(|metric| metric.name == name)?.data {
        Some(Data::Gauge(gauge)) => &gauge.data_points,
        Some(Data::Sum(sum)) => &sum.data_points,
        _ => return None,
    };
    let number = |point: &NumberDataPoint| match point.value {
        Some(number_data_point::Value::AsDouble(value)) => value,
        #[expect(clippy::cast_precision_loss, reason = "an agent of some seconds")]
        Some(number_data_point::Value::AsInt(value)) => value as f64,
        None => 0.0,
    };
    (!points.is_empty()).then(|| points.iter().map(number).sum())
}

/// A receiver of OTLP over HTTP that keeps what it gets.
struct Recorder {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
}

impl Recorder {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
        let address = listener.local_addr()?;
        let requests = Arc::<Mutex<Vec<_>>>::default();
        let kept = Arc::clone(&requests);
        // They end with the process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                thread::spawn(move || {
                    // An agent that ends closes its connection.
                    let _ = serve(client, &kept);
                });
            }
        });
        Ok(Self { address, requests })
    }

    /// The newest request, once it is as wanted.
    fn wait(
        &self,
        what: &str,
        wanted: impl Fn(&ExportMetricsServiceRequest) -> bool,
    ) -> Result<ExportMetricsServiceRequest> {
        wait::until(what, PATIENCE, || {
            let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(requests.last().filter(|last| wanted(last)).cloned())
        })
    }
}

fn serve(client: TcpStream, kept: &Mutex<Vec<ExportMetricsServiceRequest>>) -> Result<()> {
    let mut answers = client.try_clone()?;
    let mut reader = BufReader::new(client);
    loop {
        let (mut length, mut is_compressed) = (0, false);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            is_compressed |= line.starts_with("content-encoding:") && line.ends_with("gzip");
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        if is_compressed {
            body = plain(&body)?;
        }
        let request = ExportMetricsServiceRequest::decode(&*body)?;
        kept.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request);
        answers.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}

fn plain(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    GzDecoder::new(body).read_to_end(&mut plain)?;
    Ok(plain)
}
