//! A program of the test bed: its output line by line, its signals, its end.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, kill_process, set_parent_process_death_signal};
use serde_json::Value;

pub use rustix::process::Signal;

use crate::wait;

/// A running program, killed on drop and, at the latest, with the thread that spawned it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
}

/// One line that a program printed, on either stream.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was read.
    pub arrived: SystemTime,
    /// Its text.
    pub text: String,
    /// Its content, where it is JSON.
    pub json: Value,
}

#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Vec<Line>>,
    more: Condvar,
}

/// Whether a process runs; a zombie does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

// === impl Process ===

impl Process {
    /// Starts `command`, called `name` in messages.
    pub fn spawn(name: impl Into<String>, mut command: Command) -> Result<Self> {
        let name = name.into();
        let with_parent = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: between fork and exec the closure makes one system call; it neither allocates
        // nor locks.
        unsafe { command.pre_exec(with_parent) };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {name}: {command:?}"))?;
        let output = Arc::<Output>::default();
        if let Some(stdout) = child.stdout.take() {
            output.follow(stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            output.follow(stderr);
        }
        Ok(Self {
            name,
            child,
            output,
        })
    }

    /// Its name in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to its standard input.
    pub fn say(&mut self, line: &str) -> Result<()> {
        let to = self.child.stdin.as_mut();
        let to = to.with_context(|| format!("{} listens no more", self.name))?;
        writeln!(to, "{line}").with_context(|| format!("say {line:?} to {}", self.name))
    }

    /// Every line so far.
    pub fn lines(&self) -> Vec<Line> {
        self.output.lines().clone()
    }

    /// The lines after `mark`.
    pub fn lines_after(&self, mark: usize) -> Vec<Line> {
        let lines = self.output.lines();
        lines.get(mark..).unwrap_or_default().to_vec()
    }

    /// How many lines there are so far: what [`Process::wait_for_after`] starts from.
    pub fn mark(&self) -> usize {
        self.output.lines().len()
    }

    /// Waits for a line, printed before or from now on.
    pub fn wait_for(
        &mut self,
        what: &str,
        timeout: Duration,
        wanted: impl FnMut(&Line) -> bool,
    ) -> Result<Line> {
        self.wait_for_after(0, what, timeout, wanted)
    }

    /// Waits for a line printed after `mark`.
    pub fn wait_for_after(
        &mut self,
        mark: usize,
        what: &str,
        timeout: Duration,
        mut wanted: impl FnMut(&Line) -> bool,
    ) -> Result<Line> {
        let deadline = Instant::now() + timeout;
        let mut seen = mark;
        loop {
            // Read this before the lines, so that all lines of an ended program are seen.
            let ended = self.child.try_wait().context("ask for a program's end")?;
            let mut lines = self.output.lines();
            while let Some(line) = lines.get(seen) {
                if wanted(line) {
                    return Ok(line.clone());
                }
                seen += 1;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || (ended.is_some() && self.output.closed()) {
                drop(lines);
                bail!("no {what} within {timeout:?} from {}", self.describe());
            }
            let slice = left.min(Duration::from_millis(100));
            let waited = self.output.more.wait_timeout(lines, slice);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
            drop(lines);
        }
    }

    /// Waits for a JSON line with `"event": name`.
    pub fn wait_event(&mut self, name: &str, timeout: Duration) -> Result<Line> {
        self.wait_for(&format!("{name:?} event"), timeout, |line| {
            line.event() == Some(name)
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid())
            .ok()
            .and_then(Pid::from_raw)
            .context("no process id")?;
        kill_process(pid, signal).with_context(|| format!("send {signal:?} to {}", self.name))
    }

    /// SIGSTOP. The kernel continues to acknowledge for it.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGTERM, then its end.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(timeout)
    }

    /// SIGKILL, then its end.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child
            .kill()
            .with_context(|| format!("kill {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("wait for {}", self.name))
    }

    /// Waits for its end.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().context("wait for a program")? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("no end within {timeout:?} of {}", self.describe());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until all that an ended program printed was read.
    pub fn wait_all_read(&self, timeout: Duration) -> Result<()> {
        wait::until("end of the output", timeout, || {
            Ok(self.output.closed().then_some(()))
        })
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Name, state and last lines, for messages.
    pub fn describe(&mut self) -> String {
        let state = match self.child.try_wait() {
            Ok(None) => "running".to_owned(),
            Ok(Some(status)) => status.to_string(),
            Err(e) => e.to_string(),
        };
        let lines = self.output.lines();
        let tail = lines
            .get(lines.len().saturating_sub(15)..)
            .unwrap_or_default();
        let tail: String = tail
            .iter()
            .map(|line| format!("\n    {}", line.text))
            .collect();
        format!(
            "{} (pid {}, {state}); its last lines:{tail}",
            self.name,
            self.child.id()
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill(); // it may have ended
    }
}

// === impl Line ===

impl Line {
    /// The value of `event`.
    pub fn event(&self) -> Option<&str> {
        self.get("event").as_str()
    }

    /// A field of the JSON; null where there is none.
    pub fn get(&self, field: &str) -> &Value {
        self.json.get(field).unwrap_or(&Value::Null)
    }

    /// When it happened, according to the program: `time` of the peers, `at` of the agent.
    pub fn time(&self) -> Option<SystemTime> {
        let seconds = self
            .get("time")
            .as_f64()
            .or_else(|| self.get("at").as_f64())?;
        Some(SystemTime::UNIX_EPOCH + Duration::try_from_secs_f64(seconds).ok()?)
    }
}

// === impl Output ===

impl Output {
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        let output = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { break };
                let text = String::from_utf8_lossy(&line).into_owned();
                let json = serde_json::from_str(&text).unwrap_or(Value::Null);
                output.lines().push(Line {
                    arrived: SystemTime::now(),
                    text,
                    json,
                });
                output.more.notify_all();
            }
        });
    }

    /// Whether both streams were read to their ends.
    fn closed(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
