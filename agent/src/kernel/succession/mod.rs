//! Going on with a pinned kernel half, or attaching another one and pinning that.
//!
//! - [`adopt`]: taking over what a predecessor has pinned;
//! - [`leave`]: pinning what was attached anew.
//!
//! A successor that cannot take over what it finds attaches its own first, and removes that then.

mod adopt;
mod leave;

use std::{collections::BTreeMap, path::Path, time::Duration};

use statlink_ebpf::{Source, Standing, Totals};

use super::{
    error::KernelError,
    inventory::LISTING_SETTLES,
    load::{Types, Watch, require_initial_pids},
    loaded::{Kernel, Whole},
    log,
    maps::{failed, not_found},
    pins::{
        Before, Held, Pinned, PinsError, Told, Unfit,
        directory::Pins,
        told::{ends_of, left_out, untold},
    },
    sources::is_alive,
    totals::{Ends, SourceTotals},
    tracefs::Tracefs,
};
use crate::clock;

/// Whether the kernel half outlives the agent, and where it came from.
#[derive(Debug)]
pub enum Pinning {
    /// It is the predecessor's.
    Adopted,
    /// It is attached anew, and pinned.
    Fresh {
        /// Why what lay there under the same name was not taken over; `None` if nothing did.
        unfit: Option<Unfit>,
        /// How many formats of other agents were removed.
        removed: usize,
        /// Hooks whose links end with this process, on this kernel.
        unpinned: Vec<&'static str>,
    },
    /// It ends with the agent.
    Without(PinsError),
}

impl Kernel {
    /// As [`load`](Self::load), but what is attached outlives this process: it is pinned in `directory`, from
    /// where it goes on with what another agent has left there, if that is the same to the byte and it is known
    /// from [`Before`] how far that is told. What cannot be taken over or pinned is [`Pinning`]'s to say, and no
    /// error.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_pinned(
        watch: &Watch,
        tracefs: &Tracefs,
        directory: &Path,
        before: &Before,
    ) -> Result<(Self, Pinning), KernelError> {
        require_initial_pids()?;
        let types = Types::read()?;
        match own(directory) {
            Ok(owned) if log::level() == 0 => go_on(watch, tracefs, &types, owned, before),
            // What is pinned would go on beside it, and be told once more.
            Ok(owned) => {
                let cleared = owned.clear().err().unwrap_or(PinsError::Logging);
                without(watch, tracefs, &types, cleared)
            }
            Err(error) => without(watch, tracefs, &types, error),
        }
    }
}

/// Goes on with what is pinned in a directory, or attaches everything anew and pins it there.
fn go_on(
    watch: &Watch,
    tracefs: &Tracefs,
    types: &Types,
    owned: Pins,
    before: &Before,
) -> Result<(Kernel, Pinning), KernelError> {
    let unfit = match adopt::adopt(watch, tracefs, types, &owned, before.half)? {
        adopt::Outcome::Adopted(adopted) => {
            let adopt::Adopted {
                whole,
                survey,
                format,
                half,
            } = *adopted;
            // Whoever died between two formats left both.
            owned.remove_others(&format);
            let mut kernel = Kernel::of(whole)?;
            let held = Held::Adopted {
                programs: survey.programs,
                _links: survey.links,
            };
            kernel.pinned = Some(Pinned::new(half, held, owned));
            kernel.inherit(before)?;
            return Ok((kernel, Pinning::Adopted));
        }
        adopt::Outcome::Nothing => None,
        adopt::Outcome::Unfit(unfit) => Some(unfit),
    };
    let mut whole = Whole::attach(watch, tracefs, types)?;
    match leave::leave(watch, types, &mut whole, &owned) {
        Ok(left) => {
            let mut kernel = Kernel::of(whole)?;
            let held = Held::Made { _links: left.links };
            kernel.pinned = Some(Pinned::new(left.half, held, owned));
            let fresh = Pinning::Fresh {
                unfit,
                removed: left.removed,
                unpinned: left.unpinned,
            };
            Ok((kernel, fresh))
        }
        Err(error) => {
            // What was begun, and what a predecessor left, which would count beside it.
            if let Err(error) = owned.clear() {
                tracing::warn!(%error, "What agents pinned could not be removed.");
            }
            // A link that could not be pinned is detached by now.
            drop(whole);
            without(watch, tracefs, types, error)
        }
    }
}

fn without(
    watch: &Watch,
    tracefs: &Tracefs,
    types: &Types,
    why: PinsError,
) -> Result<(Kernel, Pinning), KernelError> {
    let kernel = Kernel::of(Whole::attach(watch, tracefs, types)?)?;
    Ok((kernel, Pinning::Without(why)))
}

/// Owns the directory; a predecessor that is just ending may have it for a moment.
fn own(directory: &Path) -> Result<Pins, PinsError> {
    let patience = clock::now() + OWNER_ENDS;
    loop {
        match Pins::own(directory) {
            Err(PinsError::Owned(_)) if clock::now() < patience => {
                std::thread::sleep(OWNER_LOOK);
            }
            owned => return owned,
        }
    }
}

/// What a predecessor left of each source.
impl Kernel {
    /// Leaves out what is told of it.
    fn inherit(&mut self, before: &Before) -> Result<(), KernelError> {
        let told = |source: Source, totals: &Totals| match before.told.get(&source) {
            Some(told) => *told,
            // The predecessor died before it noted anything of it.
            None if totals.standing == Standing::Tracked as u32 => Told::default(),
            // It had been given up: somebody has had all of it.
            None => Told {
                retransmits: totals.retransmits,
                ended: totals.ended,
            },
        };
        let mut rest = BTreeMap::new();
        let mut earlier = self.no_candidates()?;
        for _ in 0..SETTLE_TRIES {
            std::thread::sleep(LISTING_SETTLES);
            let in_the_ring = ends_of(self.rings.read_ahead());
            let now = self.no_candidates()?;
            for (source, totals) in &now {
                // Who was between counting an end and reporting it has finished by now.
                let is_settled = earlier
                    .get(source)
                    .is_some_and(|earlier| earlier.ended == totals.ended);
                if is_settled && !rest.contains_key(source) {
                    let told = told(*source, totals);
                    let in_the_ring = in_the_ring.get(source).copied().unwrap_or_default();
                    let untold = untold(totals, &told, &in_the_ring);
                    rest.insert(*source, (left_out(totals, &told), untold));
                }
            }
            let is_complete = now.keys().all(|source| rest.contains_key(source));
            earlier = now;
            if is_complete {
                break;
            }
        }
        for (source, totals) in &earlier {
            // One that does not come to rest: its records tell what they tell.
            rest.entry(*source)
                .or_insert_with(|| (left_out(totals, &told(*source, totals)), Ends::default()));
        }
        for (source, (left_out, missed)) in rest {
            self.retired.insert(source, left_out);
            let untold = SourceTotals {
                missed,
                ..SourceTotals::default()
            };
            self.untold.insert(source, untold);
        }
        if let Some(pinned) = &mut self.pinned {
            let tracked = earlier.iter();
            let tracked = tracked.filter(|(_, it)| it.standing == Standing::Tracked as u32);
            pinned.awaited = tracked.map(|(source, _)| *source).collect();
            pinned.awaits_until = clock::now() + CLIENTS_AWAITED;
        }
        Ok(())
    }

    /// Every source of which userspace has heard.
    fn no_candidates(&self) -> Result<BTreeMap<Source, Totals>, KernelError> {
        let mut sources = BTreeMap::new();
        for entry in self.sources.iter() {
            match entry {
                Ok((source, totals)) if totals.standing != Standing::Candidate as u32 => {
                    sources.insert(source, totals);
                }
                Ok(_) => {}
                Err(error) if not_found(&error) => {}
                Err(error) => return Err(failed("SOURCES")(error)),
            }
        }
        Ok(sources)
    }
}

/// What the agent leaves a successor to know.
impl Kernel {
    /// Names what is pinned, until the next boot; `None` if nothing is.
    pub fn half(&self) -> Option<u32> {
        Some(self.pinned.as_ref()?.half)
    }

    /// How far `source` is told, now that its link has told these `ended`, and `retransmits`, of what
    /// [`source_totals`](Self::source_totals) and records say.
    pub fn told(&self, source: Source, retransmits: u64, ended: Ends) -> Told {
        let mut all = SourceTotals {
            retransmits,
            ended,
            ..SourceTotals::default()
        };
        if let Some(before) = self.retired.get(&source) {
            all.merge(before, u64::saturating_add, u32::saturating_add);
        }
        Told {
            retransmits: all.retransmits,
            ended: all.ended,
        }
    }

    /// Whether a client that the predecessor tracked is still to be found. Until then records are better not
    /// read: whose they are is not known.
    pub fn awaits_clients(&self) -> bool {
        let Some(pinned) = &self.pinned else {
            return false;
        };
        let mut awaited = pinned.awaited.iter();
        clock::now() < pinned.awaits_until && awaited.any(|source| is_alive(source.tgid))
    }
}

/// For how long the predecessor's clients are waited for. They are found by one walk through `/proc`, or as
/// soon as the Kubernetes API has listed them, for which it has 3 s. One that is not found by then may be no
/// client any more; meanwhile the rings hold what happens, and what they have no room for is counted.
const CLIENTS_AWAITED: Duration = Duration::from_secs(4);
/// How often to look whether a source is at rest. One with an end in each millisecond is not, and of it what the
/// predecessor had read and not told is lost.
const SETTLE_TRIES: u32 = 20;
/// How long a predecessor may take to end once its pod is gone: the kernel closes its files within that.
const OWNER_ENDS: Duration = Duration::from_secs(1);
/// How often to look whether it has.
const OWNER_LOOK: Duration = Duration::from_millis(20);
