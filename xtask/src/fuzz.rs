//! `cargo xtask fuzz`: long runs of the fuzz targets, guided by code coverage. The short runs are a
//! tier of `cargo xtask test`.

use std::fs;

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;

use crate::{process, setup, workspace::Workspace};

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What a target finds is printed with the smallest input that shows it: mend the reader, and give that input \
a test of its own beside it. Inputs that reach new code are kept in target/fuzz for the next run.

It needs a C++ compiler, and the first run compiles everything anew.")]
pub(crate) struct Options {
    /// The targets to run, one after another; all by default
    #[arg(value_enum)]
    targets: Vec<Target>,
    /// How long each of them runs
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
}

/// A reader of untrusted input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Target {
    /// The kernel's BTF
    Btf,
    /// Names of control groups
    Cgroup,
    /// OpenTelemetry's environment variables
    OtelVariables,
    /// Requests on the control socket
    ControlSocket,
    /// Objects of the Kubernetes API
    ApiObjects,
}

impl Target {
    /// The module of the agent that holds the test, and the test.
    const fn test(self) -> (&'static str, &'static str) {
        match self {
            Self::Btf => ("kernel::btf::fuzz", "any_types_are_read_or_refused"),
            Self::Cgroup => (
                "discovery::container::fuzz",
                "what_is_found_in_any_name_is_a_uid_and_an_id",
            ),
            Self::OtelVariables => ("telemetry::config::fuzz", "any_values_are_valid_or_named"),
            Self::ControlSocket => (
                "control::server::fuzz",
                "any_request_is_answered_by_one_line_or_none",
            ),
            Self::ApiObjects => (
                "discovery::kubernetes::object::fuzz",
                "any_object_is_read_or_refused",
            ),
        }
    }
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    setup::ensure(setup::BUILD, workspace)?;
    let targets = if options.targets.is_empty() {
        Target::value_variants()
    } else {
        &options.targets
    };
    let directory = workspace.target.join("fuzz");
    for target in targets {
        let (module, test) = target.test();
        let inputs = directory.join("inputs").join(module.replace("::", "-"));
        fs::create_dir_all(&inputs).with_context(|| format!("create {}", inputs.display()))?;
        let test = format!("{module}::{test}");
        let seconds = options.minutes.saturating_mul(60);
        let mut cargo = workspace.cargo(&["test", "--locked", "--package=statlink", "--lib"]);
        cargo
            // With a target named, build scripts are compiled without the flags.
            .args(["--target", TRIPLE, "--target-dir"])
            .arg(&directory)
            .args(["--", "--exact", &test, "--nocapture", "--test-threads=1"])
            .env("RUSTFLAGS", FLAGS)
            .env("BOLERO_FUZZER", "libfuzzer")
            .env("BOLERO_LIBTEST_HARNESS", "1")
            .env("BOLERO_TEST_NAME", &test)
            .env(
                "BOLERO_LIBFUZZER_ARGS",
                format!(
                    "{inputs} -artifact_prefix={inputs}/ -timeout=10 -max_total_time={seconds}",
                    inputs = inputs.display()
                ),
            );
        process::run(&format!("fuzz {module}"), &mut cargo)?;
    }
    Ok(())
}

#[cfg(target_arch = "aarch64")]
const TRIPLE: &str = "aarch64-unknown-linux-gnu";
#[cfg(not(target_arch = "aarch64"))]
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// The flags of `cargo bolero test --sanitizer NONE`. That command itself also links the other
/// tests of the package, which have no fuzz target, and fails. There is no sanitizer: the readers
/// have no unsafe code, and a sanitizer would need a nightly compiler.
const FLAGS: &str = "--cfg fuzzing --cfg fuzzing_libfuzzer -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-sanitizer-coverage-stack-depth";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_is_a_test_of_the_agent() {
        let workspace = Workspace::find().unwrap();
        for target in Target::value_variants() {
            let (module, test) = target.test();
            let path = module.replace("::", "/");
            let file = workspace.root.join(format!("agent/src/{path}.rs"));
            let text = fs::read_to_string(file).unwrap();
            assert!(text.contains(&format!("fn {test}()")), "{module}::{test}");
        }
    }
}
