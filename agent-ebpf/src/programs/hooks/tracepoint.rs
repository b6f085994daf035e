//! Reading a tracepoint's record.

use aya_ebpf::{EbpfContext as _, programs::TracePointContext};

/// The 8 bytes at `at` of a tracepoint's record.
///
/// # Safety
///
/// The record must reach that far; the verifier checks it at attach.
#[inline(always)]
pub(super) unsafe fn field(ctx: &TracePointContext, at: usize) -> u64 {
    // SAFETY: by contract.
    let field = unsafe { ctx.as_ptr().cast::<u8>().add(at) };
    // SAFETY: by contract.
    unsafe { core::ptr::read_volatile(field.cast::<u64>()) }
}
