//! The HTTP client behind http/protobuf: works on the runtime whatever thread asks.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

use super::{Reason, connector};
use crate::telemetry::config::Destination;

#[derive(Debug)]
pub(super) struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    headers: HeaderMap,
    timeout: Duration,
    runtime: Handle,
    reason: Reason,
}

impl Client {
    pub(super) fn new(to: &Destination, runtime: &Handle, reason: Reason) -> Self {
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(1)
            .build(connector(to));
        Self {
            pool,
            headers: to.headers.iter().cloned().collect(),
            timeout: to.timeout,
            runtime: runtime.clone(),
            reason,
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    /// Spawns the request: the SDK polls this on a thread without a runtime.
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let headers = self.headers.clone();
        request.headers_mut().extend(headers);
        let (pool, timeout) = (self.pool.clone(), self.timeout);
        let exchange = self.runtime.spawn(async move {
            let exchange = exchange(pool, request.map(Full::new));
            tokio::time::timeout(timeout, exchange).await?
        });
        let result = exchange.await.map_err(HttpError::from).flatten();
        result.inspect_err(|error| self.reason.note(error.as_ref()))
    }
}

async fn exchange(
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, HttpError> {
    let (parts, body) = pool.request(request).await?.into_parts();
    let body = Limited::new(body, LARGEST_ANSWER)
        .collect()
        .await?
        .to_bytes();
    Ok(Response::from_parts(parts, body))
}

/// A Collector answers with a few bytes; more is not a Collector.
const LARGEST_ANSWER: usize = 64 * 1024;
