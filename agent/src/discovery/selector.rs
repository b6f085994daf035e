//! Which processes are clients, and how an environment names one.

use super::{error::DiscoveryError, kubernetes::PodIdentity, name, proc};
use crate::link_kind::LinkKind;

/// How to recognise clients among all processes.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    /// The kinds of link to watch; a client's process name determines its kind.
    pub kinds: Vec<LinkKind>,
    /// The environment variable that holds the name of the client's pod.
    pub pod_name_env: String,
    /// The environment variable that holds the pod's namespace.
    pub namespace_env: String,
    /// Accept only clients of this namespace.
    pub namespace: Option<String>,
}

impl Selector {
    /// The kind whose clients have this process name, and its index in `kinds`.
    pub(super) fn kind_of(&self, comm: &[u8]) -> Option<(usize, &LinkKind)> {
        let mut kinds = self.kinds.iter().enumerate();
        kinds.find(|(_, kind)| kind.process_name.as_bytes() == comm)
    }

    /// The pod that the environment of process `pid` names. The environment does not say whether
    /// the pod uses its node's network.
    ///
    /// # Errors
    ///
    /// If the kernel denies access to the environment, or it holds no valid name of a pod or
    /// namespace.
    pub(super) fn identity_from_environment(
        &self,
        pid: u32,
    ) -> Result<Option<PodIdentity>, DiscoveryError> {
        let Some(environment) = proc::environment(pid)? else {
            return Ok(None);
        };
        let (Some(pod), Some(namespace)) = (
            environment.get(&self.pod_name_env),
            environment.get(&self.namespace_env),
        ) else {
            if environment.is_cut() {
                let read = proc::LONGEST_ENVIRONMENT;
                return Err(DiscoveryError::LongEnvironment { pid, read });
            }
            tracing::debug!(
                pid,
                "A process has a client's name but no {} or no {} in its environment: not a client.",
                self.pod_name_env,
                self.namespace_env,
            );
            return Ok(None);
        };
        for (variable, value, is_valid) in [
            (&self.pod_name_env, &pod, name::is_subdomain(&pod)),
            (&self.namespace_env, &namespace, name::is_label(&namespace)),
        ] {
            if !is_valid {
                return Err(DiscoveryError::bad_name(pid, variable, value));
            }
        }
        Ok(Some(PodIdentity {
            uid: None,
            pod,
            namespace,
            host_network: false,
        }))
    }
}
