//! Gives pods' counters the start times that the memory holds.
//!
//! The SDK dates every counter from its own start and offers no other way. A pod's counters may be
//! older: they continue those of an agent before this one. A backend that reads the start time
//! would take a new one for a reset and count everything again. So requests are rewritten on their
//! way out: the SDK's exporter gives each one to this client as protobuf, whatever the protocol,
//! and handles retries itself.

use std::{
    io::{self, Read as _, Write as _},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_ENCODING, RETRY_AFTER},
};
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
use tonic_types::StatusExt as _;

use super::{http_client::Client, last_error::LastError};
use crate::{memory::Memory, snapshot::SeriesName};

/// Rewrites requests and sends them.
#[derive(Debug)]
pub(super) struct StartTimes {
    pub(super) memory: Arc<Memory>,
    pub(super) gzip: bool,
    pub(super) transport: Transport,
}

/// The transport of the rewritten requests.
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
        // The SDK compresses by itself if the environment asks for it.
        let mut metrics = match parts.headers.remove(CONTENT_ENCODING) {
            Some(_) => ExportMetricsServiceRequest::decode(&*decompressed(&body)?)?,
            None => ExportMetricsServiceRequest::decode(body)?,
        };
        date(&mut metrics, |name, at| self.memory.series_began(name, at));
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

    /// Answers like a Collector that speaks HTTP.
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
                Ok(answer(&refused))
            }
        }
    }
}

/// The HTTP answer with the same meaning as a gRPC status: the SDK retries or gives up as the
/// status demands, and [`failure`](super::failure) classifies it alike. (OTLP specification,
/// *OTLP/gRPC response*; a refusal for lack of resources without a delay is final.)
fn answer(refused: &Status) -> Response<Bytes> {
    let delay = refused.get_details_retry_info();
    let delay = delay.and_then(|info| info.retry_delay);
    let status = match refused.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => StatusCode::SERVICE_UNAVAILABLE,
        Code::ResourceExhausted if delay.is_some() => StatusCode::TOO_MANY_REQUESTS,
        Code::ResourceExhausted => StatusCode::PAYLOAD_TOO_LARGE,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unimplemented => StatusCode::NOT_FOUND,
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Internal => StatusCode::BAD_REQUEST,
    };
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = status;
    let is_asked_to_wait = matches!(refused.code(), Code::ResourceExhausted | Code::Unavailable);
    if let Some(delay) = delay.filter(|_| is_asked_to_wait) {
        // The header has whole seconds. Round up: a later retry is better than an early one.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    answer
}

/// Dates the counters of each pod with a known start time, given the time of a point.
fn date(
    metrics: &mut ExportMetricsServiceRequest,
    began: impl Fn(&SeriesName, u64) -> Option<u64>,
) {
    let resources = metrics.resource_metrics.iter_mut();
    let scopes = resources.flat_map(|resource| &mut resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &mut scope.metrics) {
        if let Some(Data::Sum(sum)) = &mut metric.data {
            for point in &mut sum.data_points {
                let at = point.time_unix_nano;
                if let Some(began) = series(point).and_then(|name| began(&name, at)) {
                    point.start_time_unix_nano = began;
                }
            }
        }
    }
}

/// The series that a point belongs to; `None` for a point about the agent.
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::{super::failure::Failure, *};

    /// A memory must not change retries or what the log says.
    #[test]
    fn a_refusal_by_grpc_means_the_same_with_a_memory() {
        for code in (0..17).map(Code::from_i32) {
            let answer = answer(&Status::new(code, "why"));
            let by_grpc = format!("export failed with gRPC code: {code:?}");
            let by_http = format!("export failed with status code: {}", answer.status());
            assert_eq!(Failure::of(&by_http), Failure::of(&by_grpc), "{code:?}");
            // The SDK's own rule for gRPC.
            let is_tried_again = [
                Code::Cancelled,
                Code::DeadlineExceeded,
                Code::Aborted,
                Code::OutOfRange,
                Code::Unavailable,
                Code::DataLoss,
            ];
            let again = answer.status() == StatusCode::SERVICE_UNAVAILABLE;
            assert_eq!(again, is_tried_again.contains(&code), "{code:?}");
            assert_eq!(answer.headers().get(RETRY_AFTER), None, "{code:?}");
        }
    }

    #[test]
    fn a_collector_that_asks_for_time_gets_it() {
        for (code, status) in [
            (Code::ResourceExhausted, StatusCode::TOO_MANY_REQUESTS),
            (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE),
        ] {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1_200)));
            let answer = answer(&Status::with_error_details(code, "why", details));
            assert_eq!(answer.status(), status);
            assert_eq!(answer.headers()[RETRY_AFTER], "2");
        }
    }
}
