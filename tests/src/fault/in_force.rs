//! A fault in force, and how it is undone.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener};

use anyhow::{Context as _, Result};

use super::Route;
use crate::netns::Namespace;

/// A fault in force.
#[derive(Debug)]
#[must_use = "a fault heals when it is dropped"]
pub struct Fault {
    pub(super) what: String,
    pub(super) undo: Vec<Undo>,
}

/// How a part of a fault is undone.
#[derive(Debug)]
pub(super) enum Undo {
    Nft(Namespace, String),
    Ip(Namespace, String),
    Sysctl(Namespace, &'static str, String),
    /// Dropping them is enough.
    Sockets(Vec<TcpListener>),
}

impl Fault {
    /// One or more lines of nftables rules in a chain of their own on `hook` (`input`, `output`,
    /// `forward`).
    pub fn nft(what: &str, at: &Namespace, hook: &str, rule: &str) -> Result<Self> {
        let table = unique_table();
        at.nft(&format!(
            "table inet {table} {{\n\
               chain c {{\n\
                 type filter hook {hook} priority 0\n\
                 {rule}\n\
               }}\n\
             }}\n"
        ))
        .with_context(|| format!("inject fault: {what}"))?;
        let undo = Undo::Nft(at.clone(), format!("delete table inet {table}\n"));
        Ok(Self {
            what: what.into(),
            undo: vec![undo],
        })
    }

    /// Routes to `destinations` that lead nowhere.
    pub fn route(
        at: &Namespace,
        route: Route,
        destinations: impl IntoIterator<Item = IpAddr>,
    ) -> Result<Self> {
        let mut fault = Self {
            what: format!("route: {route:?}"),
            undo: Vec::new(),
        };
        for destination in destinations {
            // It wins: metric 1 precedes IPv6's default of 1024, and the prefix is longer than the
            // interface's.
            let route = format!("{} {destination} metric 1", route.ip());
            at.ip(&format!("route add {route}\n"))
                .with_context(|| format!("inject fault: {}", fault.what))?;
            let undo = format!("route delete {route}\n");
            fault.undo.push(Undo::Ip(at.clone(), undo));
        }
        Ok(fault)
    }

    /// Packets to `from` go to `port` of loopback instead, as with a sidecar's redirection. The
    /// sender's socket still has the peer `from`. A proxy in the same namespace must dial another
    /// address.
    pub fn redirect(at: &Namespace, from: SocketAddrV4, port: u16) -> Result<Self> {
        let table = unique_table();
        let (address, dport) = (from.ip(), from.port());
        at.nft(&format!(
            "table ip {table} {{\n\
               chain c {{\n\
                 type nat hook output priority -100\n\
                 ip daddr {address} tcp dport {dport} redirect to :{port}\n\
               }}\n\
             }}\n"
        ))
        .with_context(|| format!("redirect {from} to port {port}"))?;
        let undo = Undo::Nft(at.clone(), format!("delete table ip {table}\n"));
        Ok(Self {
            what: "redirection".into(),
            undo: vec![undo],
        })
    }

    /// The range of local ports is one port, which is in use.
    pub fn out_of_ports(at: &Namespace) -> Result<Self> {
        const RANGE: &str = "net/ipv4/ip_local_port_range";
        const ONLY: u16 = 61_001;

        // connect() cannot use a bound port without SO_REUSEADDR on both sockets.
        let taken = at.run(|| TcpListener::bind(SocketAddr::from(([0_u16; 8], ONLY))))?;
        let taken = taken.context("take the only port")?;
        let before = at.read_sysctl(RANGE)?;
        at.sysctl(RANGE, &format!("{ONLY} {ONLY}"))?;
        Ok(Self {
            what: "out of local ports".into(),
            undo: vec![
                Undo::Sysctl(at.clone(), RANGE, before),
                Undo::Sockets(vec![taken]),
            ],
        })
    }

    /// Undoes it.
    pub fn heal(mut self) -> Result<()> {
        self.undo_all()
            .with_context(|| format!("heal: {}", self.what))
    }

    /// A description for messages.
    pub fn what(&self) -> &str {
        &self.what
    }

    pub(super) fn join(&mut self, mut other: Self) {
        self.undo.append(&mut other.undo);
    }

    fn undo_all(&mut self) -> Result<()> {
        self.undo.drain(..).try_for_each(|undo| match undo {
            Undo::Nft(at, script) => at.nft(&script),
            Undo::Ip(at, batch) => at.ip(&batch),
            Undo::Sysctl(at, path, value) => at.sysctl(path, &value),
            Undo::Sockets(sockets) => {
                drop(sockets);
                Ok(())
            }
        })
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        if let Err(e) = self.undo_all() {
            eprintln!(
                "testbed: {} stays until its namespace goes: {e:#}",
                self.what
            );
        }
    }
}

fn unique_table() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    format!("fault{}", SERIAL.fetch_add(1, Ordering::Relaxed))
}
