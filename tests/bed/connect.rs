//! Faults as a plain connect() meets them.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use rustix::io::Errno;
use statlink_tests::{
    fault::{Fault, Faults, Reject, Route},
    netns::Pod,
    peer::{Autoscaler, PORT},
};

use crate::two_pods;

/// The error of a connect() from `client`; none if it connected.
fn connect(client: &Pod, to: IpAddr) -> Option<std::io::Error> {
    let address = SocketAddr::new(to, PORT);
    let result = client
        .namespace
        .run(|| TcpStream::connect_timeout(&address, Duration::from_millis(2500)))
        .unwrap();
    result.err()
}

fn errno(client: &Pod, to: IpAddr) -> Option<Errno> {
    connect(client, to).map(|e| Errno::from_io_error(&e).unwrap_or(Errno::TIMEDOUT))
}

/// Both families connect, then fail as given under the fault, then connect again.
#[track_caller]
fn assert_fault(v4: Errno, v6: Errno, inject: impl Fn(&Faults<'_>) -> Fault) {
    let (_network, client, server) = two_pods();
    let _autoscaler = Autoscaler::start(&server).unwrap();
    let faults = Faults::new(&client, &server);
    for (to, expected) in [(IpAddr::from(server.v4), v4), (IpAddr::from(server.v6), v6)] {
        assert_eq!(errno(&client, to), None, "{to} before");
        let fault = inject(&faults);
        assert_eq!(
            errno(&client, to),
            Some(expected),
            "{to} under {}",
            fault.what()
        );
        fault.heal().unwrap();
        assert_eq!(errno(&client, to), None, "{to} healed");
    }
}

#[test]
fn nobody_listening_refuses() {
    let (_network, client, server) = two_pods();
    assert_eq!(errno(&client, server.v4.into()), Some(Errno::CONNREFUSED));
    assert_eq!(errno(&client, server.v6.into()), Some(Errno::CONNREFUSED));
}

#[test]
fn dropped_syns_time_out() {
    assert_fault(Errno::TIMEDOUT, Errno::TIMEDOUT, |f| f.drop_syn().unwrap());
    assert_fault(Errno::TIMEDOUT, Errno::TIMEDOUT, |f| f.blackhole().unwrap());
    assert_fault(Errno::TIMEDOUT, Errno::TIMEDOUT, |f| {
        f.drop_to_server().unwrap()
    });
    assert_fault(Errno::TIMEDOUT, Errno::TIMEDOUT, |f| {
        f.drop_to_client().unwrap()
    });
}

#[test]
fn rejected_syns_say_why() {
    let cases = [
        (Reject::TcpReset, Errno::CONNREFUSED, Errno::CONNREFUSED),
        (
            Reject::PortUnreachable,
            Errno::CONNREFUSED,
            Errno::CONNREFUSED,
        ),
        (
            Reject::HostUnreachable,
            Errno::HOSTUNREACH,
            Errno::HOSTUNREACH,
        ),
        (
            Reject::NetworkUnreachable,
            Errno::NETUNREACH,
            Errno::NETUNREACH,
        ),
        (Reject::AdminProhibited, Errno::HOSTUNREACH, Errno::ACCESS),
    ];
    for (with, v4, v6) in cases {
        assert_fault(v4, v6, |f| f.reject_syn(with).unwrap());
        assert_fault(v4, v6, |f| f.reject_syn_locally(with).unwrap());
    }
}

#[test]
fn routes_that_lead_nowhere_fail_at_once() {
    assert_fault(Errno::NETUNREACH, Errno::NETUNREACH, |f| {
        f.route(Route::None).unwrap()
    });
    assert_fault(Errno::HOSTUNREACH, Errno::HOSTUNREACH, |f| {
        f.route(Route::Unreachable).unwrap()
    });
    assert_fault(Errno::ACCESS, Errno::ACCESS, |f| {
        f.route(Route::Prohibit).unwrap()
    });
    assert_fault(Errno::INVAL, Errno::INVAL, |f| {
        f.route(Route::Blackhole).unwrap()
    });
}

#[test]
fn without_local_ports_no_address_is_available() {
    assert_fault(Errno::ADDRNOTAVAIL, Errno::ADDRNOTAVAIL, |f| {
        f.out_of_ports().unwrap()
    });
}

#[test]
fn a_fault_heals_when_it_is_dropped() {
    let (_network, client, server) = two_pods();
    let _autoscaler = Autoscaler::start(&server).unwrap();
    let faults = Faults::new(&client, &server);
    drop(faults.drop_syn().unwrap());
    assert!(connect(&client, server.v4.into()).is_none());
    let fault = faults.drop_syn().unwrap();
    let error = connect(&client, server.v4.into()).unwrap();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    fault.heal().unwrap();
}
