//! The reasons why a process could not be inspected, or has no link.

use std::io;

use thiserror::Error;

/// Why a process could not be inspected.
#[derive(Debug, Error)]
pub(crate) enum DiscoveryError {
    /// `/proc` could not be read.
    #[error("{}; {}", self.problem(), self.cure())]
    Proc {
        /// The file or directory.
        path: String,
        /// Why reading it failed.
        source: io::Error,
    },
    /// The process could not be opened.
    #[error("{}; {}", self.problem(), self.cure())]
    Pidfd {
        /// The process.
        pid: u32,
        /// Why opening it failed.
        source: io::Error,
    },
    /// The process's environment holds a value that is no name of a pod or namespace.
    #[error("{}; {}", self.problem(), self.cure())]
    BadName {
        /// The process.
        pid: u32,
        /// The variable.
        variable: String,
        /// The beginning of its value, escaped.
        value: String,
    },
    /// The process's environment is long, and its beginning does not name a pod.
    #[error("{}; {}", self.problem(), self.cure())]
    LongEnvironment {
        /// The process.
        pid: u32,
        /// How many bytes of it were read.
        read: u64,
    },
    /// The API does not name the process, and nothing else may.
    #[error("{}; {}", self.problem(), self.cure())]
    Unplaced {
        /// The process.
        pid: u32,
        /// Its name.
        process: String,
        /// Why the API does not name it.
        why: Unplaced,
        /// The beginning of its control group's name, escaped.
        cgroup: String,
    },
    /// The process claims a name that another process holds.
    #[error("{}; {}", self.problem(), self.cure())]
    NameTaken {
        /// The process.
        pid: u32,
        /// Its name.
        process: String,
        /// The pod that it claims to be, with its namespace.
        pod: String,
        /// The process that holds the name.
        holder: u32,
    },
    /// The process names itself, and so do as many others as may.
    #[error("{}; {}", self.problem(), self.cure())]
    TooMany {
        /// The process.
        pid: u32,
        /// Its name.
        process: String,
    },
    /// The process runs in a namespace that is not watched.
    #[error("{}; {}", self.problem(), self.cure())]
    OtherNamespace {
        /// The process.
        pid: u32,
        /// Its name.
        process: String,
        /// Its pod's namespace.
        namespace: String,
        /// The namespace that is watched.
        watched: String,
    },
}

/// Why the API does not name a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unplaced {
    /// Its control group names neither a pod nor a container.
    NoContainer,
    /// No watched pod of this node has its container.
    NotListed,
    /// The kubelet has not reported its container, and its pod's activator runs in another.
    NotReported,
    /// No pod has been listed yet.
    NothingListed,
}

impl Unplaced {
    const fn kind(self) -> &'static str {
        match self {
            Self::NoContainer => "no_container",
            Self::NotListed => "not_listed",
            Self::NotReported => "not_reported",
            Self::NothingListed => "nothing_listed",
        }
    }
}

/// What a warning is about: the same for every process with this problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reason {
    /// What is wrong.
    pub(super) kind: &'static str,
    /// Which process name, pod or value it concerns.
    pub(super) about: String,
}

/// How much is shown of a value that is too long for a name, or of a control group's name: enough
/// to recognise it.
const MOST_SHOWN: usize = 128;

impl DiscoveryError {
    /// The error for `variable` of process `pid`, whose value is no name.
    pub(super) fn bad_name(pid: u32, variable: &str, value: &str) -> Self {
        Self::BadName {
            pid,
            variable: variable.to_owned(),
            value: shown(value),
        }
    }

    /// The error for process `pid` with the name `process` in `cgroup`.
    pub(super) fn unplaced(pid: u32, process: &str, why: Unplaced, cgroup: &str) -> Self {
        // With cgroup v1 there are a dozen lines, and many say nothing.
        let cgroup = cgroup.lines().max_by_key(|line| line.len());
        Self::Unplaced {
            pid,
            process: process.to_owned(),
            why,
            cgroup: shown(cgroup.unwrap_or_default()),
        }
    }

    /// Why the process has no link: a value of `statlink.refusal.reason`.
    pub(super) const fn refusal(&self) -> &'static str {
        match self {
            Self::Proc { .. } | Self::Pidfd { .. } => "denied",
            Self::BadName { .. } | Self::LongEnvironment { .. } => "bad_name",
            Self::OtherNamespace { .. } => "other_namespace",
            Self::Unplaced { .. } => UNPLACED,
            Self::NameTaken { .. } => "name_taken",
            Self::TooMany { .. } => "too_many",
        }
    }

    /// What failed and why, without the cure.
    pub(crate) fn problem(&self) -> String {
        match self {
            Self::Proc { path, source } => format!("read {path}: {source}"),
            Self::Pidfd { pid, source } => format!("open a pidfd of process {pid}: {source}"),
            Self::BadName {
                pid,
                variable,
                value,
            } => {
                format!(
                    "process {pid} has {variable}=\"{value}\", which is not a valid name in Kubernetes"
                )
            }
            Self::LongEnvironment { pid, read } => format!(
                "process {pid} names no pod in the first {} KiB of its environment",
                read / 1024
            ),
            Self::OtherNamespace {
                pid,
                process,
                namespace,
                watched,
            } => format!(
                "process {pid} ({process}) is of the namespace {namespace}, and {watched} is watched"
            ),
            Self::Unplaced {
                pid,
                process,
                why,
                cgroup,
            } => {
                let why = match why {
                    Unplaced::NoContainer => "is in no container, according to its control group",
                    Unplaced::NotListed => {
                        "is in a container of no pod that the Kubernetes API lists for this node"
                    }
                    Unplaced::NotReported => {
                        "is in a container that the kubelet has not reported, beside its pod's \
                         own activator"
                    }
                    Unplaced::NothingListed => {
                        "may not be read, and the Kubernetes API has not listed the pods"
                    }
                };
                format!("process {pid} ({process}) {why} ({cgroup})")
            }
            Self::NameTaken {
                pid,
                process,
                pod,
                holder,
            } => format!(
                "process {pid} ({process}) names itself {pod}, and so does process {holder} in \
                 another container or network namespace"
            ),
            Self::TooMany { pid, process } => {
                format!("process {pid} ({process}) names itself, as too many others do")
            }
        }
    }

    /// What to do about it.
    pub(crate) fn cure(&self) -> &'static str {
        match self {
            Self::Proc { .. } if self.is_refusal() => {
                "needs CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH for another user's process, and the \
                 host's pid namespace (hostPID in Kubernetes)"
            }
            Self::Proc { .. } => "mount /proc with its processes visible",
            Self::Pidfd { .. } => "needs Linux 5.3 or later",
            Self::BadName { .. } => "it has no link: it is no activator, or was given a wrong name",
            Self::LongEnvironment { .. } => {
                "the Kubernetes API can name it, or put the variables first"
            }
            Self::Unplaced { why, .. } => match why {
                Unplaced::NotListed => {
                    "it has no link: it is no activator's, or the pods' label, container or \
                     namespace is another (the chart's knative.podSelector, knative.container, \
                     knative.namespace)"
                }
                Unplaced::NoContainer => {
                    "it has no link: only the Kubernetes API names activators, by the control \
                     group of their container"
                }
                Unplaced::NotReported => {
                    "it has no link unless the kubelet reports it as the activator's"
                }
                Unplaced::NothingListed => {
                    "it has no link until then; `statlink check` says what withholds the API"
                }
            },
            Self::NameTaken { .. } => {
                "it has no link: the first keeps the name while it lives; with the Kubernetes API \
                 (--kubernetes=on) nobody can take it"
            }
            Self::TooMany { .. } => {
                "it has no link: with the Kubernetes API (--kubernetes=on) nobody names itself"
            }
            Self::OtherNamespace { .. } => {
                "if it is Knative's, name that namespace with --namespace (the chart's \
                 knative.namespace)"
            }
        }
    }

    /// The process it is about; `None` if it is about `/proc` itself.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Proc { path, .. } => path.split('/').find_map(|part| part.parse().ok()),
            Self::Pidfd { pid, .. }
            | Self::BadName { pid, .. }
            | Self::LongEnvironment { pid, .. }
            | Self::Unplaced { pid, .. }
            | Self::NameTaken { pid, .. }
            | Self::TooMany { pid, .. }
            | Self::OtherNamespace { pid, .. } => Some(*pid),
        }
    }

    /// What a warning about it is about.
    pub(super) fn reason(&self) -> Reason {
        let (kind, about) = match self {
            Self::Proc { path, source } => {
                let is_file = |part: &&str| part.parse::<u32>().is_err();
                let file: Vec<_> = path.split('/').filter(is_file).collect();
                ("proc", format!("{} {:?}", file.join("/"), source.kind()))
            }
            Self::Pidfd { source, .. } => ("pidfd", format!("{:?}", source.kind())),
            Self::BadName { variable, .. } => ("bad_name", variable.clone()),
            Self::LongEnvironment { .. } => ("long_environment", String::new()),
            Self::OtherNamespace {
                process, namespace, ..
            } => ("other_namespace", format!("{process} {namespace}")),
            // Each reason is a kind of its own, so that strangers of one kind cannot silence
            // another.
            Self::Unplaced { process, why, .. } => (why.kind(), process.clone()),
            Self::NameTaken { process, pod, .. } => ("name_taken", format!("{process} {pod}")),
            Self::TooMany { process, .. } => ("too_many", process.clone()),
        };
        Reason { kind, about }
    }

    /// Whether the process could be inspected, and belongs to no pod with a watched link.
    pub(crate) const fn is_about_naming(&self) -> bool {
        match self {
            Self::BadName { .. }
            | Self::LongEnvironment { .. }
            | Self::Unplaced { .. }
            | Self::NameTaken { .. }
            | Self::TooMany { .. }
            | Self::OtherNamespace { .. } => true,
            Self::Proc { .. } | Self::Pidfd { .. } => false,
        }
    }

    /// Whether the kernel denied access. False if the process is gone or `/proc` is broken.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Proc { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
            Self::Pidfd { .. }
            | Self::BadName { .. }
            | Self::LongEnvironment { .. }
            | Self::Unplaced { .. }
            | Self::NameTaken { .. }
            | Self::TooMany { .. }
            | Self::OtherNamespace { .. } => false,
        }
    }
}

/// Text from outside, escaped and shortened for a line of log.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MOST_SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.escape_debug().to_string()
}

/// The reason of processes that the API does not name.
pub(super) const UNPLACED: &str = "unplaced";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_name_is_shown_short_and_escaped() {
        let value = format!("\u{1b}[2J\r\n\u{202e}{}", "x".repeat(120_000));
        let error = DiscoveryError::bad_name(7, "POD_NAME", &value).to_string();
        assert!(
            error.contains("process 7 has POD_NAME=\"\\u{1b}[2J\\r\\n\\u{202e}xxx"),
            "{error}"
        );
        assert!(
            error.len() < 300 && !error.contains(char::is_control),
            "{error}"
        );
    }
}
