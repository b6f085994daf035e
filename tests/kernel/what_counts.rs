//! What counts as an attempt to connect, and whose connections are found.

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with},
};
use statlink::kernel::{KernelVersion, Source, connection_id};
use statlink_ebpf::{End, Phase};
use statlink_tests::{
    fault::{Faults, Reject},
    netns::Network,
    peer::PORT,
    wait,
};

use crate::{
    PATIENCE,
    half::{Half, connected, sum, this_process},
};

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

/// `SO_ERROR` takes the errno out of the socket, and may come before the end of the connection. Here the
/// socket stays open, as it did for a moment on kernels that reported ICMP errors before the end.
#[test]
fn an_errno_is_noted_as_it_is_reported_to_the_client() {
    let network = Network::new().unwrap();
    let (pod, server) = (
        network.pod("client").unwrap(),
        network.pod("server").unwrap(),
    );
    let mut half = Half::load();
    if !half.kernel.hooked("inet_sk_error_report") {
        assert!(KernelVersion::running() < Some(KernelVersion::new(5, 14)));
        return;
    }
    let source = this_process(&pod.namespace);
    half.kernel.track(source).unwrap();
    let listen = || TcpListener::bind((server.v4, PORT));
    let _listener = server.namespace.run(listen).unwrap().unwrap();
    let dial = || TcpStream::connect((server.v4, PORT));
    let client = pod.namespace.run(dial).unwrap().unwrap();
    assert_eq!(reported(&mut half, source), 0);
    // Without it an ICMP error of an open connection is reported to nobody.
    receive_errors(&client).unwrap();
    let faults = Faults::new(&pod, &server);
    let _fault = faults.reject_all(Reject::HostUnreachable).unwrap();
    (&client).write_all(b"anything").unwrap();
    wait::until("errno in the connection's entry", PATIENCE, || {
        Ok((reported(&mut half, source) == EHOSTUNREACH).then_some(()))
    })
    .unwrap();
    assert_eq!(
        client.take_error().unwrap().unwrap().raw_os_error(),
        Some(i32::from(EHOSTUNREACH))
    );
    assert_eq!(
        reported(&mut half, source),
        EHOSTUNREACH,
        "it is not the socket's"
    );
}

const EHOSTUNREACH: u16 = 113;

/// The errno in the entry of the one connection.
#[track_caller]
fn reported(half: &mut Half, source: Source) -> u16 {
    let inventory = half.inventory(source);
    let [(_, found)] = &inventory.open[..] else {
        panic!("{:#?}", inventory.open);
    };
    found.reported_errno
}

fn receive_errors(socket: &TcpStream) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the option is an `int`, which lives.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_RECVERR,
            (&raw const on).cast(),
            size,
        )
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
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
        Ok::<_, io::Error>((TcpStream::from(client), server))
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

/// A mesh that accelerates connections within a node puts their sockets into such a map; their data then
/// goes from queue to queue, and TCP counts none of it.
#[test]
fn a_connection_in_a_sockmap_is_known_to_be_bypassed() {
    let network = Network::new().unwrap();
    let pod = network.pod("client").unwrap();
    let mut half = Half::load();
    let source = this_process(&pod.namespace);
    half.kernel.track(source).unwrap();
    let (client, server) = connected(&pod.namespace, "127.0.0.1");
    let inventory = half.inventory(source);
    let [(sock, found)] = &inventory.open[..] else {
        panic!("{:#?}", inventory.open);
    };
    let id = connection_id(*sock, found.born_ns);
    assert!(!half.kernel.look(id).unwrap().bypassed);
    let map = SockMap::create().unwrap();
    map.put(client.as_fd()).unwrap();
    let look = half.kernel.look(id).unwrap();
    assert!(look.bypassed && look.sample.is_some());
    drop((client, server, map));
    assert_eq!(End::from_raw(half.end(source).end), Some(End::LocalClosed));
}

/// A map of sockets, of one.
struct SockMap(OwnedFd);

impl SockMap {
    fn create() -> io::Result<Self> {
        // `union bpf_attr`: map_type, key_size, value_size, max_entries (`include/uapi/linux/bpf.h`).
        const BPF_MAP_TYPE_SOCKMAP: u32 = 15;
        let attributes = [BPF_MAP_TYPE_SOCKMAP, 4, 4, 1];
        const BPF_MAP_CREATE: libc::c_long = 0;
        let map = bpf(BPF_MAP_CREATE, &attributes)?;
        // SAFETY: just opened, and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(map) }))
    }

    fn put(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
        let (key, value) = (0_u32, socket.as_raw_fd());
        // map_fd and padding, key, value, flags.
        let attributes = [
            u64::from(self.0.as_raw_fd().cast_unsigned()),
            (&raw const key).addr() as u64,
            (&raw const value).addr() as u64,
            0,
        ];
        bpf(BPF_MAP_UPDATE_ELEM, &attributes).map(|_| ())
    }
}

fn bpf<T>(command: libc::c_long, attributes: &[T]) -> io::Result<i32> {
    // SAFETY: the kernel reads as many bytes as are given, and what they point to lives.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_ptr(),
            size_of_val(attributes),
        )
    };
    i32::try_from(result)
        .ok()
        .filter(|result| *result >= 0)
        .ok_or_else(io::Error::last_os_error)
}
