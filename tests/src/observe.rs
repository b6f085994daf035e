//! CPU time and memory of a process, by the kernel's own accounting.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use anyhow::{Context as _, Result};

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

    /// CPU time used so far, by its scheduler's account: `/proc/PID/schedstat` of each thread.
    pub fn cpu(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        let tasks = format!("/proc/{}/task", self.pid);
        for task in fs::read_dir(&tasks).context(tasks)? {
            let path = task?.path().join("schedstat");
            // A thread may end meanwhile.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let on_cpu = text.split_whitespace().next().unwrap_or_default();
            nanoseconds += on_cpu.parse::<u64>().with_context(|| text.clone())?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// The same with the time of ended threads, and coarser: `/proc/PID/stat` counts hundredths of
    /// a second (`USER_HZ`).
    pub fn cpu_of_all(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.pid);
        let text = fs::read_to_string(&path).context(path)?;
        // The name before may contain anything. utime and stime are fields 14 and 15 (proc_pid_stat(5)).
        let fields = text.rsplit(')').next().unwrap_or_default();
        let times = fields.split_whitespace().skip(11).take(2);
        let times = times.map(str::parse::<u64>).collect::<Result<Vec<_>, _>>();
        let ticks: u64 = times.with_context(|| text.clone())?.iter().sum();
        Ok(Duration::from_millis(ticks * 10))
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
