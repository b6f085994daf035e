//! Lists of `key=value,key=value` whose parts are percent-encoded, as in W3C Baggage.

use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::{env::Var, error::ConfigError};

/// Parses resource attributes. One bad entry rejects the whole list.
pub(super) fn attributes(var: &Var) -> Result<Vec<(String, String)>, ConfigError> {
    const FORM: &str = "key=value,key=value with percent-encoded values";
    if var.is_unexpanded() {
        return Err(var.unexpanded());
    }
    let pairs = pairs(&var.value);
    pairs
        .map(|pair| pair.ok_or_else(|| var.expected(FORM)))
        .collect()
}

/// Parses headers. Their values are marked as sensitive.
pub(super) fn headers(var: &Var) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    const FORM: &str = "name=value,name=value with percent-encoded values";
    if var.is_unexpanded() {
        return Err(var.secret("a reference to a variable was not expanded", FORM));
    }
    let header = |(position, pair): (usize, Option<(String, String)>)| {
        let number = position + 1;
        let (name, value) =
            pair.ok_or_else(|| var.secret(format!("entry {number} is not a pair"), FORM))?;
        let name = HeaderName::try_from(name.to_ascii_lowercase())
            .map_err(|_| var.secret(format!("entry {number} has no valid name"), FORM))?;
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| var.secret(format!("the value of {name} is not valid"), FORM))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    pairs(&var.value).enumerate().map(header).collect()
}

/// Decoded pairs; `None` for an entry that is not a pair. Empty entries are skipped.
fn pairs(list: &str) -> impl Iterator<Item = Option<(String, String)>> {
    let entries = list.split(',').map(str::trim).filter(|e| !e.is_empty());
    entries.map(|entry| {
        let (key, value) = entry.split_once('=')?;
        let decode = |part: &str| {
            let decoded = percent_decode_str(part.trim()).decode_utf8().ok()?;
            Some(decoded.into_owned())
        };
        let key = decode(key)?;
        (!key.is_empty()).then_some((key, decode(value)?))
    })
}
