//! What others do on the watched port can neither hide nor evict what is watched, nor fill its place.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

use rustix::{
    net::{
        AddressFamily, SocketFlags, SocketType, connect, socket_with,
        sockopt::{Timeout, set_socket_linger, set_socket_timeout},
    },
    process::{Resource, Rlimit, setrlimit},
};
use statlink::kernel::{LossReason, RecordKind, Source};
use statlink_ebpf::{End, limits};
use statlink_tests::{
    netns::{Namespace, Network},
    peer::{Activator, PORT},
    wait,
};

use crate::{
    PATIENCE,
    half::{Half, connected, lost, source, sum, this_process},
};

/// Threads of an unrelated pod that wait inside connect() took all room for calls once, and a watched
/// activator's failures before a SYN were not seen.
#[test]
fn calls_that_strangers_wait_in_hide_no_failure() {
    let network = Network::new().unwrap();
    let (pod, stranger) = (
        network.pod("client").unwrap(),
        network.pod("stranger").unwrap(),
    );
    // Nobody answers, and nobody refuses.
    let silent = "table inet silent { chain output { type filter hook output priority 0; \
                  tcp dport 8080 drop; }; }";
    stranger.namespace.nft(silent).unwrap();
    let mut half = Half::load();
    let source = this_process(&pod.namespace);
    half.kernel.track(source).unwrap();
    let nowhere = SocketAddr::from((pod.v4, PORT));
    thread::scope(|scope| {
        for _ in 0..CALLS {
            let wait = || stranger.namespace.run(|| wait_in_connect(nowhere));
            let thread = thread::Builder::new().stack_size(64 * 1024);
            thread.spawn_scoped(scope, wait).unwrap();
        }
        wait::until("threads that wait in connect()", PATIENCE, || {
            Ok((syn_sent(&stranger.namespace)? >= CALLS).then_some(()))
        })
        .unwrap();
        // TEST-NET-1: no route leads there.
        pod.namespace
            .ip("route add unreachable 192.0.2.0/24\n")
            .unwrap();
        for _ in 0..12 {
            let failed = || TcpStream::connect((Ipv4Addr::new(192, 0, 2, 1), PORT));
            assert!(pod.namespace.run(failed).unwrap().is_err());
            let ended = half.end(source);
            assert_eq!(End::from_raw(ended.end), Some(End::HostUnreachable));
        }
    });
    let totals = half.kernel.source_totals(source).unwrap();
    assert_eq!((totals.attempts, sum(&totals.ended)), (12, 12));
    assert_eq!(lost(&half, LossReason::CallsFull), 0);
}

/// With fexit, a dial of which no call was kept was counted at its SYN, and once more as it returned.
#[test]
fn a_dial_beyond_the_quota_of_calls_counts_once() {
    let network = Network::new().unwrap();
    let (pod, silent) = (
        network.pod("client").unwrap(),
        network.pod("silent").unwrap(),
    );
    let nobody = "table inet silent { chain input { type filter hook input priority 0; \
                  tcp dport 8080 drop; }; }";
    silent.namespace.nft(nobody).unwrap();
    let nowhere = SocketAddr::from((silent.v4, PORT));
    let mut half = Half::load();
    let source = this_process(&pod.namespace);
    half.kernel.track(source).unwrap();
    let quota = limits::CALLS_OF_A_SOURCE;
    let waiting = quota.reserved + quota.shared;
    thread::scope(|scope| {
        for _ in 0..waiting {
            let wait = || pod.namespace.run(|| wait_in_connect(nowhere));
            let thread = thread::Builder::new().stack_size(64 * 1024);
            thread.spawn_scoped(scope, wait).unwrap();
        }
        wait::until("threads that wait in connect()", PATIENCE, || {
            Ok((syn_sent(&pod.namespace)? >= waiting as usize).then_some(()))
        })
        .unwrap();
        // Nobody listens.
        let refused = || TcpStream::connect((Ipv4Addr::LOCALHOST, PORT));
        assert!(pod.namespace.run(refused).unwrap().is_err());
        assert_eq!(End::from_raw(half.end(source).end), Some(End::Refused));
        assert_eq!(lost(&half, LossReason::CallsFull), 1);
        let totals = half.kernel.source_totals(source).unwrap();
        assert_eq!(
            (totals.attempts, sum(&totals.ended)),
            (u64::from(waiting) + 1, 1)
        );
    });
}

/// Every Knative pod's proxy holds connections on this port. They once pushed out a sidecar's.
#[test]
fn connections_that_strangers_hold_push_out_no_neighbours() {
    allow_files();
    let network = Network::new().unwrap();
    let pod = network.pod("client").unwrap();
    let strangers: Vec<_> = (0..12)
        .map(|number| network.pod(&format!("stranger-{number}")).unwrap())
        .collect();
    let mut half = Half::load();
    let sidecar = this_process(&pod.namespace);
    let whole = Source::whole_namespace(sidecar.netns);
    half.kernel.track(whole).unwrap();
    let (client, server) = connected(&pod.namespace, "127.0.0.1");
    let held: Vec<_> = strangers
        .iter()
        .map(|stranger| many(&stranger.namespace, 100))
        .collect();
    half.drain(sidecar);
    set_socket_linger(&server, Some(Duration::ZERO)).unwrap();
    drop(server);
    assert_eq!(End::from_raw(half.end(sidecar).end), Some(End::Reset));
    assert_eq!(lost(&half, LossReason::NeighbourConnectionsFull), 0);
    drop((client, held));
}

/// A client that leaks connections once filled the map for all, and every pass was refused again.
#[test]
fn a_client_that_leaks_connections_takes_no_other_clients_room() {
    allow_files();
    let network = Network::new().unwrap();
    let (leaking, other) = (
        network.pod("leaking").unwrap(),
        network.pod("other").unwrap(),
    );
    let older = connected(&other.namespace, "127.0.0.1");
    let mut half = Half::load();
    let (leaks, fine) = (
        this_process(&leaking.namespace),
        this_process(&other.namespace),
    );
    half.kernel.track(leaks).unwrap();
    let held = many(&leaking.namespace, LEAKED);
    let totals = half.kernel.source_totals(leaks).unwrap();
    let quota = limits::CONNECTIONS_OF_A_SOURCE;
    assert_eq!(totals.held, quota.reserved + quota.shared);
    assert_eq!(totals.held + totals.refused, LEAKED);

    half.kernel.track(fine).unwrap();
    half.kernel.open_files().unwrap().unwrap().read().unwrap();
    let inventory = half.inventory(fine);
    assert_eq!((inventory.open.len(), inventory.refused), (1, 0));
    drop(older);
    assert_eq!(End::from_raw(half.end(fine).end), Some(End::LocalClosed));

    // Once it has let go, everything is known again.
    drop(held);
    wait::until("end of what was leaked", PATIENCE, || {
        Ok((half.kernel.source_totals(leaks)?.held == 0).then_some(()))
    })
    .unwrap();
    let refused = half.kernel.source_totals(leaks).unwrap().refused;
    half.kernel.open_files().unwrap().unwrap().read().unwrap();
    assert_eq!(half.inventory(leaks).refused, refused);
}

/// Anybody can give a process the activator's name.
#[test]
fn processes_that_take_a_watched_name_hide_no_dial_of_the_real_one() {
    let network = Network::new().unwrap();
    let (pod, impostors, nobody) = (
        network.pod("client").unwrap(),
        network.pod("impostors").unwrap(),
        network.pod("nobody").unwrap(),
    );
    let mut half = Half::load();
    let to = format!("{}:{PORT}", nobody.v4);
    let mut others: Vec<_> = (0..IMPOSTORS)
        .map(|_| Activator::stand_in(&impostors, ["flap", &to, "0", "1"]).unwrap())
        .collect();
    for other in &mut others {
        other.process.wait_event("flapped", PATIENCE).unwrap();
    }
    let mut client = Activator::stand_in(&pod, ["flap", &to, "0", "12"]).unwrap();
    client.process.wait_event("flapped", PATIENCE).unwrap();
    assert!(lost(&half, LossReason::TotalsFull) > 0);
    let source = source(&pod.namespace, client.process.pid());
    // Other tests' clients are candidates, too.
    let strangers = this_process(&impostors.namespace).netns;
    let kept = |half: &Half| {
        let candidates = half.kernel.candidates().unwrap();
        candidates
            .iter()
            .filter(|other| other.netns == strangers)
            .count()
    };
    assert_eq!(kept(&half), limits::CANDIDATES_OF_A_NAMESPACE as usize);
    assert!(half.kernel.candidates().unwrap().contains(&source));
    half.kernel.track(source).unwrap();
    let missed = half.inventory(source).missed;
    let refused = missed
        .first()
        .and_then(|ends| ends.get(End::Refused as usize));
    assert_eq!((refused, sum(&missed)), (Some(&12), 12));

    for mut other in others {
        let _ended = other.process.kill();
    }
    half.kernel.sweep().unwrap();
    assert_eq!(kept(&half), 0);
}

/// Anybody can execute programs of a watched name, any number of times. The records of that once filled
/// the clients' ring.
#[test]
fn executions_without_end_leave_room_for_what_clients_do() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("activator");
    fs::copy("/bin/true", &program).unwrap();
    let network = Network::new().unwrap();
    let pod = network.pod("client").unwrap();
    let mut half = Half::load();
    let client = this_process(&pod.namespace);
    half.kernel.track(client).unwrap();
    let (connection, server) = connected(&pod.namespace, "127.0.0.1");
    half.drain(client);
    let executed = Command::new("bash")
        .args(["-c", "for _ in $(seq \"$1\"); do \"$0\"; done"])
        .arg(&program)
        .arg(EXECUTIONS.to_string())
        .status()
        .unwrap();
    assert!(executed.success());
    set_socket_linger(&server, Some(Duration::ZERO)).unwrap();
    drop(server);
    assert_eq!(End::from_raw(half.end(client).end), Some(End::Reset));
    assert_eq!(lost(&half, LossReason::RingFull), 0);
    // They are looked for.
    assert!(lost(&half, LossReason::ExecutionLost) > 0);
    drop(connection);
}

/// A sidecar that dials in a row once filled the ring with records that wake nobody; a reset was told a
/// second later.
#[test]
fn a_neighbour_that_dials_in_a_row_fills_no_clients_ring() {
    let network = Network::new().unwrap();
    let (pod, nobody) = (
        network.pod("client").unwrap(),
        network.pod("nobody").unwrap(),
    );
    let mut half = Half::load();
    let client = this_process(&pod.namespace);
    half.kernel.track(client).unwrap();
    let whole = Source::whole_namespace(client.netns);
    half.kernel.track(whole).unwrap();
    let (connection, server) = connected(&pod.namespace, "127.0.0.1");
    half.drain(client);
    let to = format!("{}:{PORT}", nobody.v4);
    let mut sidecar = Activator::stand_in(&pod, ["flap", &to, "0", "2000"]).unwrap();
    sidecar.process.wait_event("flapped", PATIENCE).unwrap();
    assert!(lost(&half, LossReason::NeighbourRingFull) > 0);

    set_socket_linger(&server, Some(Duration::ZERO)).unwrap();
    drop(server);
    let Half { kernel, runtime } = &half;
    let woken = runtime.block_on(async { tokio::time::timeout(PATIENCE, kernel.readable()).await });
    woken.expect("the reader is woken").unwrap();
    let records = half.drain(client);
    let last = records.last().unwrap();
    assert_eq!(last.kind, RecordKind::Ended as u8);
    assert_eq!(End::from_raw(last.end), Some(End::Reset));
    assert_eq!(lost(&half, LossReason::RingFull), 0);
    drop(connection);
}

/// Two hundred links on a node, each with neighbours of its own.
#[test]
fn there_is_room_for_every_promised_link() {
    const LINKS: u32 = 200;
    let mut half = Half::load();
    // Nobody has these: process ids end at 4,194,304, and inode numbers of namespaces begin beyond.
    let sources = |count| {
        (1..=count).map(|n| Source {
            netns: n,
            tgid: 5_000_000 + n,
        })
    };
    for source in sources(LINKS) {
        assert!(half.kernel.track(source).unwrap(), "{source:?}");
        let whole = Source::whole_namespace(source.netns);
        assert!(half.kernel.track(whole).unwrap(), "{whole:?}");
    }
    let more = sources(1_000).find(|source| !half.kernel.track(*source).unwrap());
    assert_eq!(more.unwrap().netns, limits::TRACKED_SOURCES + 1);
    for source in sources(LINKS) {
        half.kernel.untrack(source).unwrap();
        half.kernel
            .untrack(Source::whole_namespace(source.netns))
            .unwrap();
    }
    let after = Source {
        netns: 7,
        tgid: 5_900_000,
    };
    assert!(half.kernel.track(after).unwrap());
}

/// `count` connections on the watched port, both ends of each.
fn many(namespace: &Namespace, count: u32) -> Vec<(TcpStream, TcpStream)> {
    let connect = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
        let pair = |_| {
            let client = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
            Ok((client, listener.accept()?.0))
        };
        (0..count).map(pair).collect::<io::Result<_>>()
    };
    namespace.run(connect).unwrap().unwrap()
}

/// Waits inside connect() until it is given up.
fn wait_in_connect(to: SocketAddr) {
    let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
    let socket = socket_with(family, SocketType::STREAM, flags, None).unwrap();
    // connect() honours it (`inet_wait_for_connect()`, `net/ipv4/af_inet.c`).
    set_socket_timeout(&socket, Timeout::Send, Some(Duration::from_secs(10))).unwrap();
    assert!(connect(&socket, &to).is_err());
}

fn syn_sent(namespace: &Namespace) -> anyhow::Result<usize> {
    let table = namespace.run(|| fs::read_to_string("/proc/thread-self/net/tcp"))??;
    let states = table
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3));
    Ok(states.filter(|state| *state == "02").count())
}

/// Both ends of a thousand connections are this process's.
fn allow_files() {
    let limit = Rlimit {
        current: Some(8192),
        maximum: Some(8192),
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// More than the map of calls once held (512).
const CALLS: usize = 600;
/// More than the map of connections once held (1,024).
const LEAKED: u32 = 1_100;
/// More than the ring of clients holds records.
const EXECUTIONS: u32 = 1_700;
/// Ten times what one network namespace may have.
const IMPOSTORS: usize = 40;
