//! The end of a connection as the kernel half reports it, and the verdict on it.

use statlink_ebpf::{End, Phase, decide::answers_a_close};

use crate::{Cause, time::Timestamp};

/// What the kernel half reports at the end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) at: Timestamp,
    /// How far it had come, as far as the kernel half knows.
    pub(crate) phase: Phase,
    pub(crate) how: End,
    /// 0 if there was none.
    pub(crate) errno: u16,
    pub(crate) heard: Option<Timestamp>,
}

impl Ending {
    /// Whether this end follows the peer's last data so closely that it answers the peer's close.
    pub(crate) fn answers_a_close(&self) -> bool {
        let heard = self.heard.filter(|_| self.how == End::LocalClosed);
        heard.is_some_and(|heard| answers_a_close(heard.as_nanos(), self.at.as_nanos()))
    }
}

/// The verdict on a connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing to count: everything has been counted.
    Nothing,
    /// The attempt failed.
    Failed { cause: Cause, errno: Option<u16> },
    /// A live connection was lost.
    Lost {
        cause: Cause,
        /// Since when it had been live; `None` if since before the agent.
        since: Option<Timestamp>,
    },
}

impl Verdict {
    /// The same verdict, for an end that [answers](Ending::answers_a_close) the peer's close.
    pub(crate) const fn by_the_peer(self) -> Self {
        match self {
            Self::Lost {
                cause: Cause::LocalClosed,
                since,
            } => Self::Lost {
                cause: Cause::PeerClosed,
                since,
            },
            Self::Nothing | Self::Failed { .. } | Self::Lost { .. } => self,
        }
    }
}

/// An end that is still settling.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    pub(crate) at: Timestamp,
    /// As the kernel half told it.
    pub(super) told: (Phase, End),
    pub(crate) verdict: Verdict,
    pub(super) until: Timestamp,
    /// Closed by this side: the end of the process excuses it.
    pub(crate) is_local: bool,
    /// Nothing was heard on it: it may have lost a race to another connection.
    pub(crate) may_have_lost: bool,
    /// The client may have read a refusal on it, although it was held: the next dial must show more.
    pub(crate) may_be_refusal: bool,
}

/// What an end leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It waits for its address or for its process: keep it.
    Waits,
    /// It is decided.
    Decided(Verdict),
}
