//! Every way in which a dial fails, with the cause and the errno that the agent must report.
//!
//! The kernel treats a failure differently depending on where it occurs. Each column below is a
//! test, each row a case in it, each field the errno in the log.
//!
//! | cause | how | IPv4 | IPv6 | IPv4-mapped | blocking |
//! |---|---|---|---|---|---|
//! | `connection_refused` | RST: nobody listens, or a reject | 111 | 111 | 111 | 111 |
//! | | ICMP port unreachable, by the server or on the node | 111 | 111 | 111 | 111 |
//! | | the same on the first retransmission | 111 | 111 | 111 | 111 |
//! | `timeout` | no answer, and the client gives up | none | none | none | |
//! | `host_unreachable` | ICMP, at once | 113 | 113 | 113 | 113 |
//! | | ICMP on the first retransmission | 113 | 113 | 113 | 113 |
//! | | ICMP administratively prohibited | 113 | | 113 | 113 |
//! | | no neighbour answers | 113 | 113 | 113 | 113 |
//! | | route `unreachable` | 113 | 113 | 113 | 113 |
//! | `network_unreachable` | ICMP, at once | 101 | 101 | 101 | 101 |
//! | | ICMP on the first retransmission | 101 | 101 | 101 | 101 |
//! | | no route | 101 | 101 | 101 | 101 |
//! | `permission_denied` | route `prohibit` | 13 | 13 | 13 | 13 |
//! | | ICMP administratively prohibited | | 13 | | |
//! | | a cgroup's program | 1 | 1 | | |
//! | `address_unavailable` | no local port; Go tries each dial three times | 99 | 99 | 99 | 99 |
//! | `_OTHER` | route `blackhole` | 22 | 22 | 22 | 22 |
//! | | ICMP protocol unreachable | 92 | | 92 | 92 |
//! | `handshake_failed` | refused, closed, never answered, frozen | none | none | | |
//! | `connection_reset` | RST once established | 104 | 104 | | |
//!
//! Knative's client dials with a non-blocking connect(): an error of the socket reaches it later.
//! For an IPv4-mapped address it makes an IPv4 socket. So the last two columns use the test client:
//! a socket for a mapped address, and a blocking connect(), which returns the ICMP error itself.
//! `cancelled` also needs the test client: see `test_client.rs`.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use rustix::io::Errno;
use statlink_tests::{
    container::Container,
    fault::{Fault, Faults, Reject, Route},
    netns::Pod,
    peer::{Activator, Traffic},
};

/// One way a dial fails.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The expected report, in IPv4 and in IPv6; `None` if the case does not exist.
    expected: [Option<Expected>; 2],
    pub(crate) trouble: Trouble,
}

/// A cause, and the errno behind it.
pub(crate) type Expected = (&'static str, Option<Errno>);

/// The trouble.
#[derive(Clone, Copy)]
pub(crate) enum Trouble {
    Nobody,
    Frozen,
    Server(&'static str),
    Policy,
    Fault(fn(Faults<'_>) -> Result<Fault>),
}

/// Which client dials, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Knative's client.
    V4,
    V6,
    /// The test client with an IPv4-mapped address, which gives up after 1.5 s.
    Mapped,
    /// The test client, which waits in connect().
    Blocking,
}

const fn both(
    name: &'static str,
    cause: &'static str,
    errno: Option<Errno>,
    trouble: Trouble,
) -> Case {
    each(name, [Some((cause, errno)); 2], trouble)
}

const fn each(name: &'static str, expected: [Option<Expected>; 2], trouble: Trouble) -> Case {
    Case {
        name,
        expected,
        trouble,
    }
}

const REFUSED: Option<Errno> = Some(Errno::CONNREFUSED);
const NO_HOST: Option<Errno> = Some(Errno::HOSTUNREACH);
const NO_NETWORK: Option<Errno> = Some(Errno::NETUNREACH);

pub(crate) const CASES: &[Case] = &[
    both(
        "no-listener",
        "connection_refused",
        REFUSED,
        Trouble::Nobody,
    ),
    both(
        "tcp-reset",
        "connection_refused",
        REFUSED,
        Trouble::Fault(|f| f.reject_syn(Reject::TcpReset)),
    ),
    // What kube-proxy answers for a Service without endpoints.
    both(
        "port-unreach",
        "connection_refused",
        REFUSED,
        Trouble::Fault(|f| f.reject_syn(Reject::PortUnreachable)),
    ),
    both(
        "port-late",
        "connection_refused",
        REFUSED,
        Trouble::Fault(|f| f.reject_syn_late(Reject::PortUnreachable)),
    ),
    both(
        "local-reject",
        "connection_refused",
        REFUSED,
        Trouble::Fault(|f| f.reject_syn_locally(Reject::PortUnreachable)),
    ),
    both(
        "syn-dropped",
        "timeout",
        None,
        Trouble::Fault(|f| f.drop_syn()),
    ),
    both(
        "host-unreach",
        "host_unreachable",
        NO_HOST,
        Trouble::Fault(|f| f.reject_syn(Reject::HostUnreachable)),
    ),
    both(
        "host-late",
        "host_unreachable",
        NO_HOST,
        Trouble::Fault(|f| f.reject_syn_late(Reject::HostUnreachable)),
    ),
    both(
        "no-neighbour",
        "host_unreachable",
        NO_HOST,
        Trouble::Fault(|f| f.unplug_server()),
    ),
    both(
        "no-host-route",
        "host_unreachable",
        NO_HOST,
        Trouble::Fault(|f| f.route(Route::Unreachable)),
    ),
    each(
        "admin",
        [
            Some(("host_unreachable", NO_HOST)),
            Some(("permission_denied", Some(Errno::ACCESS))),
        ],
        Trouble::Fault(|f| f.reject_syn(Reject::AdminProhibited)),
    ),
    both(
        "net-unreach",
        "network_unreachable",
        NO_NETWORK,
        Trouble::Fault(|f| f.reject_syn(Reject::NetworkUnreachable)),
    ),
    both(
        "net-late",
        "network_unreachable",
        NO_NETWORK,
        Trouble::Fault(|f| f.reject_syn_late(Reject::NetworkUnreachable)),
    ),
    both(
        "no-route",
        "network_unreachable",
        NO_NETWORK,
        Trouble::Fault(|f| f.route(Route::None)),
    ),
    both(
        "prohibited",
        "permission_denied",
        Some(Errno::ACCESS),
        Trouble::Fault(|f| f.route(Route::Prohibit)),
    ),
    both(
        "policy",
        "permission_denied",
        Some(Errno::PERM),
        Trouble::Policy,
    ),
    both(
        OUT_OF_PORTS,
        "address_unavailable",
        Some(Errno::ADDRNOTAVAIL),
        Trouble::Fault(|f| f.out_of_ports()),
    ),
    both(
        "discarded",
        OTHER,
        Some(Errno::INVAL),
        Trouble::Fault(|f| f.route(Route::Blackhole)),
    ),
    each(
        "protocol",
        [Some((OTHER, Some(Errno::NOPROTOOPT))), None],
        Trouble::Fault(|f| f.reject_protocol()),
    ),
    both(
        "forbidden",
        "handshake_failed",
        None,
        Trouble::Server("forbid"),
    ),
    both(
        "unavailable",
        "handshake_failed",
        None,
        Trouble::Server("unavailable"),
    ),
    both("closed", "handshake_failed", None, Trouble::Server("close")),
    both("mute", "handshake_failed", None, Trouble::Server("mute")),
    both("frozen", "handshake_failed", None, Trouble::Frozen),
    both(
        "reset",
        "connection_reset",
        Some(Errno::CONNRESET),
        Trouble::Server("reset"),
    ),
];

impl Case {
    /// Whether the errno comes long after connect() has returned: an ICMP error to a retransmitted
    /// SYN, or a neighbour that does not answer.
    pub(crate) fn comes_late(&self) -> bool {
        self.name.ends_with("-late") || self.name == "no-neighbour"
    }

    /// The expected report for a dial of this form; `None` if the case does not exist.
    pub(crate) fn expected(&self, form: Form) -> Option<Expected> {
        let [v4, v6] = self.expected;
        match (form, self.trouble) {
            (Form::V4, _) => v4,
            (Form::V6, _) => v6,
            // The test client does not speak HTTP in these forms, nor start in a container.
            (_, Trouble::Frozen | Trouble::Server(_) | Trouble::Policy) => None,
            (Form::Mapped, Trouble::Nobody | Trouble::Fault(_)) => v4,
            // The kernel's own timeout takes minutes.
            (Form::Blocking, Trouble::Nobody | Trouble::Fault(_)) => {
                v4.filter(|(_, errno)| errno.is_some())
            }
        }
    }
}

impl Form {
    pub(crate) fn is_knative(self) -> bool {
        matches!(self, Self::V4 | Self::V6)
    }

    pub(crate) fn address(self, server: &Pod) -> IpAddr {
        match self {
            Self::V4 | Self::Blocking => server.v4.into(),
            Self::V6 => server.v6.into(),
            Self::Mapped => server.v4.to_ipv6_mapped().into(),
        }
    }

    pub(crate) fn dial(
        self,
        pod: &Pod,
        to: SocketAddr,
        container: Option<&Container>,
    ) -> Result<Activator> {
        let at = to.to_string();
        match (self, container) {
            (Self::V4 | Self::V6, None) => Activator::start(pod, to, Traffic::Idle),
            (Self::V4 | Self::V6, Some(container)) => Activator::start_in(container, pod, to),
            (Self::Mapped, _) => Activator::stand_in(pod, ["cancel", &at, "1600", "1500"]),
            (Self::Blocking, _) => Activator::stand_in(pod, ["flap", &at, "1", "1000"]),
        }
    }
}

/// Without a local port, Go makes three attempts for each dial.
pub(crate) const OUT_OF_PORTS: &str = "out-of-ports";
/// The cause of an error without a name of its own.
pub(crate) const OTHER: &str = "_OTHER";
