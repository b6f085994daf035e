//! Requests to the Kubernetes API: with the user's kubeconfig, without a cache, and with every
//! answer bounded in time and size.

use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Client, Config,
    api::AttachParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

use super::access::Access;

/// A cluster and the two namespaces of interest.
pub(super) struct Api {
    client: Client,
    /// The agents' namespace.
    pub(super) namespace: String,
    /// The activators' namespace.
    pub(super) serving_namespace: String,
    selector: String,
    timeout: Duration,
}

impl Api {
    /// Finds the cluster as kubectl does.
    ///
    /// # Errors
    ///
    /// If there is no kubeconfig, or it does not have the context.
    pub(super) async fn connect(access: &Access) -> anyhow::Result<Self> {
        let config = match &access.context {
            None => Config::infer().await.context("find a kubeconfig")?,
            Some(context) => {
                let file = Kubeconfig::read().context("read the kubeconfig")?;
                let options = KubeConfigOptions {
                    context: Some(context.clone()),
                    ..KubeConfigOptions::default()
                };
                Config::from_custom_kubeconfig(file, &options)
                    .await
                    .with_context(|| format!("use context {context} of the kubeconfig"))?
            }
        };
        Ok(Self {
            client: Client::try_from(config).context("connect to the Kubernetes API")?,
            namespace: access.namespace.clone(),
            serving_namespace: access.serving_namespace.clone(),
            selector: access.selector.clone(),
            timeout: access.timeout,
        })
    }

    /// The agents' pods.
    pub(super) async fn agents(&self) -> anyhow::Result<Vec<Value>> {
        self.pods(&self.namespace, &self.selector).await
    }

    /// The activators' pods.
    pub(super) async fn activators(&self) -> anyhow::Result<Vec<Value>> {
        self.pods(&self.serving_namespace, ACTIVATORS).await
    }

    async fn pods(&self, namespace: &str, selector: &str) -> anyhow::Result<Vec<Value>> {
        let path = format!("/api/v1/namespaces/{}/pods", encoded(namespace));
        self.list(&path, selector).await
    }

    /// All objects at a path, page by page.
    pub(super) async fn list(&self, path: &str, selector: &str) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut go_on = String::new();
        loop {
            let selector = encoded(selector);
            let page = format!("{path}?limit={PAGE}&labelSelector={selector}&continue={go_on}");
            let mut list = self.get(&page).await?;
            if let Some(Value::Array(page)) = list.get_mut("items").map(Value::take) {
                items.extend(page);
            }
            match list["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => go_on = encoded(next),
                _ => return Ok(items),
            }
        }
    }

    /// One object.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = Request::get(path).body(Vec::new())?;
        let asked = timeout(self.timeout, self.client.request(request)).await;
        asked
            .map_err(|_| self.too_late())?
            .map_err(in_its_words)
            .with_context(|| format!("GET {}", path.split('?').next().unwrap_or(path)))
    }

    /// The last lines of a container's log, or of its predecessor's.
    ///
    /// # Errors
    ///
    /// If there is no log, or it does not arrive in time.
    pub(super) async fn log(&self, pod: &str, previous: bool) -> anyhow::Result<String> {
        let (namespace, pod) = (encoded(&self.namespace), encoded(pod));
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods/{pod}/log?container={CONTAINER}\
             &previous={previous}&tailLines={LOG_LINES}&limitBytes={LARGEST}"
        );
        let request = Request::get(path).body(Vec::new())?;
        let asked = timeout(self.timeout, self.client.request_text(request)).await;
        let log = asked.map_err(|_| self.too_late())?.map_err(in_its_words)?;
        if log.starts_with(NO_LOG) {
            bail!("{}", log.trim_end());
        }
        Ok(log)
    }

    /// Runs a command of the agent; returns its output and exit code.
    ///
    /// # Errors
    ///
    /// If the command cannot be run, does not end in time, or prints too much.
    pub(super) async fn run(&self, pod: &str, command: &[&str]) -> anyhow::Result<Output> {
        timeout(self.timeout, self.run_unbounded(pod, command))
            .await
            .map_err(|_| self.too_late())?
    }

    async fn run_unbounded(&self, pod: &str, command: &[&str]) -> anyhow::Result<Output> {
        let mut process = self.start(pod, command).await?;
        let status = process.take_status().context("no exit code is told")?;
        let (out, err) = (process.stdout(), process.stderr());
        let (stdout, stderr) = tokio::try_join!(whole(out), whole(err))?;
        let code = match status.await {
            Some(status) => exit_code(&status)?,
            None => bail!("the connection ended before the command did"),
        };
        Ok(Output {
            stdout,
            stderr,
            code,
        })
    }

    /// Runs a command; returns its output as it is printed.
    pub(super) async fn follow(
        &self,
        pod: &str,
        command: &[&str],
    ) -> anyhow::Result<(impl AsyncRead + Unpin + use<>, kube::api::AttachedProcess)> {
        let mut process = self.start(pod, command).await?;
        let stdout = process.stdout().context("no standard output")?;
        Ok((stdout, process))
    }

    async fn start(
        &self,
        pod: &str,
        command: &[&str],
    ) -> anyhow::Result<kube::api::AttachedProcess> {
        let pods = kube::Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let parameters = AttachParams::default()
            .container(CONTAINER)
            .stdin(false)
            .stdout(true)
            .stderr(true);
        let command = [PROGRAM].iter().chain(command).copied();
        let started = pods.exec(pod, command, &parameters).await;
        started.map_err(in_its_words)
    }

    fn too_late(&self) -> anyhow::Error {
        let waited = humantime::format_duration(self.timeout);
        anyhow::anyhow!("no answer within {waited}")
    }
}

/// What a command printed.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stdout: String,
    pub(super) stderr: String,
    /// Its exit code.
    pub(super) code: u8,
}

/// A whole stream, up to [`LARGEST`].
async fn whole(stream: Option<impl AsyncRead + Unpin>) -> anyhow::Result<String> {
    let mut text = Vec::new();
    if let Some(stream) = stream {
        stream.take(LARGEST).read_to_end(&mut text).await?;
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The API server's own message, if it answered: kube shows the same text three times, once in
/// Rust's debug format.
fn in_its_words(error: kube::Error) -> anyhow::Error {
    if let kube::Error::Api(status) = &error
        && !status.message.is_empty()
    {
        return anyhow::anyhow!(status.message.clone());
    }
    error.into()
}

/// The exit code, from the status that the API server sends at the end of a command: `Success`, or
/// `Failure` with the code among its causes (`k8s.io/apimachinery`, `StatusReasonNonZeroExitCode`).
fn exit_code(
    status: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Status,
) -> anyhow::Result<u8> {
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let code = causes
        .flatten()
        .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
        .and_then(|cause| cause.message.as_deref()?.parse().ok());
    let message = status.message.as_deref().unwrap_or("the command failed");
    code.with_context(|| message.to_owned())
}

/// Encodes a part of a path or a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The agent's path in the image.
const PROGRAM: &str = "/statlink";
/// The container's name in the chart.
pub(super) const CONTAINER: &str = "statlink";
/// Knative's own label.
const ACTIVATORS: &str = "app=activator";
/// kubectl's own page size.
const PAGE: u32 = 500;
/// Lines of a log: an agent writes these in some days, and they transfer in a second.
const LOG_LINES: u32 = 5_000;
/// The beginning of the kubelet's answer if it has removed the container whose log is requested. It
/// comes instead of a log, and as a success (`GetContainerLogs()`,
/// `pkg/kubelet/kuberuntime/kuberuntime_container.go`).
const NO_LOG: &str = "unable to retrieve container logs for ";
/// The most that is read of one answer. The status of 200 links is some 60 kB, so a larger answer
/// is no status.
const LARGEST: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: Value) -> anyhow::Result<u8> {
        exit_code(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn the_exit_code_is_among_the_causes() {
        assert_eq!(status(serde_json::json!({"status": "Success"})).unwrap(), 0);
        let failed = serde_json::json!({
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": "command terminated with non-zero exit code",
            "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
        });
        assert_eq!(status(failed).unwrap(), 3);
    }

    #[test]
    fn what_is_no_exit_is_an_error_with_its_message() {
        let lost = serde_json::json!({"status": "Failure", "message": "container not found"});
        assert_eq!(status(lost).unwrap_err().to_string(), "container not found");
    }

    #[test]
    fn a_refusal_is_told_once_in_the_api_server_s_words() {
        let status =
            serde_json::json!({"status": "Failure", "code": 403, "message": "pods is forbidden"});
        let refused = kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()));
        assert_eq!(format!("{:#}", in_its_words(refused)), "pods is forbidden");
    }

    #[test]
    fn nothing_in_a_name_acts_in_a_path() {
        assert_eq!(encoded("a/../b?c"), "a%2F%2E%2E%2Fb%3Fc");
    }
}
