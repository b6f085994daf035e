//! Candidates: processes of a watched name that userspace does not track yet.
//!
//! Their activity is counted, so that a client that dials before userspace knows it loses nothing.
//! Anybody can give a process such a name. So each network namespace may have a few candidates, and
//! each control group, which a container cannot leave, a few more.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::generated::bpf_get_current_cgroup_id};
use statlink_ebpf::{LossReason, Source, Totals, limits};

use crate::{
    atomic::{add_u32, subtract_u32},
    maps::{CANDIDATE_QUOTAS, SOURCES, SharedUse, count_loss},
    memory::{field, peek, poke},
};

/// In `.rodata`: too large for a program's stack of 512 bytes.
pub(crate) static ZERO_TOTALS: Totals = Totals::ZERO;

/// The entry of a new candidate, the current process; `None` if there is no room for it.
#[inline(always)]
pub(crate) fn create(source: Source) -> Option<*mut Totals> {
    let created = try_create(source);
    if created.is_none() {
        count_loss(LossReason::TotalsFull);
    }
    created
}

#[inline(always)]
fn try_create(source: Source) -> Option<*mut Totals> {
    let all = SharedUse::Candidates.count()?;
    // SAFETY: a live map value.
    if unsafe { peek(all) } >= limits::CANDIDATES {
        return None;
    }
    let cgroup = current_cgroup();
    if !take(
        of_namespace(source.netns),
        limits::CANDIDATES_OF_A_NAMESPACE,
    ) {
        return None;
    }
    if cgroup != NO_CGROUP && !take(cgroup, limits::CANDIDATES_OF_A_CGROUP) {
        give_back(of_namespace(source.netns));
        return None;
    }
    let zero = &ZERO_TOTALS;
    if SOURCES
        .insert(source, zero, u64::from(BPF_NOEXIST))
        .is_err()
    {
        // Another CPU was first, or there is no room after all.
        give_back(of_namespace(source.netns));
        give_back(cgroup);
        return SOURCES.get_ptr_mut(source);
    }
    // SAFETY: a live map value.
    unsafe { add_u32(all) };
    let totals = SOURCES.get_ptr_mut(source)?;
    // SAFETY: a live map value; nobody else writes this field.
    unsafe { poke(field!(totals, Totals, cgroup), cgroup) };
    Some(totals)
}

/// The process is no longer a candidate: gives back its quotas.
#[inline(always)]
pub(crate) fn release(source: Source, cgroup: u64) {
    give_back(of_namespace(source.netns));
    give_back(cgroup);
    if let Some(all) = SharedUse::Candidates.count() {
        // SAFETY: a live map value.
        unsafe { subtract_u32(all) };
    }
}

/// The current process's control group in the unified hierarchy; [`NO_CGROUP`] if that is the root,
/// as for all processes with cgroup v1.
#[inline(always)]
fn current_cgroup() -> u64 {
    // SAFETY: the helper has no preconditions.
    let id = unsafe { bpf_get_current_cgroup_id() };
    if id > ROOT_CGROUP { id } else { NO_CGROUP }
}

/// The key of a network namespace's quota: no control group has this id.
#[inline(always)]
const fn of_namespace(netns: u32) -> u64 {
    1 << 63 | netns as u64
}

#[inline(always)]
fn take(key: u64, most: u32) -> bool {
    if let Some(count) = CANDIDATE_QUOTAS.get_ptr_mut(key) {
        // SAFETY: a live map value.
        if unsafe { peek(count) } >= most {
            return false;
        }
        // SAFETY: as above.
        unsafe { add_u32(count) };
        return true;
    }
    CANDIDATE_QUOTAS
        .insert(key, 1, u64::from(BPF_NOEXIST))
        .is_ok()
}

#[inline(always)]
fn give_back(key: u64) {
    if let Some(count) = CANDIDATE_QUOTAS.get_ptr_mut(key) {
        // SAFETY: a live map value.
        if unsafe { peek(count) } > 1 {
            // SAFETY: as above.
            unsafe { subtract_u32(count) };
        } else {
            let _ = CANDIDATE_QUOTAS.remove(key);
        }
    }
}

const NO_CGROUP: u64 = 0;
/// The id of a hierarchy's root is its inode number (`kernfs_create_root()`, `fs/kernfs/dir.c`).
const ROOT_CGROUP: u64 = 1;
