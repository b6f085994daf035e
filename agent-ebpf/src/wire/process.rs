//! Processes, and how to match their names.

/// Bytes of a task's `comm`, terminator included (`TASK_COMM_LEN`, `include/linux/sched.h`).
pub const COMM_LEN: usize = 16;

/// The most process names that can be watched: the activator's, and the autoscaler's for the links
/// on which autoscalers forward to each other.
pub const COMMS: usize = 2;

/// Process id of `kthreadd`, the parent of the kernel's threads, in the initial pid namespace. It is
/// always in the host's namespaces (`rest_init()`, `init/main.c`).
pub const KTHREADD: u32 = 2;

/// One process, as the `namespaces` iterator writes it: one of a watched name, or [`KTHREADD`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Process {
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Inode number of its network namespace; 0 if the process is ending and has left it.
    pub netns: u32,
}

impl Process {
    /// Reads one process.
    pub const fn from_bytes(bytes: [u8; size_of::<Self>()]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            tgid: u32::from_ne_bytes([a, b, c, d]),
            netns: u32::from_ne_bytes([e, f, g, h]),
        }
    }
}

const _: () = assert!(size_of::<Process>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_takes_eight_bytes() {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&7_u32.to_ne_bytes());
        bytes[4..].copy_from_slice(&4_026_531_840_u32.to_ne_bytes());
        let process = Process {
            tgid: 7,
            netns: 4_026_531_840,
        };
        assert_eq!(Process::from_bytes(bytes), process);
    }
}
