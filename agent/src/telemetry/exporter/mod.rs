//! Builds the OTLP exporters. Both protocols connect and verify certificates in the same way.
//!
//! The SDK's own HTTP clients are not used: the asynchronous ones panic on the thread of its
//! reader, and the blocking one brings a second runtime. tonic's TLS is not used either, so that
//! both protocols trust the same authorities, from the same variables.

mod bounded;
mod connector;
mod credentials;
mod export_log;
mod failure;
mod http_client;
mod last_error;
mod start_times;

use std::sync::Arc;

use opentelemetry_http::HttpClient;
use opentelemetry_otlp::{
    Compression, ExporterBuildError, LogExporter, MetricExporter, RetryPolicy, WithExportConfig,
    WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::metrics::{
    Temporality, data::ResourceMetrics, exporter::PushMetricExporter as _,
};
use tokio::runtime::{Handle, TryCurrentError};
use tonic::{
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};

use super::config::{Destination, Protocol};
use crate::memory::Memory;
use connector::Connector;
use http_client::Client;
use start_times::{Grpc, StartTimes, Transport};

pub(super) use bounded::BoundedExporter;
pub(super) use export_log::ExportLog;
pub(super) use last_error::LastError;

/// Why an exporter could not be built from a valid configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// There is no tokio runtime to carry the connections.
    #[error("telemetry has to be started on a tokio runtime: {0}")]
    NoRuntime(#[from] TryCurrentError),
    /// The SDK refused.
    #[error("OTLP exporter to {endpoint}: {source}")]
    Refused {
        /// The endpoint of the signal.
        endpoint: String,
        /// Why it refused.
        source: ExporterBuildError,
    },
    /// tonic refused the endpoint.
    #[error("OTLP endpoint {endpoint}: {source}")]
    Endpoint {
        /// The endpoint of the signal.
        endpoint: String,
        /// Why it refused.
        source: tonic::transport::Error,
    },
}

/// Why a Collector did not accept a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// No exporter could be built for the destination.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The Collector cannot be reached or did not accept the request.
    #[error("{0}")]
    Refused(String),
}

impl From<TryCurrentError> for ProbeError {
    fn from(error: TryCurrentError) -> Self {
        Self::Build(error.into())
    }
}

/// Builds the exporter of metrics. It connects at the first export, on `runtime`. With a `memory`,
/// pods' counters get the start times that it holds.
pub(super) fn metrics(
    to: &Destination,
    runtime: &Handle,
    last_error: &LastError,
    memory: Option<Arc<Memory>>,
) -> Result<MetricExporter, BuildError> {
    let builder = MetricExporter::builder().with_temporality(Temporality::Cumulative);
    let built = match (memory, to.protocol) {
        (None, Protocol::Grpc) => grpc(builder.with_tonic(), to, runtime)?.build(),
        (None, Protocol::Http) => http(builder.with_http(), to, runtime, last_error).build(),
        (Some(memory), protocol) => {
            let transport = match protocol {
                Protocol::Grpc => Transport::Grpc(Grpc::new(
                    channel(to, runtime)?,
                    to.headers.iter().cloned().collect(),
                    runtime,
                    last_error.clone(),
                )),
                Protocol::Http => {
                    Transport::Http(Box::new(Client::new(to, runtime, last_error.clone())))
                }
            };
            let client = StartTimes {
                memory,
                gzip: to.gzip,
                transport,
            };
            over(builder.with_http(), to, client).build()
        }
    };
    built.map_err(|source| refused(to, source))
}

/// Builds the exporter of logs. It connects at the first export, on `runtime`.
pub(super) fn logs(
    to: &Destination,
    runtime: &Handle,
    last_error: &LastError,
) -> Result<LogExporter, BuildError> {
    let builder = LogExporter::builder();
    let built = match to.protocol {
        Protocol::Grpc => grpc(builder.with_tonic(), to, runtime)?.build(),
        Protocol::Http => http(builder.with_http(), to, runtime, last_error).build(),
    };
    built.map_err(|source| refused(to, source))
}

/// Sends one request without a metric, to see whether the Collector at `to` accepts it.
pub(super) async fn probe(to: &Destination) -> Result<(), ProbeError> {
    let last_error = LastError::default();
    let exporter = metrics(to, &Handle::try_current()?, &last_error, None)?;
    let export = async { exporter.export(&ResourceMetrics::default()).await };
    match tokio::time::timeout(to.timeout, export).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(ProbeError::Refused(last_error.explain(error.to_string()))),
        Err(_) => {
            let error = format!("no answer within {} ms", to.timeout.as_millis());
            Err(ProbeError::Refused(last_error.explain(error)))
        }
    }
}

fn refused(to: &Destination, source: ExporterBuildError) -> BuildError {
    BuildError::Refused {
        endpoint: to.endpoint.to_string(),
        source,
    }
}

fn grpc<B>(builder: B, to: &Destination, runtime: &Handle) -> Result<B, BuildError>
where
    B: WithTonicConfig + WithExportConfig,
{
    let headers = MetadataMap::from_headers(to.headers.iter().cloned().collect());
    let builder = builder
        .with_channel(channel(to, runtime)?)
        .with_metadata(headers)
        .with_timeout(to.timeout)
        .with_retry_policy(RetryPolicy::recommended());
    Ok(if to.gzip {
        builder.with_compression(Compression::Gzip)
    } else {
        builder
    })
}

fn http<B>(builder: B, to: &Destination, runtime: &Handle, last_error: &LastError) -> B
where
    B: WithHttpConfig + WithExportConfig,
{
    let builder = over(builder, to, Client::new(to, runtime, last_error.clone()));
    if to.gzip {
        builder.with_compression(Compression::Gzip)
    } else {
        builder
    }
}

/// Sends requests over HTTP with this client.
fn over<B>(builder: B, to: &Destination, client: impl HttpClient + 'static) -> B
where
    B: WithHttpConfig + WithExportConfig,
{
    builder
        .with_http_client(client)
        .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
        .with_endpoint(to.endpoint.to_string())
        .with_timeout(to.timeout)
        .with_retry_policy(RetryPolicy::recommended())
}

/// A channel that also bounds the time to connect: tonic's own timeout begins once it is connected.
fn channel(to: &Destination, runtime: &Handle) -> Result<Channel, BuildError> {
    let endpoint = Endpoint::from_shared(to.endpoint.to_string())
        .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
        .map_err(|source| BuildError::Endpoint {
            endpoint: to.endpoint.to_string(),
            source,
        })?;
    // The channel spawns its worker on the runtime that is entered here.
    let _context = runtime.enter();
    Ok(endpoint
        .timeout(to.timeout)
        .connect_timeout(to.timeout)
        .connect_with_connector_lazy(Connector::new(to)))
}

/// Precedes the transport's own name in each request's user agent.
const USER_AGENT: &str = concat!("statlink/", env!("CARGO_PKG_VERSION"));
