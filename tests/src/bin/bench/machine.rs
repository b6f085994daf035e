//! The machine of a run: a figure of time means nothing without it.

use std::{fs, process::Command, time::SystemTime};

use serde_json::{Value, json};

/// The machine, the build, and the load by others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Machine {
    kernel: String,
    cpus: usize,
    /// The load of the last minute before the run.
    load: String,
    /// The commit of the source tree; `-dirty` with uncommitted changes.
    commit: String,
    /// Seconds since 1970.
    time: u64,
}

impl Machine {
    /// The present values.
    pub(crate) fn now() -> Self {
        let word = |path: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.split_whitespace().next().unwrap_or("?").to_owned()
        };
        Self {
            kernel: word("/proc/sys/kernel/osrelease"),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            load: word("/proc/loadavg"),
            commit: commit().unwrap_or_else(|| "?".to_owned()),
            time: SystemTime::UNIX_EPOCH
                .elapsed()
                .map_or(0, |since| since.as_secs()),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let Self {
            kernel,
            cpus,
            load,
            commit,
            time,
        } = self;
        json!({ "kernel": kernel, "cpus": cpus, "load": load, "commit": commit, "time": time })
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "commit {}, kernel {}, {} CPUs, load {} before the run",
            self.commit, self.kernel, self.cpus, self.load
        )
    }
}

fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=7"]);
    let output = git.current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success()).then(|| text.trim().to_owned())
}
