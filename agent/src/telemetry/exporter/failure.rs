//! Why an export failed, and what a person can do about it. The SDK reports it only as text.

/// Kinds of failed exports that need different cures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The Collector refuses the amount: it is above its limits, or too much for now.
    TooMuch,
    /// The Collector refuses this client.
    Denied,
    /// Whatever answers does not accept OTLP of this kind.
    NotTaken,
    /// Nobody answers, or the answer means something else.
    Away,
}

impl Failure {
    /// Classifies the SDK's error. It contains the gRPC status as `Code`, or the HTTP status, and
    /// never the text that came with it.
    pub(super) fn of(error: &str) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
        if says(&["ResourceExhausted", "status code: 413", "status code: 429"]) {
            Self::TooMuch
        } else if says(&[
            "Unauthenticated",
            "PermissionDenied",
            "status code: 401",
            "status code: 403",
        ]) {
            Self::Denied
        } else if says(&["Unimplemented", "status code: 404", "status code: 405"]) {
            Self::NotTaken
        } else {
            Self::Away
        }
    }

    /// What the operator should look at.
    pub(super) const fn advice(self) -> &'static str {
        match self {
            Self::TooMuch => {
                "The Collector answers, and takes no more: look at its memory_limiter, its queue, and \
                 max_recv_msg_size_mib of its otlp receiver (no request is larger than 4 MiB)."
            }
            Self::Denied => {
                "The Collector answers, and refuses this agent: check OTEL_EXPORTER_OTLP_HEADERS and \
                 _CLIENT_CERTIFICATE."
            }
            Self::NotTaken => {
                "What listens at the endpoint takes no such exports: check that the Collector has a \
                 pipeline for them, and OTEL_EXPORTER_OTLP_PROTOCOL."
            }
            Self::Away => {
                "Check that it listens at the endpoint, and OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL and \
                 _CERTIFICATE."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_not_blamed_on_the_endpoint() {
        let grpc = |code| format!("TonicMetricsClient export failed with gRPC code: {code}");
        let http = |code| format!("HTTP export failed with status code: {code}");
        for (error, failure) in [
            (grpc("ResourceExhausted"), Failure::TooMuch),
            (http("413"), Failure::TooMuch),
            (http("429"), Failure::TooMuch),
            (grpc("Unauthenticated"), Failure::Denied),
            (http("403"), Failure::Denied),
            (grpc("Unimplemented"), Failure::NotTaken),
            (http("404"), Failure::NotTaken),
            (grpc("Unavailable"), Failure::Away),
            (http("503"), Failure::Away),
            ("no answer within 3000 ms".to_owned(), Failure::Away),
        ] {
            assert_eq!(Failure::of(&error), failure, "{error}");
            let blames = failure.advice().contains("_ENDPOINT");
            assert_eq!(blames, failure == Failure::Away, "{error}");
        }
    }
}
