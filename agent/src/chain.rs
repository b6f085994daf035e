//! An error with all that caused it, in one line.

use std::error::Error;

/// `error` and its sources, joined by colons; what an outer one says already is not said again.
pub fn chain(error: &(dyn Error + 'static)) -> String {
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
        Said(#[source] io::Error),
        #[error("open\n  it")]
        Unsaid(#[source] io::Error),
    }

    #[test]
    fn each_cause_is_said_once_and_on_one_line() {
        let inner = || io::Error::other("locked");
        assert_eq!(chain(&Outer::Said(inner())), "open it: locked; cure it");
        assert_eq!(chain(&Outer::Unsaid(inner())), "open it: locked");
    }
}
