//! connect() is called: an attempt begins, or a name is looked up.

use aya_ebpf::{macros::tracepoint, programs::TracePointContext};
use statlink_ebpf::{Source, limits::NAME_SERVER_PORT};

use super::{lookup::try_lookup, tracepoint::field};
use crate::{calls, constants::port, memory::read_user, sock::ipv4_mapped, task};

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// `int connect(int fd, struct sockaddr *uservaddr, int addrlen)`
///
/// Source: `SYSCALL_DEFINE3(connect, …)` in `net/socket.c`; the record's format is
/// `events/syscalls/sys_enter_connect/format` of tracefs: three registers from byte 16. Since 4.7 for
/// BPF; needs tracefs. io_uring's connects do not pass here.
///
/// Why here: no other hook sees an attempt that fails before its SYN, and no later one knows when
/// connect() was called. Name lookups are seen as well: Go's resolver connects a UDP socket to the
/// name server for each query.
///
/// What holds: the current thread is the caller, and its memory can be read; no socket is known yet.
#[tracepoint(category = "syscalls", name = "sys_enter_connect")]
pub(crate) fn sys_enter_connect(ctx: TracePointContext) -> u32 {
    try_enter_connect(&ctx);
    0
}

#[inline(always)]
fn try_enter_connect(ctx: &TracePointContext) -> Option<()> {
    // SAFETY: the record of this tracepoint is 40 bytes long.
    let address = unsafe { field(ctx, 24) } as *const u8;
    // SAFETY: as above.
    let length = unsafe { field(ctx, 32) };
    // Family and port stand first in both address families.
    let [family, be_port]: [u16; 2] = read_user(address)?;
    if be_port != port().to_be() {
        if be_port == NAME_SERVER_PORT.to_be() {
            // No check for UDP: a query over TCP is a query, too.
            return try_lookup();
        }
        return None;
    }
    let peer = match family {
        AF_INET if length >= 16 => ipv4_mapped(read_user(address.wrapping_add(4))?),
        AF_INET6 if length >= 24 => read_user(address.wrapping_add(8))?,
        _ => return None,
    };
    // SAFETY: as above. A descriptor is an `int`; a larger value is none.
    let fd = u32::try_from(unsafe { field(ctx, 16) }).ok()?;
    let source = Source {
        netns: task::netns()?,
        tgid: task::process(task::thread()),
    };
    calls::enter(source, peer, fd, 0)
}
