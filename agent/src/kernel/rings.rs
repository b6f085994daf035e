//! The rings: waiting for records, and reading them.

use std::{io, time::Duration};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use statlink_ebpf::{Record, Source, limits};
use tokio::io::{Interest, unix::AsyncFd};

use super::{error::KernelError, maps::take, version::KernelVersion};

/// Both rings of the kernel half.
pub(super) struct Rings {
    clients: AsyncFd<RingBuf<MapData>>,
    neighbours: AsyncFd<RingBuf<MapData>>,
    /// Records of the clients' ring that were read ahead, and not handed out.
    ahead: Vec<Option<Record>>,
    woken: bool,
}

impl Rings {
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        Ok(Self {
            clients: register(take(ebpf, "RING")?)?,
            neighbours: register(take(ebpf, "NEIGHBOUR_RING")?)?,
            ahead: Vec::new(),
            woken: programs_wake(),
        })
    }

    /// Whether the programs wake the reader.
    pub(super) const fn woken(&self) -> bool {
        self.woken
    }

    /// Waits until there is something to read. Cancel-safe.
    pub(super) async fn readable(&self) -> io::Result<()> {
        if !self.woken {
            return self.look().await;
        }
        tokio::select! {
            ready = self.clients.readable() => ready?.clear_ready(),
            ready = self.neighbours.readable() => ready?.clear_ready(),
        }
        Ok(())
    }

    /// The same where nobody wakes: looks again and again.
    async fn look(&self) -> io::Result<()> {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.is_filled()? {
                return Ok(());
            }
        }
    }

    fn is_filled(&self) -> io::Result<bool> {
        let mut rings = [
            PollFd::new(&self.clients, PollFlags::IN),
            PollFd::new(&self.neighbours, PollFlags::IN),
        ];
        Ok(poll(&mut rings, Some(&AT_ONCE))? > 0)
    }

    /// Reads the clients' records that are there, to be handed out by the next [`drain`](Self::drain). All that
    /// were read so.
    pub(super) fn read_ahead(&mut self) -> &[Option<Record>] {
        let more = read(self.clients.get_mut(), usize::MAX);
        self.ahead.extend(more);
        &self.ahead
    }

    /// Reads every record that is there, in the order of their events; `None` for one of an unknown
    /// size.
    pub(super) fn drain(
        &mut self,
        is_tracked: impl Fn(Source) -> bool,
        each: impl FnMut(Option<Record>),
    ) {
        self.read_ahead();
        let clients = std::mem::take(&mut self.ahead);
        // After the clients': what a neighbour did before is in their ring by then. And no more than
        // it holds, however fast it fills.
        let mut neighbours = read(self.neighbours.get_mut(), MOST_NEIGHBOURS);
        drop_counted(&mut neighbours, is_tracked);
        merge(clients, neighbours).into_iter().for_each(each);
    }
}

/// A record that is being written is never waited for here: it ends the reading, and its writer wakes
/// the reader, who has read all before it.
fn read(ring: &mut RingBuf<MapData>, most: usize) -> Vec<Option<Record>> {
    let mut records = Vec::new();
    while records.len() < most
        && let Some(item) = ring.next()
    {
        records.push(Record::decode(&item).ok());
    }
    records
}

/// Drops the neighbours' records of who is tracked by now: it was a neighbour when they were written,
/// so its ends of then are in its missed ends, and its link would count them twice.
fn drop_counted(neighbours: &mut Vec<Option<Record>>, is_tracked: impl Fn(Source) -> bool) {
    neighbours.retain(|record| {
        record.is_none_or(|record| {
            !is_tracked(Source {
                netns: record.netns,
                tgid: record.tgid,
            })
        })
    });
}

/// Both in the order of their events; each stays in its own order.
fn merge(clients: Vec<Option<Record>>, neighbours: Vec<Option<Record>>) -> Vec<Option<Record>> {
    if neighbours.is_empty() {
        return clients;
    }
    let mut merged = Vec::with_capacity(clients.len() + neighbours.len());
    let mut neighbours = neighbours.into_iter().peekable();
    for record in clients {
        let before = |other: &Option<Record>| match (other, &record) {
            (Some(other), Some(record)) => other.time_ns <= record.time_ns,
            (None, _) | (_, None) => true,
        };
        while let Some(neighbour) = neighbours.next_if(before) {
            merged.push(neighbour);
        }
        merged.push(record);
    }
    merged.extend(neighbours);
    merged
}

fn register(ring: RingBuf<MapData>) -> Result<AsyncFd<RingBuf<MapData>>, KernelError> {
    // SAFETY: the ring owns its descriptor and is not taken out of the AsyncFd before it is dropped,
    // so the registration never outlives the descriptor.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
        .map_err(|error| KernelError::Ring(io::Error::from(error)))
}

/// Whether the programs are to wake the reader on this kernel: not where they can be preempted while
/// they run. The reader, once woken, may take the CPU from the program that woke it, and the kernel
/// leaves out the next event on that CPU, for it finds the program running. A tracepoint's programs ran
/// with preemption off up to 6.18, whatever the kernel's preemption model.
pub(super) fn programs_wake() -> bool {
    KernelVersion::running().is_some_and(|running| running < PREEMPTIBLE)
}

const PREEMPTIBLE: KernelVersion = KernelVersion::new(6, 19);
/// How often to look where nobody wakes: half of the 50 ms within which a loss is to be known, 40 times
/// a second.
const LOOK: Duration = Duration::from_millis(25);
const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};
/// Records of neighbours that are read at a time: as many as their ring holds.
const MOST_NEIGHBOURS: usize = limits::NEIGHBOUR_RING_BYTES as usize / size_of::<Record>();

#[cfg(test)]
mod tests {
    use super::*;

    fn record(time_ns: u64, tgid: u32) -> Option<Record> {
        let mut bytes = [0; size_of::<Record>()];
        bytes[..8].copy_from_slice(&time_ns.to_ne_bytes());
        bytes[32..36].copy_from_slice(&tgid.to_ne_bytes());
        Record::decode(&bytes).ok()
    }

    #[test]
    fn what_a_client_did_as_a_neighbour_is_not_told_twice() {
        let mut neighbours = vec![record(5, 2), record(6, 3), None, record(7, 2)];
        drop_counted(&mut neighbours, |source| source.tgid == 2);
        assert_eq!(neighbours, [record(6, 3), None]);
    }

    #[test]
    fn what_a_neighbour_did_before_comes_before() {
        let clients = vec![record(20, 1), record(10, 1), None, record(40, 1)];
        let neighbours = vec![record(5, 2), record(20, 2), record(30, 2), record(50, 2)];
        let merged = merge(clients, neighbours);
        let order: Vec<_> = merged
            .iter()
            .map(|record| record.map(|record| (record.time_ns, record.tgid)))
            .collect();
        let of = |time, tgid| Some((time, tgid));
        assert_eq!(
            order,
            [
                of(5, 2),
                of(20, 2),
                of(20, 1),
                of(10, 1),
                of(30, 2),
                of(50, 2),
                None,
                of(40, 1),
            ]
        );
    }
}
