//! Whether what is pinned may be taken over, decided from what was read of it and nothing else.

use std::collections::BTreeMap;

use super::fdinfo::Shape;

/// What was found in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// By the map's name.
    pub(crate) maps: BTreeMap<String, FoundMap>,
    /// By the hook's name.
    pub(crate) programs: BTreeMap<String, FoundProgram>,
    /// The program of each link, by the hook's name.
    pub(crate) links: BTreeMap<String, u32>,
    /// What is none of these.
    pub(crate) strangers: Vec<String>,
}

/// A map that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundMap {
    pub(crate) id: u32,
    pub(crate) shape: Shape,
}

/// A program that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundProgram {
    pub(crate) id: u32,
    /// At most 15 bytes of its name, as the kernel keeps them.
    pub(crate) name: Vec<u8>,
    /// The ids of the maps that it uses.
    pub(crate) maps: Vec<u32>,
}

/// What this build expects.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// Its maps.
    pub(crate) maps: BTreeMap<String, Shape>,
    /// Its hooks that can be pinned, and whether it can do without.
    pub(crate) hooks: BTreeMap<&'static str, bool>,
    /// The id of the ring's map: of this one it is known what is told.
    pub(crate) half: u32,
}

/// Why what is pinned is not taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Not everything could be read.
    #[error("{name} cannot be read: {reason}")]
    Unreadable {
        /// Of the pin.
        name: String,
        /// The kernel's answer.
        reason: String,
    },
    /// Something lies there that no agent pins.
    #[error("there is a {0}, which no agent pins")]
    Stranger(String),
    /// A map is missing.
    #[error("map {0} is missing")]
    NoMap(String),
    /// A map is not as this agent's.
    #[error("map {map} has another {what}: {found}, not {expected}")]
    OtherMap {
        /// Its name.
        map: String,
        /// What differs.
        what: &'static str,
        /// As pinned.
        found: u64,
        /// As this agent's.
        expected: u64,
    },
    /// The agent cannot do without this hook.
    #[error("hook {0} is missing")]
    NoHook(&'static str),
    /// Only one of a hook's link and program is there.
    #[error("hook {0} has only one of its link and its program")]
    Half(String),
    /// A link is of another program than the one that is pinned with it.
    #[error("the link of {0} is of another program")]
    OtherLink(String),
    /// A program is another hook's, or a stranger's.
    #[error("the program of {hook} is called {name:?}")]
    OtherProgram {
        /// Whose it should be.
        hook: String,
        /// What the kernel calls it.
        name: String,
    },
    /// A program writes where this agent would not read.
    #[error("the program of {0} uses a map that is not pinned with it")]
    ForeignMap(String),
    /// The loader did not get the map that was looked at.
    #[error("map {0} was replaced meanwhile")]
    Replaced(String),
    /// The agent before this one has left no word of it, or not of this one.
    #[error("it is not known what of it is told already")]
    ToldByOthers,
    /// There is another way to see connect(), which is not tried yet.
    #[error("connect() is not seen by it, and may be by another hook")]
    BlindToConnect,
    /// Of hooks that are of use together only, one is missing.
    #[error("hook {0} is missing, and others are of no use without")]
    Torn(&'static str),
}

/// Whether an agent that expects `expected` may go on with what was `found`.
///
/// # Errors
///
/// The first reason against it.
pub(crate) fn judge(found: &Found, expected: &Expected) -> Result<(), Unfit> {
    if let Some(name) = found.strangers.first() {
        return Err(Unfit::Stranger(name.clone()));
    }
    for (name, shape) in &expected.maps {
        let map = found.maps.get(name);
        let map = map.ok_or_else(|| Unfit::NoMap(name.clone()))?;
        compare(name, &map.shape, shape)?;
        if name == RING && map.id != expected.half {
            return Err(Unfit::ToldByOthers);
        }
    }
    let surplus = found
        .maps
        .keys()
        .find(|name| !expected.maps.contains_key(*name));
    let surplus = surplus.or_else(|| {
        let mut hooks = found.links.keys().chain(found.programs.keys());
        hooks.find(|name| !expected.hooks.contains_key(name.as_str()))
    });
    if let Some(name) = surplus {
        return Err(Unfit::Stranger(name.clone()));
    }
    for (hook, optional) in &expected.hooks {
        match (found.links.get(*hook), found.programs.get(*hook)) {
            (Some(link), Some(program)) => judge_hook(hook, *link, program, found)?,
            (None, None) if *optional => {}
            (None, None) => return Err(Unfit::NoHook(hook)),
            (Some(_), None) | (None, Some(_)) => return Err(Unfit::Half((*hook).to_owned())),
        }
    }
    Ok(())
}

fn judge_hook(hook: &str, link: u32, program: &FoundProgram, found: &Found) -> Result<(), Unfit> {
    if program.name != kept(hook) {
        return Err(Unfit::OtherProgram {
            hook: hook.to_owned(),
            name: String::from_utf8_lossy(&program.name).into_owned(),
        });
    }
    if link != program.id {
        return Err(Unfit::OtherLink(hook.to_owned()));
    }
    let is_pinned = |id: &u32| found.maps.values().any(|map| map.id == *id);
    if !program.maps.iter().all(is_pinned) {
        return Err(Unfit::ForeignMap(hook.to_owned()));
    }
    Ok(())
}

/// The map by whose id a kernel half is known.
pub(crate) const RING: &str = "RING";

/// What the kernel keeps of a program's name: `BPF_OBJ_NAME_LEN`, `include/uapi/linux/bpf.h`.
fn kept(name: &str) -> &[u8] {
    name.as_bytes().get(..15).unwrap_or(name.as_bytes())
}

fn compare(map: &str, found: &Shape, expected: &Shape) -> Result<(), Unfit> {
    let parts = |shape: &Shape| {
        [
            ("type", shape.kind),
            ("key size", shape.key_size),
            ("value size", shape.value_size),
            ("number of entries", shape.max_entries),
            ("set of flags", shape.flags),
        ]
    };
    let mut pairs = parts(found).into_iter().zip(parts(expected));
    let other = pairs.find(|((_, found), (_, expected))| found != expected);
    other.map_or(Ok(()), |((what, found), (_, expected))| {
        Err(Unfit::OtherMap {
            map: map.to_owned(),
            what,
            found,
            expected,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            kind: 1,
            key_size: 8,
            value_size: 100,
            max_entries: 384,
            flags: 0,
        }
    }

    fn expected() -> Expected {
        let maps = ["RING", "SOURCES"].map(|name| (name.to_owned(), shape()));
        Expected {
            maps: maps.into(),
            hooks: [("inet_sock_set_state", false), ("sched_process_exec", true)].into(),
            half: 1,
        }
    }

    /// What an agent has pinned as a whole.
    fn whole() -> Found {
        let maps = [("RING", 1), ("SOURCES", 2)].map(|(name, id)| {
            let shape = shape();
            (name.to_owned(), FoundMap { id, shape })
        });
        let programs =
            [("inet_sock_set_state", 10), ("sched_process_exec", 11)].map(|(name, id)| {
                let program = FoundProgram {
                    id,
                    name: kept(name).to_vec(),
                    maps: vec![1, 2],
                };
                (name.to_owned(), program)
            });
        let links = [("inet_sock_set_state", 10), ("sched_process_exec", 11)]
            .map(|(name, id)| (name.to_owned(), id));
        Found {
            maps: maps.into(),
            programs: programs.into(),
            links: links.into(),
            strangers: Vec::new(),
        }
    }

    #[track_caller]
    fn refused(spoil: impl FnOnce(&mut Found)) -> String {
        let mut found = whole();
        spoil(&mut found);
        judge(&found, &expected()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_whole_is_taken_over_and_what_the_agent_can_do_without_may_be_missing() {
        assert_eq!(judge(&whole(), &expected()), Ok(()));
        let mut found = whole();
        found.links.remove("sched_process_exec");
        found.programs.remove("sched_process_exec");
        assert_eq!(judge(&found, &expected()), Ok(()));
    }

    #[test]
    fn a_map_that_differs_in_anything_is_refused_by_that_name() {
        type Spoil = fn(&mut Shape);
        let spoils: [(&str, Spoil); 5] = [
            ("type", |shape| shape.kind = 2),
            ("key size", |shape| shape.key_size = 4),
            ("value size", |shape| shape.value_size = 104),
            ("number of entries", |shape| shape.max_entries = 1),
            ("set of flags", |shape| shape.flags = 1),
        ];
        for (what, spoil) in spoils {
            let said = refused(|found| spoil(&mut found.maps.get_mut("SOURCES").unwrap().shape));
            let expected = format!("map SOURCES has another {what}: ");
            assert!(said.starts_with(&expected), "{said}");
        }
    }

    #[test]
    fn what_is_torn_or_foreign_is_refused() {
        let hook = "inet_sock_set_state";
        for (said, expected) in [
            (refused(|found| found.maps.clear()), "map RING is missing"),
            (
                refused(|found| {
                    found.links.remove(hook);
                    found.programs.remove(hook);
                }),
                "hook inet_sock_set_state is missing",
            ),
            (
                refused(|found| {
                    let _ = found.links.remove("sched_process_exec");
                }),
                "hook sched_process_exec has only one of its link and its program",
            ),
            (
                refused(|found| {
                    let _ = found.programs.remove(hook);
                }),
                "hook inet_sock_set_state has only one of its link and its program",
            ),
            (
                refused(|found| {
                    let _ = found.links.insert(hook.to_owned(), 99);
                }),
                "the link of inet_sock_set_state is of another program",
            ),
            (
                refused(|found| found.programs.get_mut(hook).unwrap().name = b"spy".to_vec()),
                "the program of inet_sock_set_state is called \"spy\"",
            ),
            (
                refused(|found| found.programs.get_mut(hook).unwrap().maps.push(3)),
                "the program of inet_sock_set_state uses a map that is not pinned with it",
            ),
            (
                refused(|found| found.strangers.push("notes".to_owned())),
                "there is a notes, which no agent pins",
            ),
            (
                refused(|found| {
                    let map = found.maps["RING"].clone();
                    found.maps.insert("OTHER".to_owned(), map);
                }),
                "there is a OTHER, which no agent pins",
            ),
            (
                refused(|found| {
                    let _ = found.links.insert("do_exit".to_owned(), 10);
                }),
                "there is a do_exit, which no agent pins",
            ),
        ] {
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn another_kernel_half_than_the_one_that_was_told_is_refused() {
        let expected = Expected {
            half: 7,
            ..expected()
        };
        assert_eq!(judge(&whole(), &expected), Err(Unfit::ToldByOthers));
    }

    #[test]
    fn an_empty_directory_is_refused() {
        let said = judge(&Found::default(), &expected()).unwrap_err();
        assert_eq!(said, Unfit::NoMap("RING".to_owned()));
    }
}
