//! The kinds of link that statlink watches, by Knative's own names.
//!
//! Flags may rename the activator's kind; the forwarder's is fixed.

use std::borrow::Cow;

use clap::ValueEnum;

use crate::link::Shape;

/// One kind of link: which processes dial, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkKind {
    /// Value of the attribute `peer` on every signal of such a link.
    pub peer: Cow<'static, str>,
    /// Name (`comm`) of the client's process.
    pub process_name: Cow<'static, str>,
    /// Label selector of the pods that clients run in.
    pub pod_selector: Cow<'static, str>,
    /// The container of such a pod that is the client; the others are sidecars.
    pub container: Cow<'static, str>,
    /// Whether a client has one peer, or several at a time.
    pub shape: Shape,
}

/// The kinds that `--links` accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BuiltinLinkKind {
    /// Activators send their stats to the autoscaler
    Activator,
    /// Autoscalers forward stats to the autoscalers that own them, where there are several
    AutoscalerForwarder,
}

impl BuiltinLinkKind {
    /// The kind as Knative ships it.
    pub(crate) const fn link_kind(self) -> &'static LinkKind {
        match self {
            Self::Activator => &ACTIVATOR,
            Self::AutoscalerForwarder => &AUTOSCALER_FORWARDER,
        }
    }
}

/// What messages call the client of a link to `peer`. A peer that a flag renamed is the
/// activator's: no flag renames the forwarder's.
pub(crate) fn client_of(peer: &str) -> &'static str {
    let kind = if peer == AUTOSCALER_FORWARDER.peer {
        &AUTOSCALER_FORWARDER
    } else {
        &ACTIVATOR
    };
    &kind.process_name
}

/// The labels and names of `config/core/deployments/activator.yaml` in knative/serving.
pub(crate) static ACTIVATOR: LinkKind = LinkKind {
    peer: Cow::Borrowed("autoscaler"),
    process_name: Cow::Borrowed("activator"),
    pod_selector: Cow::Borrowed("app=activator"),
    container: Cow::Borrowed("activator"),
    shape: Shape::One,
};

/// The labels and names of `config/core/deployments/autoscaler.yaml` in knative/serving. Knative
/// has no metric of its own for this link, so the value of `peer` is statlink's.
static AUTOSCALER_FORWARDER: LinkKind = LinkKind {
    peer: Cow::Borrowed("autoscaler-forwarder"),
    process_name: Cow::Borrowed("autoscaler"),
    pod_selector: Cow::Borrowed("app=autoscaler"),
    container: Cow::Borrowed("autoscaler"),
    shape: Shape::PerDestination,
};
