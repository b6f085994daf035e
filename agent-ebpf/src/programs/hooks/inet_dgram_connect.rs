//! connect() of a datagram socket has returned: a name is looked up.

use aya_ebpf::{macros::fexit, programs::FExitContext};
use statlink_ebpf::limits::NAME_SERVER_PORT;

use super::{inet_stream_connect::dialled, lookup::try_lookup};

/// `int inet_dgram_connect(struct socket *sock, struct sockaddr *uaddr, int addr_len, int flags)`
///
/// Source: `net/ipv4/af_inet.c`; `uaddr` is a `struct sockaddr_unsized *` since 6.19. The `connect` of
/// UDP's sockets in both address families. fexit loads on x86-64 since 5.5, on arm64 since 6.4.
///
/// Why here: Go's resolver connects a UDP socket to the name server for each query, so no packet
/// has to be inspected. A query over TCP is not seen: it follows one over UDP.
///
/// What holds: the current thread is the caller, and `uaddr` is the kernel's own copy.
#[fexit(function = "inet_dgram_connect")]
pub(crate) fn inet_dgram_connect(ctx: FExitContext) -> i32 {
    // SAFETY: the first argument is a `struct socket *`, never null.
    if unsafe { dialled(ctx.arg(0), ctx.arg(1), NAME_SERVER_PORT) }.is_some() {
        try_lookup();
    }
    0
}
