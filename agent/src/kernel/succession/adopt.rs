//! Taking over what a predecessor has pinned.

use std::{
    collections::BTreeMap,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};

use super::super::{
    connect_hooks::ConnectSeen,
    error::{KernelError, Missing},
    hooks::{HOOKS, Hook, Standing, Way},
    load::{Constants, LeftOut, OBJECT, Types, Watch, load, raise_memory_lock},
    loaded::{HookState, Whole, torn_group},
    pins::{
        directory::{MAP, Pins},
        fdinfo::{self, Object},
        format::Format,
        survey::Survey,
        verdict::{Expected, FoundMap, RING, Unfit, judge},
    },
    tracefs::Tracefs,
    version::KernelVersion,
};

/// What came of it.
pub(super) enum Outcome {
    /// It is this agent's now.
    Adopted(Box<Adopted>),
    /// Nothing of this format is there.
    Nothing,
    /// What is there is of no use.
    Unfit(Unfit),
}

/// What is taken over.
pub(super) struct Adopted {
    pub(super) whole: Whole,
    pub(super) survey: Survey,
    pub(super) format: Format,
    /// Its ring.
    pub(super) half: u32,
}

/// Takes over what is pinned under one of the names that this agent may go on with.
///
/// # Errors
///
/// Only for what would keep the agent from attaching anything anew as well.
pub(super) fn adopt(
    watch: &Watch,
    tracefs: &Tracefs,
    types: &Types,
    owned: &Pins,
    half: Option<u32>,
) -> Result<Outcome, KernelError> {
    raise_memory_lock();
    for way in watch.connect_hook.ways() {
        let constants = Constants::of(watch, types, *way);
        let format = Format::of(OBJECT, &constants);
        let Some(directory) = owned.find(&format) else {
            continue;
        };
        let left_out = LeftOut {
            connect: ConnectSeen {
                way: *way,
                fallen_back: None,
            },
            ..LeftOut::first(watch, tracefs)
        };
        let Some(half) = half else {
            return Ok(Outcome::Unfit(Unfit::ToldByOthers));
        };
        let taken = take(watch, types, &left_out, &constants, &directory, half)?;
        return Ok(match taken {
            Ok((whole, survey)) => Outcome::Adopted(Box::new(Adopted {
                whole,
                survey,
                format,
                half,
            })),
            Err(unfit) => Outcome::Unfit(unfit),
        });
    }
    Ok(Outcome::Nothing)
}

fn take(
    watch: &Watch,
    types: &Types,
    left_out: &LeftOut<'_>,
    constants: &Constants,
    directory: &Path,
    half: u32,
) -> Result<Result<(Whole, Survey), Unfit>, KernelError> {
    // With maps of its own, to know by the kernel's own word what they are to be like.
    let own = load(&mut constants.loader())?;
    let expected = Expected {
        maps: shapes(&own).map(|(name, map)| (name, map.shape)).collect(),
        hooks: pinnable(&left_out.connect)
            .map(|hook| (hook.name, is_optional(hook)))
            .collect(),
        half,
    };
    drop(own);
    let survey = match Survey::of(directory) {
        Ok(survey) => survey,
        Err(unfit) => return Ok(Err(unfit)),
    };
    if let Err(unfit) = judge(&survey.found, &expected) {
        return Ok(Err(unfit));
    }
    let paths: Vec<(&String, PathBuf)> = expected
        .maps
        .keys()
        // The programs that this agent loads itself have their constants from a map of their own.
        .filter(|name| !name.starts_with(RODATA))
        .map(|name| (name, directory.join(format!("{MAP}{name}"))))
        .collect();
    let mut loader = constants.loader();
    for (name, path) in &paths {
        loader.map_pin_path(name.as_str(), path.as_path());
    }
    let mut ebpf = match load(&mut loader) {
        Ok(ebpf) => ebpf,
        Err(error) => {
            return Ok(Err(Unfit::Unreadable {
                name: "what was found whole".to_owned(),
                reason: error.to_string(),
            }));
        }
    };
    // It opens the pins by their names once more, and makes what it does not find.
    let loaded: BTreeMap<_, _> = shapes(&ebpf).collect();
    for (name, _) in &paths {
        let id = |map: Option<&FoundMap>| map.map(|map| map.id);
        if id(loaded.get(*name)) != id(survey.found.maps.get(*name)) {
            return Ok(Err(Unfit::Replaced((*name).clone())));
        }
    }
    Ok(
        finish(watch, types, left_out, &mut ebpf, &survey).map(|hooks| {
            let whole = Whole {
                ebpf,
                attachments: Vec::new(),
                log: None,
                hooks,
                connect: left_out.connect.clone(),
            };
            (whole, survey)
        }),
    )
}

/// Loads what is not pinned: what runs on demand, and the hooks that the predecessor lacked or this kernel
/// cannot pin.
fn finish(
    watch: &Watch,
    types: &Types,
    left_out: &LeftOut<'_>,
    ebpf: &mut Ebpf,
    survey: &Survey,
) -> Result<Vec<HookState>, Unfit> {
    let mut hooks = Vec::with_capacity(HOOKS.len());
    for hook in offered(&left_out.connect) {
        let missing = if survey.links.contains_key(hook.name) {
            None
        } else {
            match left_out.why(hook) {
                Some(known) => Some(known.clone()),
                None => {
                    let attached = hook.attach(ebpf, &types.btf);
                    attached.err().map(|error| Missing::of(hook, &error))
                }
            }
        };
        if let Some(refused) = &missing {
            if hook.standing == Standing::Required {
                return Err(Unfit::NoHook(hook.name));
            }
            let elsewhere = left_out.connect.fall_back(watch.connect_hook, refused);
            if hook.way == Some(Way::Functions) && elsewhere.is_some() {
                return Err(Unfit::BlindToConnect);
            }
        }
        hooks.push(HookState { hook, missing });
    }
    match torn_group(&hooks) {
        Some((group, _)) => {
            let mut of_group = hooks.iter().filter(|state| state.hook.group == Some(group));
            let missing = of_group.find(|state| state.missing.is_some());
            Err(Unfit::Torn(
                missing.map_or("connect", |state| state.hook.name),
            ))
        }
        None => Ok(hooks),
    }
}

/// The hooks that this kernel has a place for, on this way to see connect().
fn offered(connect: &ConnectSeen) -> impl Iterator<Item = &'static Hook> {
    let running = KernelVersion::running();
    let hooks = HOOKS.iter();
    hooks.filter(move |hook| hook.is_offered_by(running) && connect.takes(hook))
}

/// Those of them that are pinned where they are attached.
fn pinnable(connect: &ConnectSeen) -> impl Iterator<Item = &'static Hook> {
    offered(connect).filter(|hook| hook.can_be_pinned(KernelVersion::running()))
}

fn is_optional(hook: &Hook) -> bool {
    hook.standing != Standing::Required
}

/// The id of an object's ring.
pub(super) fn half(ebpf: &Ebpf) -> Option<u32> {
    shapes(ebpf).find_map(|(name, map)| (name == RING).then_some(map.id))
}

/// What the kernel says of each map of an object, by the name that it is pinned under.
fn shapes(ebpf: &Ebpf) -> impl Iterator<Item = (String, FoundMap)> {
    ebpf.maps().filter_map(
        |(name, map)| match fdinfo::of(data(map)?.fd().as_fd()).ok()?? {
            Object::Map { id, shape } => Some((pin_name(name), FoundMap { id, shape })),
            Object::Program { .. } | Object::Link { .. } => None,
        },
    )
}

/// Under which name a map is pinned: a bpffs takes no dots (`bpf_lookup()`, `kernel/bpf/inode.c`).
pub(super) fn pin_name(map: &str) -> String {
    map.trim_start_matches('.').replace('.', "_")
}

/// The map itself, of the kinds that the kernel half has.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel half has maps of no other kind"
)]
pub(super) fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data) | Map::RingBuf(data) => {
            Some(data)
        }
        _ => None,
    }
}

/// With which the names begin under which constants are pinned: a map for each of their sections.
const RODATA: &str = "rodata";
