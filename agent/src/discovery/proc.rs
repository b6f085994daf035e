//! Reading `/proc`. A process may end at any moment; that is `None` and not an error.

use std::{fs, io, os::unix::fs::MetadataExt as _};

use super::error::DiscoveryError;

/// The environment that a process was executed with.
pub(super) struct Environment(Vec<u8>);

impl Environment {
    /// The value of a variable; `None` if it is unset, empty or not UTF-8.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.split(|byte| *byte == 0).find_map(|entry| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            let value = str::from_utf8(value).ok()?;
            (!value.is_empty()).then(|| value.to_owned())
        })
    }
}

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

/// The control groups of a process, as text; `None` if it is gone.
pub(super) fn cgroup(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()
}

/// The environment of a process; `None` if it is gone.
pub(super) fn environment(pid: u32) -> Result<Option<Environment>, DiscoveryError> {
    let path = format!("/proc/{pid}/environ");
    let read = fs::read(&path).map(Environment);
    // A process that is exiting has no memory left, so its environment reads as empty.
    none_if_gone(path, read).map(|found| found.filter(|environment| !environment.0.is_empty()))
}

/// Inode number of a process's network namespace; `None` if it is gone.
pub(super) fn network_namespace(pid: u32) -> Result<Option<u32>, DiscoveryError> {
    let path = format!("/proc/{pid}/ns/net");
    let inode = fs::metadata(&path).and_then(|metadata| {
        u32::try_from(metadata.ino()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    });
    none_if_gone(path, inode)
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
    use super::*;

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environment =
            Environment(b"POD_NAME_X=no\0XPOD_NAME=no\0POD_NAME=a=b\0EMPTY=\0".to_vec());
        assert_eq!(environment.get("POD_NAME").as_deref(), Some("a=b"));
        assert_eq!(environment.get("EMPTY"), None);
        assert_eq!(environment.get("POD"), None);
    }

    #[test]
    fn a_value_that_is_not_text_is_none() {
        let environment = Environment(b"POD_NAME=\xff\0".to_vec());
        assert_eq!(environment.get("POD_NAME"), None);
    }

    #[test]
    fn this_process_is_found() {
        let pid = std::process::id();
        assert!(pids().unwrap().contains(&pid));
        assert!(comm(pid).is_some());
        assert!(network_namespace(pid).unwrap().is_some());
    }

    #[test]
    fn a_process_that_is_gone_is_none() {
        let gone = u32::MAX;
        assert!(comm(gone).is_none());
        assert!(environment(gone).unwrap().is_none());
        assert!(network_namespace(gone).unwrap().is_none());
    }
}
