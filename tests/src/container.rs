//! A pod's container, as the kernel sees it: a control group with the kubelet's name.

use std::{
    fs::{self, File},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::wait;

/// A container's control group, removed on drop.
#[derive(Debug)]
pub struct Container {
    group: PathBuf,
    /// Its id, as a container runtime would report it.
    pub id: String,
}

impl Container {
    /// A container of the pod with this uid, named as the kubelet's cgroupfs driver does.
    pub fn new(pod_uid: &str) -> Result<Self> {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:032x}{serial:032x}", std::process::id());
        let group = unified()?.join(format!("kubepods/pod{pod_uid}/{id}"));
        fs::create_dir_all(&group).with_context(|| format!("create {}", group.display()))?;
        Ok(Self { group, id })
    }

    /// Its cgroup.
    pub fn group(&self) -> &Path {
        &self.group
    }

    /// Makes `command` start in it, so that its first instruction already runs there, as under a
    /// container runtime.
    pub fn hold(&self, command: &mut Command) -> Result<()> {
        let path = self.group.join(MEMBERS);
        let members = File::options().write(true).open(&path);
        let members = members.with_context(|| format!("open {}", path.display()))?;
        let enter = move || {
            // 0 is the writing process.
            rustix::io::write(members.as_fd(), b"0")?;
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes one system call on a descriptor that it
        // keeps open; it neither allocates nor locks.
        unsafe { command.pre_exec(enter) };
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // A group is busy until its last process has been reaped.
        let gone = || Ok(fs::remove_dir(&self.group).ok());
        if let Err(error) = wait::until("idle control group", Duration::from_secs(2), gone) {
            eprintln!("testbed: {} stays: {error}", self.group.display());
            return;
        }
        // The pod's group goes with its last container, the node's with its last pod.
        for group in self.group.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(group);
        }
    }
}

/// Where the unified hierarchy is mounted.
fn unified() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    for mount in mounts.lines() {
        let mut fields = mount.split(' ');
        if let (Some(_), Some(place), Some("cgroup2")) =
            (fields.next(), fields.next(), fields.next())
        {
            return Ok(PathBuf::from(place));
        }
    }
    bail!("no cgroup2 is mounted")
}

const MEMBERS: &str = "cgroup.procs";
