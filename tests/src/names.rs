//! The autoscaler's name, and name servers.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::Result;

use crate::{fault::Fault, netns::Pod, peer::bad_server, process::Process};

/// A name server's answer to every query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This address, after this delay.
    Address(Ipv4Addr, Duration),
    /// An address of each family.
    Both(Ipv4Addr, Ipv6Addr),
    /// NXDOMAIN.
    NxDomain,
    /// SERVFAIL.
    ServFail,
}

/// Starts a name server in `pod`, on port 53.
pub fn name_server(pod: &Pod, answer: Answer) -> Result<Process> {
    let (answer, late) = match answer {
        Answer::Address(address, late) => (address.to_string(), late),
        Answer::Both(v4, v6) => (format!("{v4},{v6}"), Duration::ZERO),
        Answer::NxDomain => ("nxdomain".to_owned(), Duration::ZERO),
        Answer::ServFail => ("servfail".to_owned(), Duration::ZERO),
    };
    let late = late.as_millis().to_string();
    bad_server(pod, ["dns", "0.0.0.0:53", &answer, &late])
}

/// Drops all queries to `server`.
pub fn drop_lookups(server: &Pod) -> Result<Fault> {
    let rule = "udp dport 53 drop";
    Fault::nft("lookups dropped", &server.namespace, "input", rule)
}

/// The flags that make Knative's client use the name server in `server`.
pub fn ask(server: &Pod) -> [String; 2] {
    ["--resolver".to_owned(), format!("{}:53", server.v4)]
}

/// The autoscaler's URL by name.
pub const URL: &str = "ws://autoscaler.knative-serving.svc.cluster.local:8080";
