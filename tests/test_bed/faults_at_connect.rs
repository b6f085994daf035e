//! What a plain connect() returns under each fault.

use std::{
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

/// The errno of a connect() from `client` that waits for `patience`; none if it connected.
fn connect(client: &Pod, to: IpAddr, patience: Duration) -> Option<Errno> {
    let address = SocketAddr::new(to, PORT);
    let connect = || TcpStream::connect_timeout(&address, patience);
    let error = client.namespace.run(connect).unwrap().err()?;
    // The library's own time-out has no errno.
    Some(Errno::from_io_error(&error).unwrap_or(Errno::TIMEDOUT))
}

fn errno(client: &Pod, to: IpAddr) -> Option<Errno> {
    connect(client, to, Duration::from_secs(5))
}

/// In both families, connect() succeeds, then fails with this errno under the fault, then succeeds
/// again.
#[track_caller]
fn assert_fault(v4: Errno, v6: Errno, inject: impl Fn(&Faults<'_>) -> Fault) {
    let (_network, client, server) = two_pods();
    let _autoscaler = Autoscaler::start(&server).unwrap();
    let faults = Faults::new(&client, &server);
    for (to, expected) in [(IpAddr::from(server.v4), v4), (IpAddr::from(server.v6), v6)] {
        assert_eq!(errno(&client, to), None, "{to} before");
        let fault = inject(&faults);
        // A dropped packet shows as a time-out, whose length does not matter.
        let silent = expected == Errno::TIMEDOUT;
        let patience = Duration::from_millis(if silent { 400 } else { 5000 });
        let met = connect(&client, to, patience);
        assert_eq!(met, Some(expected), "{to} under {}", fault.what());
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
fn rejected_syns_give_the_reason() {
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
fn routes_that_lead_nowhere_fail() {
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
    assert_eq!(errno(&client, server.v4.into()), None);
}

#[test]
fn a_cut_wire_leaves_the_host_unreachable() {
    let (_network, client, server) = two_pods();
    let _autoscaler = Autoscaler::start(&server).unwrap();
    for to in [IpAddr::from(server.v4), server.v6.into()] {
        let fault = Faults::new(&client, &server).unplug_server().unwrap();
        assert_eq!(errno(&client, to), Some(Errno::HOSTUNREACH), "{to}");
        fault.heal().unwrap();
        assert_eq!(errno(&client, to), None, "{to} healed");
    }
}
