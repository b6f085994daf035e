//! The command line.

mod args;
mod check;
mod cluster;
mod events;
mod exit;
mod pages;
mod parse;
mod settings;
mod status;
mod uninstall;
mod usage;
mod values;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::CommandFactory as _;

use self::{
    args::{Cli, Command},
    exit::{DONE, code_of},
};
use crate::{chain::chain, run, telemetry::config::ConfigErrors, terminal};

/// Runs the command named by the process's arguments; gives its exit code.
pub fn main() -> ExitCode {
    match dispatch() {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::from(DONE),
        Err(error) => {
            for line in lines(&error) {
                // If standard error is gone, the exit code remains.
                let _ = writeln!(io::stderr(), "error: {}", terminal::printable(&line));
            }
            ExitCode::from(code_of(&error))
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
        Command::Uninstall {
            pin_directory,
            json,
        } => uninstall::run(&pin_directory, json).map(|()| DONE),
        Command::Cluster { access, command } => cluster::run(&access, &command),
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

/// Whether the reader of standard output has gone, as in `statlink events | head`. That is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
