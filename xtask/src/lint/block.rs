//! Generated parts of documents, between two marks: `<!-- NAME:begin -->` and `<!-- NAME:end -->`.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

/// One part of one document.
#[derive(Debug)]
pub(super) struct Block {
    /// The document, relative to the workspace's root.
    pub(super) document: &'static str,
    /// The name in the marks.
    pub(super) name: String,
    /// The text between them; ends with a line break.
    pub(super) text: String,
}

/// Writes the parts that are out of date, or fails if there are any. `check` is the lint that
/// writes them.
pub(super) fn settle(blocks: &[Block], check: &str, fix: bool, root: &Path) -> Result<()> {
    let mut old = Vec::new();
    for block in blocks {
        let file = root.join(block.document);
        let text = fs::read_to_string(&file).with_context(|| format!("read {}", block.document))?;
        let current = block
            .within(&text)
            .with_context(|| block.document.to_owned())?;
        if current == text {
            continue;
        }
        if fix {
            fs::write(&file, current).with_context(|| format!("write {}", block.document))?;
        } else {
            old.push(format!("{} of {}", block.name, block.document));
        }
    }
    if !old.is_empty() {
        bail!(
            "out of date: {}; run `cargo xtask lint {check} --fix`",
            old.join(", ")
        );
    }
    Ok(())
}

impl Block {
    /// The document with this part up to date.
    fn within(&self, document: &str) -> Result<String> {
        let begin = format!("<!-- {}:begin -->\n", self.name);
        let end = format!("<!-- {}:end -->", self.name);
        let parts = document.split_once(&begin).and_then(|(before, rest)| {
            let (_, after) = rest.split_once(&end)?;
            Some((before, after))
        });
        let (before, after) =
            parts.with_context(|| format!("there is no place for {begin}{end}"))?;
        Ok(format!("{before}{begin}{}{end}{after}", self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_the_place_between_its_marks() {
        let block = Block {
            document: "a.md",
            name: "x".to_owned(),
            text: "new\n".to_owned(),
        };
        let of = |text: &str| format!("# A\n<!-- x:begin -->\n{text}<!-- x:end -->\nb\n");
        assert_eq!(block.within(&of("old\n")).unwrap(), of("new\n"));
        assert!(block.within("# A\n").is_err());
    }

    #[test]
    fn what_is_out_of_date_is_named_or_written() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.md");
        fs::write(&file, "<!-- x:begin -->\n<!-- x:end -->\n").unwrap();
        let blocks = [Block {
            document: "a.md",
            name: "x".to_owned(),
            text: "new\n".to_owned(),
        }];
        let error = settle(&blocks, "docs", false, dir.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "out of date: x of a.md; run `cargo xtask lint docs --fix`"
        );
        settle(&blocks, "docs", true, dir.path()).unwrap();
        settle(&blocks, "docs", false, dir.path()).unwrap();
    }
}
