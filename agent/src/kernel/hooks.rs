//! Every program of the kernel half: where it attaches, since when that works, and whether the
//! agent can do without.

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, Iter, ProgramError, RawTracePoint, TracePoint},
};

/// One program.
#[derive(Debug)]
pub struct Hook {
    /// The program's name, as in the object and as in every message.
    pub name: &'static str,
    /// What it attaches to.
    pub target: Target,
    /// The first kernel it works on.
    pub since: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// What is lost without it; `None` if the agent cannot run without.
    pub without: Option<&'static str>,
}

/// What a program attaches to.
#[derive(Debug)]
pub enum Target {
    /// A BTF-typed tracepoint of the program's name.
    BtfTracepoint,
    /// A tracepoint of tracefs, in this category.
    Tracepoint(&'static str),
    /// A BPF iterator over this; run on demand.
    Iterator(&'static str),
    /// Nothing: run on demand by `BPF_PROG_TEST_RUN`.
    OnDemand,
}

impl Hook {
    /// Whether the agent cannot run without.
    pub const fn required(&self) -> bool {
        self.without.is_none()
    }

    /// Whether it needs tracefs.
    pub const fn needs_tracefs(&self) -> bool {
        matches!(self.target, Target::Tracepoint(_))
    }

    /// Loads the program, and attaches it where there is something to attach to.
    pub(super) fn attach(&self, ebpf: &mut Ebpf, btf: &Btf) -> Result<(), HookError> {
        let program = ebpf.program_mut(self.name).ok_or(HookError::NotInObject)?;
        match self.target {
            Target::BtfTracepoint => {
                let program: &mut BtfTracePoint = program.try_into()?;
                program.load(self.name, btf)?;
                program.attach()?;
            }
            Target::Tracepoint(category) => {
                let program: &mut TracePoint = program.try_into()?;
                program.load()?;
                program.attach(category, self.name)?;
            }
            Target::Iterator(over) => {
                let program: &mut Iter = program.try_into()?;
                program.load(over, btf)?;
            }
            Target::OnDemand => {
                let program: &mut RawTracePoint = program.try_into()?;
                program.load()?;
            }
        }
        Ok(())
    }
}

/// Why a program is not in place.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// A bug of the build: the object lacks the program.
    #[error("the object file has no such program")]
    NotInObject,
    /// There is nothing to attach to.
    #[error("tracefs is not mounted at /sys/kernel/tracing, or refuses")]
    NoTracefs,
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] ProgramError),
}

/// Every hook, in the order of attachment: those that only tell come after those that know.
pub const HOOKS: &[Hook] = &[
    Hook {
        name: "tcp_destroy_sock",
        target: Target::BtfTracepoint,
        since: "5.5",
        purpose: "forget sockets that are gone",
        without: None,
    },
    Hook {
        name: "sys_enter_connect",
        target: Target::Tracepoint("syscalls"),
        since: "4.7",
        purpose: "date attempts, see name lookups",
        without: Some(WITHOUT_CONNECT),
    },
    Hook {
        name: "sys_exit_connect",
        target: Target::Tracepoint("syscalls"),
        since: "4.7",
        purpose: "see attempts that fail before a SYN",
        without: Some(WITHOUT_CONNECT),
    },
    Hook {
        name: "tcp_retransmit_skb",
        target: Target::BtfTracepoint,
        since: "5.5",
        purpose: "count retransmissions, see blackholes",
        without: None,
    },
    Hook {
        name: "inet_sock_set_state",
        target: Target::BtfTracepoint,
        since: "5.5",
        purpose: "see attempts, connections and their ends",
        without: None,
    },
    Hook {
        name: "sample",
        target: Target::OnDemand,
        since: "5.10",
        purpose: "look at a connection: answered, silent, stalled",
        without: None,
    },
    Hook {
        name: "enumerate",
        target: Target::Iterator("task_file"),
        since: "5.11",
        purpose: "find connections older than the agent",
        without: Some("a connection older than the agent is not known until it is made anew"),
    },
    Hook {
        name: "namespaces",
        target: Target::Iterator("task"),
        since: "5.8",
        purpose: "tell the network namespace of an activator without CAP_SYS_PTRACE",
        without: Some(
            "activators are found only with CAP_SYS_PTRACE, and a proxy in their pod explains nothing",
        ),
    },
    Hook {
        name: "sched_process_exec",
        target: Target::BtfTracepoint,
        since: "5.5",
        purpose: "hear of a new activator at once",
        without: Some("new activators are found by looking through /proc once a second"),
    },
];

const WITHOUT_CONNECT: &str = "attempts that fail before a SYN (no route, a policy, no local port) \
     and name lookups are not seen, and a refusal by ICMP, as of a Service without endpoints, may \
     be told as cancelled or _OTHER";
