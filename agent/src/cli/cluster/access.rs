//! Where the agents are and how to reach them: the flags that all commands share.

use std::{ops::RangeInclusive, time::Duration};

/// Where the agents are and how to reach them.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Access {
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", global = true)]
    pub(super) context: Option<String>,
    /// Namespace of the agents
    #[arg(
        long,
        short,
        value_name = "NAME",
        default_value = "statlink",
        global = true
    )]
    pub(super) namespace: String,
    /// Label selector of the agents' pods
    #[arg(
        long,
        short = 'l',
        value_name = "SELECTOR",
        default_value = "app.kubernetes.io/name=statlink",
        global = true
    )]
    pub(super) selector: String,
    /// Namespace of the activators
    #[arg(
        long,
        value_name = "NAME",
        default_value = "knative-serving",
        global = true
    )]
    pub(super) serving_namespace: String,
    /// How long to wait for one agent
    #[arg(long, value_name = "DURATION", value_parser = timeout, default_value = "10s", global = true)]
    pub(super) timeout: Duration,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

fn timeout(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).ok();
    let accepted = duration.filter(|duration| TIMEOUTS.contains(duration));
    accepted.ok_or_else(|| "expected a duration from 1s to 10m, such as 30s".to_owned())
}

/// Less than a second is too little for a distant API server; more than minutes is a mistake.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_has_its_bounds() {
        assert_eq!(timeout("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(timeout("10m"), Ok(Duration::from_secs(600)));
        for bad in ["0s", "11m", "10", "never"] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }
}
