//! The troubles of the demo.

use std::{thread, time::Duration};

use anyhow::Result;
use statlink_tests::{
    fault::{Fault, Faults, Reject},
    netns::Pod,
    peer::Activator,
    scenario::Bed,
};

/// One trouble.
pub(crate) struct Trouble {
    /// Short, for the table; the name of the pod if the activator starts during the trouble.
    pub(crate) name: &'static str,
    /// One line: what the demo does, and what that is in the field.
    pub(crate) what: &'static str,
    /// The correct cause.
    pub(crate) cause: &'static str,
    /// Whether an activator starts during it, instead of losing a link that was up.
    pub(crate) from_the_start: bool,
    kind: Kind,
}

enum Kind {
    Terminated,
    Reset,
    Blackhole,
    Frozen,
    SynDropped,
    Rejected,
}

/// In the order of the play.
pub(crate) const TROUBLES: [Trouble; 6] = [
    Trouble {
        name: "terminated",
        what: "SIGTERM ends the autoscaler; it is back 3 s later (a rollout)",
        cause: "peer_closed",
        from_the_start: false,
        kind: Kind::Terminated,
    },
    Trouble {
        name: "reset",
        what: "the autoscaler's kernel resets the connection (conntrack, a proxy, a crash)",
        cause: "connection_reset",
        from_the_start: false,
        kind: Kind::Reset,
    },
    Trouble {
        name: "blackhole",
        what: "packets vanish both ways while stats flow (CNI, a dead node)",
        cause: "stalled",
        from_the_start: false,
        kind: Kind::Blackhole,
    },
    Trouble {
        name: "frozen",
        what: "the autoscaler is frozen by SIGSTOP; its kernel goes on acknowledging",
        cause: "stalled",
        from_the_start: false,
        kind: Kind::Frozen,
    },
    Trouble {
        name: "syn-dropped",
        what: "an activator starts while SYNs are dropped (a NetworkPolicy)",
        cause: "timeout",
        from_the_start: true,
        kind: Kind::SynDropped,
    },
    Trouble {
        name: "no-endpoint",
        what: "an activator starts while dials are rejected by ICMP (kube-proxy without endpoints)",
        cause: "connection_refused",
        from_the_start: true,
        kind: Kind::Rejected,
    },
];

impl Trouble {
    /// Injects it into a link that is up; returns what has to be healed.
    pub(crate) fn inject(&self, bed: &mut Bed, activator: &Activator) -> Result<Option<Fault>> {
        match self.kind {
            Kind::Terminated => {
                bed.autoscaler()?
                    .process
                    .terminate(Duration::from_secs(10))?;
                Ok(None)
            }
            Kind::Reset => bed.faults(activator).reset_established().map(|()| None),
            Kind::Frozen => bed.autoscaler()?.process.freeze().map(|()| None),
            Kind::Blackhole | Kind::SynDropped | Kind::Rejected => {
                self.inject_for(bed, &activator.pod).map(Some)
            }
        }
    }

    /// Injects it for dials from `pod`.
    pub(crate) fn inject_for(&self, bed: &Bed, pod: &Pod) -> Result<Fault> {
        let faults = Faults::new(pod, &bed.autoscaler_pod);
        match self.kind {
            Kind::Rejected => faults.reject_syn(Reject::PortUnreachable),
            Kind::SynDropped => faults.drop_syn(),
            Kind::Terminated | Kind::Reset | Kind::Frozen | Kind::Blackhole => faults.blackhole(),
        }
    }

    /// Heals it.
    pub(crate) fn heal(&self, fault: impl Into<Option<Fault>>, bed: &mut Bed) -> Result<()> {
        if let Some(fault) = fault.into() {
            fault.heal()?;
        }
        match self.kind {
            Kind::Terminated => {
                thread::sleep(Duration::from_secs(3));
                bed.start_autoscaler()
            }
            Kind::Frozen => bed.autoscaler()?.process.thaw(),
            Kind::Reset | Kind::Blackhole | Kind::SynDropped | Kind::Rejected => Ok(()),
        }
    }
}
