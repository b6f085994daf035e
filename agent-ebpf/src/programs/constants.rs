//! The constants that userspace sets before loading. They are frozen then, and the verifier treats
//! them as literals.

use statlink_ebpf::{COMM_LEN, COMMS, Offsets};

/// Where this kernel keeps the fields that the programs read.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets::ZERO;

/// The watched port, host byte order.
#[unsafe(no_mangle)]
static PORT: u16 = 0;

/// The time between two ticks of this kernel, nanoseconds (`TICK_NSEC`).
#[unsafe(no_mangle)]
static TICK_NS: u32 = 0;

/// The `comm`s of the processes whose execution is recorded; zeroes are nobody's.
#[unsafe(no_mangle)]
static COMM: [[u8; COMM_LEN]; COMMS] = [[0; COMM_LEN]; COMMS];

/// Whether the programs wake the reader. 0 on kernels that can preempt running programs: there a
/// woken reader may take the CPU from the program that woke it. The next event on that CPU then
/// finds the program still running, and is skipped.
#[unsafe(no_mangle)]
static WAKES: u8 = 0;

#[inline(always)]
pub(crate) fn wakes() -> bool {
    // SAFETY: a static, volatile as below.
    unsafe { core::ptr::read_volatile(&raw const WAKES) != 0 }
}

/// Whether a connect() call is noted at its SYN: on kernels where its return is seen, and its entry
/// is not.
#[unsafe(no_mangle)]
static CALLS_BEGIN_AT_SYN: u8 = 0;

#[inline(always)]
pub(crate) fn calls_begin_at_syn() -> bool {
    // SAFETY: a static, volatile as below.
    unsafe { core::ptr::read_volatile(&raw const CALLS_BEGIN_AT_SYN) != 0 }
}

#[inline(always)]
pub(crate) fn port() -> u16 {
    // SAFETY: a static. Volatile, here and below: its value at run time is not the one that the
    // compiler sees.
    unsafe { core::ptr::read_volatile(&raw const PORT) }
}

#[inline(always)]
pub(crate) fn tick_ns() -> u32 {
    // SAFETY: a static.
    unsafe { core::ptr::read_volatile(&raw const TICK_NS) }
}

/// Whether processes of this name are watched.
#[inline(always)]
pub(crate) fn is_watched(comm: [u8; COMM_LEN]) -> bool {
    // SAFETY: a static.
    let watched = unsafe { core::ptr::read_volatile(&raw const COMM) };
    let comm = u128::from_ne_bytes(comm);
    watched
        .iter()
        .any(|name| u128::from_ne_bytes(*name) == comm)
}

/// Reads one member of [`OFFSETS`].
macro_rules! offset {
    ($member:ident) => {
        $crate::constants::read_offset(core::mem::offset_of!(statlink_ebpf::Offsets, $member))
    };
}
pub(crate) use offset;

/// The offset stored `at` bytes into [`OFFSETS`]; use through [`offset!`].
#[inline(always)]
pub(crate) fn read_offset(at: usize) -> usize {
    let member = (&raw const OFFSETS).cast::<u8>().wrapping_add(at);
    // SAFETY: `offset!` gives the place of a member, and all members are `u32`.
    (unsafe { core::ptr::read_volatile(member.cast::<u32>()) }) as usize
}
