//! What counts as an attempt to connect, and whose connections are found.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::BorrowedFd,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with},
};
use statlink_ebpf::{End, Phase};
use statlink_tests::{netns::Network, peer::PORT};

use crate::half::{Half, sum, this_process};

#[test]
fn only_a_tcp_socket_makes_an_attempt() {
    let network = Network::new().unwrap();
    let pod = network.pod("client").unwrap();
    let mut half = Half::load();
    let source = this_process(&pod.namespace);
    half.kernel.track(source).unwrap();
    let fail = || {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        // SAFETY: no file is behind it, and none is opened.
        let none = unsafe { BorrowedFd::borrow_raw(1_000_000) };
        assert_eq!(connect(none, &anywhere), Err(Errno::BADF));
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(connect(&file, &anywhere), Err(Errno::NOTSOCK));
        let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
        let udp = socket_with(family, SocketType::DGRAM, flags, None).unwrap();
        let broadcast = SocketAddr::from((Ipv4Addr::BROADCAST, PORT));
        assert!(connect(&udp, &broadcast).is_err());
        // The same address by TCP is one.
        let tcp = socket_with(family, SocketType::STREAM, flags, None).unwrap();
        assert!(connect(&tcp, &broadcast).is_err());
    };
    pod.namespace.run(fail).unwrap();
    let ended = half.end(source);
    assert_eq!(Phase::from_raw(ended.phase), Some(Phase::Connecting));
    let totals = half.kernel.source_totals(source).unwrap();
    assert_eq!((totals.attempts, sum(&totals.ended)), (1, 1));
}

/// Go's client dials by MPTCP where `GODEBUG=multipathtcp=1` asks for it.
#[test]
fn a_connection_of_mptcp_is_found_by_its_first_subflow() {
    let network = Network::new().unwrap();
    let pod = network.pod("client").unwrap();
    let connected = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
        let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
        let mptcp = Some(ipproto::MPTCP);
        let client = socket_with(family, SocketType::STREAM, flags, mptcp)?;
        connect(&client, &SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)))?;
        let (server, _) = listener.accept()?;
        Ok::<_, std::io::Error>((TcpStream::from(client), server))
    };
    let (client, server) = pod.namespace.run(connected).unwrap().unwrap();
    let mut half = Half::load();
    let source = this_process(&pod.namespace);
    half.kernel.track(source).unwrap();
    half.kernel.open_files().unwrap().unwrap().read().unwrap();
    let inventory = half.inventory(source);
    let [(_, found)] = &inventory.open[..] else {
        panic!("{:#?}", inventory.open);
    };
    assert_eq!(Phase::from_raw(found.phase), Some(Phase::Established));
    drop(server);
    assert_eq!(End::from_raw(half.end(source).end), Some(End::PeerClosed));
    drop(client);
}
