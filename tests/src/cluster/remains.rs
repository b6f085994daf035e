//! Removes what a node leaves on its machine: processes, mounts, cgroups, files.

use std::{
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    mount::{UnmountFlags, unmount},
    process::{Pid, Signal, kill_process},
};

use crate::process::is_alive;

/// The name of this process's node, and of its directory, cgroup and CNI network.
pub(super) fn own_name() -> String {
    format!("{PREFIX}{}", std::process::id())
}

/// The directory of this node's files: a short path, because it also contains sockets.
pub(super) fn directory(name: &str) -> PathBuf {
    std::env::temp_dir().join(name)
}

/// The cgroups of this name in every mounted hierarchy.
pub(super) fn cgroups(name: &str) -> Vec<PathBuf> {
    let mounts = mount_points(|kind| kind == "cgroup" || kind == "cgroup2");
    mounts.into_iter().map(|root| root.join(name)).collect()
}

/// Removes what killed runs left.
pub(super) fn sweep() {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let owner = name.strip_prefix(PREFIX).map(str::parse::<u32>);
        if let Some(Ok(owner)) = owner
            && !is_alive(owner)
        {
            eprintln!("testbed: removing what run {owner} left of its cluster");
            remove(&name);
        }
    }
}

/// Removes everything of the node with this name. Its own daemons must be ending or dead.
pub(super) fn remove(name: &str) {
    let directory = directory(name);
    let deadline = Instant::now() + PATIENCE;
    // Again until none is left: a shim whose container dies may start another program.
    loop {
        let left = processes(name, &directory);
        if left.is_empty() || Instant::now() >= deadline {
            break;
        }
        for pid in left {
            let _ = kill_process(pid, Signal::KILL); // it may have ended
        }
        thread::sleep(Duration::from_millis(20));
    }
    // The last mount first: it may be on top of another.
    for point in mount_points(|_| true).iter().rev() {
        if point.starts_with(&directory) {
            let _ = unmount(point.as_path(), UnmountFlags::DETACH);
        }
    }
    for point in mounts(|source, _| source == name) {
        let _ = unmount(point.as_path(), UnmountFlags::DETACH);
    }
    let is_busy = || !cgroups(name).iter().all(|group| remove_group(group));
    while is_busy() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    remove_stray_files(name, &directory);
    let _ = fs::remove_dir_all(&directory);

    let left: Vec<_> = cgroups(name)
        .into_iter()
        .chain([directory])
        .filter(|path| path.exists())
        .collect();
    if !left.is_empty() {
        eprintln!("testbed: a cluster left behind: {left:?}");
    }
}

/// The processes in the node's cgroups, and shims, whose command line has the node's directory.
pub(super) fn processes(name: &str, directory: &Path) -> Vec<Pid> {
    let mut found = Vec::new();
    for group in cgroups(name) {
        members(&group, &mut found);
    }
    let needle = format!("{}/", directory.display());
    let me = std::process::id();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|pid| pid.parse::<u32>().ok())
        else {
            continue;
        };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_shim = String::from_utf8_lossy(&command).contains(&needle);
        if pid != me && is_shim {
            found.extend(i32::try_from(pid).ok().and_then(Pid::from_raw));
        }
    }
    found
}

fn members(group: &Path, to: &mut Vec<Pid>) {
    let pids = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    to.extend(
        pids.lines()
            .filter_map(|pid| pid.parse().ok())
            .filter_map(Pid::from_raw),
    );
    for child in children(group) {
        members(&child, to);
    }
}

/// Removes a group with all its children; returns whether it is gone.
fn remove_group(group: &Path) -> bool {
    for child in children(group) {
        remove_group(&child);
    }
    let _ = fs::remove_dir(group); // busy until its last process is reaped
    !group.exists()
}

fn children(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Removes the files of kubelet, CNI and shims that have fixed places.
fn remove_stray_files(name: &str, directory: &Path) {
    // The name of a shim's socket is a hash; its bundle has it.
    let bundles = directory.join("containerd/state/io.containerd.runtime.v2.task/k8s.io");
    for bundle in children(&bundles) {
        let address = fs::read_to_string(bundle.join("address")).unwrap_or_default();
        if let Some(socket) = address.strip_prefix("unix://") {
            let _ = fs::remove_file(socket);
        }
    }
    let logs = fs::read_dir("/var/log/containers").into_iter().flatten();
    for link in logs.flatten().map(|entry| entry.path()) {
        if fs::read_link(&link).is_ok_and(|target| target.starts_with(directory)) {
            let _ = fs::remove_file(&link);
        }
    }
    let results = fs::read_dir("/var/lib/cni/results").into_iter().flatten();
    for result in results.flatten() {
        if result.file_name().as_bytes().starts_with(name.as_bytes()) {
            let _ = fs::remove_file(result.path());
        }
    }
}

/// Mount points of file systems of a kind, in the order in which they were mounted.
fn mount_points(wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    mounts(|_, kind| wanted(kind))
}

/// The mounts with a wanted source and kind.
fn mounts(wanted: impl Fn(&str, &str) -> bool) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut points = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        if let (Some(source), Some(point), Some(kind)) =
            (fields.next(), fields.next(), fields.next())
            && wanted(source, kind)
        {
            // The kernel writes a space as \040; there is none in ours.
            points.push(PathBuf::from(point));
        }
    }
    points
}

/// Followed by the process id of the run that owns the node.
const PREFIX: &str = "statlink-cluster-";

const PATIENCE: Duration = Duration::from_secs(10);
