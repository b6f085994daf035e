//! One activator with its own autoscaler, so that a fault of one lane does not affect others.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use anyhow::{Context as _, Result};
use statlink_tests::{
    container::Container,
    fault::{Fault, Faults, Reject, Route},
    names::{Answer, URL, ask, drop_lookups, name_server},
    netns::Pod,
    peer::{Activator, Autoscaler, PORT, Traffic, bad_server},
    policy::Policy,
    process::{Process, Signal},
    sidecar::{Rule, Sidecar},
    tcp::Counters,
};

use crate::{
    catalogue::{Kind, Way},
    crash_loop::CrashLoop,
    schedule::End,
    site::{Registered, Site, new_uid},
    truth::History,
};

/// An activator, its autoscaler, and the activator's history.
#[derive(Debug)]
pub(crate) struct Lane {
    number: usize,
    /// How many of its activators have ended.
    ended: usize,
    pub(crate) pod: Pod,
    /// `None` between the end of one and the start of the next.
    pub(crate) activator: Option<Activator>,
    pub(crate) home: Home,
    pub(crate) crash_loop: Option<CrashLoop>,
    /// SYNs that a stranger sent in the activator's network namespace.
    pub(crate) foreign_opens: u64,
    pub(crate) history: History,
    server: Option<Server>,
    server_pod: Pod,
    /// How many Knative autoscalers it has had.
    autoscalers: u64,
    /// The name server that the activator uses, in the autoscaler's pod.
    names: Option<Process>,
    /// Websockets upgraded by servers that have ended.
    upgraded: u64,
}

/// The things that belong to one activator, and end after it.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) container: Container,
    pub(crate) registered: Registered,
    pub(crate) sidecar: Option<Sidecar>,
}

#[derive(Debug)]
enum Server {
    Knative(Autoscaler),
    StandIn(Process),
}

/// The way to heal a fault.
#[derive(Debug)]
pub(crate) enum Undo {
    Nothing,
    Fault(Fault),
    Policy(Policy),
    Server,
    Thaw,
    Names,
    Sidecar,
    ThawActivator,
    Restart,
}

impl Home {
    fn new(site: &Site, pod: &Pod, way: Way, upstream: SocketAddrV4) -> Result<Self> {
        let sidecar = match way {
            Way::Direct | Way::Name => None,
            Way::Sidecar => {
                let service = site.bed.service()?.socket();
                Some(Sidecar::start(pod, service, Rule::Pass(upstream))?)
            }
        };
        let uid = new_uid();
        let container = Container::new(&uid)?;
        Ok(Self {
            registered: Registered::new(pod, uid, &container),
            container,
            sidecar,
        })
    }
}

impl Lane {
    pub(crate) fn new(site: &mut Site, number: usize) -> Result<Self> {
        let server_pod = site.bed.network.pod(&format!("autoscaler-{number}"))?;
        let server = Autoscaler::start(&server_pod)?;
        site.add_endpoint(&server_pod);
        let pod = site.bed.network.pod(&format!("lane{number}-0"))?;
        let mut lane = Self {
            number,
            ended: 0,
            home: Home::new(site, &pod, Way::of_lane(number), upstream(&server_pod))?,
            pod,
            activator: None,
            crash_loop: None,
            foreign_opens: 0,
            history: History::default(),
            server: Some(Server::Knative(server)),
            server_pod,
            autoscalers: 1,
            names: None,
            upgraded: 0,
        };
        if lane.way() == Way::Name {
            lane.start_names()?;
        }
        lane.arrive(site)?;
        Ok(lane)
    }

    /// Whether its activator sends stats: every other lane's does.
    pub(crate) const fn sends_stats(&self) -> bool {
        self.number.is_multiple_of(2)
    }

    /// How the activator reaches its autoscaler.
    pub(crate) const fn way(&self) -> Way {
        Way::of_lane(self.number)
    }

    /// A description for messages.
    pub(crate) fn describe(&self) -> String {
        let traffic = if self.sends_stats() { "stats" } else { "idle" };
        let to = match self.way() {
            Way::Direct => self.target().to_string(),
            Way::Name => format!("{} by its name", self.server_pod.v4),
            Way::Sidecar => format!("{} by a sidecar", self.server_pod.v4),
        };
        format!("{} to {to}, {traffic}", self.pod.name)
    }

    /// The name of the activator's pod.
    pub(crate) fn pod_name(&self) -> &str {
        &self.pod.name
    }

    /// The pods for faults: the activator's, and the autoscaler's.
    pub(crate) const fn pods(&self) -> (&Pod, &Pod) {
        (&self.pod, &self.server_pod)
    }

    /// Reads the activator's new output.
    pub(crate) fn look(&mut self) {
        if let Some(activator) = &self.activator {
            self.history.read(&activator.process);
        }
    }

    /// The kernel's counters in the activator's network namespace, without the strangers' share.
    pub(crate) fn kernel(&self) -> Result<Counters> {
        let activator = self.activator.as_ref().context("no activator")?;
        let counters = Counters::of(activator.process.pid())?;
        Ok(Counters {
            opens: counters.opens.saturating_sub(self.foreign_opens),
            ..counters
        })
    }

    /// How many websockets the autoscalers of this lane upgraded.
    pub(crate) fn upgrades(&self) -> u64 {
        let now = match &self.server {
            Some(Server::Knative(server)) => server.upgrades() as u64,
            Some(Server::StandIn(_)) | None => 0,
        };
        self.upgraded + now
    }

    /// How many autoscalers it has had.
    pub(crate) const fn autoscalers(&self) -> u64 {
        self.autoscalers
    }

    /// Ends the activator, and makes a pod for the next one; returns the former and its home.
    pub(crate) fn depart(&mut self, site: &Site, end: End) -> Result<(Activator, Home)> {
        let mut former = self.activator.take().context("no activator to end")?;
        site.announce(&self.home.registered, end);
        match end {
            End::Killed => {
                former.process.kill()?;
                site.gone(&self.home.registered);
            }
            // It takes up to 10 s, until its reader gives up.
            End::Deleted | End::ByKubelet => former.process.signal(Signal::TERM)?,
        }
        self.ended += 1;
        self.foreign_opens = 0;
        let name = format!("lane{}-{}", self.number, self.ended);
        self.pod = site.bed.network.pod(&name)?;
        let home = Home::new(site, &self.pod, self.way(), upstream(&self.server_pod))?;
        let home = std::mem::replace(&mut self.home, home);
        self.history = History::default();
        Ok((former, home))
    }

    /// Starts the pod's activator.
    pub(crate) fn arrive(&mut self, site: &Site) -> Result<()> {
        site.runs(&self.home.registered);
        let traffic = if self.sends_stats() {
            Traffic::Every(Duration::from_secs(1))
        } else {
            Traffic::Idle
        };
        // Like the real one: on SIGTERM its stats stop first, and its pings continue.
        let mut args = vec!["--drain".to_owned(), "4s".to_owned()];
        let url = match self.way() {
            Way::Direct => format!("ws://{}", self.target()),
            Way::Name => {
                args.extend(ask(&self.server_pod));
                URL.to_owned()
            }
            Way::Sidecar => format!("ws://{}", site.bed.service()?.socket()),
        };
        let activator =
            Activator::start_in_with(&self.home.container, &self.pod, &url, traffic, args)?;
        self.activator = Some(activator);
        Ok(())
    }

    /// IPv4, IPv6 and IPv4-mapped, lane by lane.
    fn target(&self) -> SocketAddr {
        let address = match self.number % 3 {
            0 => IpAddr::from(self.server_pod.v4),
            1 => IpAddr::from(self.server_pod.v6),
            _ => IpAddr::from(self.server_pod.v4.to_ipv6_mapped()),
        };
        (address, PORT).into()
    }

    /// Injects a fault; returns how to heal it.
    pub(crate) fn inject(&mut self, site: &Site, kind: Kind) -> Result<Undo> {
        let pod = self.pod.clone();
        let server_pod = self.server_pod.clone();
        let faults = Faults::new(&pod, &server_pod);
        let undo = match kind {
            Kind::Reset => Undo::Nothing,
            Kind::Aborted => {
                // Another fault may have ended the connection already.
                let _ = faults.abort_at_client();
                Undo::Nothing
            }
            Kind::Refused => Undo::Fault(faults.reject_syn(Reject::TcpReset)?),
            Kind::RefusedByIcmp => Undo::Fault(faults.reject_syn(Reject::PortUnreachable)?),
            Kind::HostUnreachable => Undo::Fault(faults.reject_syn(Reject::HostUnreachable)?),
            Kind::NetworkUnreachable => Undo::Fault(faults.reject_syn(Reject::NetworkUnreachable)?),
            Kind::AdminProhibited => Undo::Fault(faults.reject_syn(Reject::AdminProhibited)?),
            Kind::RefusedOnNode => Undo::Fault(faults.reject_syn_locally(Reject::PortUnreachable)?),
            Kind::ProhibitedOnNode => {
                Undo::Fault(faults.reject_syn_locally(Reject::AdminProhibited)?)
            }
            Kind::SynDropped => Undo::Fault(faults.drop_syn()?),
            Kind::NoRoute => Undo::Fault(faults.route(Route::None)?),
            Kind::UnreachableRoute => Undo::Fault(faults.route(Route::Unreachable)?),
            Kind::ProhibitRoute => Undo::Fault(faults.route(Route::Prohibit)?),
            Kind::Policy => Undo::Policy(Policy::refuse(&self.home.container)?),
            Kind::OutOfPorts => Undo::Fault(faults.out_of_ports()?),
            Kind::NameServerKilled => {
                self.names = None;
                Undo::Names
            }
            Kind::LookupsDropped => Undo::Fault(drop_lookups(&server_pod)?),
            Kind::NxDomain => self.replace_names(Answer::NxDomain)?,
            Kind::ServFail => self.replace_names(Answer::ServFail)?,
            Kind::SlowLookups => self.replace_names(Answer::Address(server_pod.v4, SLOW))?,
            Kind::RejectAll => Undo::Fault(faults.reject_all(Reject::TcpReset)?),
            Kind::Unroutable => Undo::Fault(faults.reject_all(Reject::HostUnreachable)?),
            Kind::Unplugged => Undo::Fault(faults.unplug_server()?),
            Kind::Blackhole => Undo::Fault(faults.blackhole()?),
            Kind::LostToServer => Undo::Fault(faults.drop_to_server()?),
            Kind::LostToClient => Undo::Fault(faults.drop_to_client()?),
            Kind::Terminated => {
                self.knative()?.process.signal(Signal::TERM)?;
                Undo::Server
            }
            Kind::Killed => {
                self.knative()?.process.kill()?;
                Undo::Server
            }
            Kind::Frozen => {
                self.knative()?.process.freeze()?;
                Undo::Thaw
            }
            Kind::Forbidden => self.replace_server("forbid")?,
            Kind::Unavailable => self.replace_server("unavailable")?,
            Kind::HeldRefusal => self.replace_server("forbid-open")?,
            Kind::ClosedAtOnce => self.replace_server("close")?,
            Kind::ResetAtOnce => self.replace_server("reset")?,
            Kind::Mute => self.replace_server("mute")?,
            Kind::SidecarKilled => {
                self.sidecar()?.kill();
                Undo::Sidecar
            }
            Kind::SidecarForbids => self.replace_sidecar(403)?,
            Kind::SidecarUnavailable => self.replace_sidecar(503)?,
            Kind::ActivatorFrozen => {
                let activator = self.activator.as_ref().context("no activator")?;
                activator.process.freeze()?;
                Undo::ThawActivator
            }
            Kind::CrashLoop => {
                self.begin_crash_loop(site)?;
                Undo::Restart
            }
        };
        if kind.resets() {
            // Another fault may have ended the connection already.
            let _ = faults.reset_established();
        }
        Ok(undo)
    }

    pub(crate) fn heal(&mut self, site: &Site, undo: Undo) -> Result<()> {
        match undo {
            Undo::Nothing => Ok(()),
            Undo::Fault(fault) => fault.heal(),
            Undo::Policy(policy) => {
                drop(policy);
                Ok(())
            }
            Undo::Names => self.start_names(),
            Undo::Sidecar => {
                let upstream = upstream(&self.server_pod);
                self.sidecar()?.replace(Rule::Pass(upstream))
            }
            Undo::Thaw => self.knative()?.process.thaw(),
            Undo::ThawActivator => {
                let activator = self.activator.as_ref().context("no activator")?;
                activator.process.thaw()
            }
            Undo::Restart => self.end_crash_loop(site),
            Undo::Server => {
                // Its port must be free: kills a server that is still shutting down.
                self.end_server();
                let server = Autoscaler::start(&self.server_pod)?;
                self.server = Some(Server::Knative(server));
                self.autoscalers += 1;
                Ok(())
            }
        }
    }

    fn replace_server(&mut self, behaviour: &str) -> Result<Undo> {
        self.knative()?.process.kill()?;
        self.end_server();
        let address = format!("[::]:{PORT}");
        let stand_in = bad_server(&self.server_pod, [behaviour, &address])?;
        self.server = Some(Server::StandIn(stand_in));
        Ok(Undo::Server)
    }

    fn replace_names(&mut self, answer: Answer) -> Result<Undo> {
        // Its port must be free.
        self.names = None;
        self.names = Some(name_server(&self.server_pod, answer)?);
        Ok(Undo::Names)
    }

    /// Starts a name server that answers correctly.
    fn start_names(&mut self) -> Result<()> {
        let address = Answer::Address(self.server_pod.v4, Duration::ZERO);
        self.replace_names(address).map(drop)
    }

    fn replace_sidecar(&mut self, status: u16) -> Result<Undo> {
        self.sidecar()?.replace(Rule::Answer(status))?;
        Ok(Undo::Sidecar)
    }

    fn sidecar(&mut self) -> Result<&mut Sidecar> {
        self.home
            .sidecar
            .as_mut()
            .context("the lane has no sidecar")
    }

    fn knative(&mut self) -> Result<&mut Autoscaler> {
        match &mut self.server {
            Some(Server::Knative(server)) => Some(server),
            Some(Server::StandIn(_)) | None => None,
        }
        .context("the lane's autoscaler is not there")
    }

    fn end_server(&mut self) {
        self.upgraded = self.upgrades();
        if let Some(Server::StandIn(server)) = &self.server {
            self.history.read_accepted(server);
        }
        self.server = None;
    }
}

/// The address to which a sidecar forwards.
const fn upstream(server: &Pod) -> SocketAddrV4 {
    SocketAddrV4::new(server.v4, PORT)
}

/// A dial has 3 s in all. The rest is long enough to retransmit a SYN that another fault drops,
/// after 1 s: otherwise the cause would be `cancelled` instead of `timeout`.
const SLOW: Duration = Duration::from_millis(1_500);
