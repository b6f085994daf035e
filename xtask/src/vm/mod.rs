//! `cargo xtask vm`: runs a kernel other than this machine's, in an emulated guest.
//!
//! Kernels and the guest's small programs come from Debian's archives (`debian.rs`) and are
//! unpacked into the target directory; nothing is installed. The rest of a guest comes from this
//! workspace (`guest.rs`). A guest's only output is its serial line (`qemu.rs`).

mod archive;
mod debian;
mod guest;
mod kernels;
pub(crate) mod matrix;
mod modules;
mod page;
mod qemu;

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};

use self::{
    debian::Apt,
    guest::Programs,
    kernels::{KERNELS, Kernel},
    qemu::Boot,
};
use crate::{arch::Arch, setup, workspace::Workspace};

/// Arguments of `cargo xtask vm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a command, the guest gives a prompt; `poweroff -f` ends it, and so does Ctrl-A X.

    cargo xtask vm 6.12 -- guest                       judge the agent, as the tier `kernels` does
    cargo xtask vm 6.12 -- guest --profile restricted
    cargo xtask vm 7.3 -- campaign --faults 60 --seed 7
    cargo xtask vm 5.10 -- statlink check")]
pub(crate) struct Options {
    /// The kernel; `list` lists them
    #[arg(value_parser = name)]
    kernel: String,
    /// CPUs of the guest
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    cpus: u8,
    /// Run the guest in real time, instead of skipping idle time
    #[arg(long)]
    real_time: bool,
    /// More of the kernel's command line
    #[arg(long, default_value = "")]
    boot: String,
    /// Another agent than this workspace's; STATLINK_BIN also sets it
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Look for newer kernels
    #[arg(long)]
    refresh: bool,
    /// The guest's command, and its arguments
    #[arg(last = true)]
    command: Vec<String>,
}

pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<()> {
    if options.kernel == LIST {
        for kernel in KERNELS {
            println!(
                "{:<14} {:<6} {}",
                kernel.name,
                kernel.arch.debian(),
                kernel.flavour
            );
        }
        return Ok(());
    }
    let kernel = Kernel::named(&options.kernel).context("no such kernel")?;
    let mut machines = Machines::new(options.refresh, options.agent.clone(), workspace)?;
    let guest = machines.guest(kernel)?;
    let directory = workspace.target.join("vm/runs").join(kernel.name);
    let line = format!("{} {}", kernel.boot, options.boot);
    let boot = Boot {
        arch: kernel.arch,
        image: &guest.kernel.image,
        line: &line,
        processors: options.cpus,
        real_time: options.real_time || options.command.is_empty(),
        directory: &directory,
    };
    eprintln!("── boot {} ({})", kernel.name, guest.kernel.release);
    let script = script(&options.command);
    let archive = guest.programs.archive(&guest.kernel.modules, &script)?;
    if options.command.is_empty() {
        return boot.attend(&archive);
    }
    let status = boot.run(&archive, LONGEST, |line| println!("{line}"))?;
    let status = status.context("the guest ended before its command")?;
    ensure!(status == 0, "the command ended with {status}");
    Ok(())
}

/// The parts of guests, built once for each architecture.
#[derive(Debug)]
struct Machines<'a> {
    apt: Apt,
    agent: Option<PathBuf>,
    workspace: &'a Workspace,
    programs: Vec<(Arch, Programs)>,
}

/// The parts of one guest.
#[derive(Debug)]
struct Guest<'a> {
    kernel: debian::Unpacked,
    programs: &'a Programs,
}

impl<'a> Machines<'a> {
    fn new(refresh: bool, agent: Option<PathBuf>, workspace: &'a Workspace) -> Result<Self> {
        setup::ensure(setup::GUESTS, workspace)?;
        // Like every other tier.
        let agent = agent.or_else(|| env::var_os("STATLINK_BIN").map(PathBuf::from));
        let _alone = workspace.alone(GUESTS)?;
        let apt = Apt::new(workspace.target.join("vm/apt"), refresh)?;
        Ok(Self {
            apt,
            agent,
            workspace,
            programs: Vec::new(),
        })
    }

    fn guest(&mut self, kernel: &Kernel) -> Result<Guest<'_>> {
        let _alone = self.workspace.alone(GUESTS)?;
        let unpacked = self.apt.kernel(kernel)?;
        if !self.programs.iter().any(|(arch, _)| *arch == kernel.arch) {
            setup::ensure(kernel.arch.needs()?, self.workspace)?;
            let agent = self.agent.as_deref();
            let programs = Programs::build(kernel.arch, agent, &self.apt, self.workspace)?;
            self.programs.push((kernel.arch, programs));
        }
        let programs = self.programs.iter().find(|(arch, _)| *arch == kernel.arch);
        let (_, programs) = programs.context("no programs for its architecture")?;
        Ok(Guest {
            kernel: unpacked,
            programs,
        })
    }
}

/// A command line for the guest's shell.
fn script(command: &[String]) -> String {
    if command.is_empty() {
        return "exec setsid cttyhack sh\n".to_owned();
    }
    let words: Vec<_> = command
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
        .collect();
    format!("exec {}\n", words.join(" "))
}

fn name(value: &str) -> Result<String, String> {
    if value == LIST || Kernel::named(value).is_some() {
        return Ok(value.to_owned());
    }
    let names: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
    Err(format!("expected one of {}", names.join(", ")))
}

const LIST: &str = "list";

/// Whoever fetches, unpacks and builds the parts of guests does it alone.
const GUESTS: &str = "guests";

/// A guest that takes longer than this hangs.
const LONGEST: Duration = Duration::from_secs(1_800);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_keeps_its_words() {
        let command = ["echo", "a b", "it's"].map(str::to_owned);
        assert_eq!(script(&command), "exec 'echo' 'a b' 'it'\\''s'\n");
        assert!(script(&[]).contains("sh"));
    }

    #[test]
    fn an_unknown_kernel_is_told_the_names() {
        assert!(name("5.10").is_ok());
        assert!(name("4.4").unwrap_err().contains("5.10-old"));
    }
}
