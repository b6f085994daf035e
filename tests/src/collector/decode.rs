//! OTLP in JSON, as the Collector's file exporter writes it: one request a line.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value as Json;

use super::{Attributes, Export, LogRecord, Point, Value};

pub(super) fn line(line: &[u8], arrived: SystemTime) -> Result<Export> {
    let json: Json = serde_json::from_slice(line).context("not JSON")?;
    let mut export = Export {
        arrived,
        points: Vec::new(),
        logs: Vec::new(),
    };
    for of in array(&json, "resourceMetrics") {
        let resource = attributes(&of["resource"]);
        for scope in array(of, "scopeMetrics") {
            let name = &scope["scope"];
            for metric in array(scope, "metrics") {
                points(metric, text(&name["name"]), &resource, &mut export.points)?;
            }
        }
    }
    for of in array(&json, "resourceLogs") {
        let resource = attributes(&of["resource"]);
        for scope in array(of, "scopeLogs") {
            export.logs.extend(
                array(scope, "logRecords")
                    .iter()
                    .map(|log| record(log, &resource)),
            );
        }
    }
    let known = json
        .get("resourceMetrics")
        .or_else(|| json.get("resourceLogs"));
    ensure!(known.is_some(), "neither metrics nor logs: {json}");
    Ok(export)
}

fn points(metric: &Json, scope: String, resource: &Attributes, to: &mut Vec<Point>) -> Result<()> {
    let name = text(&metric["name"]);
    let kind = ["gauge", "sum", "histogram"]
        .into_iter()
        .find(|kind| metric.get(kind).is_some());
    let kind =
        kind.with_context(|| format!("{name}: of a kind that the test bed does not know"))?;
    let data = &metric[kind];
    for point in array(data, "dataPoints") {
        let value = match kind {
            "gauge" => Value::Gauge(number(point)),
            "sum" => Value::Sum {
                value: number(point),
                monotonic: data["isMonotonic"] == true,
                cumulative: data["aggregationTemporality"] == 2,
            },
            _ => Value::Histogram {
                count: integer(&point["count"]).unwrap_or_default(),
                sum: point["sum"].as_f64().unwrap_or_default(),
                bounds: array(point, "explicitBounds")
                    .iter()
                    .filter_map(Json::as_f64)
                    .collect(),
                counts: array(point, "bucketCounts")
                    .iter()
                    .filter_map(integer)
                    .collect(),
            },
        };
        to.push(Point {
            metric: name.clone(),
            unit: text(&metric["unit"]),
            scope: scope.clone(),
            resource: resource.clone(),
            attributes: attributes(point),
            start: time(&point["startTimeUnixNano"]),
            time: time(&point["timeUnixNano"]).with_context(|| format!("{name}: no time"))?,
            value,
        });
    }
    Ok(())
}

fn record(log: &Json, resource: &Attributes) -> LogRecord {
    LogRecord {
        time: time(&log["timeUnixNano"]).or_else(|| time(&log["observedTimeUnixNano"])),
        severity: text(&log["severityText"]),
        event: text(&log["eventName"]),
        body: any(&log["body"]),
        attributes: attributes(log),
        resource: resource.clone(),
    }
}

fn attributes(of: &Json) -> Attributes {
    let pairs = array(of, "attributes").iter();
    pairs
        .map(|pair| (text(&pair["key"]), any(&pair["value"])))
        .collect()
}

/// An AnyValue: a string as it is, anything else as JSON text without its type's name.
fn any(value: &Json) -> String {
    match value.as_object().and_then(|of| of.values().next()) {
        Some(inner) => inner
            .as_str()
            .map_or_else(|| inner.to_string(), str::to_owned),
        None => String::new(),
    }
}

fn number(point: &Json) -> f64 {
    let integer = point["asInt"].as_str().and_then(|text| text.parse().ok());
    integer
        .or_else(|| point["asInt"].as_f64())
        .or_else(|| point["asDouble"].as_f64())
        .unwrap_or_default()
}

/// 64-bit integers are strings in OTLP's JSON; a default may be left out.
fn integer(value: &Json) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn time(value: &Json) -> Option<SystemTime> {
    let nanoseconds = integer(value).filter(|&n| n > 0)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds))
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn array<'a>(of: &'a Json, key: &str) -> &'a [Json] {
    of.get(key)
        .and_then(Json::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_of_the_agent_reads_as_it_was_written() {
        let text = br#"{"resourceMetrics":[{"resource":{"attributes":[
            {"key":"service.name","value":{"stringValue":"statlink"}}]},"scopeMetrics":[{
            "scope":{"name":"statlink"},"metrics":[{"name":"c","unit":"{error}","sum":{
            "aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{"attributes":[
            {"key":"peer","value":{"stringValue":"autoscaler"}}],"startTimeUnixNano":"1",
            "timeUnixNano":"2000000000","asInt":"7"}]}}]}]}]}"#;
        let export = line(text, SystemTime::UNIX_EPOCH).unwrap();
        let point = &export.points[0];
        assert!(point.is("c", &[("peer", "autoscaler")]));
        assert!(!point.is("c", &[("peer", "other")]));
        assert_eq!(point.resource["service.name"], "statlink");
        let value = Value::Sum {
            value: 7.0,
            monotonic: true,
            cumulative: true,
        };
        assert_eq!(point.value, value);
        assert_eq!(point.time, SystemTime::UNIX_EPOCH + Duration::from_secs(2));
    }

    #[test]
    fn a_line_of_another_signal_is_an_error() {
        assert!(line(br#"{"resourceSpans":[]}"#, SystemTime::UNIX_EPOCH).is_err());
        assert!(line(b"{", SystemTime::UNIX_EPOCH).is_err());
    }
}
