//! What the kernel half records of real sockets on the watched port, each thing once.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use rustix::{
    net::sockopt::set_socket_linger,
    thread::{CapabilitySet, CapabilitySets, set_capabilities},
};
use statlink::{
    clock,
    kernel::{LossReason, RecordKind, Source, connection_id, peer},
    link::Sample,
};
use statlink_ebpf::{End, Phase};
use statlink_tests::{
    netns::Network,
    peer::{Activator, PORT, bad_server},
    wait,
};

use crate::{
    PATIENCE,
    half::{Half, connected, lost, source, sum, this_process},
};

#[test]
fn each_end_is_recorded_once_and_as_what_it_was() {
    let network = Network::new().unwrap();
    let pod = network.pod("client").unwrap();
    let mut half = Half::load();
    let source = this_process(&pod.namespace);
    half.kernel.track(source).unwrap();
    for at in ["127.0.0.1", "::1"] {
        let address: SocketAddr = (at.parse::<IpAddr>().unwrap(), PORT).into();

        let refused = pod.namespace.run(|| TcpStream::connect(address)).unwrap();
        assert!(refused.is_err());
        let ended = half.end(source);
        assert_eq!(End::from_raw(ended.end), Some(End::Refused));
        assert_eq!(Phase::from_raw(ended.phase), Some(Phase::Connecting));
        assert_eq!(
            (ended.errno, peer(ended.peer, ended.peer_port)),
            (111, address)
        );

        let (client, server) = connected(&pod.namespace, at);
        server.shutdown(Shutdown::Write).unwrap();
        let ended = half.end(source);
        assert_eq!(End::from_raw(ended.end), Some(End::PeerClosed));
        assert_eq!(Phase::from_raw(ended.phase), Some(Phase::Established));
        drop((client, server));

        let (client, server) = connected(&pod.namespace, at);
        drop(client);
        assert_eq!(End::from_raw(half.end(source).end), Some(End::LocalClosed));
        drop(server);

        let (client, server) = connected(&pod.namespace, at);
        set_socket_linger(&server, Some(Duration::ZERO)).unwrap();
        drop(server);
        let ended = half.end(source);
        assert_eq!(End::from_raw(ended.end), Some(End::Reset));
        assert_eq!(ended.errno, 104);
        drop(client);
    }
    // Whatever else happened to the sockets ended none of them again: the next end is the next one's.
    let refused = pod.namespace.run(|| TcpStream::connect(("::1", PORT)));
    assert!(refused.unwrap().is_err());
    assert_eq!(End::from_raw(half.end(source).end), Some(End::Refused));
    let totals = half.kernel.source_totals(source).unwrap();
    assert_eq!((totals.attempts, sum(&totals.ended)), (9, 9));
    assert_eq!(sum(&totals.missed), 0);
}

#[test]
fn a_connection_older_than_the_kernel_half_is_found_with_its_owner() {
    let network = Network::new().unwrap();
    let pod = network.pod("client").unwrap();
    let (client, mut server) = connected(&pod.namespace, "127.0.0.1");
    let mut half = Half::load();
    let source = this_process(&pod.namespace);
    half.kernel.track(source).unwrap();
    let open_files = half.kernel.open_files().unwrap().unwrap();
    // As the agent's own threads: only the one that made the pass has capabilities.
    let read = thread::spawn(move || {
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none).unwrap();
        open_files.read()
    });
    read.join().unwrap().unwrap();
    let inventory = half.inventory(source);
    // The client's end only: the server's socket has another remote port.
    let [(sock, found)] = &inventory.open[..] else {
        panic!("{:#?}", inventory.open);
    };
    assert_eq!(found.tgid, std::process::id());
    assert_eq!(found.attempted_ns, 0, "its age is unknown");
    assert_eq!(Phase::from_raw(found.phase), Some(Phase::Established));

    let id = connection_id(*sock, found.born_ns);
    let sample = half.kernel.sample(id).unwrap().unwrap();
    assert!(sample.established);
    assert!(sample.rtt.is_some());
    // A stale id does not get this connection's figures.
    let other = connection_id(*sock, found.born_ns - 1);
    assert_eq!(half.kernel.sample(other).unwrap(), None);
    drop(client);
    let mut nothing = Vec::new();
    server.read_to_end(&mut nothing).unwrap();
    assert_eq!(End::from_raw(half.end(source).end), Some(End::LocalClosed));
    assert_eq!(half.kernel.sample(id).unwrap(), None);
}

/// A look at the only connection of `source`.
fn look(half: &mut Half, source: Source) -> Sample {
    let inventory = half.inventory(source);
    let [(sock, open)] = &inventory.open[..] else {
        panic!("{:#?}", inventory.open);
    };
    let id = connection_id(*sock, open.born_ns);
    half.kernel.sample(id).unwrap().unwrap()
}

/// In a pod with a proxy, packets come over the loopback: by a redirection or to an address of its own.
#[test]
fn whether_the_other_end_is_in_the_same_namespace_is_seen_and_redirected_ones_are() {
    let network = Network::new().unwrap();
    let (pod, peer) = (network.pod("client").unwrap(), network.pod("peer").unwrap());
    let mut half = Half::load();
    let client = this_process(&pod.namespace);
    half.kernel.track(client).unwrap();
    for at in ["127.0.0.1", "::1"] {
        let ends = connected(&pod.namespace, at);
        assert!(look(&mut half, client).looped, "{at}");
        drop(ends);
        half.end(client);
    }
    let addresses = [IpAddr::from(peer.v4), IpAddr::from(peer.v6)];
    let listen = |at: IpAddr, port| TcpListener::bind((at, port));
    for proxied in [false, true] {
        for address in addresses {
            let (_listener, at) = if proxied {
                let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
                let listener = pod.namespace.run(|| listen(any.parse().unwrap(), PROXY));
                (listener.unwrap().unwrap(), address)
            } else {
                let listener = peer.namespace.run(|| listen(address, PORT));
                (listener.unwrap().unwrap(), address)
            };
            let dialled = pod.namespace.run(|| TcpStream::connect((at, PORT)));
            let dialled = dialled.unwrap().unwrap();
            assert_eq!(look(&mut half, client).looped, proxied, "{address}");
            drop(dialled);
            half.end(client);
        }
        let redirect = format!(
            "table inet proxied {{ chain output {{ type nat hook output priority -100; \
             tcp dport {PORT} redirect to :{PROXY}; }}; }}"
        );
        pod.namespace.nft(&redirect).unwrap();
    }
}

/// Its window is closed: the kernel sends nothing more, and nothing again.
#[test]
fn what_a_peer_has_no_room_for_is_unacknowledged() {
    let network = Network::new().unwrap();
    let pod = network.pod("client").unwrap();
    let mut half = Half::load();
    let source = this_process(&pod.namespace);
    half.kernel.track(source).unwrap();
    let (mut client, server) = connected(&pod.namespace, "127.0.0.1");
    client.set_nonblocking(true).unwrap();
    assert!(!look(&mut half, source).unacknowledged);
    wait::until("a full window", PATIENCE, || {
        while client.write(&[0; 4096]).is_ok() {}
        let sample = look(&mut half, source);
        let sent = sample.sent.unwrap();
        let is_over = clock::now().saturating_since(sent) > Duration::from_millis(500);
        Ok((is_over && sample.timeouts == 0).then_some(()))
    })
    .unwrap();
    assert!(look(&mut half, source).unacknowledged);
    drop((client, server));
}

#[test]
fn what_an_untracked_source_did_is_there_once_it_is_tracked() {
    let network = Network::new().unwrap();
    let (pod, nobody) = (
        network.pod("client").unwrap(),
        network.pod("nobody").unwrap(),
    );
    let mut half = Half::load();
    let to = format!("{}:{PORT}", nobody.v4);
    let mut client = Activator::stand_in(&pod, ["flap", &to, "0", "300"]).unwrap();
    client.process.wait_event("flapped", PATIENCE).unwrap();
    let source = source(&pod.namespace, client.process.pid());
    assert_eq!(half.drain(source), [], "it is not tracked");
    half.kernel.track(source).unwrap();
    let missed = half.inventory(source).missed;
    let refused = missed
        .first()
        .and_then(|ends| ends.get(End::Refused as usize));
    assert_eq!((refused, sum(&missed)), (Some(&300), 300));
    // Another untracked source has totals of its own.
    let other = Source {
        tgid: source.tgid + 1,
        ..source
    };
    assert_eq!(half.kernel.source_totals(other).unwrap().attempts, 0);
    half.kernel.untrack(source).unwrap();
    assert_eq!(half.kernel.source_totals(source).unwrap().attempts, 0);
}

#[test]
fn records_and_what_the_ring_could_not_hold_add_up() {
    const CONNECTIONS: u32 = 30_000;
    let network = Network::new().unwrap();
    let (pod, sink) = (network.pod("client").unwrap(), network.pod("sink").unwrap());
    let _sink = bad_server(&sink, ["sink", &format!("[::]:{PORT}")]).unwrap();
    let mut half = Half::load();
    let to = format!("{}:{PORT}", sink.v4);
    let arguments = ["flap", &to, "10000", &CONNECTIONS.to_string()];
    let mut client = Activator::stand_in(&pod, arguments).unwrap();
    let source = source(&pod.namespace, client.process.pid());
    half.kernel.track(source).unwrap();
    client.process.wait_event("flapped", PATIENCE).unwrap();

    let totals = half.kernel.source_totals(source).unwrap();
    let records = half.drain(source);
    let ended = records.iter().filter(|r| r.kind == RecordKind::Ended as u8);
    let ended = u32::try_from(ended.count()).unwrap();
    assert!(ended > 0, "some fitted into the ring");
    assert_eq!(ended + sum(&totals.missed), CONNECTIONS);
    assert_eq!(sum(&totals.ended), CONNECTIONS);
    assert_eq!(totals.attempts, u64::from(CONNECTIONS));
    assert!(lost(&half, LossReason::RingFull) > 0);
}

#[test]
fn missed_events_are_counted_of_each_attached_hook() {
    // Since Linux 5.12. No test can make a hook miss an event.
    let half = Half::load();
    let counted: Vec<_> = half
        .kernel
        .missed_events()
        .iter()
        .map(|(name, _)| *name)
        .collect();
    let hooks = half.kernel.hooks().iter();
    let attached = hooks.filter(|state| state.missing.is_none());
    let attached: Vec<_> = attached.map(|state| state.hook.name).collect();
    assert_eq!(counted, attached);
}

#[test]
fn two_processes_of_one_namespace_have_totals_of_their_own() {
    // Activators on the host's network share its namespace.
    let network = Network::new().unwrap();
    let pod = network.pod("host").unwrap();
    let mut half = Half::load();
    let one = this_process(&pod.namespace);
    half.kernel.track(one).unwrap();
    let mut activator =
        Activator::stand_in(&pod, ["flap", &format!("127.0.0.1:{PORT}"), "50", "3"]).unwrap();
    let other = source(&pod.namespace, activator.process.pid());
    let address: SocketAddr = ([127, 0, 0, 1], PORT).into();
    for _ in 0..2 {
        let refused = pod.namespace.run(|| TcpStream::connect(address)).unwrap();
        assert!(refused.is_err());
    }
    wait::until("count of its attempts", PATIENCE, || {
        Ok((half.kernel.source_totals(other)?.attempts >= 3).then_some(()))
    })
    .unwrap();
    assert_eq!(half.kernel.source_totals(one).unwrap().attempts, 2);
    let _ended = activator.process.kill();
}

#[test]
fn the_kernel_half_knows_a_network_namespace_without_proc() {
    let network = Network::new().unwrap();
    let pod = network.pod("activator").unwrap();
    let activator = Activator::stand_in(&pod, ["idle"]).unwrap();
    let pid = activator.process.pid();
    let mut half = Half::load();
    let known = half.kernel.network_namespace(pid).unwrap();
    assert_eq!(known, Some(source(&pod.namespace, pid).netns));
    // This process does not have the watched name.
    let own = half.kernel.network_namespace(std::process::id()).unwrap();
    assert_eq!(own, None);
}

/// A port that nobody watches.
const PROXY: u16 = 15_001;
