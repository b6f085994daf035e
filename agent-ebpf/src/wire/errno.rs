//! Every errno that a TCP connection can end with on a supported kernel (5.10 to 7.x), with its
//! [`End`] or the reason why it has none.
//!
//! Collected from the code that sets `sk_err` or `sk_err_soft` of a TCP socket, and from the return
//! values of connect() for one:
//! `net/ipv4/{tcp,tcp_input,tcp_timer,tcp_ipv4,icmp,route,fib_semantics}.c`,
//! `net/ipv6/{tcp_ipv6,icmp,route}.c`, `net/core/sock.c`, `net/socket.c`, `net/mptcp/subflow.c`,
//! `net/tls/tls_sw.c`, and the security and cgroup hooks of connect().
//!
//! Numbers: `include/uapi/asm-generic/errno{-base,}.h`. They are the same on x86, arm64, RISC-V and
//! s390x; MIPS and SPARC differ and are not supported.

use super::End;

/// One errno that can end a connection.
#[derive(Clone, Copy, Debug)]
pub struct Errno {
    /// Its number.
    pub number: u16,
    /// Its name.
    pub name: &'static str,
    /// The code that sets it.
    pub source: &'static str,
    /// Its meaning.
    pub meaning: Meaning,
}

/// The meaning of an errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An end of its own.
    End(End),
    /// [`End::Other`], for this reason; the record carries the errno as well.
    Other(&'static str),
}

const fn is(number: u16, name: &'static str, end: End, source: &'static str) -> Errno {
    Errno {
        number,
        name,
        source,
        meaning: Meaning::End(end),
    }
}

const fn other(number: u16, name: &'static str, source: &'static str, why: &'static str) -> Errno {
    Errno {
        number,
        name,
        source,
        meaning: Meaning::Other(why),
    }
}

const OBSOLETE: &str = "no router sends that code any more (RFC 1812, 5.2.7.1)";
const OF_THE_CALL: &str =
    "the call itself is wrong: a defect of the program, and no state of the link";
const OF_MEMORY: &str = "the node is out of memory: the link is not what fails";
const NOT_TCP: &str =
    "the layer above TCP gave up because of what it read: not a state of the network";

/// All errnos, by number.
pub const ERRNOS: &[Errno] = &[
    is(
        1,
        "EPERM",
        End::Denied,
        "a BPF program on the cgroup, a security module",
    ),
    other(
        11,
        "EAGAIN",
        "connect(): the kernel's tables are full",
        OF_MEMORY,
    ),
    other(
        12,
        "ENOMEM",
        "connect(): no memory for a SYN or a route",
        OF_MEMORY,
    ),
    is(
        13,
        "EACCES",
        End::Denied,
        "a prohibit route, a security module, ICMPv6 administratively prohibited",
    ),
    other(
        14,
        "EFAULT",
        "connect(): no address at that pointer",
        OF_THE_CALL,
    ),
    other(
        22,
        "EINVAL",
        "connect(): a blackhole route (IPv4), an address without its scope (IPv6), an address cut short",
        "one number for a route, an address and a defect of the program",
    ),
    other(
        32,
        "EPIPE",
        "a RST after the peer's FIN",
        "the connection has ended before, by that FIN",
    ),
    other(64, "ENONET", "ICMP host isolated", OBSOLETE),
    other(
        71,
        "EPROTO",
        "ICMP parameter problem, an unknown code of ICMPv6",
        "a broken router or middlebox: it says nothing about the peer",
    ),
    other(
        74,
        "EBADMSG",
        "TLS in the kernel, MPTCP: a record or a mapping is broken",
        NOT_TCP,
    ),
    other(
        90,
        "EMSGSIZE",
        "ICMP fragmentation needed, ICMPv6 packet too big",
        "no end: TCP sends smaller segments",
    ),
    other(
        92,
        "ENOPROTOOPT",
        "ICMP protocol unreachable",
        "a host without TCP: it is not the autoscaler's",
    ),
    other(95, "EOPNOTSUPP", "ICMP source route failed", OBSOLETE),
    other(
        97,
        "EAFNOSUPPORT",
        "connect(): another family than the socket's",
        OF_THE_CALL,
    ),
    is(
        99,
        "EADDRNOTAVAIL",
        End::AddressUnavailable,
        "connect(): no local port, or no local address",
    ),
    other(
        100,
        "ENETDOWN",
        "connect(): the route's interface is down",
        "it lasts only while an interface goes down; then the route is gone",
    ),
    is(
        101,
        "ENETUNREACH",
        End::NetworkUnreachable,
        "no route, ICMP network unreachable",
    ),
    is(
        103,
        "ECONNABORTED",
        End::Aborted,
        "the node was told to destroy the socket: sock_diag, bpf_sock_destroy()",
    ),
    is(104, "ECONNRESET", End::Reset, "the peer's RST"),
    other(
        105,
        "ENOBUFS",
        "connect(): no memory for a segment",
        OF_MEMORY,
    ),
    other(
        106,
        "EISCONN",
        "connect(): on a socket that is connected",
        OF_THE_CALL,
    ),
    is(
        110,
        "ETIMEDOUT",
        End::TimedOut,
        "the last retransmission, keepalive probe or TCP_USER_TIMEOUT",
    ),
    is(
        111,
        "ECONNREFUSED",
        End::Refused,
        "a RST to the SYN, ICMP port unreachable",
    ),
    other(112, "EHOSTDOWN", "ICMP host unknown", OBSOLETE),
    is(
        113,
        "EHOSTUNREACH",
        End::HostUnreachable,
        "no neighbour, an unreachable route, ICMP host unreachable, time exceeded or filtered",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_stands_for_the_end_that_the_list_says() {
        for errno in ERRNOS {
            let end = match errno.meaning {
                Meaning::End(end) => end,
                Meaning::Other(_) => End::Other,
            };
            assert_eq!(End::from_errno(errno.number), end, "{}", errno.name);
        }
    }

    #[test]
    fn every_errno_with_an_end_of_its_own_is_in_the_list() {
        for number in 0..4_096 {
            if End::from_errno(number) != End::Other {
                let listed = ERRNOS.iter().any(|errno| errno.number == number);
                assert!(listed, "{number}");
            }
        }
    }

    #[test]
    fn the_list_is_in_the_order_of_numbers_and_gives_its_reasons() {
        let numbers = ERRNOS.iter().map(|errno| errno.number);
        assert!(numbers.is_sorted_by(|before, after| before < after));
        for errno in ERRNOS {
            assert!(!errno.source.is_empty(), "{}", errno.name);
            assert_ne!(errno.meaning, Meaning::End(End::Other), "{}", errno.name);
            assert_ne!(errno.meaning, Meaning::Other(""), "{}", errno.name);
        }
    }
}
