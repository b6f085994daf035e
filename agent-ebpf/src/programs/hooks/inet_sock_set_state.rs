//! TCP state changes: the attempt, its outcome, and the end of a connection.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use statlink_ebpf::{
    Phase, RecordKind, Source,
    decide::{
        Closing, Evidence, StateChange, end_of_attempt, end_of_connection, phase_at_end,
        state_change,
    },
};

use crate::{
    calls,
    connections::{OpenConnection, kept},
    constants::calls_begin_at_syn,
    maps::CALLS,
    records::{Ended, RecordFields, now, report},
    sock::{Sock, TcpSock},
    task,
};

/// `void inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`
///
/// Source: `include/trace/events/sock.h`, called from `inet_sk_state_store()` and
/// `inet_sk_set_state()` in `net/ipv4/af_inet.c`. The tracepoint is there since 4.16, typed by BTF
/// since 5.5.
///
/// Why here: every change of a TCP socket's state passes here, whatever causes it, and no other
/// hook costs as little: no packet is inspected.
///
/// What holds: the new state is not stored yet, so `sk_err` and the counters are those of the
/// event. The remote port is there, the local one is not. The current task is the socket's owner
/// only at CLOSE→SYN_SENT and at a local close; otherwise it is whichever was running.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the first argument is a `struct sock *`, never null.
    if let Some(sock) = unsafe { Sock::watched(ctx.arg::<*const c_void>(0)) } {
        try_set_state(sock, ctx.arg(1), ctx.arg(2));
    }
    0
}

#[inline(always)]
fn try_set_state(sock: Sock, old: i32, new: i32) -> Option<()> {
    let change = state_change(old, new)?;
    if matches!(change, StateChange::Attempted) {
        return try_attempted(sock);
    }
    let mut open = OpenConnection::find(sock.key())?;
    let tcp = sock.tcp()?;
    open.count_retransmits(tcp.total_retransmits());
    let observed = Observed {
        sock,
        tcp,
        errno: sock.error(),
        reported_errno: open.connection.reported_errno,
        soft_errno: open.connection.soft_errno,
    };
    let ended = match change {
        StateChange::Attempted => return None,
        StateChange::Established => return established(sock, &open),
        StateChange::AttemptFailed => attempt_failed(&open, &observed)?,
        StateChange::Ended(closing) => connection_ended(&open, &observed, closing),
    };
    debug!(
        &(),
        "state {} to {}: end {} errno {}", old, new, ended.end as u8, ended.errno
    );
    open.end(sock.key(), &ended);
    Some(())
}

/// connect() is about to send a SYN; the current task is the owner.
#[inline(always)]
fn try_attempted(sock: Sock) -> Option<()> {
    let time_ns = now();
    let thread = task::thread();
    let mut attempted_ns = time_ns;
    let source = Source {
        netns: sock.netns(),
        tgid: task::process(thread),
    };
    let mut in_unkept_call = false;
    if calls_begin_at_syn() {
        let call = calls::enter(source, sock.peer(), NO_DESCRIPTOR, sock.key());
        in_unkept_call = call.is_none();
    } else if let Some(call) = CALLS.get_ptr_mut(thread) {
        // SAFETY: a live map value that only this thread's own connect() touches.
        let call = unsafe { &mut *call };
        call.sock = sock.key();
        attempted_ns = call.time_ns;
    }
    let mut open = OpenConnection::begin(source, sock.peer(), time_ns, attempted_ns)?;
    open.connection.in_unkept_call = u8::from(in_unkept_call);
    // A connection that is not kept gets no record either: nobody would report its end.
    if open.keep(sock.key()) && open.account.recorded {
        let fields = RecordFields::new(RecordKind::Attempted, time_ns);
        report(sock.key(), &open.connection, &fields, open.account.tracked);
    }
    Some(())
}

/// In place: a replaced entry moves to the front of its bucket, and a walk of the map that has
/// passed there misses it (`htab_map_update_elem()`, `kernel/bpf/hashtab.c`).
#[inline(always)]
fn established(sock: Sock, open: &OpenConnection) -> Option<()> {
    let time_ns = now();
    let connection = kept(sock.key())?;
    // SAFETY: a live map value; the socket's lock is held, as by all writers of these fields. No
    // reference to the whole: a return of connect() may write a field of its own meanwhile.
    unsafe { (*connection).established_ns = time_ns };
    // SAFETY: as above.
    unsafe { (*connection).retransmits = open.connection.retransmits };
    // SAFETY: as above.
    unsafe { (*connection).phase = Phase::Established as u8 };
    if open.account.recorded {
        let fields = RecordFields::new(RecordKind::Established, time_ns);
        report(sock.key(), &open.connection, &fields, open.account.tracked);
    }
    Some(())
}

/// `None` if the return of connect() will say how. If no call was kept, that return could not
/// distinguish an attempt with a reported end from one without a SYN; so then this reports every
/// end.
#[inline(always)]
fn attempt_failed(open: &OpenConnection, observed: &Observed) -> Option<Ended> {
    if open.connection.in_unkept_call != 0 {
        return None;
    }
    let (end, errno) = end_of_attempt(observed)?;
    Some(open.unheard_end(end, errno))
}

#[inline(always)]
fn connection_ended(open: &OpenConnection, observed: &Observed, closing: Closing) -> Ended {
    let time_ns = now();
    let heard_ns = observed.tcp.heard_ns(time_ns);
    let established_ns = open.connection.established_ns;
    Ended {
        time_ns,
        end: end_of_connection(closing, established_ns, heard_ns, time_ns, observed),
        errno: observed.errno(),
        // Its establishment may have been missed; leaving this state shows it, too.
        phase: phase_at_end(Phase::Established, established_ns, heard_ns, time_ns),
        timeouts: observed.tcp.timeouts(),
        heard_ns,
    }
}

/// An ending socket, in the context of the task that ends it.
struct Observed {
    sock: Sock,
    tcp: TcpSock,
    errno: u16,
    reported_errno: u16,
    soft_errno: u16,
}

impl Evidence for Observed {
    #[inline(always)]
    fn errno(&self) -> u16 {
        self.errno
    }

    #[inline(always)]
    fn reported_errno(&self) -> u16 {
        self.reported_errno
    }

    #[inline(always)]
    fn soft_errno(&self) -> u16 {
        self.soft_errno
    }

    #[inline(always)]
    fn untold_errno(&self) -> u16 {
        self.sock.soft_error()
    }

    #[inline(always)]
    fn is_shut_down(&self) -> bool {
        self.sock.is_shut_down()
    }

    #[inline(always)]
    fn is_exiting(&self) -> bool {
        task::is_exiting()
    }

    /// If the neighbour does not answer, the first SYN is still queued when the second is due: a
    /// timeout without a retransmission (`skb_still_in_host_queue()`, `net/ipv4/tcp_output.c`).
    #[inline(always)]
    fn is_syn_overdue(&self) -> bool {
        self.tcp.total_retransmits() > 0 || self.tcp.timeouts() > 0
    }

    #[inline(always)]
    fn is_connect_running(&self) -> bool {
        CALLS
            .get_ptr(task::thread())
            // SAFETY: a live map value that only this thread's own connect() touches.
            .is_some_and(|call| unsafe { (*call).sock } == self.sock.key())
    }

    #[inline(always)]
    fn is_unacknowledged(&self) -> bool {
        self.tcp.is_unacknowledged()
    }
}

/// No descriptor has this number: they are `int`s.
const NO_DESCRIPTOR: u32 = u32::MAX;
