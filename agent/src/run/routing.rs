//! Which links a kernel record concerns, and which input each gets.

use statlink_ebpf::{End, Phase, Record, RecordKind, Source};

use super::registry::{LinkId, Registry};
use crate::{
    discovery::NodeNamespaces,
    kernel::{attempted, connection_id, peer},
    link::{Input, ProxyEvent},
    snapshot::Purpose,
    time::Timestamp,
};

/// Where a record goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// A process of a watched name called exec: discovery inspects it.
    Executed(u32),
    /// A record of a client itself: goes to its link.
    Link(LinkId, Input),
    /// A record of another process in a network namespace of clients, perhaps their proxy: goes to
    /// the links of all of them.
    Proxy(Vec<LinkId>, Input),
    /// A record of a process that is no client and explains nothing: it only looked up a name, runs
    /// in a node's namespace, or ended a moment ago.
    Nobody,
    /// The record holds a value that this agent does not know.
    Malformed,
}

/// Routes a record; `heard` is when the peer was last heard, if the record says so.
pub(super) fn route(
    record: &Record,
    heard: Option<Timestamp>,
    registry: &Registry,
    nodes: &NodeNamespaces,
) -> Route {
    let Some(kind) = RecordKind::from_raw(record.kind) else {
        return Route::Malformed;
    };
    if kind == RecordKind::Executed {
        return Route::Executed(record.tgid);
    }
    let source = Source {
        netns: record.netns,
        tgid: record.tgid,
    };
    if let Some(id) = registry.by_source(source) {
        let input = of_client(record, kind, heard);
        return input.map_or(Route::Malformed, |input| Route::Link(id, input));
    }
    let watching = registry.watching(record.netns, nodes);
    match of_proxy(record, kind) {
        OfProxy::Input(input) if !watching.is_empty() => Route::Proxy(watching, input),
        OfProxy::Input(_) | OfProxy::Nothing => Route::Nobody,
        OfProxy::Malformed => Route::Malformed,
    }
}

/// The input from a client's own record; `None` if the record is malformed.
fn of_client(record: &Record, kind: RecordKind, heard: Option<Timestamp>) -> Option<Input> {
    let connection = connection_id(record.sock, record.born_ns);
    let peer_address = peer(record.peer, record.peer_port);
    let attempted = attempted(record.attempted_ns);
    Some(match kind {
        RecordKind::Attempted => Input::Attempted {
            connection,
            peer_address,
        },
        RecordKind::Established => Input::Established {
            connection,
            peer_address,
            attempted,
        },
        RecordKind::RetransmissionTimeout => Input::RetransmissionTimeout {
            connection,
            timeouts: record.timeouts,
        },
        RecordKind::Ended => Input::Ended {
            connection,
            peer_address,
            attempted,
            phase: Phase::from_raw(record.phase)?,
            how: End::from_raw(record.end)?,
            errno: record.errno,
            heard,
        },
        RecordKind::LookedUp => Input::LookedUp,
        RecordKind::Executed => return None,
    })
}

/// The input from a record of a client's proxy.
enum OfProxy {
    Input(Input),
    Nothing,
    Malformed,
}

fn of_proxy(record: &Record, kind: RecordKind) -> OfProxy {
    let event = match kind {
        RecordKind::Attempted => ProxyEvent::Attempted,
        RecordKind::Established => ProxyEvent::Established,
        RecordKind::RetransmissionTimeout => ProxyEvent::Stalled,
        RecordKind::Ended => {
            let known = (Phase::from_raw(record.phase), End::from_raw(record.end));
            let (Some(phase), Some(how)) = known else {
                return OfProxy::Malformed;
            };
            ProxyEvent::Ended { phase, how }
        }
        RecordKind::Executed | RecordKind::LookedUp => return OfProxy::Nothing,
    };
    OfProxy::Input(Input::Proxy {
        connection: connection_id(record.sock, record.born_ns),
        peer_address: peer(record.peer, record.peer_port),
        attempted: attempted(record.attempted_ns),
        event,
    })
}

/// The agent's own counts of the records that it reads.
#[derive(Debug, Default)]
pub(super) struct RecordTally {
    attempted: u64,
    established: u64,
    timeouts: u64,
    ended: u64,
    executed: u64,
    looked_up: u64,
    malformed: u64,
    /// The event time of the newest record.
    last: Option<Timestamp>,
    /// The most bytes found waiting in the ring since the last export.
    backlog: u64,
}

impl RecordTally {
    /// Counts one record.
    pub(super) fn count(&mut self, record: &Record) {
        self.last = Some(Timestamp::from_nanos(record.time_ns));
        let count = match RecordKind::from_raw(record.kind) {
            Some(RecordKind::Attempted) => &mut self.attempted,
            Some(RecordKind::Established) => &mut self.established,
            Some(RecordKind::RetransmissionTimeout) => &mut self.timeouts,
            Some(RecordKind::Ended) => &mut self.ended,
            Some(RecordKind::Executed) => &mut self.executed,
            Some(RecordKind::LookedUp) => &mut self.looked_up,
            // It is counted where it is routed.
            None => return,
        };
        *count += 1;
    }

    /// Counts a record with an unknown value or size.
    pub(super) fn count_malformed(&mut self) {
        self.malformed += 1;
    }

    /// Notes that `records` were waiting in the ring.
    pub(super) fn note_backlog(&mut self, records: usize) {
        let bytes = (records * (size_of::<Record>() + RING_HEADER)) as u64;
        self.backlog = self.backlog.max(bytes);
    }

    /// The most bytes found waiting since the last export. A look does not reset it: a scrape must
    /// not lower what is exported.
    pub(super) fn backlog(&mut self, purpose: Purpose) -> u64 {
        match purpose {
            Purpose::Export => std::mem::take(&mut self.backlog),
            Purpose::Look => self.backlog,
        }
    }

    /// The records read, by kind.
    pub(super) fn by_kind(&self) -> [(&'static str, u64); 6] {
        [
            ("attempted", self.attempted),
            ("established", self.established),
            ("retransmission_timeout", self.timeouts),
            ("ended", self.ended),
            ("executed", self.executed),
            ("looked_up", self.looked_up),
        ]
    }

    pub(super) fn malformed(&self) -> u64 {
        self.malformed
    }

    pub(super) fn last(&self) -> Option<Timestamp> {
        self.last
    }
}

/// `BPF_RINGBUF_HDR_SZ`, `include/uapi/linux/bpf.h`.
const RING_HEADER: usize = 8;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{
        super::registry::tests::{HOST, POD, nodes, registry_of},
        *,
    };

    fn record(netns: u32, tgid: u32, kind: RecordKind) -> Record {
        Record {
            time_ns: 30,
            sock: 0xA,
            born_ns: 20,
            attempted_ns: 10,
            tgid,
            netns,
            peer: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 10, 0, 0, 1],
            peer_port: 8080,
            errno: 104,
            kind: kind as u8,
            end: End::Reset as u8,
            phase: Phase::Held as u8,
            timeouts: 2,
            heard_ns: 0,
        }
    }

    fn peer_address() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 8080))
    }

    #[test]
    fn a_clients_own_record_goes_to_its_link_alone() {
        let (registry, ids) = registry_of(&[(POD, 7), (POD, 8)]);
        let heard = Some(Timestamp::from_nanos(25));
        let ended = record(POD, 8, RecordKind::Ended);
        let input = Input::Ended {
            connection: connection_id(0xA, 20),
            peer_address: peer_address(),
            attempted: Some(Timestamp::from_nanos(10)),
            phase: Phase::Held,
            how: End::Reset,
            errno: 104,
            heard,
        };
        let routed = route(&ended, heard, &registry, &nodes());
        assert_eq!(routed, Route::Link(ids[1], input));
    }

    #[test]
    fn another_process_of_a_pods_namespace_may_be_the_proxy_of_each_client_there() {
        let (registry, ids) = registry_of(&[(POD, 7), (3, 8), (POD, 9)]);
        let attempted = record(POD, 100, RecordKind::Attempted);
        let input = Input::Proxy {
            connection: connection_id(0xA, 20),
            peer_address: peer_address(),
            attempted: Some(Timestamp::from_nanos(10)),
            event: ProxyEvent::Attempted,
        };
        let routed = route(&attempted, None, &registry, &nodes());
        assert_eq!(routed, Route::Proxy(vec![ids[0], ids[2]], input));
    }

    #[test]
    fn another_process_of_a_nodes_namespace_is_nobodys_proxy() {
        let (registry, _) = registry_of(&[(HOST, 7)]);
        let attempted = record(HOST, 100, RecordKind::Attempted);
        let routed = route(&attempted, None, &registry, &nodes());
        assert_eq!(routed, Route::Nobody);
    }

    #[test]
    fn a_lookup_tells_its_own_link_and_no_other() {
        let (registry, ids) = registry_of(&[(POD, 7)]);
        let own = record(POD, 7, RecordKind::LookedUp);
        let routed = route(&own, None, &registry, &nodes());
        assert_eq!(routed, Route::Link(ids[0], Input::LookedUp));
        let other = record(POD, 8, RecordKind::LookedUp);
        let routed = route(&other, None, &registry, &nodes());
        assert_eq!(routed, Route::Nobody);
    }

    #[test]
    fn an_execution_is_for_discovery_whoever_it_is() {
        let (registry, _) = registry_of(&[(POD, 7)]);
        let executed = record(POD, 7, RecordKind::Executed);
        let routed = route(&executed, None, &registry, &nodes());
        assert_eq!(routed, Route::Executed(7));
    }

    #[test]
    fn what_is_not_known_is_malformed() {
        let (registry, _) = registry_of(&[(POD, 7)]);
        let mut kind = record(POD, 7, RecordKind::Ended);
        kind.kind = 99;
        let mut end = record(POD, 7, RecordKind::Ended);
        end.end = 99;
        let mut phase = record(POD, 7, RecordKind::Ended);
        phase.phase = 99;
        let mut proxied = record(POD, 100, RecordKind::Ended);
        proxied.end = 99;
        for malformed in [kind, end, phase, proxied] {
            let routed = route(&malformed, None, &registry, &nodes());
            assert_eq!(routed, Route::Malformed);
        }
    }

    #[test]
    fn each_kind_is_counted_by_its_name() {
        let mut tally = RecordTally::default();
        for kind in [RecordKind::Ended, RecordKind::Ended, RecordKind::LookedUp] {
            tally.count(&record(POD, 7, kind));
        }
        let counted: Vec<_> = tally
            .by_kind()
            .into_iter()
            .filter(|(_, n)| *n > 0)
            .collect();
        assert_eq!(counted, [("ended", 2), ("looked_up", 1)]);
        assert_eq!(tally.last(), Some(Timestamp::from_nanos(30)));
        tally.note_backlog(3);
        tally.note_backlog(1);
        // A look takes nothing from the next export.
        let purposes = [Purpose::Look, Purpose::Look, Purpose::Export, Purpose::Look];
        let backlogs = purposes.map(|purpose| tally.backlog(purpose));
        assert_eq!(backlogs, [240, 240, 240, 0]);
    }
}
