//! Builds with Go, each made once.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    directory,
    files::{fresh, hash, keep, listed, lock, read},
    sources,
};

/// Flags of a build that leaves out symbols and debug information.
pub(super) const STRIPPED: &[&str] = &["-ldflags=-s -w"];

/// Finds the programs of a Go module of this package, or builds them from the name and package of
/// each. `also` puts more files beside them. Returns their directory.
pub(super) fn module(
    name: &str,
    flags: &[&str],
    programs: &[(&str, &str)],
    also: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let directory = directory()?;
    let _lock = lock(&directory)?;
    let module = go_sources().join(name);
    let inputs = listed(&module)?;
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    let home = directory.join(format!("{name}-{}", hash(&inputs)?));
    if home.is_dir() {
        return Ok(home);
    }
    let work = fresh(&home.with_extension("work"))?;
    for (program, package) in programs {
        let built = work.join(program);
        let output = built
            .to_str()
            .context("the target directory is not UTF-8")?;
        let arguments = [&["build", "-trimpath"], flags, &["-o", output]].concat();
        go(program, &module, arguments, package)?;
    }
    also(&work)?;
    keep(&work, &home)?;
    Ok(home)
}

/// The Collector of a manifest in this package's directory of Go.
pub(super) fn collector(directory: &Path, name: &str, architecture: &str) -> Result<PathBuf> {
    const BUILDER: &str = "go.opentelemetry.io/collector/cmd/builder@v0.159.0";

    let manifest = go_sources().join(name).join("builder.yaml");
    let suffix = suffix(architecture);
    let home = directory.join(format!("{name}-{}{suffix}", hash(&[manifest.as_path()])?));
    let binary = home.join("otelcol");
    if binary.is_file() {
        return Ok(binary);
    }
    let work = fresh(&home.with_extension("work"))?;
    // The builder reads its output directory only from the manifest.
    let text = read(&manifest)?;
    let text = text.replacen(
        "dist:\n",
        &format!("dist:\n  output_path: {}\n", work.display()),
        1,
    );
    let config = work.join("builder.yaml");
    fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;

    // The builder itself runs here, whatever it builds for.
    let mut install = Command::new("go");
    install
        .args(["install", BUILDER])
        .env("GOBIN", &work)
        .env_remove("GOARCH");
    build("the Collector's builder", &work, install)?;
    let mut builder = Command::new(work.join("builder"));
    builder
        .args(["--ldflags", "-s -w", "--config"])
        .arg(&config)
        .env("GOARCH", architecture);
    build("the Collector", &work, builder)?;
    fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
    keep(&work.join("otelcol"), &binary)?;
    fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    Ok(binary)
}

pub(super) fn knative(directory: &Path, architecture: &str) -> Result<PathBuf> {
    let module = go_sources().join("knative");
    let inputs = listed(&module)?;
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    let suffix = suffix(architecture);
    let home = directory.join(format!("knative-{}{suffix}", hash(&inputs)?));
    let activator = home.join("activator");
    if activator.is_file() {
        return Ok(home);
    }
    let work = fresh(&home.with_extension("work"))?;
    let built = work.join("knative");
    go_for(
        architecture,
        "Knative's peers",
        &module,
        ["build", "-trimpath", "-ldflags", "-s -w", "-o"],
        &built,
    )?;
    fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
    // The role is argv[0], and /proc/PID/exe must show it too: hence a hard link.
    let autoscaler = home.join("autoscaler");
    let _ = fs::remove_file(&autoscaler); // an interrupted build's
    fs::hard_link(&built, &autoscaler).with_context(|| format!("link {}", autoscaler.display()))?;
    keep(&built, &activator)?;
    fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    Ok(home)
}

/// Runs Go for this machine.
pub(super) fn go<'a>(
    what: &str,
    directory: &Path,
    args: impl IntoIterator<Item = &'a str>,
    last: &(impl AsRef<OsStr> + ?Sized),
) -> Result<()> {
    go_for(native(), what, directory, args, last)
}

/// Runs Go for an architecture.
pub(super) fn go_for<'a>(
    architecture: &str,
    what: &str,
    directory: &Path,
    args: impl IntoIterator<Item = &'a str>,
    last: &(impl AsRef<OsStr> + ?Sized),
) -> Result<()> {
    let mut command = Command::new("go");
    command.args(args).arg(last).env("GOARCH", architecture);
    build(what, directory, command)
}

/// Runs a build of Go, and reports every 5 s that it still runs.
pub(super) fn build(what: &str, directory: &Path, mut command: Command) -> Result<()> {
    let log = super::directory()?.join("build.log");
    let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    command
        .current_dir(directory)
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .stdout(output.try_clone().context("share the build's log")?)
        .stderr(output);
    eprintln!("testbed: building {what}, once: {command:?}");
    let started = Instant::now();
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            bail!("{what} is built with Go, and there is no `go` in PATH; install Go 1.26 or later")
        }
        Err(e) => return Err(e).with_context(|| format!("run {command:?}")),
    };
    let mut reported = started;
    let status = loop {
        if let Some(status) = child.try_wait().context("wait for go")? {
            break status;
        }
        if reported.elapsed() > Duration::from_secs(5) {
            reported = Instant::now();
            eprintln!(
                "testbed: building {what}, {} s",
                started.elapsed().as_secs()
            );
        }
        thread::sleep(Duration::from_millis(50));
    };
    if !status.success() {
        let text = read(&log).unwrap_or_default();
        bail!("build {what}: go ended with {status}:\n{text}");
    }
    eprintln!("testbed: built {what} in {} s", started.elapsed().as_secs());
    Ok(())
}

/// This machine's architecture, by Go's name.
pub(super) fn native() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Distinguishes directories of builds for other architectures.
pub(super) fn suffix(architecture: &str) -> String {
    if architecture == native() {
        String::new()
    } else {
        format!("-{architecture}")
    }
}

/// The directory of the sources in Go, one directory for each part.
pub(super) fn go_sources() -> PathBuf {
    sources().join("go")
}
