//! CPU time and memory of a process, by the kernel's own accounting.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// A process whose use of resources is measured.
#[derive(Debug)]
pub struct Observed {
    pid: u32,
}

impl Observed {
    /// The process with this id.
    pub fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// CPU time used so far, that of ended threads included.
    pub fn cpu(&self) -> Result<Duration> {
        let pid = libc::pid_t::try_from(self.pid)?;
        let mut clock = 0;
        // SAFETY: the call writes one clock id, for which there is room.
        let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
        ensure!(
            error == 0,
            "CPU clock of {pid}: {}",
            io::Error::from_raw_os_error(error)
        );
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the call writes one time, for which there is room.
        let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
        ensure!(
            result == 0,
            "CPU time of {pid}: {}",
            io::Error::last_os_error()
        );
        Ok(Duration::new(
            time.tv_sec.try_into()?,
            time.tv_nsec.try_into()?,
        ))
    }

    /// Resident memory.
    pub fn resident_mb(&self) -> Result<f64> {
        self.status("VmRSS").map(|kb| kb / 1024.0)
    }

    /// The memory that belongs to this process alone. The rest is pages of its executable and
    /// libraries, which stay in the page cache whether it runs or not, and which the kernel drops
    /// when memory is short.
    pub fn anonymous_mb(&self) -> Result<f64> {
        self.status("RssAnon").map(|kb| kb / 1024.0)
    }

    /// The peak of its resident memory.
    pub fn peak_mb(&self) -> Result<f64> {
        self.status("VmHWM").map(|kb| kb / 1024.0)
    }

    /// How many file descriptors it has.
    pub fn descriptors(&self) -> Result<usize> {
        let path = format!("/proc/{}/fd", self.pid);
        Ok(fs::read_dir(&path).context(path)?.count())
    }

    fn status(&self, field: &str) -> Result<f64> {
        let path = format!("/proc/{}/status", self.pid);
        let text = fs::read_to_string(&path).context(path)?;
        let value = field_of(&text, field).with_context(|| format!("no {field}"))?;
        Ok(value)
    }

    /// The ids of the BPF programs that it has open.
    pub fn programs(&self) -> Result<BTreeSet<u32>> {
        let directory = format!("/proc/{}/fdinfo", self.pid);
        let mut programs = BTreeSet::new();
        for entry in fs::read_dir(&directory).context(directory)? {
            // A descriptor may be closed meanwhile.
            let text = fs::read_to_string(entry?.path()).unwrap_or_default();
            if let Some(id) = id_of(&text, "prog_id") {
                programs.insert(id.parse().with_context(|| format!("prog_id {id}"))?);
            }
        }
        Ok(programs)
    }

    /// Kernel memory of the maps and of the programs that it has open: `memlock` of each descriptor
    /// (`Documentation/filesystems/proc.rst` and `bpf_map_show_fdinfo()`).
    pub fn kernel_kb(&self) -> Result<(f64, f64)> {
        let (mut maps, mut programs) = (BTreeMap::new(), BTreeMap::new());
        let directory = format!("/proc/{}/fdinfo", self.pid);
        for entry in fs::read_dir(&directory).context(directory)? {
            let Ok(text) = fs::read_to_string(entry?.path()) else {
                continue;
            };
            let Some(bytes) = field_of(&text, "memlock") else {
                continue;
            };
            // By id: the same one may be open twice.
            if let Some(id) = id_of(&text, "map_id") {
                maps.insert(id, bytes);
            } else if let Some(id) = id_of(&text, "prog_id") {
                programs.insert(id, bytes);
            }
        }
        let sum = |all: BTreeMap<String, f64>| all.into_values().sum::<f64>() / 1024.0;
        Ok((sum(maps), sum(programs)))
    }
}

/// A quantile by nearest rank; sorts the values.
pub fn quantile(values: &mut [f64], q: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank: positive, and no greater than the few values"
    )]
    let rank = (q * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

fn field_of(text: &str, field: &str) -> Option<f64> {
    id_of(text, field)?.parse().ok()
}

fn id_of(text: &str, field: &str) -> Option<String> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::{hint::black_box, process, thread, time::Instant};

    use super::*;

    #[test]
    fn what_a_thread_took_is_not_forgotten_at_its_end() {
        let this = Observed::new(process::id());
        let before = this.cpu().unwrap();
        let work = || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(50) {
                black_box(start);
            }
        };
        thread::spawn(work).join().unwrap();
        // On a busy machine it has a part of the time, but never none.
        assert!(this.cpu().unwrap() > before + Duration::from_micros(100));
    }
}
