//! A bpffs of a test's own, in which agents pin what outlives them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use crate::scratch;

/// Mounted for as long as this lives. What is pinned in it goes with it.
#[derive(Debug)]
pub struct Bpffs {
    directory: TempDir,
}

impl Bpffs {
    /// Mounts one.
    pub fn mount() -> Result<Self> {
        let directory = scratch::directory("bpffs")?;
        let at = directory.path().join(scratch::MOUNTED);
        fs::create_dir(&at).context("make a mount point")?;
        mount(
            "bpf",
            &at,
            "bpf",
            MountFlags::NODEV | MountFlags::NOSUID,
            None,
        )
        .context("mount a bpffs")?;
        Ok(Self { directory })
    }

    /// Where agents of this test pin: not there before the first one makes it.
    pub fn pins(&self) -> PathBuf {
        self.root().join("statlink")
    }

    /// Its root.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join(scratch::MOUNTED)
    }

    /// The only directory of a format, if there is one.
    pub fn format(&self) -> Result<Option<PathBuf>> {
        let pins = self.pins();
        if !pins.exists() {
            return Ok(None);
        }
        let mut found = children(&pins)?;
        anyhow::ensure!(found.len() <= 1, "several formats: {found:?}");
        Ok(found.pop())
    }

    /// The kernel's ids of the pinned programs, in the order of their names.
    pub fn programs(&self) -> Result<Vec<u32>> {
        let programs = self.pinned("prog_")?.into_iter();
        programs
            .map(|path| Ok(aya::programs::ProgramInfo::from_pin(path)?.id()))
            .collect()
    }

    /// The same of the maps.
    pub fn maps(&self) -> Result<Vec<u32>> {
        let maps = self.pinned("map_")?.into_iter();
        maps.map(|path| Ok(aya::maps::MapInfo::from_pin(path)?.id()))
            .collect()
    }

    /// The pins whose names begin so.
    pub fn pinned(&self, prefix: &str) -> Result<Vec<PathBuf>> {
        let format = self.format()?.context("nothing is pinned")?;
        let mut pins = children(&format)?;
        pins.retain(|path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().starts_with(prefix)
        });
        Ok(pins)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // Else the next run does.
        let _ = unmount(self.root(), UnmountFlags::DETACH);
    }
}

fn children(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
