//! Makes text from outside, such as a pod's name, safe to print to a terminal.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

/// The text on one line. Characters that a terminal acts on, or that change the reading order, are
/// shown in the form `\u{1b}`.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// A line of a log, or JSON, with the same characters in the form `\u001b`. JSON keeps its meaning.
pub(crate) fn json_printable(line: &str) -> Cow<'_, str> {
    if !line.contains(acts) {
        return Cow::Borrowed(line);
    }
    let mut escaped = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if acts(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Writes JSON, on one line or several, as [`json_printable`] has it, and ends the line.
///
/// # Errors
///
/// As `out`.
pub(crate) fn write_json(out: &mut impl Write, json: &str) -> io::Result<()> {
    json.lines()
        .try_for_each(|line| writeln!(out, "{}", json_printable(line)))
}

/// Whether this is a control character (C0, C1, DEL), a line separator, or an invisible format
/// character: marks, embeddings, overrides and isolates of direction, joiners, and tags (Unicode,
/// general category Cf).
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_escaped_and_text_is_not() {
        for (text, expected) in [
            ("activator-1", "activator-1"),
            ("größer · 活性化", "größer · 活性化"),
            ("\u{1b}[2J", r"\u{1b}[2J"),
            ("a\r\nfake", r"a\r\nfake"),
            ("\u{9b}31m\u{7f}\u{7}", r"\u{9b}31m\u{7f}\u{7}"),
            ("a\u{202e}b\u{2066}c", r"a\u{202e}b\u{2066}c"),
            ("\u{2028}\u{200d}\u{e0041}", r"\u{2028}\u{200d}\u{e0041}"),
        ] {
            assert_eq!(printable(text), expected);
        }
    }

    #[test]
    fn json_that_acts_on_no_terminal_is_the_same_json() {
        for text in [
            "activator-1 · 活性化",
            "\u{1b}[2J\u{9b}31m\u{7f}",
            "a\u{202e}b\u{2028}\u{e0041}\"\\",
        ] {
            let json = serde_json::to_string(text).unwrap();
            let printed = json_printable(&json);
            assert!(!printed.contains(acts), "{printed}");
            assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), text);
        }
        assert_eq!(json_printable("{\"a\": 1}"), "{\"a\": 1}");
    }
}
