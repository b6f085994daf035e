//! A node with an API server, an autoscaler that the API knows, and an agent that watches the API.

use std::time::Duration;

use statlink_tests::{
    agent::Options,
    container::Container,
    control_plane::{ControlPlane, NODE},
    peer::Activator,
    scenario::Bed,
};

use crate::PATIENCE;

/// All of it. Fields are dropped in this order: each needs those that follow.
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

    /// Options of an agent that watches the API, as the chart sets them.
    pub(crate) fn options(&self) -> Options {
        let options = self.bed.agent_options();
        options
            .env("STATLINK_KUBERNETES", "on")
            .env("STATLINK_NODE_NAME", NODE)
            .env("STATLINK_EXPORT_INTERVAL", "1s")
            .env("KUBECONFIG", self.plane.kubeconfig())
    }

    /// The same with the fewest capabilities that it works with.
    pub(crate) fn restricted(&self) -> Options {
        let mut options = self.options();
        options.capabilities = Some("bpf,perfmon");
        options
    }

    /// A running activator whose pod and container are in the API.
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

    /// The same, once the agent exports that it is reachable.
    pub(crate) fn connected(&self, name: &str) -> Member {
        let member = self.activator(name);
        let bed = &self.bed;
        bed.wait_reachable(&member.activator, 1, PATIENCE).unwrap();
        member
    }

    /// Breaks a member's connection, and waits until the agent exports the loss and the next connection.
    pub(crate) fn reconnect(&self, member: &Member) {
        let (bed, activator) = (&self.bed, &member.activator);
        bed.faults(activator).reset_established().unwrap();
        bed.wait_error(activator, "disconnect", "connection_reset", PATIENCE)
            .unwrap();
        bed.wait_reachable(activator, 1, PATIENCE).unwrap();
    }

    /// Has the API say that the autoscaler is elsewhere, and waits until the agent knows: a newcomer is
    /// told to be wrong.
    pub(crate) fn move_autoscaler_elsewhere(&self) -> Member {
        self.plane
            .endpoints(&self.namespace, &["10.99.0.1"])
            .unwrap();
        let newcomer = self.activator("newcomer");
        self.bed
            .wait_error(&newcomer.activator, "connect", "wrong_peer", PATIENCE)
            .unwrap();
        newcomer
    }

    /// The agent's log lines with this text.
    pub(crate) fn log(&self, text: &str) -> Vec<String> {
        let agent = self.bed.agent.as_ref().unwrap();
        let lines = agent.process.lines();
        let lines = lines.iter().filter(|line| line.text.contains(text));
        lines.map(|line| line.text.clone()).collect()
    }

    /// Waits until the agent has logged this text.
    pub(crate) fn wait_log(&mut self, text: &str, patience: Duration) {
        let agent = self.bed.agent.as_mut().unwrap();
        agent
            .process
            .wait_for(text, patience, |line| line.text.contains(text))
            .unwrap();
    }
}
