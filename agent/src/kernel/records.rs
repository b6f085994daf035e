//! What stands in records and maps, as userspace's own types.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use statlink_ebpf::decide::NEVER_HEARD;

use crate::{link::ConnectionId, time::Timestamp};

/// The peer of a connection, IPv4-mapped addresses as IPv4.
pub fn peer(address: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from(address)).to_canonical(), port)
}

/// The name a connection goes by, whatever happens to its socket's address later.
pub const fn connection_id(sock: u64, born_ns: u64) -> ConnectionId {
    ConnectionId {
        sock,
        born: Timestamp::from_nanos(born_ns),
    }
}

/// When connect() was called; the kernel half writes 0 for a connection older than the agent.
pub fn attempted(nanoseconds: u64) -> Option<Timestamp> {
    (nanoseconds != 0).then(|| Timestamp::from_nanos(nanoseconds))
}

/// When data was last received, of what a record or a sample says; `None` if never.
pub const fn heard(heard_ns: u64) -> Option<Timestamp> {
    match heard_ns {
        NEVER_HEARD => None,
        heard_ns => Some(Timestamp::from_nanos(heard_ns)),
    }
}
