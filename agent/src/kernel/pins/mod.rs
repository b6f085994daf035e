//! The kernel half outlives the agent: its programs and maps stay, pinned in a bpffs, and a successor goes on
//! with them.
//!
//! - [`directory`]: where, and who owns it;
//! - [`format`](mod@format): under which name, so that only what is the same to the byte is taken over;
//! - [`survey`], [`fdinfo`], [`sys`]: reading what is there;
//! - [`verdict`]: whether that may be taken over, decided from what was read;
//! - [`told`]: what the predecessor has told of it, so that nothing is told twice;
//! - [`uninstall`](mod@uninstall): ending it.
//!
//! Taking it over, and pinning what was attached anew, is in [`succession`](super::succession).

pub(super) mod directory;
pub(super) mod fdinfo;
pub(super) mod format;
pub(super) mod survey;
mod sys;
pub(super) mod told;
mod uninstall;
pub(super) mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use aya::programs::links::PinnedLink;
use statlink_ebpf::Source;

use self::directory::Pins;
pub use self::{
    directory::{PinsError, try_to_pin_in},
    told::{Before, Told},
    uninstall::{Uninstalled, uninstall},
    verdict::Unfit,
};
use crate::time::Timestamp;

/// What outlives this process, held by it as well.
pub(super) struct Pinned {
    /// The id of its ring's map, which names it until the next boot.
    pub(super) half: u32,
    held: Held,
    /// The clients that the predecessor tracked, and that are not found yet.
    pub(super) awaited: BTreeSet<Source>,
    /// Until then they are waited for.
    pub(super) awaits_until: Timestamp,
    _owned: Pins,
}

/// While it is held, somebody who removes the pins detaches nothing.
pub(super) enum Held {
    /// The predecessor's, by their hooks.
    Adopted {
        programs: BTreeMap<String, OwnedFd>,
        _links: BTreeMap<String, OwnedFd>,
    },
    /// This agent's own links.
    Made { _links: Vec<PinnedLink> },
}

impl Pinned {
    pub(super) fn new(half: u32, held: Held, owned: Pins) -> Self {
        Self {
            half,
            held,
            awaited: BTreeSet::new(),
            awaits_until: Timestamp::default(),
            _owned: owned,
        }
    }

    /// The program of a hook that was taken over.
    pub(super) fn program(&self, hook: &str) -> Option<BorrowedFd<'_>> {
        match &self.held {
            Held::Adopted { programs, .. } => Some(programs.get(hook)?.as_fd()),
            Held::Made { .. } => None,
        }
    }
}
