//! Log events: lines on standard output and, on request, OTLP logs.
//!
//! One event per transition and none per check. [`FlapFilter`] decides which events of a link are
//! logged, [`log`] writes them.

#[cfg(test)]
pub(crate) mod capture;
mod flap_filter;
mod log_event;
#[cfg(test)]
mod tests;
mod writer;

use std::str::FromStr;

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing::{Metadata, Subscriber, subscriber::DefaultGuard};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, LevelFilter, filter_fn},
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

pub(crate) use flap_filter::FlapFilter;
pub(crate) use log_event::log;
pub(crate) use writer::Lines;

/// How lines on standard output look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a line, with its fields at the top level and its time in RFC 3339
    #[default]
    Json,
    /// Text for a person at a terminal
    Text,
}

/// Which events are logged.
#[derive(Debug)]
pub(crate) struct Filter(EnvFilter);

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The filter cannot be parsed.
    #[error(
        "log filter {filter:?}: {source}; expected a level (error, warn, info, debug, trace, off) \
         or target=level,target=level"
    )]
    Filter {
        /// The given filter.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process has a logger already.
    #[error("logging is set up already: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

impl FromStr for Filter {
    type Err = LogError;

    /// A bare level applies to statlink's own events; libraries stay at `warn`. Pairs of
    /// `target=level` are added to the default. An empty filter is `info`.
    fn from_str(filter: &str) -> Result<Self, LogError> {
        let given = filter.trim();
        let directives = match given.parse::<LevelFilter>() {
            _ if given.is_empty() => format!("{LIBRARIES},statlink=info"),
            Ok(LevelFilter::OFF) => "off".to_owned(),
            Ok(level) => format!("{LIBRARIES},statlink={level}"),
            Err(_) => format!("{LIBRARIES},statlink=info,{given}"),
        };
        EnvFilter::builder()
            .parse(directives)
            .map(Self)
            .map_err(|source| LogError::Filter {
                filter: given.to_owned(),
                source,
            })
    }
}

/// Sets up logging for the process, to `lines`. `otlp` is
/// [`Telemetry::log_provider`](super::Telemetry::log_provider).
///
/// # Errors
///
/// If the process has a logger already.
pub(crate) fn init(
    format: Format,
    filter: Filter,
    lines: Lines,
    otlp: Option<&SdkLoggerProvider>,
) -> Result<(), LogError> {
    subscriber(format, filter, lines, otlp).try_init()?;
    Ok(())
}

/// Logs to `lines` on this thread, before [`init`] and until the guard is dropped.
pub(crate) fn until_then(format: Format, lines: Lines) -> Option<DefaultGuard> {
    let filter = "info".parse().ok()?;
    let subscriber = subscriber(format, filter, lines, None);
    Some(tracing::subscriber::set_default(subscriber))
}

fn subscriber<W>(
    format: Format,
    Filter(filter): Filter,
    writer: W,
    otlp: Option<&SdkLoggerProvider>,
) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = fmt::layer().with_writer(writer);
    let lines = match format {
        Format::Json => {
            let json = lines.json().flatten_event(true);
            json.with_current_span(false).with_span_list(false).boxed()
        }
        Format::Text => lines.with_ansi(false).boxed(),
    };
    // OTLP has its own filter: events of the libraries that carry the export would cause further
    // exports, whatever standard output's filter allows.
    let own = filter_fn(is_own).and(LevelFilter::INFO);
    let otlp = otlp.map(|provider| OpenTelemetryTracingBridge::new(provider).with_filter(own));
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(otlp)
}

fn is_own(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    target == "statlink" || target.starts_with("statlink::")
}

/// kube logs each failed request twice, as an error and as a warning. statlink warns once an
/// outage, with the same reason. kube's messages about certificates and its configuration stay.
const LIBRARIES: &str =
    "warn,kube_runtime=error,kube_client::client=off,kube_client::client::tls=warn";
