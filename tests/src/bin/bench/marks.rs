//! Parts of documents that a run writes, between `<!-- NAME:begin -->` and `<!-- NAME:end -->`.

use anyhow::{Context as _, Result};

/// The document with this text between the marks of this name.
pub(crate) fn replaced(document: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (
        format!("<!-- {name}:begin -->\n"),
        format!("<!-- {name}:end -->"),
    );
    let parts = document.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) = parts.with_context(|| format!("there is no place for {begin}{end}"))?;
    Ok(format!("{before}{begin}{text}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_marks_is_replaced_and_nothing_else() {
        let document = "a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n";
        let replaced = replaced(document, "x", "new\n").unwrap();
        assert_eq!(replaced, document.replace("old", "new"));
        assert!(super::replaced(document, "y", "").is_err());
    }
}
