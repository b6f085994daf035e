//! Errors in the arguments, as one line that names the flag or variable and the accepted form.

use std::{collections::HashMap, ffi::OsString};

use clap::{
    ArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

/// An error in the arguments.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(String);

impl UsageError {
    /// For errors that clap cannot see: values that do not go together.
    pub(super) fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }

    /// clap's message without its usage and tips, on one line. If the value came from a variable,
    /// it is shown under the variable's name.
    pub(super) fn from_clap(
        error: &clap::Error,
        command: &clap::Command,
        arguments: &[OsString],
    ) -> Self {
        let problem = bad_value(error, command, arguments).unwrap_or_else(|| {
            let rendered = error.render().to_string();
            let first = rendered.split("\n\n").next().unwrap_or_default();
            let first = first.strip_prefix("error: ").unwrap_or(first);
            first.split_whitespace().collect::<Vec<_>>().join(" ")
        });
        let subcommand = subcommand(command, arguments).map(clap::Command::get_name);
        let help = subcommand.map_or_else(String::new, |name| format!(" {name}"));
        Self(format!("{problem} (see statlink{help} --help)"))
    }
}

/// Where each value came from: `--flag`, or the variable.
#[derive(Debug, Default)]
pub(super) struct Origin(HashMap<String, String>);

impl Origin {
    pub(super) fn read(command: &clap::Command, matches: &ArgMatches) -> Self {
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

    /// The flag or variable that set the argument `id`.
    pub(super) fn of(&self, id: &str) -> String {
        self.0.get(id).cloned().unwrap_or_else(|| id.to_owned())
    }
}

/// `name=value: expected ...`, if the error is about a value.
fn bad_value(
    error: &clap::Error,
    command: &clap::Command,
    arguments: &[OsString],
) -> Option<String> {
    if !matches!(
        error.kind(),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue
    ) {
        return None;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg)?;
    let value = text(ContextKind::InvalidValue)?;
    let name = given_as(&argument, command, arguments);
    let expected = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(words)) => format!("expected {}", words.join(" or ")),
        _ => std::error::Error::source(error)
            .map(ToString::to_string)
            .unwrap_or_default(),
    };
    Some(format!("{name}={value}: {expected}"))
}

/// `--flag` if the flag was given, otherwise its variable. `argument` has clap's form: `--flag
/// <VALUE>`.
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
