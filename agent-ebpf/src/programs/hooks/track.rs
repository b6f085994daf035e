//! Orders of userspace: which sources to track and which to forget.
//!
//! Userspace cannot change a part of a map's entry while programs count in it; a program can.

use aya_ebpf::{bindings::BPF_NOEXIST, macros::raw_tracepoint, programs::RawTracePointContext};
use statlink_ebpf::{Neighbourhood, Order, Room, Source, Standing, Totals, answer};

use crate::{
    calls,
    candidates::{self, ZERO_TOTALS},
    connections::discard,
    maps::{NAMESPACES, SOURCES},
    memory::{field, peek, poke},
};

/// Never attached: userspace runs it with `(what, order)` by `BPF_PROG_TEST_RUN`, and gets the answer as
/// its return value.
///
/// Source: `bpf_prog_test_run_raw_tp()` in `net/bpf/test_run.c`, since 5.10.
///
/// What holds: userspace runs one at a time, and forgets a source only after its process has ended;
/// so nobody adds to its places meanwhile.
#[raw_tracepoint(tracepoint = "track")]
pub(crate) fn track(ctx: RawTracePointContext) -> i32 {
    let done = Order::from_raw(ctx.arg(1)).map(|order| (order, try_track(ctx.arg(0), order)));
    match done {
        Some((_, Some(()))) => answer::DONE,
        Some((Order::Track, None)) => answer::NO_ROOM,
        Some((_, None)) | None => answer::NOT_NOW,
    }
}

#[inline(always)]
fn try_track(what: u64, order: Order) -> Option<()> {
    let source = Source::from_raw(what);
    let whole_namespace = source.tgid == 0;
    match order {
        Order::Track if whole_namespace => track_namespace(source.netns),
        Order::Track => track_source(source),
        Order::Retire if whole_namespace => retire_namespace(source.netns),
        Order::Retire => retire_source(source),
        Order::Forget if whole_namespace => forget_namespace(source.netns),
        Order::Forget => forget_source(source),
        Order::ForgetConnection => {
            discard(what);
            Some(())
        }
        Order::ForgetCall => calls::leave(what).map(|_| ()),
    }
}

#[inline(always)]
fn track_source(source: Source) -> Option<()> {
    if let Some(totals) = SOURCES.get_ptr_mut(source) {
        let was_candidate = is_candidate(totals);
        set_standing(totals, Standing::Tracked);
        if was_candidate {
            release(source, totals);
        }
        return Some(());
    }
    let zero = &ZERO_TOTALS;
    let _ = SOURCES.insert(source, zero, u64::from(BPF_NOEXIST));
    set_standing(SOURCES.get_ptr_mut(source)?, Standing::Tracked);
    Some(())
}

#[inline(always)]
fn retire_source(source: Source) -> Option<()> {
    set_standing(SOURCES.get_ptr_mut(source)?, Standing::Retired);
    Some(())
}

#[inline(always)]
fn forget_source(source: Source) -> Option<()> {
    let totals = SOURCES.get_ptr_mut(source)?;
    // SAFETY: a live map value.
    let room: Room = unsafe { peek(field!(totals, Totals, room)) };
    if !room.is_empty() {
        return None;
    }
    if is_candidate(totals) {
        release(source, totals);
    }
    SOURCES.remove(source).ok()
}

#[inline(always)]
fn track_namespace(netns: u32) -> Option<()> {
    let _ = NAMESPACES.insert(netns, Neighbourhood::ZERO, u64::from(BPF_NOEXIST));
    set_tracked(netns, 1)
}

#[inline(always)]
fn retire_namespace(netns: u32) -> Option<()> {
    set_tracked(netns, 0)
}

#[inline(always)]
fn forget_namespace(netns: u32) -> Option<()> {
    let neighbourhood = NAMESPACES.get_ptr_mut(netns)?;
    // SAFETY: a live map value.
    let room: Room = unsafe { peek(field!(neighbourhood, Neighbourhood, room)) };
    if !room.is_empty() {
        return None;
    }
    NAMESPACES.remove(netns).ok()
}

#[inline(always)]
fn set_tracked(netns: u32, tracked: u32) -> Option<()> {
    let neighbourhood = NAMESPACES.get_ptr_mut(netns)?;
    // SAFETY: a live map value.
    unsafe { poke(field!(neighbourhood, Neighbourhood, tracked), tracked) };
    Some(())
}

#[inline(always)]
fn set_standing(totals: *mut Totals, standing: Standing) {
    // SAFETY: a live map value.
    unsafe { poke(field!(totals, Totals, standing), standing as u32) };
}

#[inline(always)]
fn is_candidate(totals: *mut Totals) -> bool {
    // SAFETY: a live map value.
    let standing: u32 = unsafe { peek(field!(totals, Totals, standing)) };
    standing == Standing::Candidate as u32
}

/// The source is no longer a candidate.
#[inline(always)]
fn release(source: Source, totals: *mut Totals) {
    // SAFETY: a live map value; written once.
    let cgroup = unsafe { peek(field!(totals, Totals, cgroup)) };
    candidates::release(source, cgroup);
}
