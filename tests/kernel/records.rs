//! What is told of real sockets on the watched port, by kind, and that nothing is told twice.

use std::{
    fs,
    io::Read as _,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    net::sockopt::set_socket_linger,
    thread::{CapabilitySet, CapabilitySets, set_capabilities},
};
use statlink::{
    clock,
    kernel::{
        Inventory, Kernel, Loss, Record, RecordKind, SETTLE, Source, Watch, connection_id, peer,
    },
};
use statlink_ebpf::{ENDS, End, PHASES, Phase};
use statlink_tests::{
    netns::{Namespace, Network},
    peer::{Activator, PORT, bad_server},
};
use tokio::runtime::Runtime;

use crate::PATIENCE;

/// The kernel half on the watched port, and the runtime that it needs.
struct Half {
    kernel: Kernel,
    runtime: Runtime,
}

impl Half {
    fn load() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let watch = Watch {
            port: PORT,
            process_names: vec!["activator".to_owned()],
        };
        let _entered = runtime.enter();
        let kernel = Kernel::load(&watch).unwrap();
        drop(_entered);
        Self { kernel, runtime }
    }

    /// The records of `source` that are there.
    fn drain(&mut self, source: Source) -> Vec<Record> {
        let _entered = self.runtime.enter();
        let mut records = Vec::new();
        self.kernel.drain(|record| records.extend(record));
        records.retain(|record| record.netns == source.netns && record.tgid == source.tgid);
        records
    }

    /// What the kernel holds about `source`, of which nothing changes.
    fn inventory(&mut self, source: Source) -> Inventory {
        let listing = self.kernel.list([source], clock::now()).unwrap().unwrap();
        thread::sleep(SETTLE);
        let mut settled = self.kernel.settle(listing).unwrap();
        settled.remove(&source).unwrap()
    }

    /// Waits for the end of a connection of `source`.
    fn end(&mut self, source: Source) -> Record {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let records = self.drain(source);
            let ended = |record: &&Record| record.kind == RecordKind::Ended as u8;
            if let Some(ended) = records.iter().find(ended) {
                return *ended;
            }
            assert!(Instant::now() < deadline, "no end was told");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// This process in `namespace`.
fn this_process(namespace: &Namespace) -> Source {
    source(namespace, std::process::id())
}

fn source(namespace: &Namespace, tgid: u32) -> Source {
    let inode = || fs::metadata("/proc/thread-self/ns/net").map(|namespace| namespace.ino());
    let inode = namespace.run(inode).unwrap().unwrap();
    Source {
        netns: inode.try_into().unwrap(),
        tgid,
    }
}

/// A connection on the watched port within `namespace`: the client's and the server's end.
fn connected(namespace: &Namespace, at: &str) -> (TcpStream, TcpStream) {
    let connect = || {
        let listener = TcpListener::bind((at, PORT))?;
        let client = TcpStream::connect((at, PORT))?;
        let (server, _) = listener.accept()?;
        Ok::<_, std::io::Error>((client, server))
    };
    namespace.run(connect).unwrap().unwrap()
}

fn sum(ends: &[[u32; ENDS]; PHASES]) -> u32 {
    ends.iter().flatten().sum()
}

#[test]
fn each_end_is_told_as_what_it_was() {
    let network = Network::new().unwrap();
    let pod = network.pod("client").unwrap();
    let mut half = Half::load();
    let source = this_process(&pod.namespace);
    half.kernel.track(source).unwrap();
    for at in ["127.0.0.1", "::1"] {
        let address: SocketAddr = (at.parse::<std::net::IpAddr>().unwrap(), PORT).into();

        let refused = pod.namespace.run(|| TcpStream::connect(address)).unwrap();
        assert!(refused.is_err());
        let told = half.end(source);
        assert_eq!(End::from_raw(told.end), Some(End::Refused));
        assert_eq!(Phase::from_raw(told.phase), Some(Phase::Connecting));
        assert_eq!(
            (told.errno, peer(told.peer, told.peer_port)),
            (111, address)
        );

        let (client, server) = connected(&pod.namespace, at);
        server.shutdown(Shutdown::Write).unwrap();
        let told = half.end(source);
        assert_eq!(End::from_raw(told.end), Some(End::PeerClosed));
        assert_eq!(Phase::from_raw(told.phase), Some(Phase::Established));
        drop((client, server));

        let (client, server) = connected(&pod.namespace, at);
        drop(client);
        assert_eq!(End::from_raw(half.end(source).end), Some(End::LocalClosed));
        drop(server);

        let (client, server) = connected(&pod.namespace, at);
        set_socket_linger(&server, Some(Duration::ZERO)).unwrap();
        drop(server);
        let told = half.end(source);
        assert_eq!(End::from_raw(told.end), Some(End::Reset));
        assert_eq!(told.errno, 104);
        drop(client);
    }
    // A connection is told to end once, whatever else happens to its socket.
    thread::sleep(Duration::from_millis(50));
    let more = half.drain(source);
    let ends = more.iter().filter(|r| r.kind == RecordKind::Ended as u8);
    assert_eq!(ends.count(), 0, "{more:#?}");
    let totals = half.kernel.source_totals(source).unwrap();
    assert_eq!((totals.attempts, sum(&totals.ended)), (8, 8));
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
    // The client's end; the server's has another peer's port.
    let [(sock, found)] = &inventory.open[..] else {
        panic!("{:#?}", inventory.open);
    };
    assert_eq!(found.tgid, std::process::id());
    assert_eq!(found.attempted_ns, 0, "its age is not known");
    assert_eq!(Phase::from_raw(found.phase), Some(Phase::Established));

    let id = connection_id(*sock, found.born_ns);
    let sample = half.kernel.sample(id).unwrap().unwrap();
    assert!(sample.established);
    assert!(sample.rtt.is_some());
    // Another connection's name does not get this one's figures.
    let other = connection_id(*sock, found.born_ns - 1);
    assert_eq!(half.kernel.sample(other).unwrap(), None);
    drop(client);
    let mut nothing = Vec::new();
    server.read_to_end(&mut nothing).unwrap();
    assert_eq!(End::from_raw(half.end(source).end), Some(End::LocalClosed));
    assert_eq!(half.kernel.sample(id).unwrap(), None);
}

#[test]
fn what_a_stranger_did_is_there_when_it_is_asked_for() {
    let network = Network::new().unwrap();
    let (pod, nobody) = (
        network.pod("client").unwrap(),
        network.pod("nobody").unwrap(),
    );
    let mut half = Half::load();
    let to = format!("{}:{PORT}", nobody.v4);
    let mut dialler = Activator::stand_in(&pod, ["flap", &to, "0", "300"]).unwrap();
    dialler.process.wait_event("flapped", PATIENCE).unwrap();
    let source = source(&pod.namespace, dialler.process.pid());
    assert_eq!(half.drain(source), [], "nobody has asked");
    half.kernel.track(source).unwrap();
    let missed = half.inventory(source).missed;
    let refused = missed
        .first()
        .and_then(|ends| ends.get(End::Refused as usize));
    assert_eq!((refused, sum(&missed)), (Some(&300), 300));
    // A stranger that nobody asks for is not this one.
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
    let mut dialler = Activator::stand_in(&pod, arguments).unwrap();
    let source = source(&pod.namespace, dialler.process.pid());
    half.kernel.track(source).unwrap();
    dialler.process.wait_event("flapped", PATIENCE).unwrap();

    let totals = half.kernel.source_totals(source).unwrap();
    let records = half.drain(source);
    let ended = records.iter().filter(|r| r.kind == RecordKind::Ended as u8);
    let ended = u32::try_from(ended.count()).unwrap();
    assert!(ended > 0, "some were told");
    assert_eq!(ended + sum(&totals.missed), CONNECTIONS);
    assert_eq!(sum(&totals.ended), CONNECTIONS);
    assert_eq!(totals.attempts, u64::from(CONNECTIONS));
    let lost = half.kernel.losses().unwrap();
    let full = lost.iter().find(|(reason, _)| *reason == Loss::RingFull);
    assert!(full.unwrap().1 > 0, "{lost:?}");
}

#[test]
fn what_a_hook_misses_is_told_of_each() {
    // Since 5.12. That it misses something can not be brought about.
    let half = Half::load();
    let told: Vec<_> = half
        .kernel
        .missed_events()
        .iter()
        .map(|(name, _)| *name)
        .collect();
    let hooks = half.kernel.hooks().iter();
    let attached = hooks.filter(|state| state.missing.is_none());
    let attached: Vec<_> = attached.map(|state| state.hook.name).collect();
    assert_eq!(told, attached);
}

#[test]
fn two_processes_of_one_namespace_are_told_apart() {
    // As activators on the host's network are.
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
    let deadline = Instant::now() + PATIENCE;
    while half.kernel.source_totals(other).unwrap().attempts < 3 {
        assert!(Instant::now() < deadline, "its attempts were not counted");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(half.kernel.source_totals(one).unwrap().attempts, 2);
    let _ended = activator.process.kill();
}

#[test]
fn a_network_namespace_is_told_without_proc() {
    let network = Network::new().unwrap();
    let pod = network.pod("activator").unwrap();
    let activator = Activator::stand_in(&pod, ["idle"]).unwrap();
    let pid = activator.process.pid();
    let mut half = Half::load();
    let told = half.kernel.network_namespace(pid).unwrap();
    assert_eq!(told, Some(source(&pod.namespace, pid).netns));
    // Not of the watched name.
    let own = half.kernel.network_namespace(std::process::id()).unwrap();
    assert_eq!(own, None);
}
