//! A process held by a pidfd.

use std::{io, os::fd::OwnedFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::io::unix::AsyncFd;

use super::error::DiscoveryError;

/// Holds one process. It stays that process even if the kernel gives its id to another.
#[derive(Debug)]
pub(crate) struct ProcessHandle(AsyncFd<OwnedFd>);

impl ProcessHandle {
    /// Opens process `pid`; `None` if there is none.
    pub(super) fn open(pid: u32) -> Result<Option<Self>, DiscoveryError> {
        let failed = |source| DiscoveryError::Pidfd { pid, source };
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let fd = match pidfd_open(raw, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        // SAFETY: the AsyncFd owns the descriptor and never gives it away.
        let registered = unsafe { AsyncFd::register(fd) };
        registered
            .map(|fd| Some(Self(fd)))
            .map_err(|error| failed(error.into()))
    }

    /// Whether the process has ended.
    pub(super) fn has_ended(&self) -> bool {
        const AT_ONCE: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(self.0.get_ref(), PollFlags::IN)];
        poll(&mut fds, Some(&AT_ONCE)).is_ok_and(|ready| ready > 0)
    }

    /// Returns once the process has ended.
    ///
    /// # Errors
    ///
    /// If the descriptor cannot be polled, which happens only when the runtime shuts down.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        // A pidfd becomes readable when its process ends, and stays so (pidfd_open(2)).
        self.0.readable().await.map(|_guard| ())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_seen_before_it_is_waited_for() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = ProcessHandle::open(child.id()).unwrap().unwrap();
        assert!(!process.has_ended());
        child.kill().unwrap();
        process.ended().await.unwrap();
        assert!(process.has_ended());
        child.wait().unwrap();
        assert!(ProcessHandle::open(child.id()).unwrap().is_none());
    }
}
