//! The content of a guest: Debian's small programs, our own, real peers, and an init.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::{archive::Archive, debian::Apt};
use crate::{arch::Arch, process, stage, workspace::Workspace};

/// The programs of this workspace, and the peers, for guests of one architecture.
#[derive(Debug)]
pub(super) struct Programs {
    agent: PathBuf,
    /// The directory of the judge and the campaign.
    ours: PathBuf,
    /// activator, autoscaler and otelcol.
    peers: Vec<PathBuf>,
    /// Debian's programs, unpacked.
    debian: PathBuf,
    arch: Arch,
}

impl Programs {
    /// Builds and fetches what is missing. Another agent than this workspace's may be named.
    pub(super) fn build(
        arch: Arch,
        agent: Option<&Path>,
        apt: &Apt,
        workspace: &Workspace,
    ) -> Result<Self> {
        let debian = workspace.target.join("vm").join(format!("debian-{arch}"));
        let packages: Vec<_> = PACKAGES
            .iter()
            .map(|package| format!("{package}:{arch}/bookworm"))
            .collect();
        apt.unpack(&packages, &debian)?;
        // Not all of that package's: most run on the test bed's own machine.
        let mut what = vec!["--package=statlink-tests"];
        what.extend(OURS.iter().flat_map(|program| ["--bin", *program]));
        let ours = build(&what, arch, workspace)?;
        let agent = match agent {
            Some(agent) => agent.to_owned(),
            None => build(&["--package=statlink"], arch, workspace)?.join("statlink"),
        };
        Ok(Self {
            agent,
            ours,
            peers: peers(arch, workspace)?,
            debian,
            arch,
        })
    }

    /// The file system of a guest that runs `script` with these modules.
    pub(super) fn archive(&self, modules: &[(String, Vec<u8>)], script: &str) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        archive.file("init", INIT.as_bytes());
        archive.file("script", script.as_bytes());
        for directory in ["proc", "sys", "dev", "run", "tmp", "etc"] {
            archive.directory(directory);
        }
        let mut order = String::new();
        for (name, data) in modules {
            archive.file(&format!("modules/{name}.ko"), data);
            order.push_str(name);
            order.push('\n');
        }
        archive.file("modules/order", order.as_bytes());
        archive.file("bin/busybox", &read(&self.debian.join("bin/busybox"))?);
        for applet in APPLETS {
            archive.link(&format!("bin/{applet}"), "busybox");
        }
        self.debian_programs(&mut archive)?;

        archive.file("bed/statlink", &read(&self.agent)?);
        for program in OURS {
            archive.file(&format!("bed/{program}"), &read(&self.ours.join(program))?);
        }
        for program in &self.peers {
            let name = program.file_name().and_then(|name| name.to_str());
            let name = name.with_context(|| format!("{} has no name", program.display()))?;
            archive.file(&format!("bed/{name}"), &read(program)?);
        }
        Ok(archive.finish())
    }

    /// Adds them with the libraries that they load, directly or not.
    fn debian_programs(&self, archive: &mut Archive) -> Result<()> {
        // Another agent than ours may load libraries.
        let mut wanted = needed_libraries(&self.agent)?;
        for program in PROGRAMS {
            let path = self.debian.join(program);
            archive.file(program, &read(&path)?);
            wanted.extend(needed_libraries(&path)?);
        }
        let multiarch = self.arch.multiarch();
        let places = [format!("lib/{multiarch}"), format!("usr/lib/{multiarch}")];
        let mut known = BTreeSet::new();
        while let Some(library) = wanted.pop() {
            if !known.insert(library.clone()) {
                continue;
            }
            let path = places
                .iter()
                .map(|place| self.debian.join(place).join(&library))
                .find(|path| path.is_file());
            let path = path.with_context(|| format!("no package of the guest's has {library}"))?;
            archive.file(&format!("lib/{multiarch}/{library}"), &read(&path)?);
            wanted.extend(needed_libraries(&path)?);
        }
        // The path at which programs expect the dynamic linker.
        match self.arch {
            Arch::Amd64 => archive.link(
                "lib64/ld-linux-x86-64.so.2",
                "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
            ),
            Arch::Arm64 => archive.link(
                "lib/ld-linux-aarch64.so.1",
                "/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1",
            ),
        }
        Ok(())
    }
}

/// Builds static programs of this workspace; returns their directory.
fn build(what: &[&str], arch: Arch, workspace: &Workspace) -> Result<PathBuf> {
    let target = workspace.target.join("guest");
    let mut cargo = workspace.cargo(&["build", "--locked", "--profile=guest"]);
    arch.target(&mut cargo)?;
    cargo.arg("--target-dir").arg(&target).args(what);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    cargo.env_remove("RUSTFLAGS");
    process::run(
        &format!("build the guest's programs for {arch}"),
        &mut cargo,
    )?;
    Ok(target.join(arch.triple()).join("guest"))
}

/// The peers in the test bed's directory; builds them if they are missing.
fn peers(arch: Arch, workspace: &Workspace) -> Result<Vec<PathBuf>> {
    // Go and Debian use the same names for these architectures.
    let printed = stage::parts(arch.debian(), workspace)?;
    let peers: Vec<_> = printed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, path)| PathBuf::from(path.trim()))
        .collect();
    ensure!(peers.len() == 3, "the test bed built no peers: {printed}");
    Ok(peers)
}

/// The libraries that a program or a library loads.
fn needed_libraries(program: &Path) -> Result<Vec<String>> {
    let text = process::capture(Command::new("readelf").arg("--dynamic").arg(program))?;
    Ok(needed(&text))
}

/// Reads the output of `readelf --dynamic`.
fn needed(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once("(NEEDED)")?;
        let (_, name) = rest.split_once('[')?;
        Some(name.trim_end().strip_suffix(']')?.to_owned())
    });
    names.collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// The programs of this workspace, besides the agent.
const OURS: &[&str] = &["guest", "campaign", "test_client", "bad_server"];

/// From Debian 12, whose programs work with every kernel of the matrix.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "nftables",
    "libnftables1",
    "libnftnl11",
    "libjansson4",
    "libgmp10",
    "libedit2",
    "libtinfo6",
    "libmd0",
    "iproute2",
    "libmnl0",
    "libxtables12",
    "libbpf1",
    "libelf1",
    "zlib1g",
    "libcap2",
    "libselinux1",
    "libpcre2-8-0",
    "libbsd0",
    "libtirpc3",
    "libgssapi-krb5-2",
    "libkrb5-3",
    "libk5crypto3",
    "libkrb5support0",
    "libcom-err2",
    "libkeyutils1",
    "libssl3",
    "util-linux",
    "libcap-ng0",
    "libc6",
    "libgcc-s1",
];

/// The programs that the bed calls, at their paths in the packages.
const PROGRAMS: &[&str] = &[
    "bin/ip",
    "bin/ss",
    "sbin/tc",
    "usr/sbin/nft",
    "usr/bin/setpriv",
];

/// The busybox applets that the init, the bed and a person at the prompt use.
const APPLETS: &[&str] = &[
    "sh", "mount", "umount", "mkdir", "insmod", "cat", "ls", "ps", "echo", "cp", "dmesg",
    "poweroff", "cttyhack", "setsid", "sleep", "grep", "head", "tail", "kill", "env", "vi",
    "sysctl", "id", "ln", "rm",
];

/// The guest ends whatever happens, because nobody watches it.
const INIT: &str = r#"#!/bin/sh
export PATH=/bed:/bin:/sbin:/usr/bin:/usr/sbin HOME=/tmp
export STATLINK_BIN=/bed/statlink STATLINK_TEST_PARTS=/bed
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
while read -r module; do
    insmod "/modules/$module.ko" || failed=yes
done </modules/order
ip link set lo up
# What systemd gives a service; kernels before 5.11 charge maps to it, and 5.10 itself gives 64 KiB.
ulimit -l 8192
# The kernel's own lines would cut those of the programs in two.
echo 1 >/proc/sys/kernel/printk
# Without one of its modules a guest would show something else than its kernel.
[ -z "$failed" ] && sh /script
status=$?
echo
echo "@exit $status"
poweroff -f
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needed_libraries_are_read() {
        let text = " 0x0000000000000001 (NEEDED)             Shared library: [libmnl.so.0]\n \
                    0x000000000000000e (SONAME)             Library soname: [x.so]\n";
        assert_eq!(needed(text), ["libmnl.so.0"]);
    }
}
