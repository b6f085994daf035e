//! Loading the kernel half for the kernel at hand, and attaching it.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

use aya::{Btf, Ebpf, EbpfLoader, Endianness};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use statlink_ebpf::{COMM_LEN, COMMS, Offsets};

use super::{
    attach_types, btf,
    connect_hooks::{ConnectHook, ConnectSeen},
    error::{KernelError, Missing},
    hooks::{Attachment, Group, HOOKS, Hook, Way},
    log, offsets, rings, tick,
    tracefs::Tracefs,
    version::KernelVersion,
};
use crate::privileges;

/// What the kernel half watches.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The peer's port.
    pub port: u16,
    /// The process names whose executions are reported, [`COMMS`] at most; at most 15 bytes of
    /// each count.
    pub process_names: Vec<String>,
    /// How connect() is to be seen.
    pub connect_hook: ConnectHook,
}

/// Makes sure that process ids here are the kernel's own. Where `/proc` does not say, they are taken
/// to be.
pub(super) fn require_initial_pids() -> Result<(), KernelError> {
    match fs::metadata("/proc/self/ns/pid") {
        Ok(namespace) if namespace.ino() != INITIAL_PIDS => Err(KernelError::PidNamespace),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// What the kernel says about its own types.
pub(super) struct Types {
    /// What programs attach to, and nothing else.
    pub(super) btf: Btf,
    offsets: Offsets,
}

impl Types {
    pub(super) fn read() -> Result<Self, KernelError> {
        let path = Path::new(BTF_PATH);
        let data = fs::read(path).map_err(|source| no_btf(path, source))?;
        let targets: Vec<_> = HOOKS.iter().filter_map(Hook::type_name).collect();
        let (offsets, reduced) = btf::Btf::parse(&data)
            .and_then(|btf| {
                Ok((
                    offsets::resolve(&btf)?,
                    attach_types::reduced(&btf, &targets)?,
                ))
            })
            .map_err(|source| KernelError::Layout {
                path: path.to_owned(),
                source,
                release: rustix::system::uname()
                    .release()
                    .to_string_lossy()
                    .into_owned(),
            })?;
        drop(data);
        let btf = Btf::parse(&reduced, Endianness::default())
            .map_err(|error| no_btf(path, io::Error::other(error)))?;
        Ok(Self { btf, offsets })
    }
}

/// What the programs are told before they are loaded, and the sizes that depend on it.
#[derive(Debug)]
pub(super) struct Constants {
    offsets: Offsets,
    port: u16,
    comms: [[u8; COMM_LEN]; COMMS],
    tick_ns: u32,
    wakes: u8,
    calls_begin_at_syn: u8,
    log_level: u8,
    log_bytes: u32,
}

impl Constants {
    /// For this way to see connect().
    pub(super) fn of(watch: &Watch, types: &Types, way: Option<Way>) -> Self {
        Self {
            offsets: types.offsets,
            port: watch.port,
            comms: comms(&watch.process_names),
            tick_ns: tick::nanoseconds(),
            wakes: u8::from(rings::programs_wake()),
            calls_begin_at_syn: u8::from(way == Some(Way::Functions)),
            log_level: log::level(),
            log_bytes: log::bytes(),
        }
    }

    /// What loads the object with them.
    pub(super) fn loader(&self) -> EbpfLoader<'_> {
        // It reads all types of the kernel, 25 MB at its height, before it can be told that it needs none.
        let loader = privileges::without_files(EbpfLoader::new);
        let mut loader = loader.unwrap_or_default();
        loader
            .btf(None)
            .override_global("OFFSETS", &self.offsets, true)
            .override_global("PORT", &self.port, true)
            .override_global("COMM", &self.comms, true)
            .override_global("TICK_NS", &self.tick_ns, true)
            .override_global("WAKES", &self.wakes, true)
            .override_global("CALLS_BEGIN_AT_SYN", &self.calls_begin_at_syn, true)
            .override_global(log::LEVEL, &self.log_level, true)
            .map_max_entries(log::MAP, self.log_bytes);
        loader
    }
}

/// The kernel half with every hook tried.
pub(super) struct Attached {
    pub(super) ebpf: Ebpf,
    /// By what hooks are attached.
    pub(super) attachments: Vec<(&'static Hook, Attachment)>,
    pub(super) log: Option<log::Reader>,
    pub(super) hooks: Vec<(&'static Hook, Option<Missing>)>,
    /// How connect() is seen in the end.
    pub(super) connect: ConnectSeen,
}

/// Hooks that are not tried, because it is known already why they are missing.
#[derive(Debug)]
pub(super) struct LeftOut<'a> {
    /// Those that need tracefs.
    pub(super) tracefs: &'a Tracefs,
    /// Those of another way to see connect() are not even missing.
    pub(super) connect: ConnectSeen,
    /// Those of a group of which one was refused.
    pub(super) groups: Vec<(Group, Missing)>,
}

impl<'a> LeftOut<'a> {
    /// Before anything was tried.
    pub(super) fn first(watch: &Watch, tracefs: &'a Tracefs) -> Self {
        Self {
            tracefs,
            connect: ConnectSeen {
                way: watch.connect_hook.first(),
                fallen_back: None,
            },
            groups: Vec::new(),
        }
    }

    pub(super) fn why(&self, hook: &Hook) -> Option<&Missing> {
        let of_tracefs = self.tracefs.as_ref().err();
        let mut groups = self.groups.iter();
        of_tracefs
            .filter(|_| hook.needs_tracefs())
            .or_else(|| Some(&groups.find(|(group, _)| hook.group == Some(*group))?.1))
    }
}

/// Loads everything, and tries every hook that is not left out.
pub(super) fn attach(
    watch: &Watch,
    types: &Types,
    left_out: &LeftOut<'_>,
) -> Result<Attached, KernelError> {
    raise_memory_lock();
    let constants = Constants::of(watch, types, left_out.connect.way);
    let mut ebpf = load(&mut constants.loader())?;
    let log = log::Reader::start(&mut ebpf);
    let mut hooks = Vec::with_capacity(HOOKS.len());
    let mut attachments = Vec::with_capacity(HOOKS.len());
    let running = KernelVersion::running();
    let offered = HOOKS.iter().filter(|hook| hook.is_offered_by(running));
    for hook in offered.filter(|hook| left_out.connect.takes(hook)) {
        let missing = match left_out.why(hook) {
            Some(known) => Some(known.clone()),
            None => match hook.attach(&mut ebpf, &types.btf) {
                Ok(attachment) => {
                    attachments.extend(attachment.map(|attachment| (hook, attachment)));
                    None
                }
                Err(error) => Some(Missing::of(hook, &error)),
            },
        };
        if let Some(refused) = &missing
            && hook.way.is_some()
            && let Some(instead) = left_out.connect.fall_back(watch.connect_hook, refused)
        {
            // Programs know which way it is, and cannot be told any more: start over.
            drop((ebpf, log));
            let left_out = LeftOut {
                tracefs: left_out.tracefs,
                connect: instead,
                groups: left_out.groups.clone(),
            };
            return attach(watch, types, &left_out);
        }
        hooks.push((hook, missing));
    }
    Ok(Attached {
        ebpf,
        attachments,
        log,
        hooks,
        connect: left_out.connect.clone(),
    })
}

/// Makes the maps, and readies the programs to be loaded.
pub(super) fn load(loader: &mut EbpfLoader<'_>) -> Result<Ebpf, KernelError> {
    loader
        .load(OBJECT)
        .map_err(|error| KernelError::load(&error))
}

/// Kernels before 5.11 charge maps to this limit; later ones ignore it. To raise it above what the
/// runtime allows takes CAP_SYS_RESOURCE; up to that, nothing.
pub(super) fn raise_memory_lock() {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let allowed = getrlimit(Resource::Memlock);
    let up_to_allowed = Rlimit {
        current: allowed.maximum,
        ..allowed
    };
    let raised = setrlimit(Resource::Memlock, unlimited)
        .or_else(|_| setrlimit(Resource::Memlock, up_to_allowed));
    if let Err(error) = raised {
        tracing::debug!(%error, "RLIMIT_MEMLOCK could not be raised.");
    }
}

fn comms(names: &[String]) -> [[u8; COMM_LEN]; COMMS] {
    let mut comms = [[0; COMM_LEN]; COMMS];
    for (comm, name) in comms.iter_mut().zip(names) {
        for (to, from) in comm.iter_mut().zip(name.bytes().take(COMM_LEN - 1)) {
            *to = from;
        }
    }
    comms
}

fn no_btf(path: &Path, source: io::Error) -> KernelError {
    KernelError::NoBtf {
        path: path.to_owned(),
        source,
    }
}

pub(super) static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/statlink-programs"));

const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";
/// `PROC_PID_INIT_INO`, `include/linux/proc_ns.h`.
const INITIAL_PIDS: u64 = 0xEFFF_FFFC;
