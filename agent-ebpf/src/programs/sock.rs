//! The kernel's TCP sockets: typed direct loads, which the verifier checks against the kernel's own
//! types, at the offsets that userspace resolved.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_jiffies64, bpf_skc_to_tcp_sock};
use statlink_ebpf::decide;

use crate::{
    constants::{offset, port, tick_ns},
    memory::{load, read_kernel},
};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_MPTCP: u16 = 262;

/// `include/uapi/linux/stat.h`.
pub(crate) const S_IFMT: u16 = 0o170_000;
pub(crate) const S_IFSOCK: u16 = 0o140_000;

/// Whether a socket of this protocol dials by TCP.
#[inline(always)]
pub(crate) const fn is_tcp(protocol: u16) -> bool {
    protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP
}

/// The facts about an open connection whose beginning nobody saw.
pub(crate) struct Found {
    /// The address of its `struct sock`.
    pub(crate) key: u64,
    pub(crate) state: i32,
    pub(crate) netns: u32,
    pub(crate) peer: [u8; 16],
    pub(crate) retransmits: u32,
}

impl Found {
    /// The connection of an application's socket, if its peer is on the watched port: the socket
    /// itself, or the first subflow of an MPTCP socket. Further subflows are the kernel's own: no
    /// process dials them.
    ///
    /// Nothing guarantees the address, so it is read with the helper, which a pass over all files
    /// can afford.
    #[inline(always)]
    pub(crate) fn behind(application: *const u8) -> Option<Self> {
        let sock = tcp_of(application)?;
        let dport: u16 = read_kernel(sock.wrapping_add(offset!(sock_dport)))?;
        if dport != port().to_be() {
            return None;
        }
        let family: u16 = read_kernel(sock.wrapping_add(offset!(sock_family)))?;
        let peer = if family == AF_INET6 {
            read_kernel(sock.wrapping_add(offset!(sock_v6_daddr)))?
        } else {
            ipv4_mapped(read_kernel(sock.wrapping_add(offset!(sock_daddr)))?)
        };
        let net: *const u8 = read_kernel(application.wrapping_add(offset!(sock_net)))?;
        let state: u8 = read_kernel(sock.wrapping_add(offset!(sock_state)))?;
        Some(Self {
            key: sock as u64,
            state: i32::from(state),
            netns: read_kernel(net.wrapping_add(offset!(net_inum)))?,
            peer,
            retransmits: read_kernel(sock.wrapping_add(offset!(tcp_total_retrans)))?,
        })
    }

    /// Whether it is still open.
    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        let state: Option<u8> =
            read_kernel((self.key as *const u8).wrapping_add(offset!(sock_state)));
        state.is_some_and(|state| decide::open_phase(i32::from(state)).is_some())
    }
}

/// The TCP socket of an application's socket: itself, or the first subflow of an MPTCP socket.
#[inline(always)]
pub(crate) fn tcp_of(application: *const u8) -> Option<*const u8> {
    let protocol: u16 = read_kernel(application.wrapping_add(offset!(sock_protocol)))?;
    let first = offset!(mptcp_first);
    match protocol {
        IPPROTO_TCP => Some(application),
        IPPROTO_MPTCP if first != 0 => read_kernel(application.wrapping_add(first)),
        _ => None,
    }
}

/// The `struct sock` behind an open file, if it is a socket: `sock_from_file()` of `net/socket.c`,
/// by the kind of its inode, which only a socket's file has (one opened with `O_PATH` leads
/// nowhere).
///
/// # Safety
///
/// `file` must be BTF-typed as `struct file *`, and not null.
#[inline(always)]
pub(crate) unsafe fn sock_of(file: *const u8) -> Option<*const u8> {
    // SAFETY: by contract; the verifier types the member.
    let inode: *const u8 = unsafe { load(file, offset!(file_inode)) };
    // SAFETY: as above; a null pointer reads as zero.
    let mode: u16 = unsafe { load(inode, offset!(inode_mode)) };
    if mode & S_IFMT != S_IFSOCK {
        return None;
    }
    // SAFETY: by contract.
    let socket: *const u8 = unsafe { load(file, offset!(file_private_data)) };
    read_kernel(socket.wrapping_add(offset!(socket_sk)))
}

/// A `struct sock *` that the verifier knows as such.
#[derive(Clone, Copy)]
pub(crate) struct Sock(*const u8);

/// A `struct tcp_sock *` that the verifier knows as such.
#[derive(Clone, Copy)]
pub(crate) struct TcpSock(*const u8);

impl Sock {
    /// The socket behind `pointer`, if it is TCP and its peer is on the watched port.
    ///
    /// # Safety
    ///
    /// `pointer` must be BTF-typed as `struct sock *`, and not null.
    #[inline(always)]
    pub(crate) unsafe fn watched(pointer: *const c_void) -> Option<Self> {
        let sock = pointer.cast::<u8>();
        // SAFETY: by contract.
        let dport: u16 = unsafe { load(sock, offset!(sock_dport)) };
        if dport != port().to_be() {
            return None;
        }
        // MPTCP's own sockets (262) fire the same events with meaningless fields.
        // SAFETY: by contract.
        let protocol: u16 = unsafe { load(sock, offset!(sock_protocol)) };
        (protocol == IPPROTO_TCP).then_some(Self(sock))
    }

    /// The address, as an identity.
    #[inline(always)]
    pub(crate) fn key(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    pub(crate) fn state(self) -> i32 {
        // SAFETY: `self.0` is typed, see `watched`.
        i32::from(unsafe { load::<u8>(self.0, offset!(sock_state)) })
    }

    /// `sk_err`. An application that reads it clears it, so read it at →CLOSE.
    #[inline(always)]
    pub(crate) fn error(self) -> u16 {
        // SAFETY: `self.0` is typed, see `watched`.
        errno(unsafe { load(self.0, offset!(sock_err)) })
    }

    /// `sk_err_soft`: an ICMP error that arrived while a task held the socket. `SO_ERROR` clears
    /// it.
    #[inline(always)]
    pub(crate) fn soft_error(self) -> u16 {
        // SAFETY: `self.0` is typed, see `watched`.
        errno(unsafe { load(self.0, offset!(sock_err_soft)) })
    }

    /// Whether this side has shut the socket down, as close() does.
    #[inline(always)]
    pub(crate) fn is_shut_down(self) -> bool {
        // SAFETY: `self.0` is typed, see `watched`.
        unsafe { load::<u8>(self.0, offset!(sock_shutdown)) != 0 }
    }

    /// Inode number of the network namespace.
    #[inline(always)]
    pub(crate) fn netns(self) -> u32 {
        // SAFETY: `self.0` is typed, and the verifier types what a typed member points to.
        let net: *const u8 = unsafe { load(self.0, offset!(sock_net)) };
        // SAFETY: as above; a socket always has a namespace.
        unsafe { load(net, offset!(net_inum)) }
    }

    /// The peer's address; IPv4 as `::ffff:a.b.c.d`.
    #[inline(always)]
    pub(crate) fn peer(self) -> [u8; 16] {
        // SAFETY: `self.0` is typed, see `watched`.
        let family: u16 = unsafe { load(self.0, offset!(sock_family)) };
        if family == AF_INET6 {
            let at = offset!(sock_v6_daddr);
            let word = |index: usize| {
                // SAFETY: as above; the member is an array of four words.
                unsafe { load::<u32>(self.0, at + 4 * index) }
            };
            let words = [word(0), word(1), word(2), word(3)];
            // SAFETY: same size, and any bytes are valid for both.
            return unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) };
        }
        // SAFETY: as above.
        ipv4_mapped(unsafe { load(self.0, offset!(sock_daddr)) })
    }

    /// The same socket, typed as TCP.
    #[inline(always)]
    pub(crate) fn tcp(self) -> Option<TcpSock> {
        // SAFETY: the helper takes any typed socket, and returns null for one that is not TCP.
        let tcp = unsafe { bpf_skc_to_tcp_sock(self.0.cast_mut().cast()) };
        (!tcp.is_null()).then_some(TcpSock(tcp.cast_const().cast()))
    }
}

impl TcpSock {
    /// Retransmission timeouts in a row.
    #[inline(always)]
    pub(crate) fn timeouts(self) -> u8 {
        // SAFETY: `self.0` is typed, see `Sock::tcp`.
        unsafe { load(self.0, offset!(tcp_timeouts)) }
    }

    /// All segments ever retransmitted on this socket, SYNs included.
    #[inline(always)]
    pub(crate) fn total_retransmits(self) -> u32 {
        // SAFETY: `self.0` is typed, see `Sock::tcp`.
        unsafe { load(self.0, offset!(tcp_total_retrans)) }
    }

    /// Whether the peer owes an acknowledgement of data. By the time of its state change, a reset
    /// has emptied the queues but not changed these numbers (`tcp_reset()` in
    /// `net/ipv4/tcp_input.c`).
    #[inline(always)]
    pub(crate) fn is_unacknowledged(self) -> bool {
        // SAFETY: `self.0` is typed, see `Sock::tcp`.
        let first: u32 = unsafe { load(self.0, offset!(tcp_snd_una)) };
        // SAFETY: as above.
        let next: u32 = unsafe { load(self.0, offset!(tcp_snd_nxt)) };
        first != next
    }

    /// When data was last received, as [`decide::heard_ns`] dates it.
    #[inline(always)]
    pub(crate) fn heard_ns(self, now_ns: u64) -> u64 {
        // SAFETY: `self.0` is typed, see `Sock::tcp`.
        let received: u64 = unsafe { load(self.0, offset!(tcp_bytes_received)) };
        // SAFETY: as above.
        let last: u32 = unsafe { load(self.0, offset!(tcp_lrcvtime)) };
        decide::heard_ns(received, last, now_ns, jiffies(), tick_ns())
    }
}

/// The lower half of the kernel's tick counter, from which the times in sockets are taken.
#[inline(always)]
pub(crate) fn jiffies() -> u32 {
    // SAFETY: the helper has no preconditions.
    let jiffies = unsafe { bpf_jiffies64() };
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
    let lower = jiffies as u32;
    lower
}

/// The peer in a `struct sockaddr` in kernel memory.
#[inline(always)]
pub(crate) fn peer_of(address: *const u8) -> Option<[u8; 16]> {
    match read_kernel(address)? {
        AF_INET => Some(ipv4_mapped(read_kernel(address.wrapping_add(4))?)),
        AF_INET6 => read_kernel(address.wrapping_add(8)),
        _ => None,
    }
}

/// An errno as a socket keeps it: it fits 12 bits (`MAX_ERRNO`, `include/linux/err.h`).
#[inline(always)]
pub(crate) const fn errno(error: i32) -> u16 {
    (error.cast_unsigned() & 0xffff) as u16
}

/// An IPv4 address, network byte order, as `::ffff:a.b.c.d`.
#[inline(always)]
pub(crate) const fn ipv4_mapped(address: u32) -> [u8; 16] {
    let [a, b, c, d] = address.to_ne_bytes();
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}
