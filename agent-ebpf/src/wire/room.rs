//! The places of one holder in the shared maps.

/// The kind of place that an entry takes: reserved for the holder, or shared by several. It is
/// stored in the entry, so that the same kind is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Place {
    /// Reserved for the holder: nobody else can take it.
    Reserved = 0,
    /// Shared by tracked sources.
    Shared = 1,
    /// Shared by the neighbours of all clients.
    NeighboursShared = 2,
}

impl Place {
    /// The place a raw byte stands for; a reserved one if it stands for none.
    #[inline(always)]
    pub const fn from_raw(raw: u8) -> Self {
        match raw {
            1 => Self::Shared,
            2 => Self::NeighboursShared,
            _ => Self::Reserved,
        }
    }
}

/// The places of one map that one holder has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Held {
    /// Reserved ones.
    pub reserved: u32,
    /// Shared ones.
    pub shared: u32,
}

impl Held {
    /// None.
    pub const ZERO: Self = Self {
        reserved: 0,
        shared: 0,
    };

    /// All of them.
    pub const fn total(self) -> u32 {
        self.reserved.wrapping_add(self.shared)
    }
}

/// The places of one holder: a source, or all neighbours in one network namespace together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Room {
    /// Open connections.
    pub connections: Held,
    /// connect() calls under way.
    pub calls: Held,
}

impl Room {
    /// Nothing.
    pub const ZERO: Self = Self {
        connections: Held::ZERO,
        calls: Held::ZERO,
    };

    /// Whether nothing is held.
    pub const fn is_empty(self) -> bool {
        self.connections.total() == 0 && self.calls.total() == 0
    }
}

/// A network namespace of clients, with the neighbours in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Neighbourhood {
    /// The neighbours' places. First, as in [`Totals`](super::Totals): both are read alike.
    pub room: Room,
    /// 1 while userspace wants the neighbours' records.
    pub tracked: u32,
    /// Explicit padding, 0.
    pub _pad: u32,
}

impl Neighbourhood {
    /// Before anything has happened.
    pub const ZERO: Self = Self {
        room: Room::ZERO,
        tracked: 0,
        _pad: 0,
    };
}

const _: () = {
    assert!(size_of::<Room>() == 16);
    assert!(size_of::<Neighbourhood>() == 24);
    assert!(core::mem::offset_of!(Neighbourhood, room) == 0);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_what_its_own_number_stands_for() {
        for place in [Place::Reserved, Place::Shared, Place::NeighboursShared] {
            assert_eq!(Place::from_raw(place as u8), place);
        }
    }

    #[test]
    fn room_is_empty_once_nothing_of_either_kind_is_held() {
        assert!(Room::ZERO.is_empty());
        let held = Held {
            reserved: 0,
            shared: 1,
        };
        let calls = Room {
            calls: held,
            ..Room::ZERO
        };
        let connections = Room {
            connections: held,
            ..Room::ZERO
        };
        assert!(!calls.is_empty() && !connections.is_empty());
    }
}
