//! Every program of the kernel half, in one table: where it attaches, since which kernel, what it is
//! for, and what is lost without it.
//!
//! The C prototype that a program relies on stands above the program, in
//! `agent-ebpf/src/programs/hooks`.

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, FExit, Iter, ProgramError, RawTracePoint, TracePoint,
        fexit::FExitLinkId,
        links::{FdLink, LinkError},
        tp_btf::BtfTracePointLinkId,
        trace_point::TracePointLinkId,
    },
};

use super::{attach_types::Named, version::KernelVersion};

/// One program.
#[derive(Debug)]
pub struct Hook {
    /// The program's name, as in the object and as in every message.
    pub name: &'static str,
    /// What it attaches to.
    pub target: Target,
    /// The first kernel that it works on. Where the architecture's kernels have it later:
    /// [`Target::since`].
    pub since: KernelVersion,
    /// The C types of the arguments that it relies on, without qualifiers; `*` is any pointer. Of a
    /// function these are all, because what it returned comes after the last one; of a tracepoint
    /// they are the first ones.
    pub arguments: &'static [&'static str],
    /// What it is for.
    pub purpose: &'static str,
    /// Whether the agent can run without it.
    pub standing: Standing,
    /// With which others it is attached; `None` if it is of use alone.
    pub group: Option<Group>,
    /// Of which way to see connect() it is; `None` of the other programs.
    pub way: Option<Way>,
}

/// Hooks that are of use together only: all of a group are attached, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Both ends of connect(): the program at its entry leaves it to the one at its exit to report a
    /// failure.
    Connect,
}

/// A way to see connect(): its hooks are attached together, and no other way's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The returns of the kernel's own functions, by fexit: costs who connects, nobody else.
    Functions,
    /// The tracepoints of the system call: each system call of every process of the node takes about
    /// 40 ns longer, because the kernel has one switch for the tracepoints of all of them.
    Tracepoints,
}

/// Whether the agent can run without a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It cannot: the agent stops at start.
    Required,
    /// It can: the agent warns at start, and `status` and a metric name the program.
    Optional {
        /// What is lost.
        without: &'static str,
    },
}

/// What a program attaches to.
#[derive(Debug)]
pub enum Target {
    /// A BTF-typed tracepoint of the program's name.
    BtfTracepoint,
    /// The return of the kernel's function of the program's name.
    FunctionReturn,
    /// A tracepoint of tracefs, in this category.
    Tracepoint(&'static str),
    /// A BPF iterator over this; run on demand.
    Iterator(&'static str),
    /// Nothing: run on demand by `BPF_PROG_TEST_RUN`.
    OnDemand,
}

impl Target {
    /// The first kernel of an architecture, as Rust calls it, whose kernels have such places at all.
    pub const fn since(&self, architecture: &str) -> KernelVersion {
        match self {
            // arm64 has trampolines for BPF since 6.0, and since 6.4 its functions can call them:
            // Debian's 6.1 refuses, and its 6.12 does not.
            Self::FunctionReturn if matches!(architecture.as_bytes(), b"aarch64") => {
                KernelVersion::new(6, 4)
            }
            Self::FunctionReturn
            | Self::BtfTracepoint
            | Self::Tracepoint(_)
            | Self::Iterator(_)
            | Self::OnDemand => KernelVersion::new(0, 0),
        }
    }
}

impl Hook {
    /// What is lost without it; `None` if the agent cannot run without.
    pub const fn without(&self) -> Option<&'static str> {
        match self.standing {
            Standing::Required => None,
            Standing::Optional { without } => Some(without),
        }
    }

    /// Whether a kernel of this version may have what it takes. What the agent can do without, and a
    /// supported kernel is too old for, is neither tried nor missing: nobody could mend it.
    pub(super) fn is_offered_by(&self, running: Option<KernelVersion>) -> bool {
        self.standing == Standing::Required
            || self.since <= KernelVersion::OLDEST
            || running.is_none_or(|running| running >= self.since)
    }

    /// What it attaches to, among the kernel's types; `None` if it is looked up elsewhere, or nowhere.
    /// The names are those under which the kernel has tracepoints and iterators (`btf_trace_…` in
    /// `include/trace/bpf_probe.h`, `bpf_iter_…` in `include/linux/bpf.h`).
    pub(super) fn type_name(&self) -> Option<Named> {
        match self.target {
            Target::BtfTracepoint => Some(Named::Typedef(format!("btf_trace_{}", self.name))),
            Target::FunctionReturn => Some(Named::Function(self.name.to_owned())),
            Target::Iterator(over) => Some(Named::Function(format!("bpf_iter_{over}"))),
            Target::Tracepoint(_) | Target::OnDemand => None,
        }
    }

    /// Whether it needs tracefs.
    pub const fn needs_tracefs(&self) -> bool {
        matches!(self.target, Target::Tracepoint(_))
    }

    /// Loads the program, and attaches it where there is something to attach to.
    pub(super) fn attach(
        &self,
        ebpf: &mut Ebpf,
        btf: &Btf,
    ) -> Result<Option<Attachment>, HookError> {
        let program = ebpf.program_mut(self.name).ok_or(HookError::NotInObject)?;
        Ok(match self.target {
            Target::BtfTracepoint => {
                let program: &mut BtfTracePoint = program.try_into()?;
                program.load(self.name, btf)?;
                Some(Attachment::BtfTracepoint(program.attach()?))
            }
            Target::FunctionReturn => {
                let program: &mut FExit = program.try_into()?;
                program.load(self.name, btf)?;
                Some(Attachment::FunctionReturn(program.attach()?))
            }
            Target::Tracepoint(category) => {
                let program: &mut TracePoint = program.try_into()?;
                program.load()?;
                Some(Attachment::Tracepoint(program.attach(category, self.name)?))
            }
            Target::Iterator(over) => {
                let program: &mut Iter = program.try_into()?;
                program.load(over, btf)?;
                None
            }
            Target::OnDemand => {
                let program: &mut RawTracePoint = program.try_into()?;
                program.load()?;
                None
            }
        })
    }

    /// Whether it is attached to something, by a link that can outlive the agent on this kernel.
    pub(super) fn can_be_pinned(&self, running: Option<KernelVersion>) -> bool {
        match self.target {
            Target::BtfTracepoint | Target::FunctionReturn => true,
            // A link of its own, not an ioctl of the event's: `bpf_perf_link_attach()`,
            // `kernel/bpf/syscall.c`, since 5.15.
            Target::Tracepoint(_) => {
                running.is_some_and(|running| running >= KernelVersion::new(5, 15))
            }
            Target::Iterator(_) | Target::OnDemand => false,
        }
    }

    /// Takes out what attaches it. Whoever drops that detaches it.
    pub(super) fn take_link(
        &self,
        ebpf: &mut Ebpf,
        attachment: Attachment,
    ) -> Result<FdLink, HookError> {
        let program = ebpf.program_mut(self.name).ok_or(HookError::NotInObject)?;
        Ok(match attachment {
            Attachment::BtfTracepoint(id) => {
                let program: &mut BtfTracePoint = program.try_into()?;
                program.take_link(id)?.into()
            }
            Attachment::FunctionReturn(id) => {
                let program: &mut FExit = program.try_into()?;
                program.take_link(id)?.into()
            }
            Attachment::Tracepoint(id) => {
                let program: &mut TracePoint = program.try_into()?;
                program.take_link(id)?.try_into()?
            }
        })
    }
}

/// By what a program is attached.
#[derive(Debug)]
pub(super) enum Attachment {
    BtfTracepoint(BtfTracePointLinkId),
    FunctionReturn(FExitLinkId),
    Tracepoint(TracePointLinkId),
}

/// Why a program is not in place.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// A bug of the build: the object lacks the program.
    #[error("the object file has no such program")]
    NotInObject,
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] ProgramError),
    /// A bug: the link is not of the kind that its kernel makes.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Every hook, in the order of attachment. What a connection may need later (its destruction, the
/// time of its connect()) is in place before `inet_sock_set_state`, which puts connections into the
/// maps.
pub const HOOKS: &[Hook] = &[
    Hook {
        name: "inet_stream_connect",
        target: Target::FunctionReturn,
        since: KernelVersion::new(5, 5),
        arguments: CONNECT,
        purpose: "see attempts that fail before a SYN",
        standing: Standing::Optional {
            without: WITHOUT_CONNECT,
        },
        group: None,
        way: Some(Way::Functions),
    },
    Hook {
        name: "inet_dgram_connect",
        target: Target::FunctionReturn,
        since: KernelVersion::new(5, 5),
        arguments: CONNECT,
        purpose: "see name lookups",
        standing: Standing::Optional {
            without: WITHOUT_LOOKUPS,
        },
        group: None,
        way: Some(Way::Functions),
    },
    Hook {
        name: "tcp_destroy_sock",
        target: Target::BtfTracepoint,
        since: KernelVersion::new(5, 5),
        arguments: &["struct sock *"],
        purpose: "forget sockets that are gone",
        standing: Standing::Required,
        group: None,
        way: None,
    },
    Hook {
        name: "sys_enter_connect",
        target: Target::Tracepoint("syscalls"),
        since: KernelVersion::new(4, 7),
        arguments: &[],
        purpose: "date attempts, see name lookups",
        standing: Standing::Optional {
            without: WITHOUT_CONNECT,
        },
        group: Some(Group::Connect),
        way: Some(Way::Tracepoints),
    },
    Hook {
        name: "sys_exit_connect",
        target: Target::Tracepoint("syscalls"),
        since: KernelVersion::new(4, 7),
        arguments: &[],
        purpose: "see attempts that fail before a SYN",
        standing: Standing::Optional {
            without: WITHOUT_CONNECT,
        },
        group: Some(Group::Connect),
        way: Some(Way::Tracepoints),
    },
    Hook {
        name: "inet_sk_error_report",
        target: Target::BtfTracepoint,
        since: KernelVersion::new(5, 14),
        arguments: &["struct sock *"],
        purpose: "see an errno before the client takes it",
        standing: Standing::Optional {
            without: "where a client takes an errno first, the failure is reported as _OTHER, or a time-out as a reset",
        },
        group: None,
        way: None,
    },
    Hook {
        name: "tcp_retransmit_skb",
        target: Target::BtfTracepoint,
        since: KernelVersion::new(5, 5),
        arguments: &["struct sock *"],
        purpose: "count retransmissions, see blackholes",
        standing: Standing::Required,
        group: None,
        way: None,
    },
    Hook {
        name: "inet_sock_set_state",
        target: Target::BtfTracepoint,
        since: KernelVersion::new(5, 5),
        arguments: &["struct sock *", "int", "int"],
        purpose: "see attempts, connections and their ends",
        standing: Standing::Required,
        group: None,
        way: None,
    },
    Hook {
        name: "sample",
        target: Target::OnDemand,
        since: KernelVersion::new(5, 10),
        arguments: &[],
        purpose: "look at a connection: answered, silent, stalled",
        standing: Standing::Required,
        group: None,
        way: None,
    },
    Hook {
        name: "track",
        target: Target::OnDemand,
        since: KernelVersion::new(5, 10),
        arguments: &[],
        purpose: "say who is watched",
        standing: Standing::Required,
        group: None,
        way: None,
    },
    Hook {
        name: "enumerate",
        target: Target::Iterator("task_file"),
        since: KernelVersion::new(5, 8),
        arguments: &[
            "struct bpf_iter_meta *",
            "struct task_struct *",
            "u32",
            "struct file *",
        ],
        purpose: "find connections older than the agent",
        standing: Standing::Optional {
            without: "a connection older than the agent is not seen: its link is unknown until the activator dials again",
        },
        group: None,
        way: None,
    },
    Hook {
        name: "namespaces",
        target: Target::Iterator("task"),
        since: KernelVersion::new(5, 8),
        arguments: &["struct bpf_iter_meta *", "struct task_struct *"],
        purpose: "read the network namespace of an activator without CAP_SYS_PTRACE",
        standing: Standing::Optional {
            without: "activators are found only with CAP_SYS_PTRACE, and a proxy in their pod explains nothing",
        },
        group: None,
        way: None,
    },
    Hook {
        name: "sched_process_exec",
        target: Target::BtfTracepoint,
        since: KernelVersion::new(5, 5),
        arguments: &["struct task_struct *"],
        purpose: "find a new activator at once",
        standing: Standing::Optional {
            without: "new activators are found by looking through /proc once a second",
        },
        group: None,
        way: None,
    },
];

/// Of a family's own connect(). The address is a `struct sockaddr *`, since 6.19 a
/// `struct sockaddr_unsized *`, and is read by its beginning.
const CONNECT: &[&str] = &["struct socket *", "*", "int", "int"];

const WITHOUT_CONNECT: &str = "attempts that fail before a SYN (no route, a policy, no local port) \
     and name lookups are not seen, and a refusal by ICMP, as of a Service without endpoints, may \
     be reported as cancelled or _OTHER";
const WITHOUT_LOOKUPS: &str = "name lookups are not seen";

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;
