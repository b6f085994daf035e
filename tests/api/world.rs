//! A node with an API server, an autoscaler that the API knows, and an agent that asks it.

use std::time::Duration;

use statlink_tests::{
    agent::Options,
    container::Container,
    control_plane::{ControlPlane, NODE},
    peer::Activator,
    scenario::Bed,
};

use crate::PATIENCE;

/// All of it. What is dropped first depends on what follows.
pub(crate) struct World {
    pub(crate) bed: Bed,
    pub(crate) plane: ControlPlane,
    pub(crate) namespace: String,
}

/// An activator in a container of a pod.
pub(crate) struct Member {
    pub(crate) activator: Activator,
    pub(crate) container: Container,
    pub(crate) uid: String,
}

impl World {
    /// A node whose API knows the autoscaler by the address that activators dial.
    pub(crate) fn new() -> Self {
        let bed = Bed::new().unwrap();
        let plane = ControlPlane::start(bed.network.node()).unwrap();
        let namespace = bed.network.system_namespace();
        plane.namespace(&namespace).unwrap();
        let endpoint = bed.target().ip().to_string();
        plane
            .autoscaler(&namespace, "10.96.0.9", &[&endpoint])
            .unwrap();
        Self {
            bed,
            plane,
            namespace,
        }
    }

    /// An agent that asks the API, as the chart has it.
    pub(crate) fn options(&self) -> Options {
        let options = self.bed.agent_options();
        options
            .env("STATLINK_KUBERNETES", "on")
            .env("STATLINK_NODE_NAME", NODE)
            .env("STATLINK_EXPORT_INTERVAL", "1s")
            .env("KUBECONFIG", self.plane.kubeconfig())
    }

    /// The same with the least that it works with.
    pub(crate) fn restricted(&self) -> Options {
        let mut options = self.options();
        options.capabilities = Some("bpf,perfmon");
        options
    }

    /// A running activator that the API and the kubelet have told of.
    pub(crate) fn activator(&self, name: &str) -> Member {
        let pod = self.bed.network.pod(name).unwrap();
        let uid = self.plane.pod(&self.namespace, &pod.name).unwrap();
        let container = Container::new(&uid).unwrap();
        let activator = Activator::start_in(&container, &pod, self.bed.target()).unwrap();
        let reported = [("activator", container.id.as_str())];
        self.plane
            .report(&self.namespace, &pod.name, &reported)
            .unwrap();
        Member {
            activator,
            container,
            uid,
        }
    }

    /// The same, once the agent has told that it is connected.
    pub(crate) fn connected(&self, name: &str) -> Member {
        let member = self.activator(name);
        let bed = &self.bed;
        bed.wait_reachable(&member.activator, 1, PATIENCE).unwrap();
        member
    }

    /// The agent's log lines that hold this text.
    pub(crate) fn told(&self, text: &str) -> Vec<String> {
        let agent = self.bed.agent.as_ref().unwrap();
        let lines = agent.process.lines();
        let lines = lines.iter().filter(|line| line.text.contains(text));
        lines.map(|line| line.text.clone()).collect()
    }

    /// Waits until the agent has logged this text.
    pub(crate) fn wait_told(&mut self, text: &str, patience: Duration) {
        let agent = self.bed.agent.as_mut().unwrap();
        agent
            .process
            .wait_for(text, patience, |line| line.text.contains(text))
            .unwrap();
    }
}
