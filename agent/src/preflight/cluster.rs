//! The Kubernetes API: whether it answers, and whether the agent may watch what it needs.

use std::time::Duration;

use super::finding::{Finding, Verdict};
use crate::{
    discovery::{
        Discovery,
        kubernetes::{self, ConfigError, Settings},
    },
    options::Options,
};

/// The findings, and a discovery that knows what the API listed.
pub(super) async fn check(options: &Options) -> (Vec<Finding>, Discovery) {
    let alone = Discovery::new(options.selector.clone());
    let Some(settings) = &options.kubernetes else {
        let finding = Finding::new("Kubernetes API", PURPOSE, "not used");
        return (vec![finding], alone);
    };
    let (sender, mut events) = kubernetes::event_queue();
    let tried = async {
        let server = kubernetes::find().await?;
        let access = kubernetes::probe(&server, settings).await?;
        kubernetes::watch(&server, settings, &sender)?;
        Ok::<_, ConfigError>(access)
    };
    let access = match tried.await {
        Ok(access) => access,
        Err(error) => {
            let detail = format!("configure the client: {}", error.reason());
            let finding = Finding::new("Kubernetes API", PURPOSE, detail);
            let finding = finding.with_verdict(Verdict::Failed, ConfigError::CURE);
            return (vec![finding], alone);
        }
    };
    let findings = access.map(|access| finding(&access, settings)).to_vec();
    let mut discovery = Discovery::with_kubernetes(options.selector.clone());
    let listen = discovery.sync(&mut events);
    // If the API does not list everything in time, the findings say why.
    let _ = tokio::time::timeout(SYNC_TIMEOUT, listen).await;
    (findings, discovery)
}

fn finding(access: &kubernetes::Access, settings: &Settings) -> Finding {
    let (resource, namespace) = (access.resource, &settings.namespace);
    let finding = |detail| Finding::new(format!("Kubernetes {resource}"), PURPOSE, detail);
    match &access.refused {
        None => finding(format!("list, watch {resource} in {namespace}: allowed")),
        Some(error) => finding(format!("{resource} in {namespace}: {error}"))
            .with_verdict(Verdict::Failed, error.cure()),
    }
}

const PURPOSE: &str =
    "name activators, see which pods are terminating, know the autoscaler's addresses";
/// How long to wait for the first listing, so that activators are found by their pods. Each
/// resource has already answered one request, so the server is there and a listing takes no longer.
const SYNC_TIMEOUT: Duration = Duration::from_secs(3);
