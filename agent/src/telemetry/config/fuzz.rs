//! Fuzzes the reader of OpenTelemetry's environment variables.

use std::time::Duration;

use bolero::check;

use super::{Config, INTERVALS, Overrides};
use crate::fuzz::{Edit, ITERATIONS, edited_text};

/// Each variable with an accepted value. There are no variables that name files, and no https: they
/// would make it read files of this machine.
const VARIABLES: [(&str, &str); 16] = [
    ("OTEL_SDK_DISABLED", "false"),
    ("OTEL_METRICS_EXPORTER", "otlp"),
    ("OTEL_LOGS_EXPORTER", "otlp"),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "http://collector.example:4318/base",
    ),
    ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://[::1]:4317"),
    ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc"),
    (
        "OTEL_EXPORTER_OTLP_HEADERS",
        "authorization=Bearer%20abc,x-tenant=a%2Cb",
    ),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
    (
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
        "cumulative",
    ),
    ("OTEL_METRIC_EXPORT_INTERVAL", "10000"),
    ("OTEL_METRIC_EXPORT_TIMEOUT", "30000"),
    (
        "OTEL_RESOURCE_ATTRIBUTES",
        "deployment.environment.name=a%20b,k8s.node.name=n",
    ),
    ("OTEL_SERVICE_NAME", "statlink"),
];

#[test]
fn any_values_are_valid_or_named() {
    check!()
        .with_iterations(ITERATIONS)
        .with_type::<(u16, [(u8, Vec<Edit>); 2])>()
        .for_each(|(set, changes)| {
            // At most two are changed: a refused one hides what the others would do.
            let values: Vec<_> = VARIABLES
                .into_iter()
                .enumerate()
                .filter(|(index, _)| set & (1 << index) != 0)
                .map(|(index, (name, value))| {
                    let mut value = value.to_owned();
                    for (which, edits) in changes {
                        if usize::from(*which) % VARIABLES.len() == index {
                            value = edited_text(&value, edits.get(..2).unwrap_or(edits));
                        }
                    }
                    (name, value)
                })
                .collect();
            let lookup = |name: &str| {
                let found = values.iter().find(|(key, _)| *key == name)?;
                Some(found.1.clone())
            };
            match Config::read(&lookup, &Overrides::default()) {
                Ok(config) => {
                    assert!(INTERVALS.contains(&config.interval));
                    assert!(!config.resource["service.name"].is_empty());
                    assert!(!config.resource.contains_key("k8s.pod.name"));
                    let destinations = config.metrics.iter().chain(&config.logs);
                    for destination in destinations {
                        // A shutdown has 5 s.
                        assert!(destination.timeout <= Duration::from_secs(4));
                    }
                }
                Err(errors) => {
                    for error in errors.iter() {
                        let text = error.to_string();
                        assert!(text.contains("OTEL_"), "names no variable: {text}");
                        assert!(!text.contains("Bearer"), "shows a secret: {text}");
                    }
                }
            }
        });
}
