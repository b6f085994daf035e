//! Builds the parts of the test bed that are written in Go, once. The target directory keeps the
//! results, named by a hash of their sources.

mod checks;
mod files;
mod go;
mod serving;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

pub use self::checks::{Krew, dashboard_schema, krew, operator_definitions, perses_model};
pub use self::serving::{Serving, serving};
use self::{
    files::{copy, fresh, hash, keep, listed, lock},
    go::{STRIPPED, collector, knative, module, native},
};

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

/// The peers and the Collector. Builds missing ones: minutes the first time, then nothing.
pub fn parts() -> Result<Parts> {
    // A guest has no Go; its host provides the parts.
    if let Some(built) = std::env::var_os(PARTS_VARIABLE) {
        let built = PathBuf::from(built);
        return Ok(Parts {
            collector: built.join("otelcol"),
            activator: built.join("activator"),
            autoscaler: built.join("autoscaler"),
        });
    }
    // Cached: another build may hold the lock for minutes, and a run that starts its next peer
    // would wait for it.
    static BUILT: Mutex<Option<Parts>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if built.is_none() {
        *built = Some(parts_for(native())?);
    }
    built.clone().context("no parts")
}

/// The same for another architecture, by Go's name; this machine cannot run them.
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

/// Helm and Kustomize.
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

/// The tools for rules. They are separate modules, because each needs its own version of
/// Prometheus.
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
    // Without target discovery in clouds, which is most of the code to compile.
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

/// The program that draws dashboards, for node, with its npm packages. The packages are installed
/// once for each version of their lock file; the program is copied beside them each time.
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
        // Scripts of packages do not run: the machine provides a browser.
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

/// A Collector with the components in the configurations for operators.
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

/// The directory of the parts: `testbed` in Cargo's target directory.
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
