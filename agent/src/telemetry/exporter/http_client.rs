//! The HTTP client for http/protobuf. Its requests run on the runtime, whichever thread makes them.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::Client as Pool,
    rt::{TokioExecutor, TokioTimer},
};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

use super::{connector::Connector, last_error::LastError};
use crate::telemetry::config::Destination;

#[derive(Debug)]
pub(super) struct Client {
    pool: Pool<Connector, Full<Bytes>>,
    headers: HeaderMap,
    timeout: Duration,
    runtime: Handle,
    last_error: LastError,
}

impl Client {
    pub(super) fn new(to: &Destination, runtime: &Handle, last_error: LastError) -> Self {
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // Exports do not overlap, so a second connection would never be used.
            .pool_max_idle_per_host(1)
            .build(Connector::new(to));
        Self {
            pool,
            headers: to.headers.iter().cloned().collect(),
            timeout: to.timeout,
            runtime: runtime.clone(),
            last_error,
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    /// Spawns the request, because the SDK polls this on a thread without a runtime.
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let headers = self.headers.clone();
        request.headers_mut().extend(headers);
        let (pool, timeout) = (self.pool.clone(), self.timeout);
        let exchange = self.runtime.spawn(async move {
            let exchange = exchange(pool, request.map(Full::new));
            tokio::time::timeout(timeout, exchange).await?
        });
        let result = exchange.await.map_err(HttpError::from).flatten();
        result.inspect_err(|error| self.last_error.set(error.as_ref()))
    }
}

async fn exchange(
    pool: Pool<Connector, Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, HttpError> {
    let (parts, body) = pool.request(request).await?.into_parts();
    let body = Limited::new(body, MAX_RESPONSE_BYTES)
        .collect()
        .await?
        .to_bytes();
    Ok(Response::from_parts(parts, body))
}

/// A Collector answers with a few bytes. A server that sends more than this is not one.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;
