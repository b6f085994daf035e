//! The orders that userspace gives the kernel half about sources: the arguments of the program
//! `track`.

use super::Source;

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Order {
    /// Track a source, or the neighbours in a network namespace.
    Track = 1,
    /// Stop tracking it, and keep its counts while it holds anything.
    Retire = 2,
    /// Forget a source or a network namespace that holds nothing.
    Forget = 3,
    /// Forget an open connection, by its socket's address: its owner has ended.
    ForgetConnection = 4,
    /// Forget a connect() call, by its thread: the thread has ended.
    ForgetCall = 5,
}

impl Order {
    /// The order a raw number stands for.
    #[inline(always)]
    pub const fn from_raw(raw: u64) -> Option<Self> {
        Some(match raw {
            1 => Self::Track,
            2 => Self::Retire,
            3 => Self::Forget,
            4 => Self::ForgetConnection,
            5 => Self::ForgetCall,
            _ => return None,
        })
    }
}

impl Source {
    /// The source as one number, to pass it as an argument.
    #[inline(always)]
    pub const fn to_raw(self) -> u64 {
        (self.netns as u64) << 32 | self.tgid as u64
    }

    /// The source of this number.
    #[inline(always)]
    pub const fn from_raw(raw: u64) -> Self {
        Self {
            netns: (raw >> 32) as u32,
            tgid: (raw & 0xffff_ffff) as u32,
        }
    }
}

/// The program's answers.
pub mod answer {
    /// Done.
    pub const DONE: i32 = 0;
    /// There is no room.
    pub const NO_ROOM: i32 = 1;
    /// It still holds something, or does not exist.
    pub const NOT_NOW: i32 = 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_what_its_own_number_stands_for() {
        let known = (0..10).filter_map(|raw| Some((raw, Order::from_raw(raw)?)));
        let mut count = 0;
        for (raw, order) in known {
            assert_eq!(order as u64, raw);
            count += 1;
        }
        assert_eq!(count, 5);
    }

    #[test]
    fn a_source_travels_as_one_number() {
        let source = Source {
            netns: 0xF000_0001,
            tgid: 4_194_304,
        };
        assert_eq!(Source::from_raw(source.to_raw()), source);
    }
}
