//! Parsing the command line.

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _, builder::Resettable};

use super::{
    args::{Cli, Command},
    cluster,
    usage::{Origin, UsageError},
};

/// Why no command runs.
pub(super) enum Stop {
    /// The user asked for help or the version: print this text.
    Asked(String),
    /// The arguments are wrong.
    Wrong(UsageError),
}

/// Parses the process's arguments and variables.
///
/// # Errors
///
/// If no command can run: see [`Stop`].
pub(super) fn parse() -> Result<(Command, Origin), Stop> {
    parse_from(cluster::as_plugin(std::env::args_os().collect()))
}

fn parse_from(arguments: Vec<OsString>) -> Result<(Command, Origin), Stop> {
    let mut command = without_empty_variables(Cli::command());
    let stop = |error: clap::Error, command: &clap::Command| {
        if error.use_stderr() {
            Stop::Wrong(UsageError::from_clap(&error, command, &arguments))
        } else {
            Stop::Asked(error.render().to_string())
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

/// Ignores empty variables, as OpenTelemetry's specification demands: manifests often set a
/// variable to an optional value.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(arguments: &[&str]) -> String {
        let arguments = ["statlink"].iter().chain(arguments).map(OsString::from);
        match parse_from(arguments.collect()) {
            Err(Stop::Wrong(error)) => error.to_string(),
            Err(Stop::Asked(text)) => panic!("printed {text}"),
            Ok((command, _)) => panic!("accepted as {command:?}"),
        }
    }

    #[test]
    fn clap_accepts_the_definition() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_argument_with_a_value_has_its_variable() {
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments() {
                let name = (command.get_name(), argument.get_id().as_str());
                let takes_value = argument.get_action().takes_values();
                if WITHOUT_VARIABLE.contains(&name) || !takes_value && argument.get_env().is_none()
                {
                    continue;
                }
                let long = argument.get_long().unwrap();
                let expected = format!("STATLINK_{}", long.replace('-', "_").to_uppercase());
                let variable = argument.get_env().and_then(|variable| variable.to_str());
                assert_eq!(variable, Some(expected.as_str()), "{name:?}");
            }
        }
    }

    /// Arguments without a variable, by command: a person types them, and no manifest sets them.
    const WITHOUT_VARIABLE: &[(&str, &str)] = &[
        ("cluster", "context"),
        ("cluster", "namespace"),
        ("cluster", "selector"),
        ("cluster", "serving_namespace"),
        ("cluster", "timeout"),
        ("completions", "shell"),
        ("man", "output"),
    ];

    #[test]
    fn an_error_is_one_line_that_names_flag_and_form() {
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
            let line = wrong(arguments);
            assert!(line.starts_with(expected), "{arguments:?}: {line}");
            assert!(!line.contains('\n'), "{line}");
            assert!(line.contains("--help)"), "{line}");
        }
    }
}
