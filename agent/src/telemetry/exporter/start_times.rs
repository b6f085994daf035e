//! Gives the counters of pods the start times that are remembered.
//!
//! The SDK dates every counter from its own start, and has no way to say otherwise. A pod's counters may
//! be older: they go on where an agent before this one left them. Whoever goes by the start time would
//! take a new one for a reset, and count all of it again. So requests are written anew on their way out:
//! the SDK's exporter hands each one to this client as protobuf, whatever the protocol, and retries as
//! it does.

use std::{
    io::{self, Read as _, Write as _},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header::CONTENT_ENCODING};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient,
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{NumberDataPoint, metric::Data},
};
use prost::Message as _;
use tokio::runtime::Handle;
use tonic::{Code, Status, codec::CompressionEncoding, metadata::MetadataMap, transport::Channel};

use super::{http_client::Client, last_error::LastError};
use crate::{memory::Memory, snapshot::SeriesName};

/// Writes requests anew, and sends them.
#[derive(Debug)]
pub(super) struct StartTimes {
    pub(super) memory: Arc<Memory>,
    pub(super) gzip: bool,
    pub(super) transport: Transport,
}

/// How requests are sent.
#[derive(Debug)]
pub(super) enum Transport {
    Http(Box<Client>),
    Grpc(Grpc),
}

/// A Collector that speaks gRPC.
#[derive(Debug)]
pub(super) struct Grpc {
    channel: Channel,
    headers: MetadataMap,
    runtime: Handle,
    last_error: LastError,
}

#[async_trait]
impl HttpClient for StartTimes {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut parts, body) = request.into_parts();
        // The SDK compresses by itself where the environment asks for it.
        let mut metrics = match parts.headers.remove(CONTENT_ENCODING) {
            Some(_) => ExportMetricsServiceRequest::decode(&*decompressed(&body)?)?,
            None => ExportMetricsServiceRequest::decode(body)?,
        };
        date(&mut metrics, |name| self.memory.series_began(name));
        match &self.transport {
            Transport::Http(client) => {
                let mut body = metrics.encode_to_vec();
                if self.gzip {
                    body = compressed(&body)?;
                    let gzip = HeaderValue::from_static("gzip");
                    parts.headers.insert(CONTENT_ENCODING, gzip);
                }
                client
                    .send_bytes(Request::from_parts(parts, body.into()))
                    .await
            }
            Transport::Grpc(grpc) => grpc.send(metrics, self.gzip).await,
        }
    }
}

impl Grpc {
    pub(super) fn new(
        channel: Channel,
        headers: HeaderMap,
        runtime: &Handle,
        last_error: LastError,
    ) -> Self {
        Self {
            channel,
            headers: MetadataMap::from_headers(headers),
            runtime: runtime.clone(),
            last_error,
        }
    }

    /// Answers as a Collector that speaks HTTP would.
    async fn send(
        &self,
        metrics: ExportMetricsServiceRequest,
        gzip: bool,
    ) -> Result<Response<Bytes>, HttpError> {
        let mut client = MetricsServiceClient::new(self.channel.clone());
        if gzip {
            client = client
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        let mut request = tonic::Request::new(metrics);
        *request.metadata_mut() = self.headers.clone();
        // The SDK polls this on a thread without a runtime.
        let call = self
            .runtime
            .spawn(async move { client.export(request).await });
        match call.await? {
            Ok(answer) => Ok(Response::new(answer.into_inner().encode_to_vec().into())),
            Err(refused) => {
                self.last_error.set(&refused);
                let mut response = Response::new(Bytes::new());
                *response.status_mut() = status(&refused);
                Ok(response)
            }
        }
    }
}

/// The status of HTTP that has the SDK do what the status of gRPC asks for: try again, or not.
/// (OTLP specification, *OTLP/gRPC response*; a refusal for lack of resources without a delay is final.)
fn status(refused: &Status) -> StatusCode {
    match refused.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => StatusCode::SERVICE_UNAVAILABLE,
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Internal
        | Code::Unauthenticated => StatusCode::BAD_REQUEST,
    }
}

/// Dates the counters of every pod of which it is known since when they count.
fn date(metrics: &mut ExportMetricsServiceRequest, began: impl Fn(&SeriesName) -> Option<u64>) {
    let resources = metrics.resource_metrics.iter_mut();
    let scopes = resources.flat_map(|resource| &mut resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &mut scope.metrics) {
        if let Some(Data::Sum(sum)) = &mut metric.data {
            for point in &mut sum.data_points {
                if let Some(began) = series(point).and_then(|name| began(&name)) {
                    // A clock that was set back must not date a series after its points.
                    point.start_time_unix_nano = began.min(point.time_unix_nano);
                }
            }
        }
    }
}

/// The pod's series that a point is of; `None` of a point about the agent.
fn series(point: &NumberDataPoint) -> Option<SeriesName> {
    let value = |key: &str| {
        let mut attributes = point.attributes.iter();
        attributes
            .find(|attribute| attribute.key == key)
            .and_then(text)
    };
    Some(SeriesName {
        peer: value("peer")?,
        namespace: value("k8s.namespace.name")?,
        pod: value("k8s.pod.name")?,
    })
}

fn text(attribute: &KeyValue) -> Option<String> {
    let Value::StringValue(text) = attribute.value.as_ref()?.value.as_ref()? else {
        return None;
    };
    Some(text.clone())
}

fn compressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn decompressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain)?;
    Ok(plain)
}
