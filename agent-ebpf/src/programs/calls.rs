//! connect() calls under way, from their entry to their return.

use statlink_ebpf::{ConnectCall, Place, Source};

use crate::{account::Account, maps::CALLS, records::now, task};

/// Notes a call of the current thread, of `source`, to `peer` with the descriptor `fd`; `sock` is 0
/// before the SYN. `None` if there is no room.
#[inline(always)]
pub(crate) fn enter(source: Source, peer: [u8; 16], fd: u32, sock: u64) -> Option<()> {
    let account = Account::of_current(source)?;
    let thread = task::thread();
    let mut call = ConnectCall {
        time_ns: now(),
        sock,
        peer,
        netns: source.netns,
        fd,
        place: Place::Reserved as u8,
        _pad: [0; 7],
    };
    // The return of an earlier call was missed: the new call takes its place.
    if let Some(known) = CALLS.get_ptr_mut(thread) {
        // SAFETY: a live map value that only this thread's own connect() touches.
        let known = unsafe { &mut *known };
        call.place = known.place;
        *known = call;
        return Some(());
    }
    let place = account.take_call()?;
    call.place = place as u8;
    if CALLS.insert(thread, call, 0).is_err() {
        account.release_call(place);
        account.count_refused_call();
        return None;
    }
    Some(())
}

/// Takes out the call of a thread and gives its place back.
#[inline(always)]
pub(crate) fn leave(thread: u64) -> Option<ConnectCall> {
    let call = CALLS.get_ptr(thread)?;
    // SAFETY: a live map value that only this thread's own connect() touches.
    let call = unsafe { *call };
    let _ = CALLS.remove(thread);
    let source = Source {
        netns: call.netns,
        tgid: task::process(thread),
    };
    let account = Account::existing(source).unwrap_or(Account::nobodys());
    account.release_call(Place::from_raw(call.place));
    Some(call)
}
