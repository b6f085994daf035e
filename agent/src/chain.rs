//! An error and its causes, in one line.

use std::error::Error;

/// `error` and its sources, joined by colons. A source that an outer message repeats is left out.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use thiserror::Error;

    use super::*;

    #[derive(Debug, Error)]
    enum Outer {
        #[error("open it: {0}; cure it")]
        Shown(#[source] io::Error),
        #[error("open\n  it")]
        Hidden(#[source] io::Error),
    }

    #[test]
    fn each_cause_is_shown_once_and_on_one_line() {
        let inner = || io::Error::other("locked");
        assert_eq!(chain(&Outer::Shown(inner())), "open it: locked; cure it");
        assert_eq!(chain(&Outer::Hidden(inner())), "open it: locked");
    }
}
