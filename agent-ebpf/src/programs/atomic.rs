//! Atomic addition. Rust's BPF target does not offer it: BPF has no compare-and-swap before v3, so
//! `core` leaves out every read-modify-write. The instruction itself exists in all versions.

use core::arch::asm;

/// Adds `more`, atomically: several CPUs share the value, and so do a program and one that
/// interrupts it.
///
/// # Safety
///
/// `value` must point to a live, aligned map value.
#[inline(always)]
pub(crate) unsafe fn add_u64(value: *mut u64, more: u64) {
    // SAFETY: by contract; one instruction, which touches nothing else.
    unsafe {
        asm!(
            "lock *(u64 *)({value} + 0) += {more}",
            value = in(reg) value,
            more = in(reg) more,
            options(nostack),
        );
    }
}

/// Adds one; as [`add_u64`].
///
/// # Safety
///
/// As for [`add_u64`].
#[inline(always)]
pub(crate) unsafe fn add_u32(value: *mut u32) {
    // SAFETY: by contract.
    unsafe { change_u32(value, 1) };
}

/// Takes one away; as [`add_u64`].
///
/// # Safety
///
/// As for [`add_u64`].
#[inline(always)]
pub(crate) unsafe fn subtract_u32(value: *mut u32) {
    // Wraps: all ones are minus one, and the instruction uses the lower half.
    // SAFETY: by contract.
    unsafe { change_u32(value, u64::MAX) };
}

#[inline(always)]
unsafe fn change_u32(value: *mut u32, by: u64) {
    // SAFETY: as in `add_u64`.
    unsafe {
        asm!(
            "lock *(u32 *)({value} + 0) += {by}",
            value = in(reg) value,
            by = in(reg) by,
            options(nostack),
        );
    }
}
