//! The kernel's TCP counters of a network namespace.

use std::fs;

use anyhow::{Context as _, Result};

/// Two of TCP's counters (RFC 4022, `net/ipv4/proc.c`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// `tcpActiveOpens`: connects that sent a SYN.
    pub opens: u64,
    /// `tcpRetransSegs`.
    pub retransmits: u64,
}

impl Counters {
    /// The counters of a process's network namespace.
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/net/snmp");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        parse(&text).with_context(|| format!("no TCP counters in {path}"))
    }
}

/// A line of names, then one of values.
fn parse(text: &str) -> Option<Counters> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let of = |wanted| {
        let mut pairs = names.split(' ').zip(values.split(' '));
        pairs.find(|(name, _)| *name == wanted)?.1.parse().ok()
    };
    Some(Counters {
        opens: of("ActiveOpens")?,
        retransmits: of("RetransSegs")?,
    })
}
