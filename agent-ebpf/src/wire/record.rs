//! One record of the ring.

use super::{DecodeError, End, Phase};

/// One thing that happened to one socket on the watched port, in a watched network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// `CLOCK_MONOTONIC` of the event, nanoseconds.
    pub time_ns: u64,
    /// Address of the `struct sock`: an identity while the socket lives, never shown. 0 when
    /// connect() failed before a socket was involved, and in a record about a process.
    pub sock: u64,
    /// When this life of `sock` began. Both together identify a connection for ever.
    pub born_ns: u64,
    /// When connect() was called, nanoseconds; 0 when the connection is older than the agent.
    pub attempted_ns: u64,
    /// The owning process in the initial pid namespace, captured at connect().
    pub tgid: u32,
    /// Inode number of the socket's network namespace.
    pub netns: u32,
    /// The peer's address; IPv4 as `::ffff:a.b.c.d`.
    pub peer: [u8; 16],
    /// The peer's port, host byte order.
    pub peer_port: u16,
    /// The errno behind an end; 0 if there was none.
    pub errno: u16,
    /// A [`RecordKind`]: read it with [`Self::kind`].
    pub kind: u8,
    /// An [`End`], in a record of [`RecordKind::Ended`]: read it with [`Self::end`].
    pub end: u8,
    /// A [`Phase`], in a record of [`RecordKind::Ended`]: read it with [`Self::phase`].
    pub phase: u8,
    /// Retransmission timeouts in a row (`icsk_retransmits`) at the event.
    pub timeouts: u8,
    /// When data was last received, nanoseconds, dated to the kernel's tick; 0 if never, or if the
    /// record is not about the end of an established connection.
    pub heard_ns: u64,
}

impl Record {
    /// Reads one record of the ring.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Length`] if the number of bytes is not that of a record.
    pub const fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() != size_of::<Self>() {
            return Err(DecodeError::length::<Self>("record", bytes));
        }
        // SAFETY: the length is right, any bytes are a valid `Record`, and the read may be
        // unaligned.
        Ok(unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() })
    }

    /// What the record reports.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Value`] if this build knows no such kind.
    pub const fn kind(&self) -> Result<RecordKind, DecodeError> {
        match RecordKind::from_raw(self.kind) {
            Some(kind) => Ok(kind),
            None => Err(DecodeError::Value {
                what: "kind of record",
                found: self.kind,
            }),
        }
    }

    /// How the connection ended.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Value`] if this build knows no such end.
    pub fn end(&self) -> Result<End, DecodeError> {
        End::from_raw(self.end).ok_or(DecodeError::Value {
            what: "end of a connection",
            found: self.end,
        })
    }

    /// How far the connection had come when it ended.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Value`] if this build knows no such phase.
    pub fn phase(&self) -> Result<Phase, DecodeError> {
        Phase::from_raw(self.phase).ok_or(DecodeError::Value {
            what: "phase of a connection",
            found: self.phase,
        })
    }
}

/// What a [`Record`] reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// connect() was called and the SYN is about to be sent.
    Attempted = 1,
    /// The three-way handshake is complete.
    Established = 2,
    /// Data went unacknowledged through [`Record::timeouts`] retransmission timeouts.
    RetransmissionTimeout = 3,
    /// The attempt failed or the connection ended, as [`Record::end`] says.
    Ended = 4,
    /// A process of a watched name was executed ([`Record::tgid`]); nothing else is in the record.
    Executed = 5,
    /// A tracked source asks a name server: a connect() to its port. At most one record every
    /// [`LOOKUP_PACE_NS`](crate::limits::LOOKUP_PACE_NS); it names only the source.
    LookedUp = 6,
}

impl RecordKind {
    /// The kind a raw byte stands for.
    pub const fn from_raw(raw: u8) -> Option<Self> {
        Some(match raw {
            1 => Self::Attempted,
            2 => Self::Established,
            3 => Self::RetransmissionTimeout,
            4 => Self::Ended,
            5 => Self::Executed,
            6 => Self::LookedUp,
            _ => return None,
        })
    }
}

const _: () = {
    assert!(size_of::<Record>() == 72);
    assert!(core::mem::offset_of!(Record, peer) == 40);
    assert!(core::mem::offset_of!(Record, heard_ns) == 64);
    // The ring aligns records to 8 bytes.
    assert!(size_of::<Record>().is_multiple_of(8));
};

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> [u8; size_of::<Record>()] {
        let mut bytes = [0; size_of::<Record>()];
        bytes[..8].copy_from_slice(&5_u64.to_ne_bytes());
        bytes[58..60].copy_from_slice(&111_u16.to_ne_bytes());
        bytes[60] = RecordKind::Ended as u8;
        bytes[61] = End::Refused as u8;
        bytes[62] = Phase::Held as u8;
        bytes[64..].copy_from_slice(&4_u64.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_record_is_read_from_its_bytes_wherever_they_lie() {
        let mut unaligned = [0; 1 + size_of::<Record>()];
        unaligned[1..].copy_from_slice(&bytes());
        let record = Record::decode(&unaligned[1..]).unwrap();
        assert_eq!((record.time_ns, record.heard_ns), (5, 4));
        assert_eq!(record.errno, 111);
        assert_eq!(record.kind(), Ok(RecordKind::Ended));
        assert_eq!(record.end(), Ok(End::Refused));
        assert_eq!(record.phase(), Ok(Phase::Held));
    }

    #[test]
    fn what_is_no_record_is_an_error_that_says_why() {
        let short = Record::decode(&bytes()[1..]).unwrap_err();
        let expected = "a record has 72 bytes, found 71";
        assert_eq!(std::format!("{short}"), expected);
        let mut strange = bytes();
        strange[60..63].fill(200);
        let record = Record::decode(&strange).unwrap();
        for (error, expected) in [
            (
                record.kind().unwrap_err(),
                "no kind of record has the number 200",
            ),
            (
                record.end().unwrap_err(),
                "no end of a connection has the number 200",
            ),
            (
                record.phase().unwrap_err(),
                "no phase of a connection has the number 200",
            ),
        ] {
            assert_eq!(std::format!("{error}"), expected);
        }
    }

    #[test]
    fn every_kind_is_what_its_own_number_stands_for() {
        let known = (0..=u8::MAX).filter_map(|raw| Some((raw, RecordKind::from_raw(raw)?)));
        let mut count = 0;
        for (raw, kind) in known {
            assert_eq!(kind as u8, raw);
            count += 1;
        }
        assert_eq!(count, 6);
    }
}
