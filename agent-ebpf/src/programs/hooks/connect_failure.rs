//! The consequences of connect()'s return.

use aya_log_ebpf::debug;
use statlink_ebpf::End;

use crate::{
    connections::{OpenConnection, kept},
    constants::offset,
    memory::read_kernel,
    sock::errno,
};

/// The attempt failed inside connect().
#[inline(always)]
pub(super) fn report_failure(open: &OpenConnection, sock: u64, errno: u16) -> Option<()> {
    let end = End::from_errno(errno);
    debug!(&(), "connect failed with {}: end {}", errno, end as u8);
    open.end(sock, &open.unheard_end(end, errno));
    Some(())
}

/// An ICMP error that arrives while connect() holds the socket does not end the attempt. The kernel
/// leaves it in `sk_err_soft`, and the client finds it with `SO_ERROR`, which clears it
/// (`tcp_v4_err()`, `net/ipv4/tcp_ipv4.c`). A non-blocking client then closes.
#[inline(always)]
pub(super) fn note_soft_error(key: u64) -> Option<()> {
    if key == 0 {
        return None;
    }
    let sock = key as *const u8;
    let soft_errno = errno(read_kernel(sock.wrapping_add(offset!(sock_err_soft)))?);
    if soft_errno == 0 {
        return None;
    }
    debug!(&(), "connect in progress with a soft error {}", soft_errno);
    let connection = kept(key)?;
    // SAFETY: a live map value; no other event of this socket writes this field.
    unsafe { (*connection).soft_errno = soft_errno };
    Some(())
}
