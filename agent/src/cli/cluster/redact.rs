//! Redaction: removes secrets from the objects and logs of a bundle.
//!
//! Strangers read a bundle. So Secrets and ConfigMaps are left out completely. In other objects,
//! values whose names look like secrets are blanked, and so are credentials inside of texts.

use serde_json::Value;

/// Blanks secrets in a Kubernetes object, and drops fields that say nothing.
pub(super) fn object(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // managedFields are long, and the last-applied annotation repeats the object as text.
            fields.remove("managedFields");
            fields.retain(|key, _| key != "kubectl.kubernetes.io/last-applied-configuration");
            let is_named_secret = fields
                .get("name")
                .and_then(Value::as_str)
                .is_some_and(is_secret);
            for (key, field) in fields {
                // {name: OTEL_EXPORTER_OTLP_HEADERS, value: …} of a container, or {password: …}.
                let hidden = is_named_secret && key == "value" || is_secret(key);
                if hidden && field.is_string() {
                    *field = BLANK.into();
                } else {
                    object(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(object),
        Value::String(content) => {
            *content = text(content);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Blanks credentials in a text, word by word: the word after `Bearer` or `Basic`, the value of
/// `password=…` and the like, and `user:password@` in an address.
pub(super) fn text(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut after_scheme = false;
    for word in text.split_inclusive(|c: char| c.is_whitespace() || c == ',' || c == ';') {
        let (core, end) = split_end(word);
        if after_scheme && !core.is_empty() {
            kept.push_str(BLANK);
        } else {
            kept.push_str(&word_without_secret(core));
        }
        kept.push_str(end);
        let scheme = core.trim_start_matches(|c: char| !c.is_alphanumeric());
        let scheme = scheme.rsplit(['=', ':', '"']).next().unwrap_or(scheme);
        after_scheme =
            scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("basic");
    }
    kept
}

/// Splits a word from the characters that end it.
fn split_end(word: &str) -> (&str, &str) {
    let core = word.trim_end_matches(|c: char| c.is_whitespace() || c == ',' || c == ';');
    word.split_at(core.len())
}

fn word_without_secret(word: &str) -> String {
    // Addresses first: a password in one may have any form.
    if let Some((scheme, rest)) = word.split_once("://")
        && let Some((credentials, host)) = rest.split_once('@')
        && !credentials.contains('/')
    {
        return format!("{scheme}://{BLANK}@{host}");
    }
    for separator in ['=', ':'] {
        if let Some((name, value)) = word.split_once(separator)
            && is_secret(name.trim_matches('"'))
            && !value.trim_matches('"').is_empty()
        {
            return format!("{name}{separator}{BLANK}");
        }
    }
    word.to_owned()
}

/// Whether a value with this name is likely to be a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRETS.iter().any(|word| name.contains(word))
        // Names of files and objects are not secret: `tokenExpirationSeconds`, `secretName`.
        && !NO_SECRETS.iter().any(|word| name.contains(word))
}

const SECRETS: [&str; 10] = [
    "password",
    "passwd",
    "secret",
    "token",
    "otlp_headers",
    "otlp_metrics_headers",
    "otlp_logs_headers",
    "authorization",
    "api_key",
    "api-key",
];
const NO_SECRETS: [&str; 4] = ["secretname", "secretkeyref", "expiration", "automount"];
const BLANK: &str = "(left out)";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn values_with_secret_names_are_blanked_and_others_stay() {
        let mut pod = json!({
            "metadata": {
                "name": "agent",
                "managedFields": [{"manager": "helm"}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
            },
            "spec": {"containers": [{
                "args": ["run", "--otlp-endpoint=https://me:hunter2@collector:4317"],
                "env": [
                    {"name": "OTEL_EXPORTER_OTLP_HEADERS", "value": "x-api-key=hunter2"},
                    {"name": "STATLINK_NODE_NAME", "value": "node-1"},
                    {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}},
                ],
            }], "volumes": [{"projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 3607}}]}}]},
        });
        object(&mut pod);
        let text = pod.to_string();
        assert!(!text.contains("hunter2"), "{text}");
        for kept in [
            "node-1",
            "collector:4317",
            "secretKeyRef",
            "3607",
            r#""a":"b""#,
        ] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        for dropped in ["managedFields", "last-applied"] {
            assert!(!text.contains(dropped), "{dropped}: {text}");
        }
    }

    #[test]
    fn credentials_in_a_log_are_blanked() {
        for (line, expected) in [
            (
                "sent authorization: Bearer abc.def, then more",
                "sent authorization: Bearer (left out), then more",
            ),
            ("Basic dXNlcg== failed", "Basic (left out) failed"),
            ("password=hunter2 user=me", "password=(left out) user=me"),
            (
                r#"{"token":"abc","pod":"a"}"#,
                r#"{"token":(left out),"pod":"a"}"#,
            ),
            (
                "export to https://me:pw@host:4318/v1/metrics failed",
                "export to https://(left out)@host:4318/v1/metrics failed",
            ),
            ("https://host/path@2 is fine", "https://host/path@2 is fine"),
            (
                "10.0.0.1:8080 timeout after 3.000 s",
                "10.0.0.1:8080 timeout after 3.000 s",
            ),
        ] {
            assert_eq!(text(line), expected);
        }
    }

    proptest! {
        #[test]
        fn a_password_never_stays(user in "[a-z]{1,8}", password in "[A-Z]{8}", host in "[a-z]{1,8}") {
            let line = format!("x https://{user}:{password}@{host}/p Bearer {password}; token={password}");
            prop_assert!(!text(&line).contains(&password));
        }

        #[test]
        fn a_text_without_secrets_stays(words in "[a-zA-Z0-9 .,/]{0,60}") {
            prop_assume!(!words.to_lowercase().contains("b"));
            prop_assert_eq!(text(&words), words);
        }
    }
}
