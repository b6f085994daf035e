//! Where one signal goes, and how.

use std::{collections::BTreeSet, time::Duration};

use http::{HeaderName, HeaderValue, Uri, uri::Scheme};

use super::{
    env::{Env, Signal, Var},
    error::{ConfigError, Errors},
    limits::{DEFAULT_TIMEOUT, INTERVALS, MAX_TIMEOUT},
    pairs,
    tls::Tls,
};

/// Where one signal goes, and how.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    /// With scheme and host; for [`Protocol::Http`] with the signal's path.
    pub endpoint: Uri,
    /// The transport.
    pub protocol: Protocol,
    /// Sent with each request. The values are marked sensitive, so `Debug` does not show them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether requests are compressed with gzip.
    pub gzip: bool,
    /// Time for one export with its retries.
    pub timeout: Duration,
    /// For a plain http endpoint it trusts no authority.
    pub tls: Tls,
}

/// OTLP's transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// `grpc`.
    Grpc,
    /// `http/protobuf`.
    Http,
}

impl Destination {
    /// Reads the variables of `signal`. Returns `None` and adds to `errors` if one is bad; adds
    /// settings that are not honoured to `warnings`.
    pub(super) fn read(
        env: Env<'_>,
        signal: Signal,
        flag: Option<&Var>,
        errors: &mut Errors,
        warnings: &mut BTreeSet<String>,
    ) -> Option<Self> {
        let protocol = env
            .otlp(signal, "PROTOCOL")
            .map_or(Ok(Protocol::Grpc), |var| {
                var.choice(&[("grpc", Protocol::Grpc), ("http/protobuf", Protocol::Http)])
            });
        let protocol = errors.note(protocol);
        let headers = env.otlp(signal, "HEADERS");
        let headers = errors.note(headers.as_ref().map_or(Ok(Vec::new()), pairs::headers));
        // gzip by default: each point repeats its pod's names and attributes, so only a tenth
        // remains.
        let gzip = env.otlp(signal, "COMPRESSION").map_or(Ok(true), |var| {
            var.choice(&[("gzip", true), ("none", false)])
        });
        let gzip = errors.note(gzip);
        let timeout = env
            .otlp(signal, "TIMEOUT")
            .map_or(Ok(DEFAULT_TIMEOUT), |var| {
                let asked = var.milliseconds(Duration::from_millis(1)..=*INTERVALS.end())?;
                if asked > MAX_TIMEOUT {
                    warnings.insert(format!(
                        "{}={}: {} ms is used, so that the last export fits into a shutdown",
                        var.name,
                        var.value,
                        MAX_TIMEOUT.as_millis()
                    ));
                }
                Ok(asked.min(MAX_TIMEOUT))
            });
        let timeout = errors.note(timeout);

        let protocol = protocol?;
        let (var, given) = endpoint(env, signal, protocol, flag);
        let endpoint = errors.note(parse(env, signal, protocol, &var, given))?;
        let secure = endpoint.scheme() == Some(&Scheme::HTTPS);
        let tls = errors.note(Tls::load(env, signal, secure, &var))?;
        Some(Self {
            endpoint,
            protocol,
            headers: headers?,
            gzip: gzip?,
            timeout: timeout?,
            tls,
        })
    }
}

/// Whether an endpoint is the signal's own or the base for all signals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    Own,
    Base,
}

/// The endpoint: from the flag, the signal's own variable, the shared one, or the default.
fn endpoint(env: Env<'_>, signal: Signal, protocol: Protocol, flag: Option<&Var>) -> (Var, Given) {
    let base = |name: &str, value: &str| Var {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    if let Some(flag) = flag {
        return (base(&flag.name, flag.value.trim()), Given::Base);
    }
    if let Some(var) = env.own(signal, "ENDPOINT") {
        return (var, Given::Own);
    }
    let var = env.shared("ENDPOINT").unwrap_or_else(|| {
        let default = match protocol {
            Protocol::Grpc => "http://localhost:4317",
            Protocol::Http => "http://localhost:4318",
        };
        base("OTEL_EXPORTER_OTLP_ENDPOINT", default)
    });
    (var, Given::Base)
}

fn parse(
    env: Env<'_>,
    signal: Signal,
    protocol: Protocol,
    var: &Var,
    given: Given,
) -> Result<Uri, ConfigError> {
    const FORM: &str = "http://host:port or https://host:port";
    if var.value.contains('@') {
        return Err(var.secret("an endpoint carries no user or password", FORM));
    }
    if var.is_unexpanded() {
        return Err(var.unexpanded());
    }
    if is_bare_ipv6(&var.value) {
        return Err(var.expected("brackets around an IPv6 address, as in http://[fd00::1]:4317"));
    }
    let mut text = var.value.clone();
    if !text.contains("://") && protocol == Protocol::Grpc {
        text = format!(
            "{}://{text}",
            scheme(env, signal).ok_or_else(|| var.expected(FORM))??
        );
    }
    if protocol == Protocol::Http && given == Given::Base {
        text = format!("{}/{}", text.trim_end_matches('/'), signal.path());
    }
    let endpoint: Uri = text.parse().map_err(|_| var.expected(FORM))?;
    let known = [Some("http"), Some("https")].contains(&endpoint.scheme_str());
    let has_host = endpoint.host().is_some_and(|host| !host.is_empty());
    // `Uri` accepts an authority whose port is not a number, so check the port.
    let port = endpoint.authority().is_some_and(|authority| {
        let after_host = authority
            .as_str()
            .rsplit_once(']')
            .map_or(authority.as_str(), |(_, rest)| rest);
        !after_host.contains(':') || authority.port_u16().is_some()
    });
    if known && has_host && port {
        Ok(endpoint)
    } else {
        Err(var.expected(FORM))
    }
}

/// Whether the host is an IPv6 address without brackets, so that its port is ambiguous.
fn is_bare_ipv6(endpoint: &str) -> bool {
    let rest = endpoint
        .split_once("://")
        .map_or(endpoint, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    let of_address = |c: char| c.is_ascii_hexdigit() || [':', '.', '%'].contains(&c);
    authority.matches(':').count() > 1 && authority.chars().all(of_address)
}

/// The scheme for a gRPC endpoint without one, if `INSECURE` says which.
///
/// Without `INSECURE` the specification means https, but most people who write `collector:4317`
/// mean http. So neither is assumed.
fn scheme(env: Env<'_>, signal: Signal) -> Option<Result<&'static str, ConfigError>> {
    let var = env.otlp(signal, "INSECURE")?;
    Some(var.choice(&[("true", "http"), ("false", "https")]))
}
