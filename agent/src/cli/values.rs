//! Parsers of flags' values. Each error names the accepted form.

use std::{net::SocketAddr, time::Duration};

use crate::{
    kernel::COMM_LEN,
    telemetry::{config::INTERVALS, logs::Filter},
};

pub(super) fn port(value: &str) -> Result<u16, &'static str> {
    match value.parse() {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => Err("expected a port, 1 to 65535"),
    }
}

pub(super) fn not_empty(value: &str) -> Result<String, &'static str> {
    if value.trim().is_empty() {
        return Err("expected a name that is not empty");
    }
    Ok(value.to_owned())
}

/// What the kubelet fills in: `$(NAME)` stays where NAME does not stand before it.
pub(super) fn expanded(value: &str) -> Result<String, &'static str> {
    if value.contains("$(") {
        return Err(
            "a reference to a variable was not expanded; expected the name, or a reference to a \
             variable that stands before this one in the container's env",
        );
    }
    Ok(value.to_owned())
}

pub(super) fn process_name(value: &str) -> Result<String, String> {
    // `task_struct.comm` holds the name and a NUL.
    let longest = COMM_LEN - 1;
    if value.is_empty() || value.len() > longest || value.contains('\0') {
        return Err(format!(
            "expected the name in /proc/PID/comm, 1 to {longest} bytes long"
        ));
    }
    Ok(value.to_owned())
}

pub(super) fn variable(value: &str) -> Result<String, &'static str> {
    if value.is_empty() || value.contains(['=', '\0']) {
        return Err("expected the name of an environment variable");
    }
    Ok(value.to_owned())
}

pub(super) fn interval(value: &str) -> Result<Duration, String> {
    humantime::parse_duration(value)
        .ok()
        .filter(|interval| INTERVALS.contains(interval))
        .ok_or_else(|| {
            format!(
                "expected a duration from {} to {}, such as 10s or 500ms",
                humantime::format_duration(*INTERVALS.start()),
                humantime::format_duration(*INTERVALS.end())
            )
        })
}

pub(super) fn address(value: &str) -> Result<SocketAddr, &'static str> {
    value
        .parse()
        .map_err(|_| "expected an IP address and a port, such as 0.0.0.0:8082 or [::]:8082")
}

/// Checks the filter and keeps its text: clap needs to clone values, and a parsed filter cannot be
/// cloned.
pub(super) fn filter(value: &str) -> Result<String, String> {
    let parsed: Result<Filter, _> = value.parse();
    parsed
        .map(|_| value.to_owned())
        .map_err(|error| error.to_string())
}
