//! A name lookup of the current process.

use statlink_ebpf::{RecordKind, Source};

use crate::{
    account::Account,
    records::{RecordFields, no_connection, now, report},
    task,
};

/// Records that the current process asks a name server, if it is tracked.
#[inline(always)]
pub(super) fn try_lookup() -> Option<()> {
    let source = Source {
        netns: task::netns()?,
        tgid: task::process(task::thread()),
    };
    let account = Account::tracked(source)?;
    let time_ns = now();
    if account.take_lookup(time_ns) {
        let fields = RecordFields::new(RecordKind::LookedUp, time_ns);
        report(0, &no_connection(&source), &fields, account.tracked);
    }
    Some(())
}
