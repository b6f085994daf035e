//! What a resynchronisation still owes one link.

use std::time::Duration;

use statlink_ebpf::{End, Phase};

use crate::{
    kernel::{Ends, Inventory, attempted, connection_id, peer},
    link::{Input, MissedEnds, OpenConnection},
    time::Timestamp,
};

/// How far a pass has to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Depth {
    /// At the map of connections only: it is right, but records are missing.
    Connections,
    /// At all open files first: the map may lack connections.
    OpenFiles,
}

/// What one link is owed.
#[derive(Debug)]
pub(super) struct Owed {
    /// How far the next pass has to look for it; `None` if the link is up to date.
    due: Option<Depth>,
    /// When its second pass after discovery is due: see [`LATE`].
    late: Option<Timestamp>,
    /// The missed ends that the link has been given.
    given: Ends,
    /// All ends that it was told, by records or as missed.
    told: Ends,
}

impl Owed {
    /// A link that was discovered at `now`: its connections may be older than the agent.
    pub(super) fn at_discovery(now: Timestamp) -> Self {
        Self {
            due: Some(Depth::OpenFiles),
            late: Some(now + LATE),
            given: Ends::default(),
            told: Ends::default(),
        }
    }

    /// Makes the next pass include the link.
    pub(super) fn mark(&mut self, depth: Depth) {
        self.due = self.due.max(Some(depth));
    }

    /// When a pass is to include the link; a past moment means at once.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.map(|_| AT_ONCE).or(self.late)
    }

    /// Whether a pass that begins `now` includes the link, and how far it must look. The link then
    /// counts as included.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<Depth> {
        let late = self.late.take_if(|at| *at <= now);
        self.due.take().max(late.map(|_| Depth::OpenFiles))
    }

    /// Whether `missed` holds ends that the link was not given.
    pub(super) fn lacks(&self, missed: &Ends) -> bool {
        self.given != *missed
    }

    /// The link is told an end by its record.
    pub(super) fn recorded(&mut self, phase: Phase, how: End) {
        let cell = self.told.get_mut(phase as usize);
        if let Some(count) = cell.and_then(|by_end| by_end.get_mut(how as usize)) {
            *count = count.saturating_add(1);
        }
    }

    /// Ends that the link was told, but for those that it has not `undecided`.
    pub(super) fn counted(&self, undecided: &MissedEnds) -> Ends {
        let mut counted = self.told;
        let undecided = undecided.counts().iter().flatten();
        for (count, undecided) in counted.iter_mut().flatten().zip(undecided) {
            *count = count.saturating_sub(*undecided);
        }
        counted
    }

    /// The part of `inventory` that the link has not been given.
    pub(super) fn input(&mut self, inventory: &Inventory) -> Input {
        let mut missed = Ends::default();
        let cells = missed.iter_mut().flatten();
        let given = self.given.iter_mut().flatten();
        for ((missed, given), total) in cells.zip(given).zip(inventory.missed.iter().flatten()) {
            *missed = total.saturating_sub(*given);
            *given = *total;
        }
        for (told, missed) in self.told.iter_mut().flatten().zip(missed.iter().flatten()) {
            *told = told.saturating_add(*missed);
        }
        let open = inventory.open.iter().filter_map(|(sock, connection)| {
            Some(OpenConnection {
                connection: connection_id(*sock, connection.born_ns),
                peer_address: peer(connection.peer, connection.peer_port),
                attempted: attempted(connection.attempted_ns),
                phase: Phase::from_raw(connection.phase)?,
            })
        });
        Input::Resynchronised {
            open: open.collect(),
            missed: MissedEnds::new(missed),
        }
    }
}

/// A moment that is always past.
pub(super) const AT_ONCE: Timestamp = Timestamp::from_nanos(0);
/// When a link gets its second pass after discovery. A kernel program that looked the source up
/// just before it was tracked still writes to the candidate's entry. It ends within microseconds; a
/// second is ample, even if the hypervisor stops that CPU.
const LATE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use statlink_ebpf::{Connection, Place};

    use super::*;

    fn ms(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(milliseconds * 1_000_000)
    }

    fn resets(n: u32) -> Ends {
        let mut ends = Ends::default();
        ends[Phase::Held as usize][End::Reset as usize] = n;
        ends
    }

    fn inventory(missed: Ends) -> Inventory {
        Inventory {
            at: ms(5),
            open: Vec::new(),
            missed,
            refused: 0,
        }
    }

    fn missed(input: &Input) -> u32 {
        let Input::Resynchronised { missed, .. } = input else {
            panic!("{input:?}");
        };
        missed.count(Phase::Held, End::Reset)
    }

    #[test]
    fn a_missed_end_is_given_to_the_link_once() {
        let mut owed = Owed::at_discovery(ms(0));
        assert!(owed.lacks(&resets(3)));
        assert_eq!(missed(&owed.input(&inventory(resets(3)))), 3);
        assert!(!owed.lacks(&resets(3)));
        assert_eq!(missed(&owed.input(&inventory(resets(3)))), 0);
        assert_eq!(missed(&owed.input(&inventory(resets(5)))), 2);
    }

    #[test]
    fn what_was_told_is_counted_once_it_is_decided() {
        let mut owed = Owed::at_discovery(ms(0));
        owed.input(&inventory(resets(3)));
        owed.recorded(Phase::Held, End::Reset);
        let mut undecided = MissedEnds::default();
        assert_eq!(owed.counted(&undecided), resets(4));
        undecided.add(Phase::Held, End::Reset, 1);
        assert_eq!(owed.counted(&undecided), resets(3));
    }

    #[test]
    fn open_connections_are_given_as_they_are() {
        let connection = Connection {
            born_ns: 20,
            attempted_ns: 0,
            established_ns: 0,
            tgid: 7,
            netns: 2,
            peer: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 10, 0, 0, 1],
            peer_port: 8080,
            soft_errno: 0,
            retransmits: 0,
            phase: Phase::Established as u8,
            place: Place::Reserved as u8,
            reported_errno: 0,
            in_unkept_call: 0,
            _pad: [0; 3],
        };
        let mut inventory = inventory(Ends::default());
        inventory.open.push((0xA, connection));
        let input = Owed::at_discovery(ms(0)).input(&inventory);
        let Input::Resynchronised { open, .. } = input else {
            panic!("{input:?}");
        };
        let expected = OpenConnection {
            connection: connection_id(0xA, 20),
            peer_address: ([10, 0, 0, 1], 8080).into(),
            attempted: None,
            phase: Phase::Established,
        };
        assert_eq!(open, [expected]);
    }

    #[test]
    fn a_link_is_owed_a_pass_at_discovery_and_a_second_later() {
        let mut owed = Owed::at_discovery(ms(10));
        assert_eq!(owed.next(), Some(AT_ONCE));
        assert_eq!(owed.take(ms(10)), Some(Depth::OpenFiles));
        assert_eq!(owed.next(), Some(ms(1_010)));
        assert_eq!(owed.take(ms(1_009)), None);
        assert_eq!(owed.take(ms(1_010)), Some(Depth::OpenFiles));
        assert_eq!((owed.next(), owed.take(ms(9_999))), (None, None));
    }

    #[test]
    fn what_is_lost_while_a_pass_is_made_is_owed_another() {
        let mut owed = Owed::at_discovery(ms(0));
        owed.take(ms(2_000));
        owed.mark(Depth::Connections);
        assert_eq!(owed.next(), Some(AT_ONCE));
        // The deepest mark wins.
        owed.mark(Depth::OpenFiles);
        owed.mark(Depth::Connections);
        assert_eq!(owed.take(ms(2_001)), Some(Depth::OpenFiles));
    }
}
