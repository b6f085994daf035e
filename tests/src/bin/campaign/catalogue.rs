//! The faults of a link, and the causes that the agent may report for each.
//!
//! A new fault is a variant of [`Kind`] here with its [`Nature`], and is injected and healed in
//! [`crate::lane`].

use std::time::Duration;

/// An enum with the list of its values: a value that is missing there would never be drawn.
macro_rules! listed {
    ($(#[$of_enum:meta])* $name:ident { $($(#[$doc:meta])* $value:ident,)+ }) => {
        $(#[$of_enum])*
        pub(crate) enum $name {
            $($(#[$doc])* $value,)+
        }

        impl $name {
            /// Every value, in the order of its declaration.
            pub(crate) const ALL: &[Self] = &[$(Self::$value),+];
        }
    };
}

listed! {
    /// One kind of fault.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    Kind {
        /// The server's kernel resets the connection, once.
        Reset,
        /// Dials are answered by RST: nobody listens.
        Refused,
        /// Dials are answered by ICMP port unreachable, as kube-proxy does.
        RefusedByIcmp,
        /// Dials are answered by ICMP host unreachable.
        HostUnreachable,
        /// Dials are answered by ICMP network unreachable.
        NetworkUnreachable,
        /// Dials are answered by ICMP administratively prohibited.
        AdminProhibited,
        /// Dials fail with ICMP port unreachable inside connect(): a policy of the node.
        RefusedOnNode,
        /// The same with ICMP administratively prohibited.
        ProhibitedOnNode,
        /// SYNs vanish: a NetworkPolicy.
        SynDropped,
        /// No route: ENETUNREACH inside connect().
        NoRoute,
        /// An unreachable route: EHOSTUNREACH inside connect().
        UnreachableRoute,
        /// A prohibited route: EACCES inside connect().
        ProhibitRoute,
        /// EPERM inside connect(), by a program on the activator's control group.
        Policy,
        /// No local port left.
        OutOfPorts,
        /// The name server does not run.
        NameServerKilled,
        /// Lookups vanish.
        LookupsDropped,
        /// The name server answers NXDOMAIN.
        NxDomain,
        /// The name server answers SERVFAIL.
        ServFail,
        /// The name server is slow, but fast enough for a dial.
        SlowLookups,
        /// The activator's own kernel aborts the connection (SOCK_DESTROY, as a CNI does), once.
        Aborted,
        /// Every packet is answered by RST.
        RejectAll,
        /// Every packet is answered by ICMP host unreachable.
        Unroutable,
        /// The autoscaler's wire is cut, and nobody answers the activator's ARP.
        Unplugged,
        /// Nothing passes, either way.
        Blackhole,
        /// Nothing passes to the server.
        LostToServer,
        /// Nothing passes to the activator.
        LostToClient,
        /// SIGTERM to the autoscaler, then a new one.
        Terminated,
        /// SIGKILL to the autoscaler, then a new one.
        Killed,
        /// SIGSTOP and SIGCONT to the autoscaler; its kernel continues to acknowledge.
        Frozen,
        /// The autoscaler is killed, and a server in its place answers 403.
        Forbidden,
        /// The autoscaler is killed, and a server in its place answers 503.
        Unavailable,
        /// The autoscaler is killed, and a server in its place answers 403 with a body that does
        /// not end.
        HeldRefusal,
        /// The autoscaler is killed, and a server in its place closes at once.
        ClosedAtOnce,
        /// The autoscaler is killed, and a server in its place resets at once.
        ResetAtOnce,
        /// The autoscaler is killed, and a server in its place never answers.
        Mute,
        /// The sidecar is killed, and later a new one starts.
        SidecarKilled,
        /// The sidecar is killed, and another in its place answers 403 itself.
        SidecarForbids,
        /// The sidecar is killed, and another in its place answers 503 itself.
        SidecarUnavailable,
        /// SIGSTOP and SIGCONT to the activator.
        ActivatorFrozen,
        /// The activator is killed, and its container runs one short life after another that never
        /// connects.
        CrashLoop,
    }
}

/// The properties of a kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    /// The name in tables and files.
    pub(crate) name: &'static str,
    /// The causes with which this fault alone may end a live connection.
    pub(crate) losses: &'static [&'static str],
    /// The causes of an ICMP error to a SYN that the client may not have seen before it gave up: an
    /// IPv6 connect() waits for a second one. The agent counts the SYN as answered; the client logs
    /// a timeout.
    pub(crate) answers: &'static [&'static str],
    /// The causes with which a sidecar's dials may fail meanwhile, and so the activator's.
    pub(crate) proxy: &'static [&'static str],
    pub(crate) resource: Resource,
}

/// How an activator reaches its autoscaler; this decides which faults are possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By an address.
    Direct,
    /// By a name that it looks up before each dial.
    Name,
    /// Through a sidecar, which accepts its connection and opens one of its own.
    Sidecar,
}

/// The resource that a fault changes. Two faults at once must not both change the same one, except
/// `Filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    /// Packet filters: any number can be in force.
    Filter,
    Route,
    Policy,
    Ports,
    Wire,
    Server,
    Names,
    Sidecar,
    Activator,
}

impl Kind {
    /// The table of kinds.
    pub(crate) const fn nature(self) -> Nature {
        match self {
            Self::Reset => resets("reset"),
            Self::Refused => resets("refused (RST)").proxy(REFUSED),
            Self::RefusedByIcmp => resets("refused (ICMP)").answers(REFUSED),
            Self::HostUnreachable => resets("host unreachable")
                .answers(HOST)
                .proxy(HOST_OF_PROXY),
            Self::NetworkUnreachable => resets("network unreachable")
                .answers(NETWORK)
                .proxy(NETWORK_OF_PROXY),
            Self::AdminProhibited => resets("admin prohibited").answers(PROHIBITED),
            Self::RefusedOnNode => resets("refused in connect()").answers(REFUSED),
            Self::ProhibitedOnNode => resets("prohibited in connect()").answers(PROHIBITED),
            Self::SynDropped => resets("SYN dropped").proxy(TIMEOUT),
            Self::NoRoute => resets("no route").of(Resource::Route),
            Self::UnreachableRoute => resets("unreachable route").of(Resource::Route),
            Self::ProhibitRoute => resets("prohibit route").of(Resource::Route),
            Self::Policy => resets("refused by a policy").of(Resource::Policy),
            Self::OutOfPorts => resets("out of ports").of(Resource::Ports),
            Self::NameServerKilled => resets("name server SIGKILL").of(Resource::Names),
            Self::LookupsDropped => resets("lookups dropped").of(Resource::Names),
            Self::NxDomain => resets("NXDOMAIN").of(Resource::Names),
            Self::ServFail => resets("SERVFAIL").of(Resource::Names),
            Self::SlowLookups => resets("slow lookups").of(Resource::Names),
            Self::Aborted => loses("aborted (SOCK_DESTROY)", ABORTED),
            Self::RejectAll => loses("rejected (RST)", RESET),
            Self::Unroutable => loses("unreachable (ICMP)", STALL).answers(HOST),
            Self::Unplugged => loses("wire cut", STALL).answers(HOST).of(Resource::Wire),
            Self::Blackhole => loses("blackhole", STALL),
            Self::LostToServer => loses("lost to autoscaler", STALL).proxy(TIMEOUT),
            Self::LostToClient => loses("lost to activator", STALL),
            Self::Frozen => loses("autoscaler SIGSTOP", STALL).of(Resource::Server),
            Self::Terminated => ends("autoscaler SIGTERM"),
            Self::Killed => ends("autoscaler SIGKILL"),
            Self::Forbidden => ends("403"),
            Self::Unavailable => ends("503"),
            Self::HeldRefusal => loses("403 left open", END_OR_REFUSAL).of(Resource::Server),
            Self::ClosedAtOnce => ends("closed at once").proxy(CLOSED),
            Self::ResetAtOnce => ends("reset at once"),
            Self::Mute => ends("never answers"),
            Self::SidecarKilled => loses("sidecar SIGKILL", END).of(Resource::Sidecar),
            Self::SidecarForbids => loses("403 by sidecar", END).of(Resource::Sidecar),
            Self::SidecarUnavailable => loses("503 by sidecar", END).of(Resource::Sidecar),
            Self::ActivatorFrozen => {
                loses("activator SIGSTOP", LOCAL_STALL).of(Resource::Activator)
            }
            Self::CrashLoop => loses("activator crash loop", &[]).of(Resource::Activator),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        self.nature().name
    }

    pub(crate) const fn resource(self) -> Resource {
        self.nature().resource
    }

    /// Whether the fault also resets the connection: it concerns only dials, and without a dial
    /// nobody would notice it.
    pub(crate) const fn resets(self) -> bool {
        match self {
            Self::Reset
            | Self::Refused
            | Self::RefusedByIcmp
            | Self::HostUnreachable
            | Self::NetworkUnreachable
            | Self::AdminProhibited
            | Self::RefusedOnNode
            | Self::ProhibitedOnNode
            | Self::SynDropped
            | Self::NoRoute
            | Self::UnreachableRoute
            | Self::ProhibitRoute
            | Self::Policy
            | Self::OutOfPorts
            | Self::NameServerKilled
            | Self::LookupsDropped
            | Self::NxDomain
            | Self::ServFail
            | Self::SlowLookups => true,
            Self::Aborted
            | Self::RejectAll
            | Self::Unroutable
            | Self::Unplugged
            | Self::Blackhole
            | Self::LostToServer
            | Self::LostToClient
            | Self::Terminated
            | Self::Killed
            | Self::Frozen
            | Self::Forbidden
            | Self::Unavailable
            | Self::HeldRefusal
            | Self::ClosedAtOnce
            | Self::ResetAtOnce
            | Self::Mute
            | Self::SidecarKilled
            | Self::SidecarForbids
            | Self::SidecarUnavailable
            | Self::ActivatorFrozen
            | Self::CrashLoop => false,
        }
    }

    /// Whether an established connection stalls while it is in force.
    pub(crate) fn stalls(self) -> bool {
        matches!(self.nature().losses, STALL | LOCAL_STALL)
    }

    /// Whether its rules concern the activator's process or several dials, so that another fault
    /// beside it could not be judged.
    pub(crate) const fn is_alone(self) -> bool {
        matches!(
            self,
            Self::ActivatorFrozen | Self::CrashLoop | Self::HeldRefusal
        )
    }

    /// How long it must last to show more than a shorter fault: the silence of an activator, the
    /// end of a dial and another dial, several lives.
    pub(crate) fn is_told_after(self) -> Duration {
        Duration::from_secs(if self == Self::ActivatorFrozen {
            12
        } else if self.is_alone() {
            4
        } else {
            0
        })
    }

    /// Whether packets are dropped. If TCP waits for one, it continues to wait after the fault is
    /// healed.
    pub(crate) fn drops(self) -> bool {
        self.stalls() && !matches!(self, Self::Frozen | Self::ActivatorFrozen)
    }

    /// Whether connect() fails before it sends a SYN, for lack of a route or by a policy.
    pub(crate) fn withholds_syns(self) -> bool {
        matches!(self.resource(), Resource::Route | Resource::Policy)
    }

    /// How soon after the fault's start the link may count as stalled.
    ///
    /// Without acknowledgements: after two retransmission timeouts of data sent at the start. The
    /// first is at least 200 ms (`TCP_RTO_MIN`), the second twice that. If the server's kernel or a
    /// sidecar acknowledges: 5 s after the last pong, which may be one ping interval old.
    pub(crate) fn stalls_after(self, way: Way) -> Duration {
        Duration::from_millis(if self == Self::ActivatorFrozen {
            // 12 s after its last data, which may be one ping interval old.
            12_000 - 3_334 - 50
        } else if self.drops() && way != Way::Sidecar {
            600 - 50
        } else {
            5_000 - 3_334 - 50
        })
    }

    /// Whether a sidecar's dials succeed, so that only the answer is a failure.
    pub(crate) const fn answers_a_proxy(self) -> bool {
        matches!(self, Self::Forbidden | Self::Unavailable | Self::Frozen)
    }

    /// How long after its end the fault may still cause a stall: a timeout that was already set
    /// (the second is 400 ms long), and the time to notice it. The kernel asks a neighbour that did
    /// not answer again only after 1 s (`retrans_time_ms`).
    pub(crate) fn lingers(self) -> Duration {
        Duration::from_millis(if self == Self::Unplugged { 1_600 } else { 600 })
    }
}

impl Way {
    /// Most are direct. Among ten lanes, each way occurs both with and without stats.
    pub(crate) const fn of_lane(number: usize) -> Self {
        match number % 5 {
            3 => Self::Name,
            4 => Self::Sidecar,
            _ => Self::Direct,
        }
    }

    /// The possible faults.
    pub(crate) fn kinds(self) -> Vec<Kind> {
        match self {
            Self::Direct => {
                let mut kinds = Kind::ALL.to_vec();
                kinds
                    .retain(|kind| !matches!(kind.resource(), Resource::Names | Resource::Sidecar));
                kinds
            }
            // Beside the faults of lookups, only those that interact with them.
            Self::Name => vec![
                Kind::NameServerKilled,
                Kind::LookupsDropped,
                Kind::NxDomain,
                Kind::ServFail,
                Kind::SlowLookups,
                Kind::Reset,
                Kind::Refused,
                Kind::SynDropped,
                Kind::Blackhole,
                Kind::Terminated,
                Kind::Killed,
                Kind::ActivatorFrozen,
            ],
            // Only faults at the server's end of the sidecar's connection: inside the pod, they would
            // also hit the connection between sidecar and activator.
            Self::Sidecar => vec![
                Kind::Reset,
                Kind::Refused,
                Kind::HostUnreachable,
                Kind::NetworkUnreachable,
                Kind::SynDropped,
                Kind::LostToServer,
                Kind::Terminated,
                Kind::Killed,
                Kind::Frozen,
                Kind::Forbidden,
                Kind::Unavailable,
                Kind::ClosedAtOnce,
                Kind::ResetAtOnce,
                Kind::SidecarKilled,
                Kind::SidecarForbids,
                Kind::SidecarUnavailable,
                Kind::ActivatorFrozen,
            ],
        }
    }
}

impl Nature {
    const fn answers(self, answers: &'static [&'static str]) -> Self {
        Self { answers, ..self }
    }

    const fn proxy(self, proxy: &'static [&'static str]) -> Self {
        Self { proxy, ..self }
    }

    const fn of(self, resource: Resource) -> Self {
        Self { resource, ..self }
    }
}

const fn loses(name: &'static str, losses: &'static [&'static str]) -> Nature {
    Nature {
        name,
        losses,
        answers: &[],
        proxy: &[],
        resource: Resource::Filter,
    }
}

const fn resets(name: &'static str) -> Nature {
    loses(name, RESET)
}

/// The autoscaler's process ends, and nobody listens until there is a new one.
const fn ends(name: &'static str) -> Nature {
    loses(name, END).of(Resource::Server).proxy(GONE)
}

const RESET: &[&str] = &["connection_reset"];
/// The process with the connection ends: with RST instead of FIN if something was unread, such as
/// the client's close frame at a graceful end.
const END: &[&str] = &["peer_closed", "connection_reset"];
const ABORTED: &[&str] = &["connection_aborted"];
/// The first held refusal looks like an upgrade until the client gives up.
const END_OR_REFUSAL: &[&str] = &["peer_closed", "connection_reset", "handshake_failed"];
const STALL: &[&str] = &["stalled"];
const LOCAL_STALL: &[&str] = &["local_stalled"];
const REFUSED: &[&str] = &["connection_refused"];
/// The SYN stays unanswered for 1 s, also if the kernel dropped the ICMP error.
const TIMEOUT: &[&str] = &["timeout"];
const HOST_OF_PROXY: &[&str] = &["host_unreachable", "timeout"];
const NETWORK_OF_PROXY: &[&str] = &["network_unreachable", "timeout"];
/// Nobody listens. The listener of a killed process may end later than its connections: a
/// connection that it has not accepted by then is reset.
const GONE: &[&str] = &["connection_refused", "connection_reset"];
/// The same until a server that closes has started.
const CLOSED: &[&str] = &["connection_refused", "connection_reset", "handshake_failed"];
const HOST: &[&str] = &["host_unreachable"];
const NETWORK: &[&str] = &["network_unreachable"];
/// By IPv4 and by IPv6.
const PROHIBITED: &[&str] = &["host_unreachable", "permission_denied"];
