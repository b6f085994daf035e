//! Quotas of shared maps: nobody can take another's places.
//!
//! Every holder has a few reserved places and may take some shared ones. The reserved places of all
//! holders and the shared ones together fit into the map. So a map is never full for a holder that
//! stays within its reserve, whatever others do.

use crate::wire::{Held, Place};

/// How many places one holder may have in one map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Reserved for the holder.
    pub reserved: u32,
    /// The most shared places that it may take.
    pub shared: u32,
    /// How many places all such holders share.
    pub all_shared: u32,
    /// The kind of shared places.
    pub from: Place,
}

/// The next place for a holder of `held`, while `all_shared` shared places are taken; `None` if its
/// quota is full.
///
/// CPUs that ask at the same time may each get the last place. The maps have room for that.
#[inline(always)]
pub const fn next_place(quota: Quota, held: Held, all_shared: u32) -> Option<Place> {
    if held.reserved < quota.reserved {
        Some(Place::Reserved)
    } else if held.shared < quota.shared && all_shared < quota.all_shared {
        Some(quota.from)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::limits;

    const QUOTA: Quota = Quota {
        reserved: 2,
        shared: 3,
        all_shared: 4,
        from: Place::Shared,
    };

    /// The holders of one map, and the places that they share.
    #[derive(Default)]
    struct Holders {
        held: Vec<Held>,
        all_shared: u32,
    }

    impl Holders {
        fn of(count: usize) -> Self {
            let held = std::vec![Held::ZERO; count];
            Self {
                held,
                all_shared: 0,
            }
        }

        fn take(&mut self, holder: usize) -> Option<Place> {
            let held = &mut self.held[holder];
            let place = next_place(QUOTA, *held, self.all_shared)?;
            match place {
                Place::Reserved => held.reserved += 1,
                Place::Shared | Place::NeighboursShared => {
                    held.shared += 1;
                    self.all_shared += 1;
                }
            }
            Some(place)
        }

        fn total(&self) -> u32 {
            self.held.iter().map(|held| held.total()).sum()
        }
    }

    #[test]
    fn whoever_is_greedy_leaves_others_what_is_theirs() {
        let mut holders = Holders::of(3);
        for greedy in [0, 1] {
            while holders.take(greedy).is_some() {}
        }
        assert_eq!(holders.held[0].total(), 5);
        assert_eq!(holders.held[1].total(), 3, "one shared place was left");
        assert_eq!(holders.take(2), Some(Place::Reserved));
        assert_eq!(holders.take(2), Some(Place::Reserved));
        assert_eq!(holders.take(2), None);
        assert!(holders.total() <= 3 * QUOTA.reserved + QUOTA.all_shared);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut holders = Holders::of(1);
        while holders.take(0).is_some() {}
        holders.held[0].reserved -= 1;
        assert_eq!(holders.take(0), Some(Place::Reserved));
        holders.held[0].shared -= 1;
        holders.all_shared -= 1;
        assert_eq!(holders.take(0), Some(Place::Shared));
        assert_eq!(holders.take(0), None);
    }

    /// Every place that may be taken at a time, plus one for each CPU that asks at the same moment.
    #[test]
    fn each_map_has_room_for_every_quota() {
        let most = |quota: Quota, holders: u32| holders * quota.reserved + quota.all_shared;
        let sources = limits::SOURCES;
        let connections = most(limits::CONNECTIONS_OF_A_SOURCE, sources)
            + most(limits::CONNECTIONS_OF_NEIGHBOURS, limits::NAMESPACES);
        assert!(connections + limits::RACES <= limits::CONNECTIONS);
        let calls = most(limits::CALLS_OF_A_SOURCE, sources)
            + most(limits::CALLS_OF_NEIGHBOURS, limits::NAMESPACES);
        assert!(calls + limits::RACES <= limits::CALLS);
    }

    #[test]
    fn a_candidate_takes_nothing_of_what_tracked_sources_share() {
        for (candidate, tracked) in [
            (
                limits::CONNECTIONS_OF_A_CANDIDATE,
                limits::CONNECTIONS_OF_A_SOURCE,
            ),
            (limits::CALLS_OF_A_CANDIDATE, limits::CALLS_OF_A_SOURCE),
        ] {
            assert_eq!(candidate.reserved, tracked.reserved);
            let full = Held {
                reserved: candidate.reserved,
                shared: 0,
            };
            assert_eq!(next_place(candidate, full, 0), None);
            assert_eq!(next_place(tracked, full, 0), Some(Place::Shared));
        }
    }
}
