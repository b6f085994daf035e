//! Which connections are open, and which ends have no record, for any number of sources at one
//! moment.
//!
//! # Why a listing has to settle
//!
//! A program that ends a connection takes two steps: it removes the connection from the map, then
//! it puts a record into the ring or, where that is full, adds one to the source's `missed` totals.
//! A listing that fell between the two would show neither the connection nor its end. So a listing
//! is made in this order:
//!
//! 1. read the `missed` totals of each source,
//! 2. walk the map of connections, once for all sources ([`Kernel::list`]),
//! 3. let [`LISTING_SETTLES`] pass, in which whoever was between the two steps finishes,
//! 4. read the `missed` totals again ([`Kernel::settle`]), and then the ring.
//!
//! Where both readings of a source agree, no end is lost and none doubled:
//!
//! - An end whose connection the walk did not find is in the second reading, or its record is in
//!   the ring by step 4.
//! - An end in either reading was counted before step 1, so its connection was removed before the
//!   walk, which cannot have found it.
//!
//! Where they differ, an end was counted meanwhile, and whether the walk found its connection is
//! not known: such a source has no inventory, and is to be listed again.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use statlink_ebpf::{Connection, Source, limits};

use super::{
    error::KernelError,
    loaded::Kernel,
    maps::{failed, not_found},
    totals::{Ends, SourceTotals},
};
use crate::time::Timestamp;

/// What was seen of some sources, before it has settled.
#[derive(Debug)]
pub struct Listing {
    /// When the walk began.
    at: Timestamp,
    sources: HashMap<Source, Listed>,
}

#[derive(Debug, Default)]
struct Listed {
    missed: Ends,
    /// By the address of the `struct sock`: a walk that starts over finds some twice.
    open: BTreeMap<u64, Connection>,
}

/// What the kernel holds about one source at one moment.
#[derive(Debug)]
pub struct Inventory {
    /// When the walk began.
    pub at: Timestamp,
    /// Connections that are open.
    pub open: Vec<(u64, Connection)>,
    /// Ends without a record, since the source's beginning.
    pub missed: Ends,
    /// Connections that the kernel half had no room for, since the source's beginning.
    pub refused: u32,
}

impl Listing {
    /// An empty one of a walk that begins `at` then.
    pub(crate) fn begin(at: Timestamp) -> Self {
        Self {
            at,
            sources: HashMap::new(),
        }
    }

    /// A source that is listed, with its `missed` totals before the walk.
    pub(crate) fn add_source(&mut self, source: Source, missed: Ends) {
        let open = BTreeMap::new();
        self.sources.insert(source, Listed { missed, open });
    }

    /// A connection that the walk found.
    pub(crate) fn add_connection(&mut self, sock: u64, connection: Connection) {
        if let Some(listed) = self.sources.get_mut(&connection.source()) {
            listed.open.insert(sock, connection);
        }
    }

    /// The inventory of each source that has one by now.
    pub(crate) fn settle(
        mut self,
        mut totals: impl FnMut(Source) -> Result<SourceTotals, KernelError>,
    ) -> Result<HashMap<Source, Inventory>, KernelError> {
        let sources: Vec<Source> = self.sources.keys().copied().collect();
        let mut settled = HashMap::with_capacity(sources.len());
        for source in sources {
            if let Some(inventory) = self.inventory(source, &totals(source)?) {
                settled.insert(source, inventory);
            }
        }
        Ok(settled)
    }

    /// The inventory of `source`, whose totals are these by now; `None` if it has none.
    fn inventory(&mut self, source: Source, totals: &SourceTotals) -> Option<Inventory> {
        let listed = self.sources.remove(&source)?;
        (listed.missed == totals.missed).then(|| Inventory {
            at: self.at,
            open: listed.open.into_iter().collect(),
            missed: totals.missed,
            refused: totals.refused,
        })
    }
}

impl Kernel {
    /// Lists the open connections of `sources` by one walk, which begins `now`; `None` if the map
    /// changes too fast for it to end.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to read a map.
    pub fn list(
        &mut self,
        sources: impl IntoIterator<Item = Source>,
        now: Timestamp,
    ) -> Result<Option<Listing>, KernelError> {
        let mut listing = Listing::begin(now);
        for source in sources {
            listing.add_source(source, self.source_totals(source)?.missed);
        }
        for (seen, entry) in self.connections.iter().enumerate() {
            // A removal under way makes the kernel start over.
            if seen > MOST_STEPS {
                return Ok(None);
            }
            match entry {
                Ok((sock, connection)) => listing.add_connection(sock, connection),
                Err(error) if not_found(&error) => {}
                Err(error) => return Err(failed("CONNECTIONS")(error)),
            }
        }
        Ok(Some(listing))
    }

    /// The inventory of one source whose process has ended: nothing of it changes any more, so it need
    /// not settle. `None` if the map changes too fast for a walk to end.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to read a map.
    pub fn last_inventory(
        &mut self,
        source: Source,
        now: Timestamp,
    ) -> Result<Option<Inventory>, KernelError> {
        let Some(mut listing) = self.list([source], now)? else {
            return Ok(None);
        };
        let totals = self.source_totals(source)?;
        Ok(listing.inventory(source, &totals))
    }

    /// The inventory of each source of a listing that is [`LISTING_SETTLES`] old. One of which an end
    /// was counted meanwhile is left out.
    ///
    /// Read the ring after this, and hand its records on before the inventories.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to read a map.
    pub fn settle(&mut self, listing: Listing) -> Result<HashMap<Source, Inventory>, KernelError> {
        listing.settle(|source| self.source_totals(source))
    }
}

/// How long a listing takes to settle. A program is between its two steps for well under a
/// microsecond; a CPU that is taken away from it in between, by an interrupt or a hypervisor, is
/// seldom away for longer than this. If it is, the link ends the connection for an unknown cause, and
/// the end that turns up later adds nothing.
pub const LISTING_SETTLES: Duration = Duration::from_millis(1);
/// How many steps a walk may take: four times what the map of connections holds, so a walk may start
/// over a few times. A step takes a microsecond.
const MOST_STEPS: usize = 4 * limits::CONNECTIONS as usize;

#[cfg(test)]
mod tests {
    use statlink_ebpf::{End, Phase, Place};

    use super::*;

    const ONE: Source = Source { netns: 1, tgid: 7 };
    const OTHER: Source = Source { netns: 1, tgid: 8 };

    fn connection(source: Source) -> Connection {
        Connection {
            born_ns: 1,
            attempted_ns: 1,
            established_ns: 1,
            tgid: source.tgid,
            netns: source.netns,
            peer: [0; 16],
            peer_port: 8080,
            soft_errno: 0,
            retransmits: 0,
            phase: Phase::Established as u8,
            place: Place::Reserved as u8,
            reported_errno: 0,
            in_unkept_call: 0,
            _pad: [0; 3],
        }
    }

    fn one_reset() -> Ends {
        let mut ends = Ends::default();
        ends[Phase::Held as usize][End::Reset as usize] = 1;
        ends
    }

    fn listing() -> Listing {
        let mut listing = Listing::begin(Timestamp::from_nanos(5));
        listing.add_source(ONE, Ends::default());
        listing.add_source(OTHER, one_reset());
        listing
    }

    fn totals(missed: Ends) -> SourceTotals {
        SourceTotals {
            missed,
            ..SourceTotals::default()
        }
    }

    #[test]
    fn each_source_gets_its_own_connections_by_one_walk() {
        let mut listing = listing();
        listing.add_connection(0xA, connection(ONE));
        listing.add_connection(0xB, connection(OTHER));
        listing.add_connection(0xC, connection(OTHER));
        // Nobody listed it.
        listing.add_connection(0xD, connection(Source { netns: 2, tgid: 7 }));
        // The walk started over.
        listing.add_connection(0xA, connection(ONE));
        let one = listing.inventory(ONE, &totals(Ends::default())).unwrap();
        assert_eq!(one.at, Timestamp::from_nanos(5));
        assert_eq!(one.open, [(0xA, connection(ONE))]);
        let other = listing.inventory(OTHER, &totals(one_reset())).unwrap();
        let socks: Vec<u64> = other.open.iter().map(|(sock, _)| *sock).collect();
        assert_eq!((socks, other.missed), (vec![0xB, 0xC], one_reset()));
    }

    #[test]
    fn an_end_that_is_counted_meanwhile_leaves_its_source_without_an_inventory() {
        let mut listing = listing();
        listing.add_connection(0xA, connection(ONE));
        assert!(listing.inventory(ONE, &totals(one_reset())).is_none());
        // Another source's inventory does not suffer.
        assert!(listing.inventory(OTHER, &totals(one_reset())).is_some());
    }
}
