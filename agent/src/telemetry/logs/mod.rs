//! Lines on stdout and, on request, OTLP logs: one event per transition, nothing per check, and
//! a summary of what flaps.

#[cfg(test)]
pub(crate) mod capture;
mod report;
mod story;
#[cfg(test)]
mod tests;

use std::str::FromStr;

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, LevelFilter, filter_fn},
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

pub use report::log;
pub use story::{Line, Story, Summary};

/// How lines on stdout look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line, its fields at the top level, its time in RFC 3339.
    #[default]
    Json,
    /// For a person at a terminal.
    Text,
}

/// Which events are logged.
#[derive(Debug)]
pub struct Filter(EnvFilter);

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a filter.
    #[error(
        "log filter {filter:?}: {source}; expected a level (error, warn, info, debug, trace, off) \
         or target=level,target=level"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging was set up before.
    #[error("logging is set up already: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

impl FromStr for Filter {
    type Err = LogError;

    /// A bare level is that of statlink's own events, others stay at `warn`; `target=level` pairs
    /// are added to that. Empty is `info`.
    fn from_str(filter: &str) -> Result<Self, LogError> {
        let given = filter.trim();
        let directives = match given.parse::<LevelFilter>() {
            _ if given.is_empty() => DEFAULT.to_owned(),
            Ok(LevelFilter::OFF) => "off".to_owned(),
            Ok(level) => format!("warn,kube_runtime=error,statlink={level}"),
            Err(_) => format!("{DEFAULT},{given}"),
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

/// Sets up logging for the process, `log`'s records included; `otlp` is
/// [`Telemetry::log_provider`](super::Telemetry::log_provider).
pub fn init(
    format: Format,
    filter: Filter,
    otlp: Option<&SdkLoggerProvider>,
) -> Result<(), LogError> {
    subscriber(format, filter, std::io::stdout, otlp).try_init()?;
    Ok(())
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
    // Its own filter: what carries these events must not feed on itself, whatever is asked for
    // on stdout.
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

/// kube warns of each refusal; statlink does so once an outage.
const DEFAULT: &str = "warn,kube_runtime=error,statlink=info";
