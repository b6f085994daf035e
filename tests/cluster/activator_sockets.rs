//! What the agents' reports are compared with: an activator's sockets, as the kernel lists them.

use std::{
    collections::BTreeSet,
    fs,
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use crate::SOON;

/// Watches an activator's connection on a thread.
pub(crate) struct Witness(JoinHandle<Option<SystemTime>>);

impl Witness {
    /// Watches the connection of the activator with this process id.
    pub(crate) fn of(pid: u32) -> Self {
        let at_first = connections(pid);
        assert_eq!(at_first.len(), 1, "connections of {pid}");
        let deadline = Instant::now() + SOON;
        Self(thread::spawn(move || {
            while Instant::now() < deadline {
                if connections(pid).is_disjoint(&at_first) {
                    return Some(SystemTime::now());
                }
                thread::sleep(Duration::from_millis(2));
            }
            None
        }))
    }

    /// When that connection was no longer established.
    pub(crate) fn lost(self) -> SystemTime {
        self.0.join().unwrap().unwrap()
    }
}

/// The established connections to the autoscaler's port in this process's network namespace, by
/// their local addresses.
pub(crate) fn connections(pid: u32) -> BTreeSet<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let sockets = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (own, peer, state) = (fields.next()?, fields.next()?, fields.next()?);
        (peer.ends_with(PORT) && state == ESTABLISHED).then(|| own.to_owned())
    });
    sockets.collect()
}

/// 8080, in the table's hexadecimal.
const PORT: &str = ":1F90";
const ESTABLISHED: &str = "01";
