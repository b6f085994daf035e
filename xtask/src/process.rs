//! Running other programs: each is announced, and a failure names the program and its status.

use std::{
    fmt::Write as _,
    io::{self, BufRead as _, BufReader, Read, Write},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// How often a silent program is reported as still running.
const BEAT: Duration = Duration::from_secs(10);

/// Runs a program that may be silent for long; its output goes where ours goes.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    announce(what, command);
    let (done, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let start = Instant::now();
            while ended.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("   … {what}: {}", seconds(start.elapsed()));
            }
        });
        // Dropping `done` stops the reports.
        let start = Instant::now();
        let status = command.status();
        drop(done);
        check(command, status)?;
        eprintln!("   done in {}", seconds(start.elapsed()));
        Ok(())
    })
}

/// Runs a program, and also passes its standard output line by line to `observe`.
pub(crate) fn run_observed(
    what: &str,
    command: &mut Command,
    observe: impl FnMut(&str),
) -> Result<()> {
    announce(what, command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start `{}`", line(command)))?;
    if let Some(output) = child.stdout.take() {
        tee(output, io::stdout(), observe).context("pass on what it prints")?;
    }
    check(command, child.wait())
}

/// Runs a quick program and returns what it prints.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start `{}`", line(command)))?;
    check(command, Ok(output.status))?;
    String::from_utf8(output.stdout).with_context(|| format!("read `{}`", line(command)))
}

/// Whether a quick program succeeds; it may not even exist.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Prints the command before it runs, so that any step can be repeated by hand.
pub(crate) fn announce(what: &str, command: &Command) {
    eprintln!("── {what}: {}", line(command));
}

/// A duration for people to read.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Copies `from` to `to` and passes each line to `observe`. By bytes: a test's output need not be
/// text.
fn tee(from: impl Read, mut to: impl Write, mut observe: impl FnMut(&str)) -> io::Result<()> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        observe(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
    Ok(())
}

fn check(command: &Command, status: io::Result<ExitStatus>) -> Result<()> {
    let status = status.with_context(|| format!("start `{}`", line(command)))?;
    ensure!(status.success(), "`{}` failed: {status}", line(command));
    Ok(())
}

/// The command as a shell would accept it, with the environment set for it.
fn line(command: &Command) -> String {
    let mut line = String::new();
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            let _ = write!(line, "{}={} ", key.display(), value.display());
        }
    }
    let program = Path::new(command.get_program());
    // The path of cargo inside a toolchain does not help a reader.
    let cargo = program.file_name().filter(|name| *name == "cargo");
    let _ = write!(line, "{}", cargo.unwrap_or(program.as_os_str()).display());
    for argument in command.get_args() {
        let _ = write!(line, " {}", argument.display());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_command_and_status() {
        let error = capture(Command::new("false").arg("why").env("K", "v")).unwrap_err();
        assert_eq!(error.to_string(), "`K=v false why` failed: exit status: 1");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run("try", &mut Command::new("/nonexistent/program")).unwrap_err();
        assert_eq!(error.to_string(), "start `/nonexistent/program`");
    }

    #[test]
    fn output_is_copied_as_it_is_and_shown_as_lines() {
        let output = b"a\n\xff\nlast".as_slice();
        let (mut copy, mut seen) = (Vec::new(), Vec::new());
        tee(output, &mut copy, |line| seen.push(line.to_owned())).unwrap();
        assert_eq!(copy, output);
        assert_eq!(seen, ["a", "\u{fffd}", "last"]);
    }
}
