//! The Kubernetes API: whether it answers, and lets the agent see what it asks for.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{Finding, Verdict};
use crate::{
    discovery::{
        Discovery,
        kubernetes::{self, ConfigError, Settings},
    },
    options::Options,
};

/// The findings, and a discovery that knows what the API told.
pub(super) async fn check(options: &Options) -> (Vec<Finding>, Discovery) {
    let alone = Discovery::new(options.selector.clone());
    let Some(settings) = &options.kubernetes else {
        let finding = Finding::new("Kubernetes API", PURPOSE, "not asked");
        return (vec![finding], alone);
    };
    let (sender, mut news) = mpsc::channel(64);
    let tried = async {
        let server = kubernetes::find().await?;
        let access = kubernetes::probe(&server, settings).await?;
        kubernetes::watch(&server, settings, &sender)?;
        Ok::<_, ConfigError>(access)
    };
    let access = match tried.await {
        Ok(access) => access,
        Err(error) => {
            let text = error.to_string();
            let (detail, cure) = text.rsplit_once("; ").unwrap_or((&text, "see the message"));
            let finding = Finding::new("Kubernetes API", PURPOSE, detail);
            return (vec![finding.but(Verdict::Failed, cure)], alone);
        }
    };
    let findings = access.map(|access| finding(&access, settings)).to_vec();
    let mut discovery = Discovery::with_kubernetes(options.selector.clone());
    let listen = async {
        while !discovery.is_synced()
            && let Some(news) = news.recv().await
        {
            discovery.take(news);
        }
    };
    // What is not told in time is said above.
    let _ = tokio::time::timeout(PATIENCE, listen).await;
    (findings, discovery)
}

fn finding(access: &kubernetes::Access, settings: &Settings) -> Finding {
    let (resource, namespace) = (access.resource, &settings.namespace);
    let finding = |detail| Finding::new(format!("Kubernetes {resource}"), PURPOSE, detail);
    match &access.refused {
        None => finding(format!("list, watch {resource} in {namespace}: allowed")),
        Some(reason) => {
            let (detail, cure) = reason
                .rsplit_once("; ")
                .unwrap_or((reason, "check that the API server is reached from here"));
            finding(format!("{resource} in {namespace}: {detail}")).but(Verdict::Failed, cure)
        }
    }
}

const PURPOSE: &str = "tell activators, pods that are terminating, and the autoscaler's addresses";
const PATIENCE: Duration = Duration::from_secs(3);
