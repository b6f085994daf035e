//! The command line.

mod args;
mod check;
mod events;
mod pages;
mod parse;
mod settings;
mod status;
mod usage;
mod values;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::CommandFactory as _;

use self::args::{Cli, Command};
use crate::{
    chain::chain,
    control::server,
    discovery::kubernetes,
    health,
    kernel::KernelError,
    run,
    telemetry::{config::ConfigErrors, logs::LogError},
};

/// Done.
const DONE: u8 = 0;
/// Any failure without a code of its own; for `check`, something does not work.
const FAILED: u8 = 1;
/// A flag or variable has a value that is not accepted or cannot be used.
const USAGE: u8 = 2;
/// The kernel lacks or denies what the agent cannot do without.
const UNSUPPORTED: u8 = 3;

/// Runs the command named by the process's arguments; gives its exit code.
pub fn main() -> ExitCode {
    match dispatch() {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::from(DONE),
        Err(error) => {
            for line in lines(&error) {
                // If standard error is gone, the exit code remains.
                let _ = writeln!(io::stderr(), "error: {line}");
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

fn dispatch() -> anyhow::Result<u8> {
    let (command, origin) = match parse::parse() {
        Ok(parsed) => parsed,
        Err(parse::Stop::Asked(text)) => {
            io::stdout().write_all(text.as_bytes())?;
            return Ok(DONE);
        }
        Err(parse::Stop::Wrong(error)) => return Err(error.into()),
    };
    match command {
        Command::Run(settings) => {
            let options = settings.options(&origin)?;
            run::run(options).map(|()| DONE)
        }
        Command::Check { settings, json } => {
            let options = settings.options(&origin)?;
            check::run(&options, json)
        }
        Command::Status {
            socket,
            json,
            watch,
        } => status::run(&socket.socket, json, watch).map(|()| DONE),
        Command::Events { socket, json } => events::run(&socket.socket, json).map(|()| DONE),
        Command::Completions { shell } => pages::completions(shell, Cli::command()).map(|()| DONE),
        Command::Man { output } => pages::manual(output.as_deref(), Cli::command()).map(|()| DONE),
    }
}

/// One line for each error.
fn lines(error: &anyhow::Error) -> Vec<String> {
    match error.downcast_ref::<ConfigErrors>() {
        Some(errors) => errors.iter().map(|error| chain(error)).collect(),
        None => vec![chain(error.as_ref())],
    }
}

/// The exit code depends on the error's type, not on the command that met it.
fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<KernelError>() {
        UNSUPPORTED
    } else if error.is::<usage::UsageError>()
        || error.is::<ConfigErrors>()
        || error.is::<LogError>()
        || error.is::<kubernetes::ConfigError>()
        || error.is::<server::BindError>()
        || error.is::<health::BindError>()
    {
        USAGE
    } else {
        FAILED
    }
}

/// Whether the reader of standard output has gone, as in `statlink events | head`. That is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
