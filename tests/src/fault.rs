//! Faults of a link. [`Fault::heal`] undoes one, and so does dropping it.
//!
//! Packets are dropped and rejected in the *server's* namespace, as in the field, where the
//! client's kernel does not know of it. A drop in the client's own output path would be different:
//! its kernel would know that nothing was sent.

mod in_force;

use anyhow::{Result, ensure};

pub use self::in_force::Fault;
use self::in_force::Undo;
use crate::{
    netns::{self, Namespace, Pod},
    peer,
};

/// Injects faults into one link.
#[derive(Clone, Debug)]
pub struct Faults<'a> {
    client: &'a Pod,
    server: &'a Pod,
    port: u16,
    /// Whether rules at the server match this client's packets only.
    of_client: bool,
}

/// How a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// RST: ECONNREFUSED to a SYN.
    TcpReset,
    /// ICMP port unreachable: ECONNREFUSED. For this and the next ones, an IPv4 connect() fails at
    /// once; an IPv6 one fails only when its first retransmission, 1 s later, gets the same answer.
    PortUnreachable,
    /// ICMP host unreachable, address unreachable in IPv6: EHOSTUNREACH.
    HostUnreachable,
    /// ICMP network unreachable, no route in IPv6: ENETUNREACH.
    NetworkUnreachable,
    /// ICMP administratively prohibited: EHOSTUNREACH, in IPv6 EACCES.
    AdminProhibited,
}

/// A route without a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// No route at all: ENETUNREACH.
    None,
    /// `unreachable`: EHOSTUNREACH.
    Unreachable,
    /// `prohibit`: EACCES.
    Prohibit,
    /// `blackhole`: EINVAL.
    Blackhole,
}

// === impl Faults ===

impl<'a> Faults<'a> {
    /// Into the link from `client` to the autoscaler's port on `server`, and no other.
    pub fn new(client: &'a Pod, server: &'a Pod) -> Self {
        Self {
            client,
            server,
            port: peer::PORT,
            of_client: true,
        }
    }

    /// Into the links of every client of the server. Needed behind a Service, which hides the client's
    /// address.
    pub fn of_anyone(self) -> Self {
        Self {
            of_client: false,
            ..self
        }
    }

    /// The client's SYNs are dropped on the way.
    pub fn drop_syn(&self) -> Result<Fault> {
        self.at_server(
            "SYN dropped",
            &format!("tcp dport {} {SYN} drop", self.port),
        )
    }

    /// Nothing passes, either way.
    pub fn blackhole(&self) -> Result<Fault> {
        let mut fault = self.drop_to_server()?;
        fault.join(self.drop_to_client()?);
        fault.what = "blackhole".into();
        Ok(fault)
    }

    /// What the client sends is dropped; what the server sends arrives.
    pub fn drop_to_server(&self) -> Result<Fault> {
        self.at_server(
            "dropped to the server",
            &format!("tcp dport {} drop", self.port),
        )
    }

    /// What the server sends is dropped; what the client sends arrives.
    pub fn drop_to_client(&self) -> Result<Fault> {
        let rule = format!("tcp sport {} drop", self.port);
        Fault::nft(
            "dropped to the client",
            &self.client.namespace,
            "input",
            &rule,
        )
    }

    /// New connections are refused, on the server's side of the wire.
    pub fn reject_syn(&self, with: Reject) -> Result<Fault> {
        let rule = format!("tcp dport {} {SYN} reject with {}", self.port, with.nft());
        self.at_server(&format!("SYN rejected: {with:?}"), &rule)
    }

    /// New connections over IPv4 are answered by ICMP protocol unreachable: ENOPROTOOPT. IPv6 has no
    /// such message.
    pub fn reject_protocol(&self) -> Result<Fault> {
        let (client, port) = (self.client.v4, self.port);
        let rule = format!(
            "ip saddr {client} tcp dport {port} {SYN} reject with icmp type prot-unreachable"
        );
        let what = "SYN rejected: protocol unreachable";
        Fault::nft(what, &self.server.namespace, "input", &rule)
    }

    /// A new connection's first SYN is dropped, and its first retransmission refused, after
    /// connect() has returned. For one dial at a time.
    pub fn reject_syn_late(&self, with: Reject) -> Result<Fault> {
        let port = self.port;
        let late = format!("tcp dport {port} {SYN} numgen inc mod 2 == 1");
        let refused = format!("{late} reject with {}", with.nft());
        let mut fault = self.drop_syn()?;
        // The newest of several chains at one hook is evaluated first.
        fault.join(self.at_server("SYN rejected late", &refused)?);
        fault.what = format!("SYN rejected late: {with:?}");
        Ok(fault)
    }

    /// New connections are refused inside the client's own connect(), as a node-local policy does.
    pub fn reject_syn_locally(&self, with: Reject) -> Result<Fault> {
        let rule = format!("tcp dport {} {SYN} reject with {}", self.port, with.nft());
        let what = format!("SYN rejected locally: {with:?}");
        Fault::nft(&what, &self.client.namespace, "output", &rule)
    }

    /// Everything that the client sends, on established connections too, is answered with this.
    pub fn reject_all(&self, with: Reject) -> Result<Fault> {
        let rule = format!("tcp dport {} reject with {}", self.port, with.nft());
        self.at_server(&format!("rejected: {with:?}"), &rule)
    }

    /// The server's kernel resets the link's connections, now and once: nothing to heal.
    pub fn reset_established(&self) -> Result<()> {
        let mut filter = format!("( sport = :{} )", self.port);
        if self.of_client {
            // A prefix of IPv4 matches an IPv6 socket's mapped address, too.
            let Pod { v4, v6, .. } = self.client;
            filter.push_str(&format!(" and ( dst {v4} or dst [{v6}] )"));
        }
        kill_sockets(&self.server.namespace, &filter)
    }

    /// The client's own kernel aborts its connections, now and once: ECONNABORTED there, RST to
    /// the server.
    pub fn abort_at_client(&self) -> Result<()> {
        kill_sockets(&self.client.namespace, &format!("dport = :{}", self.port))
    }

    /// The client's route to the server's addresses, both families, leads nowhere.
    pub fn route(&self, route: Route) -> Result<Fault> {
        Fault::route(
            &self.client.namespace,
            route,
            [self.server.v4.into(), self.server.v6.into()],
        )
    }

    /// The server's interface is down, and the client's neighbour cache is empty: nobody answers
    /// ARP or neighbour discovery, and EHOSTUNREACH follows three probes. They are 250 ms apart
    /// instead of 1 s; otherwise Knative's dial would give up at the same moment.
    pub fn unplug_server(&self) -> Result<Fault> {
        let Pod {
            node,
            node_interface,
            ..
        } = self.server;
        node.ip(&format!("link set {node_interface} down\n"))?;
        let client = &self.client.namespace;
        let mut fault = Fault {
            what: "the server's wire cut".into(),
            undo: vec![Undo::Ip(
                node.clone(),
                format!("link set {node_interface} up\n"),
            )],
        };
        for between_probes in [
            "net/ipv4/neigh/eth0/retrans_time_ms",
            "net/ipv6/neigh/eth0/retrans_time_ms",
        ] {
            let before = client.read_sysctl(between_probes)?;
            client.sysctl(between_probes, "250")?;
            let undo = Undo::Sysctl(client.clone(), between_probes, before);
            fault.undo.push(undo);
        }
        client.ip("neigh flush dev eth0\n")?;
        Ok(fault)
    }

    /// The client has no free local port. Its connections stay.
    pub fn out_of_ports(&self) -> Result<Fault> {
        Fault::out_of_ports(&self.client.namespace)
    }

    fn at_server(&self, what: &str, rule: &str) -> Result<Fault> {
        let rules = if self.of_client {
            let Pod { v4, v6, .. } = self.client;
            format!("ip saddr {v4} {rule}\nip6 saddr {v6} {rule}")
        } else {
            rule.to_owned()
        };
        Fault::nft(what, &self.server.namespace, "input", &rules)
    }
}

/// Resets established sockets; the listener is not one.
fn kill_sockets(at: &Namespace, filter: &str) -> Result<()> {
    let mut ss = at.command("ss");
    ss.args(["--kill", "--tcp", "--numeric", "--no-header"]);
    ss.args(["state", "established", filter]);
    let killed = netns::run(&mut ss)?;
    ensure!(
        !killed.trim().is_empty(),
        "no connection in {} where {filter}",
        at.name()
    );
    Ok(())
}

// === impl Reject ===

impl Reject {
    fn nft(self) -> &'static str {
        match self {
            Self::TcpReset => "tcp reset",
            Self::PortUnreachable => "icmpx type port-unreachable",
            Self::HostUnreachable => "icmpx type host-unreachable",
            Self::NetworkUnreachable => "icmpx type no-route",
            Self::AdminProhibited => "icmpx type admin-prohibited",
        }
    }
}

// === impl Route ===

impl Route {
    fn ip(self) -> &'static str {
        match self {
            // Ends the look-up in this table; no other table has a route.
            Self::None => "throw",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
            Self::Blackhole => "blackhole",
        }
    }
}

const SYN: &str = "tcp flags & (syn | ack) == syn";
