//! Parsing, and what is wrong with the arguments in one line each.

use std::{collections::HashMap, ffi::OsString};

use clap::{
    ArgMatches, CommandFactory as _, FromArgMatches as _,
    builder::Resettable,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

use super::args::{Cli, Command};

/// Why no command is to be run.
pub(super) enum Stop {
    /// What was asked for, help or version, is this.
    Told(String),
    /// The arguments are wrong.
    Wrong(UsageError),
}

/// What is wrong with the arguments, in one line that names flag or variable and what is accepted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(String);

impl UsageError {
    /// What clap cannot see: values that do not go together.
    pub(super) fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }
}

/// Where each value came from: `--flag`, or the variable.
#[derive(Debug, Default)]
pub(super) struct Origin(HashMap<String, String>);

impl Origin {
    /// How whoever set it calls the argument `id`.
    pub(super) fn of(&self, id: &str) -> String {
        self.0.get(id).cloned().unwrap_or_else(|| id.to_owned())
    }

    fn read(command: &clap::Command, matches: &ArgMatches) -> Self {
        let names = matches.ids().filter_map(|id| {
            let argument = command.get_arguments().find(|arg| arg.get_id() == id)?;
            let name = if matches.value_source(id.as_str()) == Some(ValueSource::EnvVariable) {
                argument.get_env()?.to_string_lossy().into_owned()
            } else {
                format!("--{}", argument.get_long()?)
            };
            Some((id.to_string(), name))
        });
        Self(names.collect())
    }
}

/// Parses the process's arguments and variables.
pub(super) fn parse() -> Result<(Command, Origin), Stop> {
    parse_from(std::env::args_os().collect())
}

fn parse_from(arguments: Vec<OsString>) -> Result<(Command, Origin), Stop> {
    let mut command = without_empty_variables(Cli::command());
    let stop = |error: clap::Error, command: &clap::Command| {
        if error.use_stderr() {
            Stop::Wrong(UsageError(line(&error, command, &arguments)))
        } else {
            Stop::Told(error.render().to_string())
        }
    };
    let matches = command
        .try_get_matches_from_mut(&arguments)
        .map_err(|error| stop(error, &command))?;
    let origin = matches
        .subcommand()
        .and_then(|(name, matches)| Some((command.find_subcommand(name)?, matches)))
        .map(|(command, matches)| Origin::read(command, matches))
        .unwrap_or_default();
    let cli = Cli::from_arg_matches(&matches).map_err(|error| stop(error, &command))?;
    Ok((cli.command, origin))
}

/// A variable that is set to nothing is not set, as OpenTelemetry has it: manifests are full of
/// them.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|command| {
        command.mut_args(|argument| {
            let empty = argument
                .get_env()
                .and_then(std::env::var_os)
                .is_some_and(|value| value.is_empty());
            if empty {
                argument.env(Resettable::Reset)
            } else {
                argument
            }
        })
    })
}

/// clap's message without its usage and tips, on one line; a value that came from a variable is
/// told under its name.
fn line(error: &clap::Error, command: &clap::Command, arguments: &[OsString]) -> String {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let invalid = (
        text(ContextKind::InvalidArg),
        text(ContextKind::InvalidValue),
    );
    let told = match (error.kind(), invalid) {
        (ErrorKind::ValueValidation | ErrorKind::InvalidValue, (Some(argument), Some(value))) => {
            let name = given_as(&argument, command, arguments);
            let expected = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(words)) => format!("expected {}", words.join(" or ")),
                _ => std::error::Error::source(error)
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            };
            format!("{name}={value}: {expected}")
        }
        _ => {
            let rendered = error.render().to_string();
            let first = rendered.split("\n\n").next().unwrap_or_default();
            let first = first.strip_prefix("error: ").unwrap_or(first);
            first.split_whitespace().collect::<Vec<_>>().join(" ")
        }
    };
    let subcommand = subcommand(command, arguments).map(clap::Command::get_name);
    let help = subcommand.map_or_else(String::new, |name| format!(" {name}"));
    format!("{told} (see statlink{help} --help)")
}

/// `--flag` if that was given, and else its variable. `argument` is as clap shows it:
/// `--flag <VALUE>`.
fn given_as(argument: &str, command: &clap::Command, arguments: &[OsString]) -> String {
    let flag = argument.split_whitespace().next().unwrap_or(argument);
    let on_the_line = arguments.iter().any(|given| {
        let given = given.to_string_lossy();
        given == flag || given.starts_with(&format!("{flag}="))
    });
    let variable = subcommand(command, arguments).and_then(|command| {
        let long = flag.strip_prefix("--")?;
        let mut all = command.get_arguments();
        let argument = all.find(|argument| argument.get_long() == Some(long))?;
        Some(argument.get_env()?.to_string_lossy().into_owned())
    });
    match variable {
        Some(variable) if !on_the_line => variable,
        _ => flag.to_owned(),
    }
}

fn subcommand<'a>(command: &'a clap::Command, arguments: &[OsString]) -> Option<&'a clap::Command> {
    arguments
        .iter()
        .skip(1)
        .find_map(|argument| command.find_subcommand(argument))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(arguments: &[&str]) -> String {
        let arguments = ["statlink"].iter().chain(arguments).map(OsString::from);
        match parse_from(arguments.collect()) {
            Err(Stop::Wrong(error)) => error.to_string(),
            Err(Stop::Told(text)) => panic!("told {text}"),
            Ok((command, _)) => panic!("accepted as {command:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_argument_with_a_value_has_its_variable() {
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments() {
                let (Some(long), Some(variable)) = (argument.get_long(), argument.get_env()) else {
                    continue;
                };
                let expected = format!("STATLINK_{}", long.replace('-', "_").to_uppercase());
                assert_eq!(variable.to_str(), Some(expected.as_str()));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_one_line_that_names_flag_and_form() {
        for (arguments, expected) in [
            (
                &["run", "--peer-port", "http"][..],
                "--peer-port=http: expected a port, 1 to 65535",
            ),
            (
                &["run", "--peer-port=0"],
                "--peer-port=0: expected a port, 1 to 65535",
            ),
            (
                &["run", "--process-name", "a-name-of-sixteen"],
                "--process-name=a-name-of-sixteen: expected the name in /proc/PID/comm, 1 to 15 bytes long",
            ),
            (
                &["run", "--export-interval", "10"],
                "--export-interval=10: expected a duration from 200ms to 1h, such as 10s or 500ms",
            ),
            (
                &["run", "--health-address", "8082"],
                "--health-address=8082: expected an IP address and a port, such as 0.0.0.0:8082 or [::]:8082",
            ),
            (
                &["run", "--log-format", "xml"],
                "--log-format=xml: expected json or text",
            ),
            (
                &["check", "--pod-name-env", "A=B"],
                "--pod-name-env=A=B: expected the name of an environment variable",
            ),
            (
                &["run", "--port", "1"],
                "unexpected argument '--port' found",
            ),
            (
                &[],
                "'statlink' requires a subcommand but one was not provided",
            ),
            (&["walk"], "unrecognized subcommand 'walk'"),
        ] {
            let told = wrong(arguments);
            assert!(told.starts_with(expected), "{arguments:?}: {told}");
            assert!(!told.contains('\n'), "{told}");
            assert!(told.contains("--help)"), "{told}");
        }
    }
}
