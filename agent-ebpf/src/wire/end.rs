//! How a connection ended, as far as the kernel knows. `statlink-link` decides what that means for
//! a link.

/// How an attempt failed or a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum End {
    /// ECONNREFUSED: a RST answered the SYN, or an ICMP error said so.
    Refused = 0,
    /// ETIMEDOUT: the kernel gave up.
    TimedOut = 1,
    /// The client gave up on a SYN that had been sent more than once.
    Unanswered = 2,
    /// The client gave up before the SYN was sent again.
    Abandoned = 3,
    /// ECONNRESET: the peer sent a RST on an established connection.
    Reset = 4,
    /// The peer's FIN.
    PeerClosed = 5,
    /// This side's close.
    LocalClosed = 6,
    /// EHOSTUNREACH.
    HostUnreachable = 7,
    /// ENETUNREACH.
    NetworkUnreachable = 8,
    /// EPERM or EACCES.
    Denied = 9,
    /// EADDRNOTAVAIL.
    AddressUnavailable = 10,
    /// Any other errno.
    Other = 11,
    /// This side's close, because its process is ending.
    Exiting = 12,
    /// ECONNABORTED: the node's kernel was told to destroy the socket.
    Aborted = 13,
}

/// The number of [`End`]s.
pub const ENDS: usize = 14;

impl End {
    /// Every end, in index order.
    pub const ALL: [Self; ENDS] = [
        Self::Refused,
        Self::TimedOut,
        Self::Unanswered,
        Self::Abandoned,
        Self::Reset,
        Self::PeerClosed,
        Self::LocalClosed,
        Self::HostUnreachable,
        Self::NetworkUnreachable,
        Self::Denied,
        Self::AddressUnavailable,
        Self::Other,
        Self::Exiting,
        Self::Aborted,
    ];

    /// The end a raw byte stands for.
    pub fn from_raw(raw: u8) -> Option<Self> {
        Self::ALL.get(usize::from(raw)).copied()
    }

    /// The end for a positive `errno`. [`errno`](super::errno) lists the errnos, and says why the
    /// others have no end.
    #[inline(always)]
    pub const fn from_errno(errno: u16) -> Self {
        match errno {
            1 | 13 => Self::Denied,
            99 => Self::AddressUnavailable,
            101 => Self::NetworkUnreachable,
            103 => Self::Aborted,
            104 => Self::Reset,
            110 => Self::TimedOut,
            111 => Self::Refused,
            113 => Self::HostUnreachable,
            _ => Self::Other,
        }
    }
}

/// How far a connection had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// The SYN is not answered yet.
    Connecting = 0,
    /// Established.
    Established = 1,
    /// Established for at least [`HOLD_NS`](crate::limits::HOLD_NS), with something received:
    /// counts as upgraded if nobody looked closer.
    Held = 2,
}

/// The number of [`Phase`]s.
pub const PHASES: usize = 3;

impl Phase {
    /// Every phase, in index order.
    pub const ALL: [Self; PHASES] = [Self::Connecting, Self::Established, Self::Held];

    /// The phase a raw byte stands for.
    pub fn from_raw(raw: u8) -> Option<Self> {
        Self::ALL.get(usize::from(raw)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_and_phase_is_what_its_own_number_stands_for() {
        for (number, end) in (0..).zip(End::ALL) {
            assert_eq!(end as u8, number, "{end:?}");
            assert_eq!(End::from_raw(number), Some(end));
        }
        for (number, phase) in (0..).zip(Phase::ALL) {
            assert_eq!(phase as u8, number, "{phase:?}");
            assert_eq!(Phase::from_raw(number), Some(phase));
        }
        assert_eq!(End::from_raw(14), None);
        assert_eq!(Phase::from_raw(3), None);
    }
}
