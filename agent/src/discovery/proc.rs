//! Reading `/proc`. A process may end at any moment; that is `None` and not an error.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use rustix::{
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};

use super::error::DiscoveryError;

/// The environment that a process was executed with, or the beginning of a long one.
pub(super) struct Environment {
    bytes: Vec<u8>,
    /// Whether the rest was not read.
    cut: bool,
}

impl Environment {
    /// Reads the first [`LONGEST_ENVIRONMENT`] bytes. A variable that is cut there is left out.
    fn read(from: impl io::Read) -> io::Result<Self> {
        let mut bytes = Vec::new();
        let mut limited = from.take(LONGEST_ENVIRONMENT);
        limited.read_to_end(&mut bytes)?;
        let cut = limited.limit() == 0;
        if cut {
            let end = bytes.iter().rposition(|byte| *byte == 0);
            bytes.truncate(end.unwrap_or_default());
        }
        Ok(Self { bytes, cut })
    }

    /// Whether variables may be missing because they were not read.
    pub(super) const fn is_cut(&self) -> bool {
        self.cut
    }

    /// The value of a variable; `None` if it is unset, empty or not UTF-8.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.bytes.split(|byte| *byte == 0).find_map(|entry| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            let value = str::from_utf8(value).ok()?;
            (!value.is_empty()).then(|| value.to_owned())
        })
    }
}

/// A process may be executed with megabytes of environment (execve(2)). An activator's is a few
/// kilobytes; even the service links of a thousand Services are less than this.
pub(super) const LONGEST_ENVIRONMENT: u64 = 64 * 1024;

/// The ids of all processes.
pub(super) fn pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// The name of a process; `None` if it is gone.
pub(super) fn comm(pid: u32) -> Option<Vec<u8>> {
    let mut comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
    comm.pop_if(|last| *last == b'\n');
    Some(comm)
}

/// A time in `/proc`: clock ticks since boot, suspension included (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BootTicks(u64);

impl BootTicks {
    /// The number of ticks.
    pub(crate) const fn ticks(self) -> u64 {
        self.0
    }

    /// The current moment.
    pub(crate) fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        // CLOCK_BOOTTIME is never negative.
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
        let rate = clock_ticks_per_second();
        let of_second = nanoseconds.saturating_mul(rate) / 1_000_000_000;
        Self(seconds.saturating_mul(rate).saturating_add(of_second))
    }
}

/// When a process was started; `None` if it is gone.
pub(crate) fn started(pid: u32) -> Option<BootTicks> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    started_of(&stat)
}

/// Whether a process was started by then; false for one that is gone.
pub(crate) fn was_started_by(pid: u32, moment: BootTicks) -> bool {
    started(pid).is_some_and(|started| started <= moment)
}

fn started_of(stat: &str) -> Option<BootTicks> {
    // The name, in parentheses, may hold any character. The 22nd field is the 20th after it
    // (proc(5)).
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    Some(BootTicks(ticks))
}

/// Whether the processes of the whole node are visible: then the kernel's threads are.
pub(super) fn shows_the_node() -> bool {
    comm(statlink_ebpf::KTHREADD).as_deref() == Some(b"kthreadd")
}

/// The control groups of a process, as text; `None` if it is gone. A group may have any bytes for a name.
pub(super) fn cgroup(pid: u32) -> Option<String> {
    let groups = fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    Some(String::from_utf8_lossy(&groups).into_owned())
}

/// The environment of a process; `None` if it is gone.
pub(super) fn environment(pid: u32) -> Result<Option<Environment>, DiscoveryError> {
    let path = format!("/proc/{pid}/environ");
    let read = File::open(&path).and_then(Environment::read);
    // A process that is exiting has no memory left, so its environment reads as empty.
    none_if_gone(path, read).map(|found| found.filter(|it| it.cut || !it.bytes.is_empty()))
}

/// Inode number of a process's network namespace; `None` if it is gone.
///
/// Reads the link's text instead of following it. Without permission to follow it, stat() on
/// 5.10.262 returns the inode of the containing directory, and readlink() nothing.
pub(super) fn network_namespace(pid: u32) -> Result<Option<u32>, DiscoveryError> {
    let path = format!("/proc/{pid}/ns/net");
    let inode = fs::read_link(&path).and_then(|link| {
        namespace_inode(&link).ok_or_else(|| io::Error::from(io::ErrorKind::PermissionDenied))
    });
    none_if_gone(path, inode)
}

/// The number in `net:[4026531840]`, as `ns_get_name()` of `fs/nsfs.c` writes it.
fn namespace_inode(link: &Path) -> Option<u32> {
    let name = link.to_str()?.strip_prefix("net:[")?;
    name.strip_suffix(']')?.parse().ok()
}

fn none_if_gone<T>(path: String, read: io::Result<T>) -> Result<Option<T>, DiscoveryError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(source) => Err(DiscoveryError::Proc { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_namespace_that_may_not_be_followed_is_none() {
        let inode = |link: &str| namespace_inode(Path::new(link));
        assert_eq!(inode("net:[4026531840]"), Some(4_026_531_840));
        for other in [
            "",
            "pid:[4026531836]",
            "/proc/1/ns",
            "net:[]",
            "net:[99999999999]",
        ] {
            assert_eq!(inode(other), None, "{other}");
        }
        let own = network_namespace(std::process::id()).unwrap();
        let metadata = fs::metadata("/proc/self/ns/net").unwrap();
        assert_eq!(own.map(u64::from), Some(metadata.ino()));
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let bytes = &b"POD_NAME_X=no\0XPOD_NAME=no\0POD_NAME=a=b\0EMPTY=\0"[..];
        let environment = Environment::read(bytes).unwrap();
        assert_eq!(environment.get("POD_NAME").as_deref(), Some("a=b"));
        assert_eq!(environment.get("EMPTY"), None);
        assert_eq!(environment.get("POD"), None);
    }

    #[test]
    fn a_value_that_is_not_text_is_none() {
        let environment = Environment::read(&b"POD_NAME=\xff\0"[..]).unwrap();
        assert_eq!(environment.get("POD_NAME"), None);
    }

    #[test]
    fn no_more_than_the_beginning_of_a_long_environment_is_read() {
        // Reading all of this endless input would never return.
        let endless = b"POD_NAME=a\0LONG=".chain(io::repeat(b'x'));
        let environment = Environment::read(endless).unwrap();
        assert!(environment.is_cut());
        assert_eq!(environment.get("POD_NAME").as_deref(), Some("a"));
        assert_eq!(environment.get("LONG"), None);
        let whole = Environment::read(&b"POD_NAME=a\0"[..]).unwrap();
        assert!(!whole.is_cut());
    }

    #[test]
    fn the_start_of_a_process_is_read_whatever_it_is_called() {
        let fields = "S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        for name in ["activator", "a) S 1 (b", ""] {
            assert_eq!(
                started_of(&format!("7 ({name}) {fields}")),
                Some(BootTicks(4711))
            );
        }
        assert_eq!(started_of("7 (activator) S 1"), None);
        assert_eq!(started_of(""), None);
    }

    #[test]
    fn this_process_is_found() {
        let pid = std::process::id();
        assert!(was_started_by(pid, BootTicks::now()));
        assert!(!was_started_by(pid, BootTicks(0)));
        assert!(pids().unwrap().contains(&pid));
        assert!(comm(pid).is_some());
        assert!(network_namespace(pid).unwrap().is_some());
    }

    #[test]
    fn a_process_that_is_gone_is_none() {
        let gone = u32::MAX;
        assert!(comm(gone).is_none() && started(gone).is_none());
        assert!(!was_started_by(gone, BootTicks::now()));
        assert!(environment(gone).unwrap().is_none());
        assert!(network_namespace(gone).unwrap().is_none());
    }
}
