//! Makes text from outside, such as a pod's name, safe to print to a terminal.

use std::borrow::Cow;

/// The text on one line. Characters that a terminal acts on, or that change the reading order, are
/// shown in the form `\u{1b}`.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
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
}
