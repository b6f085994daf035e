//! The account of an event's owner: the counts of one source, and its places in the shared maps.
//!
//! Three kinds of processes have an account. Nothing is stored about anybody else:
//!
//! - A *tracked source*: userspace asked for it. Each of its ends is reported by exactly one of a record
//!   in the ring or the source's missed ends.
//! - A *candidate* ([`crate::candidates`]): each of its ends is in the missed ends.
//! - The *neighbours* of clients, all of one network namespace together: nothing is counted, and their
//!   records have a ring of their own.

use core::mem::offset_of;

use statlink_ebpf::{
    Connection, Held, LossReason, Neighbourhood, Place, Room, Source, Standing, Totals,
    decide::{Quota, is_lookup_due, next_place},
    limits,
};

use crate::{
    atomic::{add_u32, add_u64, subtract_u32},
    candidates,
    constants::is_watched,
    maps::{NAMESPACES, SOURCES, SharedUse, count_loss},
    memory::{field, peek, poke},
    records::{Ended, RecordFields, put, report},
    task,
};

/// The owner of an event, and the recipients of its records.
pub(crate) struct Account {
    /// Its places; null if the account is nobody's.
    room: *mut Room,
    /// Its counts; null for neighbours, and if the account is nobody's.
    totals: *mut Totals,
    /// Whether userspace tracks the source.
    pub(crate) tracked: bool,
    /// Whether userspace gets records.
    pub(crate) recorded: bool,
}

impl Account {
    /// The account of the current process, `source`. A process of a watched name gets one if it has
    /// none.
    #[inline(always)]
    pub(crate) fn of_current(source: Source) -> Option<Self> {
        if let Some(totals) = SOURCES.get_ptr_mut(source) {
            return Some(Self::of_source(source, totals));
        }
        if is_watched(task::comm()?)
            && let Some(totals) = candidates::create(source)
        {
            return Some(Self::of_source(source, totals));
        }
        Self::of_neighbour(source.netns)
    }

    /// The account that `source` has.
    #[inline(always)]
    pub(crate) fn existing(source: Source) -> Option<Self> {
        if let Some(totals) = SOURCES.get_ptr_mut(source) {
            return Some(Self::of_source(source, totals));
        }
        Self::of_neighbour(source.netns)
    }

    /// The account of `source`, if userspace tracks it.
    #[inline(always)]
    pub(crate) fn tracked(source: Source) -> Option<Self> {
        let totals = SOURCES.get_ptr_mut(source)?;
        is_tracked(totals).then_some(Self {
            room: totals.cast(),
            totals,
            tracked: true,
            recorded: true,
        })
    }

    /// For a connection that has outlived its account: nobody gets a record.
    #[inline(always)]
    pub(crate) const fn nobodys() -> Self {
        Self {
            room: core::ptr::null_mut(),
            totals: core::ptr::null_mut(),
            tracked: false,
            recorded: false,
        }
    }

    #[inline(always)]
    fn of_source(source: Source, totals: *mut Totals) -> Self {
        let tracked = is_tracked(totals);
        Self {
            // The room is the first member.
            room: totals.cast(),
            totals,
            tracked,
            // A candidate beside a client may be a proxy.
            recorded: tracked || neighbourhood(source.netns).is_some(),
        }
    }

    #[inline(always)]
    fn of_neighbour(netns: u32) -> Option<Self> {
        Some(Self {
            room: neighbourhood(netns)?,
            totals: core::ptr::null_mut(),
            tracked: false,
            recorded: true,
        })
    }

    #[inline(always)]
    pub(crate) fn count_attempt(&self) {
        if !self.totals.is_null() {
            // SAFETY: a live map value.
            unsafe { add_u64(field!(self.totals, Totals, attempts), 1) }
        }
    }

    #[inline(always)]
    pub(crate) fn count_retransmits(&self, more: u32) {
        if !self.totals.is_null() {
            // SAFETY: a live map value.
            unsafe { add_u64(field!(self.totals, Totals, retransmits), u64::from(more)) }
        }
    }

    /// Whether a name lookup at `now` gets a record; if so, it counts as recorded. Two lookups at
    /// the same moment may both get one.
    #[inline(always)]
    pub(crate) fn take_lookup(&self, now: u64) -> bool {
        if self.totals.is_null() {
            return false;
        }
        let last = field!(self.totals, Totals, looked_up_ns);
        // SAFETY: a live map value.
        let due = is_lookup_due(unsafe { peek(last) }, now);
        if due {
            // SAFETY: as above.
            unsafe { poke(last, now) };
        }
        due
    }

    /// Counts one end and reports it: by the ring if the source is tracked and there is room,
    /// otherwise by the missed ends. The end of a candidate beside a client also goes to the
    /// neighbours' ring, because it may explain a failure of the client; nobody counts by that
    /// record.
    #[inline(always)]
    pub(crate) fn report_end(&self, sock: u64, connection: &Connection, ended: &Ended) {
        let cell = Totals::cell(ended.phase, ended.end);
        if !self.totals.is_null() {
            // SAFETY: a live map value.
            unsafe { add_cell(field!(self.totals, Totals, ended), cell) };
        }
        let fields = RecordFields::ended(ended);
        if self.tracked {
            if !put(sock, connection, &fields, true) {
                // SAFETY: as above.
                unsafe { add_cell(field!(self.totals, Totals, missed_ends), cell) };
                // After the end itself, so that whoever sees the loss also finds the end.
                count_loss(LossReason::RingFull);
            }
            return;
        }
        if !self.totals.is_null() {
            // SAFETY: as above.
            unsafe { add_cell(field!(self.totals, Totals, missed_ends), cell) };
        }
        if self.recorded {
            report(sock, connection, &fields, false);
        }
    }
}

/// Places in the shared maps.
impl Account {
    /// Takes a place for an open connection; a full quota is counted.
    #[inline(always)]
    pub(crate) fn take_connection(&self) -> Option<Place> {
        let place = self.take(
            self.connections(),
            if self.totals.is_null() {
                limits::CONNECTIONS_OF_NEIGHBOURS
            } else if self.tracked {
                limits::CONNECTIONS_OF_A_SOURCE
            } else {
                limits::CONNECTIONS_OF_A_CANDIDATE
            },
            connections,
        );
        if place.is_none() {
            self.count_refused();
        }
        place
    }

    /// Gives it back.
    #[inline(always)]
    pub(crate) fn release_connection(&self, place: Place) {
        self.release(self.connections(), place, connections);
    }

    /// Counts an open connection that is not kept.
    #[inline(always)]
    pub(crate) fn count_refused(&self) {
        if self.totals.is_null() {
            return count_loss(LossReason::NeighbourConnectionsFull);
        }
        // SAFETY: a live map value.
        unsafe { add_u32(field!(self.totals, Totals, refused)) };
        count_loss(LossReason::ConnectionsFull);
    }

    /// Takes a place for a connect() call; a full quota is counted.
    #[inline(always)]
    pub(crate) fn take_call(&self) -> Option<Place> {
        let place = self.take(
            self.calls(),
            if self.totals.is_null() {
                limits::CALLS_OF_NEIGHBOURS
            } else if self.tracked {
                limits::CALLS_OF_A_SOURCE
            } else {
                limits::CALLS_OF_A_CANDIDATE
            },
            calls,
        );
        if place.is_none() {
            self.count_refused_call();
        }
        place
    }

    /// Gives it back.
    #[inline(always)]
    pub(crate) fn release_call(&self, place: Place) {
        self.release(self.calls(), place, calls);
    }

    /// Counts a connect() call that is not followed.
    #[inline(always)]
    pub(crate) fn count_refused_call(&self) {
        count_loss(if self.totals.is_null() {
            LossReason::NeighbourCallsFull
        } else {
            LossReason::CallsFull
        });
    }

    /// Only for accounts with a room.
    #[inline(always)]
    const fn connections(&self) -> *mut Held {
        self.room
            .wrapping_byte_add(offset_of!(Room, connections))
            .cast()
    }

    /// As [`Self::connections`].
    #[inline(always)]
    const fn calls(&self) -> *mut Held {
        self.room.wrapping_byte_add(offset_of!(Room, calls)).cast()
    }

    #[inline(always)]
    fn take(
        &self,
        held: *mut Held,
        quota: Quota,
        shared: impl Fn(Place) -> Option<SharedUse>,
    ) -> Option<Place> {
        if self.room.is_null() {
            return None;
        }
        let all = shared(quota.from)?.count()?;
        // SAFETY: a live map value, here and below.
        let holds = unsafe { peek(held) };
        // SAFETY: as above.
        let place = next_place(quota, holds, unsafe { peek(all) })?;
        match place {
            // SAFETY: as above.
            Place::Reserved => unsafe { add_u32(field!(held, Held, reserved)) },
            Place::Shared | Place::NeighboursShared => {
                // SAFETY: as above.
                unsafe { add_u32(field!(held, Held, shared)) };
                // SAFETY: as above.
                unsafe { add_u32(all) };
            }
        }
        Some(place)
    }

    #[inline(always)]
    fn release(&self, held: *mut Held, place: Place, shared: impl Fn(Place) -> Option<SharedUse>) {
        let all = shared(place);
        if !self.room.is_null() {
            let count = if all.is_some() {
                field!(held, Held, shared)
            } else {
                field!(held, Held, reserved)
            };
            // SAFETY: a live map value.
            unsafe { subtract_u32(count) };
        }
        if let Some(all) = all.and_then(SharedUse::count) {
            // SAFETY: as above.
            unsafe { subtract_u32(all) };
        }
    }
}

#[inline(always)]
fn connections(place: Place) -> Option<SharedUse> {
    match place {
        Place::Reserved => None,
        Place::Shared => Some(SharedUse::Connections),
        Place::NeighboursShared => Some(SharedUse::NeighbourConnections),
    }
}

#[inline(always)]
fn calls(place: Place) -> Option<SharedUse> {
    match place {
        Place::Reserved => None,
        Place::Shared => Some(SharedUse::Calls),
        Place::NeighboursShared => Some(SharedUse::NeighbourCalls),
    }
}

/// The places of the neighbours in a network namespace, if userspace wants their records.
#[inline(always)]
fn neighbourhood(netns: u32) -> Option<*mut Room> {
    let neighbourhood = NAMESPACES.get_ptr_mut(netns)?;
    // SAFETY: a live map value.
    let tracked = unsafe { peek::<u32>(field!(neighbourhood, Neighbourhood, tracked)) };
    // The room is the first member.
    (tracked != 0).then_some(neighbourhood.cast())
}

#[inline(always)]
fn is_tracked(totals: *mut Totals) -> bool {
    // SAFETY: a live map value.
    let standing = unsafe { peek::<u32>(field!(totals, Totals, standing)) };
    standing == Standing::Tracked as u32
}

/// Adds one to a cell, atomically. The bounds check is for the verifier.
///
/// # Safety
///
/// `cells` must point to [`Totals::CELLS`] counts of a live map value.
#[inline(always)]
unsafe fn add_cell(cells: *mut u32, cell: usize) {
    if cell < Totals::CELLS {
        // SAFETY: by contract, and within the array.
        unsafe { add_u32(cells.wrapping_add(cell)) };
    }
}
