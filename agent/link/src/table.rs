//! The table of connections: those that exist or wait to be decided, and those that are over.

use std::collections::BTreeMap;

use crate::{
    ConnectionId,
    connection::{Connection, Due},
    finding::Live,
    limits::CONNECTIONS,
    races::{self, Race},
    time::Timestamp,
    timings::SAME_DIAL,
    tombstones::Tombstones,
};

/// Every connection that exists, or that ended and is not decided yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    tracked: BTreeMap<ConnectionId, Connection>,
    tombstones: Tombstones,
}

// === One connection ===

impl Table {
    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.tracked.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.tracked.get_mut(&id)
    }

    pub(crate) fn insert(&mut self, connection: Connection) {
        self.tracked.insert(connection.id, connection);
    }

    /// Takes it out, so that only the others are in the table.
    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.tracked.remove(&id)
    }

    /// Marks it as over.
    pub(crate) fn bury(&mut self, id: ConnectionId) {
        self.tombstones.bury(id);
    }

    /// Whether this very connection is remembered as over.
    pub(crate) fn is_buried(&self, id: ConnectionId) -> bool {
        self.tombstones.holds(id)
    }

    /// Whether a record about a connection that is not in the table is late: the connection is
    /// over.
    pub(crate) fn is_past(&self, id: ConnectionId) -> bool {
        self.tombstones.covers(id)
    }

    /// Whether a record about a connection begins a new one.
    pub(crate) fn is_news(&self, id: ConnectionId) -> bool {
        !self.tracked.contains_key(&id) && !self.is_past(id)
    }
}

// === All connections ===

impl Table {
    pub(crate) fn is_empty(&self) -> bool {
        self.tracked.is_empty()
    }

    pub(crate) fn ids(&self) -> Vec<ConnectionId> {
        self.tracked.keys().copied().collect()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.tracked.values()
    }

    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Connection> + use<> {
        std::mem::take(&mut self.tracked).into_values()
    }

    /// Those that exist, as far as is known.
    pub(crate) fn open(&self) -> impl Iterator<Item = ConnectionId> {
        let open = self.tracked.values().filter(|known| known.is_open());
        open.map(|known| known.id)
    }

    /// What is due next.
    pub(crate) fn next_due(&self) -> Option<(Timestamp, Due, ConnectionId)> {
        let due = |connection: &Connection| {
            let (at, due) = connection.due();
            (at, due, connection.id)
        };
        self.tracked.values().map(due).min()
    }

    /// The one to drop if there is no room for another: the oldest that is not live.
    pub(crate) fn in_the_way(&self) -> Option<ConnectionId> {
        let is_full = self.tracked.len() >= CONNECTIONS;
        let all = self.tracked.values().filter(|_| is_full);
        all.min_by_key(|known| (known.live_span().is_some(), known.id.born))
            .map(|known| known.id)
    }

    /// The newest one that is live.
    pub(crate) fn newest_live(&self) -> Option<&Connection> {
        let live = self.tracked.values().filter(|known| known.is_live());
        live.max_by_key(|known| known.id.born)
    }

    /// One that was live at `at`, or became live since.
    pub(crate) fn live_from(&self, at: Timestamp) -> Option<Live> {
        let live = self.tracked.values().filter_map(|other| {
            let span = other.live_span()?;
            let lasts = span.until.is_none_or(|until| until > at);
            lasts.then_some(Live {
                since: span.since,
                peer: other.peer,
            })
        });
        live.min()
    }

    /// When the peer was last heard on an existing connection.
    pub(crate) fn heard(&self) -> Option<Timestamp> {
        self.tracked.values().filter_map(Connection::heard).max()
    }
}

// === Races ===

impl Table {
    /// The result of the race of a connection that has ended, and is not in the table.
    pub(crate) fn race(&self, ended: &Connection) -> Race {
        races::judge(ended, self.tracked.values())
    }

    /// Those that have lost a race.
    pub(crate) fn losers(&self) -> Vec<ConnectionId> {
        let all = self.tracked.values();
        let ended = all.filter(|known| known.closed().is_some());
        let lost = ended.filter(|ended| self.race(ended) == Race::Lost);
        lost.map(|lost| lost.id).collect()
    }

    /// Keeps one whose race is not decided until it is [released](Self::release).
    pub(crate) fn hold(&mut self, mut ended: Connection) {
        ended.settle_later(HELD);
        self.insert(ended);
    }

    /// Something has ended at `at`: connections that waited for it need not wait any longer.
    pub(crate) fn release(&mut self, at: Timestamp) {
        for known in self.tracked.values_mut() {
            if known.due().0 == HELD {
                known.settle_later(at + SAME_DIAL);
            }
        }
    }
}

/// Until something else happens.
const HELD: Timestamp = Timestamp::from_nanos(u64::MAX);
