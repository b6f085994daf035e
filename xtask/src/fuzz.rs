//! `cargo xtask fuzz`: long runs of the fuzz targets, guided by which code an input reaches. The
//! short runs are a tier of `cargo xtask test`.

use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;

use crate::{
    process,
    setup::{self, Need},
    workspace::Workspace,
};

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What a target finds is written below the `__fuzz__` directory beside it, and printed with the input. \
`cargo xtask test fuzz` runs it again, until it is mended and has a test of its own.")]
pub(crate) struct Options {
    /// Which targets to run, one after the other; all of them without one
    #[arg(value_enum)]
    targets: Vec<Target>,
    /// How long each of them runs
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
}

/// A reader of what others write.
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
    let needs = [setup::BUILD, &[Need::CargoBolero]].concat();
    setup::ensure(&needs, workspace)?;
    let targets = if options.targets.is_empty() {
        Target::value_variants()
    } else {
        &options.targets
    };
    for target in targets {
        let (module, test) = target.test();
        let mut bolero = Command::new(workspace.tools_bin().join("cargo-bolero"));
        bolero
            .current_dir(&workspace.root)
            .args(["bolero", "test", "--package=statlink", "--profile=dev"])
            // The readers have no unsafe code; and a sanitizer would take a nightly compiler.
            .args(["--sanitizer=NONE", "--engine=libfuzzer"])
            .args(["-T", &format!("{}m", options.minutes)])
            .arg("--target-dir")
            .arg(workspace.target.join("fuzz"))
            .arg(format!("{module}::{test}"));
        process::run(&format!("fuzz {module}"), &mut bolero)
            .with_context(|| format!("{module} has found something, see above"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

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
