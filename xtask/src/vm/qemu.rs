//! A guest from power-on to power-off.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::arch::Arch;

/// One boot.
#[derive(Debug)]
pub(super) struct Boot<'a> {
    pub(super) arch: Arch,
    pub(super) image: &'a Path,
    /// Additional parameters of the kernel.
    pub(super) line: &'a str,
    pub(super) processors: u8,
    /// Whether the guest runs in real time; otherwise idle time is skipped.
    pub(super) real_time: bool,
    /// The directory for the guest's file system and the serial log.
    pub(super) directory: &'a Path,
}

impl Boot<'_> {
    /// Boots with this file system, passes every line to `observe`, and returns the exit status of
    /// the guest's script. `None`: it did not get that far.
    pub(super) fn run(
        &self,
        archive: &[u8],
        limit: Duration,
        mut observe: impl FnMut(&str),
    ) -> Result<Option<i32>> {
        let initrd = self.write(archive)?;
        let log = self.serial_log();
        let mut log = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut child = self
            .command(&initrd)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start QEMU")?;
        let output = child.stdout.take().context("no serial line")?;
        let ended = Arc::new(AtomicBool::new(false));
        let begin = Instant::now();
        let guard = {
            let ended = Arc::clone(&ended);
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) && begin.elapsed() < limit {
                    thread::park_timeout(Duration::from_millis(200));
                    if child.try_wait().ok().flatten().is_some() {
                        break;
                    }
                }
                let in_time = begin.elapsed() < limit;
                let _ = child.kill();
                let _ = child.wait();
                in_time
            })
        };
        let mut status = None;
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            // With the host's elapsed time, because the guest has a time of its own.
            writeln!(log, "[{:7.1}] {line}", begin.elapsed().as_secs_f64())
                .context("write the serial log")?;
            if let Some(exit) = line.strip_prefix("@exit ") {
                status = exit.trim().parse().ok();
            }
            observe(line);
        }
        ended.store(true, Ordering::Relaxed);
        guard.thread().unpark();
        let in_time = guard.join().unwrap_or(true);
        fs::remove_file(&initrd).with_context(|| format!("remove {}", initrd.display()))?;
        if !in_time {
            bail!("the guest ran longer than {} s", limit.as_secs());
        }
        Ok(status)
    }

    /// Boots with this terminal as the guest's.
    pub(super) fn attend(&self, archive: &[u8]) -> Result<()> {
        let initrd = self.write(archive)?;
        let status = self.command(&initrd).status().context("start QEMU")?;
        fs::remove_file(&initrd).with_context(|| format!("remove {}", initrd.display()))?;
        anyhow::ensure!(status.success(), "QEMU ended with {status}");
        Ok(())
    }

    pub(super) fn serial_log(&self) -> PathBuf {
        self.directory.join("serial.log")
    }

    fn write(&self, archive: &[u8]) -> Result<PathBuf> {
        fs::create_dir_all(self.directory)
            .with_context(|| format!("create {}", self.directory.display()))?;
        let initrd = self.directory.join("initrd");
        fs::write(&initrd, archive).with_context(|| format!("write {}", initrd.display()))?;
        Ok(initrd)
    }

    fn command(&self, initrd: &Path) -> Command {
        let (program, machine, console) = match self.arch {
            Arch::Amd64 => ("qemu-system-x86_64", ["pc", "Nehalem"], "ttyS0"),
            // 16-KiB pages need a CPU that supports them.
            Arch::Arm64 => (
                "qemu-system-aarch64",
                ["virt", "max,pauth-impdef=on"],
                "ttyAMA0",
            ),
        };
        let [machine, processor] = machine;
        let mut qemu = Command::new(program);
        qemu.args(["-machine", machine, "-cpu", processor])
            // KVM is not used: nested and software KVM crash stock kernels.
            .args(["-accel", "tcg,thread=single"])
            .args(["-m", MEMORY, "-smp", &self.processors.to_string()])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args(["-serial", "stdio"])
            .arg("-kernel")
            .arg(self.image)
            .arg("-initrd")
            .arg(initrd);
        if !self.real_time {
            // One instruction takes two nanoseconds; when everything waits, time jumps to the next
            // timer.
            qemu.args(["-icount", "shift=1,sleep=off"]);
            qemu.args(["-rtc", "clock=vm"]);
        }
        let line = format!(
            "console={console} quiet panic=-1 rdinit=/init {}",
            self.line
        );
        qemu.args(["-append", line.trim_end()]);
        qemu
    }
}

/// For a moment it contains the file system twice: packed and unpacked.
const MEMORY: &str = "1536M";
