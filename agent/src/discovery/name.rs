//! The form of Kubernetes names (RFC 1123). Text of another form is no name of a pod, whatever its
//! source: names become attributes of metrics and fields of log lines.

/// Whether this is a DNS-1123 label, like the name of a namespace.
pub(super) fn is_label(text: &str) -> bool {
    text.len() <= LONGEST_LABEL && is_well_formed(text)
}

/// Whether this is a DNS-1123 subdomain, like the name of a pod. Kubernetes does not limit its
/// parts.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= LONGEST_SUBDOMAIN && text.split('.').all(is_well_formed)
}

/// Lower-case letters, digits and dashes, with a letter or digit at each end.
fn is_well_formed(part: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|byte| edge(byte) || *byte == b'-')
}

/// `DNS1123LabelMaxLength` of apimachinery's `pkg/util/validation`.
const LONGEST_LABEL: usize = 63;
/// `DNS1123SubdomainMaxLength` there.
const LONGEST_SUBDOMAIN: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pods_and_namespaces_are_told_from_other_text() {
        for name in ["a", "0", "activator-5895494cd7-abcde", &"a".repeat(63)] {
            assert!(is_label(name) && is_subdomain(name), "{name}");
        }
        for name in [
            "a.b",
            "activator.example-1",
            &"a".repeat(64),
            &"a".repeat(253),
        ] {
            assert!(!is_label(name) && is_subdomain(name), "{name}");
        }
        for text in [
            "",
            "-a",
            "a-",
            "A",
            "a_b",
            "a b",
            "a.",
            ".a",
            "a..b",
            "a.-b",
            "ä",
            "a\n",
            "\u{1b}[2J",
            "a\u{202e}b",
            &"a".repeat(254),
        ] {
            assert!(!is_label(text) && !is_subdomain(text), "{text:?}");
        }
    }
}
