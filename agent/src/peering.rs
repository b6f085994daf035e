//! Which links there are to watch: one row for each kind.
//!
//! What is said here is what Knative calls its parts; flags may say otherwise of the first row.

use clap::ValueEnum;

use crate::link::Shape;

/// A kind of link, by who dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Activators send their stats to the autoscaler
    Activator,
    /// Autoscalers forward stats to the autoscalers that own them, where there are several
    AutoscalerForwarder,
}

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    /// As of a [`Peering`].
    pub peer: &'static str,
    /// As of a [`Peering`].
    pub process_name: &'static str,
    /// As of a [`Peering`].
    pub pod_selector: &'static str,
    /// As of a [`Peering`].
    pub container: &'static str,
    /// As of a [`Peering`].
    pub shape: Shape,
}

/// One kind of link, as it is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peering {
    /// The value of `peer`.
    pub peer: String,
    /// The name (`comm`) of the processes that dial.
    pub process_name: String,
    /// Which pods they run in: a label selector.
    pub pod_selector: String,
    /// Which container of those pods.
    pub container: String,
    /// To one peer, or to several at a time.
    pub shape: Shape,
}

impl Kind {
    /// Its row.
    pub const fn row(self) -> &'static Row {
        match self {
            Self::Activator => &ACTIVATOR,
            Self::AutoscalerForwarder => &AUTOSCALER_FORWARDER,
        }
    }

    /// As Knative has it.
    pub fn peering(self) -> Peering {
        let Row {
            peer,
            process_name,
            pod_selector,
            container,
            shape,
        } = *self.row();
        Peering {
            peer: peer.to_owned(),
            process_name: process_name.to_owned(),
            pod_selector: pod_selector.to_owned(),
            container: container.to_owned(),
            shape,
        }
    }
}

/// What the one is called that dials this `peer`. Where a flag gave the peer another name, it is an
/// activator.
pub fn dialler_of(peer: &str) -> &'static str {
    if peer == AUTOSCALER_FORWARDER.peer {
        AUTOSCALER_FORWARDER.process_name
    } else {
        ACTIVATOR.process_name
    }
}

static ACTIVATOR: Row = Row {
    peer: "autoscaler",
    process_name: "activator",
    pod_selector: "app=activator",
    container: "activator",
    shape: Shape::One,
};

/// Knative has no metric of its own for this one, and so no name for the peer.
static AUTOSCALER_FORWARDER: Row = Row {
    peer: "autoscaler-forwarder",
    process_name: "autoscaler",
    pod_selector: "app=autoscaler",
    container: "autoscaler",
    shape: Shape::PerDestination,
};
