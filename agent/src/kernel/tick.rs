//! The kernel's tick: the times that it keeps in sockets are counted in it.

use rustix::time::{ClockId, clock_getres};

/// The time between two ticks, nanoseconds.
///
/// Not userspace's clock tick (`sysconf(_SC_CLK_TCK)`), which is 100 a second whatever the kernel's
/// is. A coarse clock moves with the kernel's tick, and its resolution is exactly that: `LOW_RES_NSEC`
/// is `TICK_NSEC` (`include/linux/hrtimer_defs.h`, `posix_get_coarse_res()` in
/// `kernel/time/posix-timers.c`).
pub(super) fn nanoseconds() -> u32 {
    let tick = clock_getres(ClockId::MonotonicCoarse);
    // At most 41 ms: no kernel ticks less than 24 times a second.
    u32::try_from(tick.tv_nsec).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tick_is_one_that_a_kernel_can_be_built_with() {
        // `kernel/Kconfig.hz`, as `TICK_NSEC` rounds it.
        let ticks = [10_000_000, 4_000_000, 3_333_333, 1_000_000];
        let tick = nanoseconds();
        assert!(ticks.contains(&tick), "{tick} ns");
    }
}
