//! Builds the parts of the test bed that are written in Go, once: the results are kept in the target
//! directory, named by a hash of their sources.

use std::{
    ffi::OsStr,
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// The binaries that the test bed runs.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The OpenTelemetry Collector.
    pub collector: PathBuf,
    /// Knative's websocket client, under the activator's name.
    pub activator: PathBuf,
    /// Knative's stats server, under the autoscaler's name.
    pub autoscaler: PathBuf,
}

/// The programs that render the manifests.
#[derive(Clone, Debug)]
pub struct Tools {
    /// Helm.
    pub helm: PathBuf,
    /// Kustomize.
    pub kustomize: PathBuf,
}

/// The programs that check rules for Prometheus.
#[derive(Clone, Debug)]
pub struct RuleTools {
    /// promtool, Prometheus' own.
    pub promtool: PathBuf,
    /// pint, a linter.
    pub pint: PathBuf,
    /// sloth, which makes rules of objectives.
    pub sloth: PathBuf,
}

/// Knative's own activator and autoscaler, and how they are deployed.
#[derive(Clone, Debug)]
pub struct Serving {
    /// The activator.
    pub activator: PathBuf,
    /// The autoscaler.
    pub autoscaler: PathBuf,
    /// The directory of their manifests: `definitions.yaml`, `configuration.yaml` and
    /// `deployments.yaml`, to be applied in this order.
    pub manifests: PathBuf,
}

/// The peers and the Collector. Builds what is missing: minutes the first time, then nothing.
pub fn parts() -> Result<Parts> {
    // A guest has no Go, and gets them from whoever boots it.
    if let Some(built) = std::env::var_os(PARTS_VARIABLE) {
        let built = PathBuf::from(built);
        return Ok(Parts {
            collector: built.join("otelcol"),
            activator: built.join("activator"),
            autoscaler: built.join("autoscaler"),
        });
    }
    parts_for(native())
}

/// The same for another architecture, as Go calls it; this machine cannot run them.
pub fn parts_for(architecture: &str) -> Result<Parts> {
    let directory = directory()?;
    let _lock = lock(&directory)?;
    let knative = knative(&directory, architecture)?;
    Ok(Parts {
        collector: collector(&directory, "collector", architecture)?,
        activator: knative.join("activator"),
        autoscaler: knative.join("autoscaler"),
    })
}

/// This machine's architecture, as Go calls it.
fn native() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Tells directories of builds for other architectures from those of this one's.
fn suffix(architecture: &str) -> String {
    if architecture == native() {
        String::new()
    } else {
        format!("-{architecture}")
    }
}

/// Helm and Kustomize, likewise.
pub fn tools() -> Result<Tools> {
    let programs = [
        ("helm", "helm.sh/helm/v4/cmd/helm"),
        ("kustomize", "sigs.k8s.io/kustomize/kustomize/v5"),
    ];
    let home = module("tools", STRIPPED, &programs, |_| Ok(()))?;
    Ok(Tools {
        helm: home.join("helm"),
        kustomize: home.join("kustomize"),
    })
}

/// The same of the tools for rules. They are modules of their own, for each wants a Prometheus of its
/// own version.
pub fn rule_tools() -> Result<RuleTools> {
    let pint = [("pint", "github.com/cloudflare/pint/cmd/pint")];
    let sloth = [("sloth", "github.com/slok/sloth/cmd/sloth")];
    Ok(RuleTools {
        promtool: prometheus_and_promtool()?.join("promtool"),
        pint: module("pint", STRIPPED, &pint, |_| Ok(()))?.join("pint"),
        sloth: module("sloth", STRIPPED, &sloth, |_| Ok(()))?.join("sloth"),
    })
}

/// Prometheus.
pub fn prometheus() -> Result<PathBuf> {
    Ok(prometheus_and_promtool()?.join("prometheus"))
}

fn prometheus_and_promtool() -> Result<PathBuf> {
    // Without the discovery of targets in every cloud, which is most of what there is to compile.
    let flags = &["-ldflags=-s -w", "-tags=netgo,remove_all_sd"];
    let programs = [
        (
            "prometheus",
            "github.com/prometheus/prometheus/cmd/prometheus",
        ),
        ("promtool", "github.com/prometheus/prometheus/cmd/promtool"),
    ];
    module("prometheus", flags, &programs, |_| Ok(()))
}

/// What draws dashboards: a program for node, and the packages that it takes from npm. They are
/// installed once for each version of their lock file; the program is put beside them each time.
pub fn dashboard() -> Result<PathBuf> {
    let directory = directory()?;
    let _lock = lock(&directory)?;
    let sources = sources().join("dashboard");
    let packages = ["package.json", "package-lock.json"].map(|name| sources.join(name));
    let home = directory.join(format!(
        "dashboard-{}",
        hash(&[&packages[0], &packages[1]])?
    ));
    if !home.is_dir() {
        let work = fresh(&home.with_extension("work"))?;
        copy(&packages, &work)?;
        // Scripts of packages are not run: a browser comes from the machine.
        let mut install = Command::new("npm");
        install
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&work);
        eprintln!("testbed: installing what draws dashboards, once: {install:?}");
        crate::netns::run(&mut install)?;
        keep(&work, &home)?;
    }
    copy(&listed(&sources)?, &home)?;
    let pages = home.join("src");
    fs::create_dir_all(&pages).with_context(|| format!("create {}", pages.display()))?;
    copy(&listed(&sources.join("src"))?, &pages)?;
    Ok(home)
}

fn copy(files: &[PathBuf], to: &Path) -> Result<()> {
    for file in files {
        let name = file.file_name().context("a file without a name")?;
        fs::copy(file, to.join(name)).with_context(|| format!("copy {}", file.display()))?;
    }
    Ok(())
}

/// A Collector with what the configurations for operators name.
pub fn operators_collector() -> Result<PathBuf> {
    let directory = directory()?;
    let _lock = lock(&directory)?;
    collector(&directory, "collector-deploy", native())
}

/// All parts of Kubernetes in one program: its first argument chooses one.
pub fn kubernetes() -> Result<PathBuf> {
    // Without these, all parts would report version v0.0.0.
    let flags = "-ldflags=-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
                 -X k8s.io/component-base/version.gitMajor=1 \
                 -X k8s.io/component-base/version.gitMinor=36";
    let programs = [("kubernetes", ".")];
    let home = module("kubernetes", &[flags], &programs, |_| Ok(()))?;
    Ok(home.join("kubernetes"))
}

/// CoreDNS.
pub fn coredns() -> Result<PathBuf> {
    let programs = [("coredns", "github.com/coredns/coredns")];
    let home = module("coredns", STRIPPED, &programs, |_| Ok(()))?;
    Ok(home.join("coredns"))
}

/// The program that keeps a pod's namespaces alive.
pub fn pause() -> Result<PathBuf> {
    let home = module("pause", STRIPPED, &[("pause", ".")], |_| Ok(()))?;
    Ok(home.join("pause"))
}

/// Knative's activator and autoscaler with their manifests, from one version of the module.
pub fn serving() -> Result<Serving> {
    let programs = [
        ("activator", "knative.dev/serving/cmd/activator"),
        ("autoscaler", "knative.dev/serving/cmd/autoscaler"),
    ];
    let home = module("serving", STRIPPED, &programs, manifests)?;
    Ok(Serving {
        activator: home.join("activator"),
        autoscaler: home.join("autoscaler"),
        manifests: home,
    })
}

/// Collects those of Knative's manifests that the link needs, in the order in which to apply them.
fn manifests(to: &Path) -> Result<()> {
    let module = go_sources().join("serving");
    let directory = |of: &str| {
        let mut list = Command::new("go");
        list.args(["list", "-m", "-f", "{{.Dir}}", of])
            .current_dir(&module);
        let path = crate::netns::run(&mut list)?;
        Ok::<_, anyhow::Error>(PathBuf::from(path.trim()))
    };
    let serving = directory("knative.dev/serving")?.join("config/core");
    let networking = directory("knative.dev/networking")?.join("config");
    let deployments = serving.join("deployments");
    for (name, sources) in [
        (
            "definitions.yaml",
            vec![
                serving.join("100-namespace.yaml"),
                serving.join("300-resources"),
                networking,
            ],
        ),
        (
            "configuration.yaml",
            vec![
                serving.join("200-serviceaccount.yaml"),
                serving.join("200-roles"),
                serving.join("configmaps"),
            ],
        ),
        (
            "deployments.yaml",
            vec![
                deployments.join("activator.yaml"),
                deployments.join("autoscaler.yaml"),
            ],
        ),
    ] {
        let mut text = String::new();
        for file in yaml(&sources)? {
            text.push_str("---\n");
            text.push_str(&read(&file)?);
            text.push('\n');
        }
        let path = to.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// These YAML files, and those in these directories.
fn yaml(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut inside = listed(path)?;
            inside.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// Flags of a build that leaves out symbols and debug information.
const STRIPPED: &[&str] = &["-ldflags=-s -w"];

/// Finds the programs of a Go module of this package, or builds them from the name and package of
/// each. `also` puts more files beside them. Gives their directory.
fn module(
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

/// The files of a directory, in the order of their names.
fn listed(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| format!("list {}", directory.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

/// Several test programs may run at the same time: one builds, the others wait here.
fn lock(directory: &Path) -> Result<File> {
    let lock = directory.join("lock");
    let lock = File::create(&lock).with_context(|| format!("create {}", lock.display()))?;
    lock.lock().context("lock the test bed's directory")?;
    Ok(lock)
}

/// Where the parts are kept: `testbed` in Cargo's target directory.
pub fn directory() -> Result<PathBuf> {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => sources().join("../target"),
    };
    let directory = target.join("testbed");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    directory
        .canonicalize()
        .with_context(|| format!("resolve {}", directory.display()))
}

/// One of this package's own binaries: Cargo puts it beside the running one.
pub fn helper(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe().context("find the running program")?;
    // target/debug/testbed, or target/debug/deps/bed-0123.
    me.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "{name} is not beside {}; run `cargo build --workspace`",
                me.display()
            )
        })
}

/// Names the directory of peers and Collector that are built already.
const PARTS_VARIABLE: &str = "STATLINK_TEST_PARTS";

/// This package's directory.
fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the parts in Go have their sources, a directory each.
fn go_sources() -> PathBuf {
    sources().join("go")
}

/// The Collector of a manifest in this package's directory of Go.
fn collector(directory: &Path, name: &str, architecture: &str) -> Result<PathBuf> {
    const BUILDER: &str = "go.opentelemetry.io/collector/cmd/builder@v0.159.0";

    let manifest = go_sources().join(name).join("builder.yaml");
    let suffix = suffix(architecture);
    let home = directory.join(format!("{name}-{}{suffix}", hash(&[manifest.as_path()])?));
    let binary = home.join("otelcol");
    if binary.is_file() {
        return Ok(binary);
    }
    let work = fresh(&home.with_extension("work"))?;
    // The builder takes its output directory from the manifest alone.
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

fn knative(directory: &Path, architecture: &str) -> Result<PathBuf> {
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
fn go<'a>(
    what: &str,
    directory: &Path,
    args: impl IntoIterator<Item = &'a str>,
    last: &(impl AsRef<OsStr> + ?Sized),
) -> Result<()> {
    go_for(native(), what, directory, args, last)
}

/// Runs Go for an architecture.
fn go_for<'a>(
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
fn build(what: &str, directory: &Path, mut command: Command) -> Result<()> {
    let log = self::directory()?.join("build.log");
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

/// Moves a finished build to its place in one step, so that a build in place is complete.
fn keep(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("move {} to {}", from.display(), to.display()))
}

fn fresh(directory: &Path) -> Result<PathBuf> {
    // An interrupted build may have left it.
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    Ok(directory.to_owned())
}

fn hash(files: &[&Path]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.file_name().hash(&mut hasher);
        read(file)?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}
