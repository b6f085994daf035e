//! What a predecessor has told of what is pinned, so that its successor tells the rest, and nothing twice.
//!
//! The kernel half counts each end of a connection, and then reports it by a record or, where the ring is full,
//! as missed. So what nobody has told of a source is what it has `ended`, without what the predecessor told,
//! and without the records that are still in the ring: those tell themselves. It is what a predecessor had read
//! and took with it, and what the ring had no room for.

use std::collections::BTreeMap;

use statlink_ebpf::{Record, RecordKind, Source, Totals};

use super::super::totals::{Ends, SourceTotals};

/// How far a predecessor has told one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Of [`Totals::retransmits`].
    pub retransmits: u64,
    /// Of [`Totals::ended`].
    pub ended: Ends,
}

/// What a predecessor left, besides what is pinned.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// Which kernel half it read: the id of the map of its ring. Another one that is pinned was told by nobody
    /// knows whom.
    pub half: Option<u32>,
    /// The sources that it tracked.
    pub told: BTreeMap<Source, Told>,
}

/// What the successor leaves out of a source's totals: all of it until now but the retransmissions that are not
/// told yet. What else is not told is [`untold`].
pub(crate) fn left_out(totals: &Totals, told: &Told) -> SourceTotals {
    SourceTotals {
        attempts: totals.attempts,
        retransmits: told.retransmits.min(totals.retransmits),
        ended: told.ended,
        missed: totals.missed_ends,
        refused: totals.refused,
        held: 0,
    }
}

/// Ends that nobody has told, and no record in the ring will.
pub(crate) fn untold(totals: &Totals, told: &Told, in_the_ring: &Ends) -> Ends {
    let mut untold = totals.ended;
    for other in [&told.ended, in_the_ring] {
        for (count, other) in untold.iter_mut().flatten().zip(other.iter().flatten()) {
            *count = count.saturating_sub(*other);
        }
    }
    untold
}

/// The ends of each source that these records tell.
pub(crate) fn ends_of(records: &[Option<Record>]) -> BTreeMap<Source, Ends> {
    let mut ends: BTreeMap<Source, Ends> = BTreeMap::new();
    let all = records.iter().flatten();
    for record in all.filter(|record| record.kind == RecordKind::Ended as u8) {
        let source = Source {
            netns: record.netns,
            tgid: record.tgid,
        };
        let of_source = ends.entry(source).or_default();
        let cell = of_source
            .get_mut(usize::from(record.phase))
            .and_then(|by_end| by_end.get_mut(usize::from(record.end)));
        if let Some(count) = cell {
            *count += 1;
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use statlink_ebpf::{End, Phase};

    use super::*;

    fn resets(number: u32) -> Ends {
        let mut ends = Ends::default();
        ends[Phase::Held as usize][End::Reset as usize] = number;
        ends
    }

    #[test]
    fn what_was_read_and_not_told_is_the_successors_to_tell() {
        let totals = Totals {
            retransmits: 7,
            ended: resets(10),
            missed_ends: resets(3),
            ..Totals::ZERO
        };
        let told = Told {
            retransmits: 5,
            ended: resets(4),
        };
        // Of six that are not told, two are in the ring: the others were read, or missed.
        assert_eq!(untold(&totals, &told, &resets(2)), resets(4));
        assert_eq!(untold(&totals, &told, &resets(6)), resets(0));
        let left_out = left_out(&totals, &told);
        assert_eq!((left_out.retransmits, left_out.missed), (5, resets(3)));
    }

    #[test]
    fn records_are_counted_by_their_source_and_what_they_say() {
        let record = |tgid: u32, kind: RecordKind, phase: u8| {
            let mut bytes = [0; size_of::<Record>()];
            bytes[32..36].copy_from_slice(&tgid.to_ne_bytes());
            let mut record = Record::decode(&bytes).unwrap();
            (record.kind, record.phase, record.end) = (kind as u8, phase, End::Reset as u8);
            Some(record)
        };
        let held = Phase::Held as u8;
        let records = [
            record(7, RecordKind::Ended, held),
            record(7, RecordKind::Established, held),
            record(8, RecordKind::Ended, held),
            record(7, RecordKind::Ended, held),
            // Of a kernel half that knows more.
            record(7, RecordKind::Ended, 99),
            None,
        ];
        let ends = ends_of(&records);
        let of = |tgid| ends[&Source { netns: 0, tgid }];
        assert_eq!((ends.len(), of(7), of(8)), (2, resets(2), resets(1)));
    }
}
