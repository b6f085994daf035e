//! The relevant parts of a Rust file, read from its tokens: its own comment, its constants with
//! their comments, its tests, and the names that it defines.

use std::{collections::BTreeSet, str::FromStr as _};

use anyhow::Result;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::definitions::definitions;

/// One Rust file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    /// Its text.
    pub(super) text: String,
    /// The first sentence of its own comment, `//!`.
    pub(super) summary: Option<String>,
    /// The constants outside of tests, in their order.
    pub(super) constants: Vec<Constant>,
    /// The names of its tests, in their order.
    pub(super) tests: Vec<String>,
    /// Every name that it defines, in tests as well; not the names that it only uses.
    pub(super) defined: BTreeSet<String>,
    /// The quoted texts, in tests as well.
    pub(super) texts: BTreeSet<String>,
}

/// `const NAME: TYPE = VALUE;`
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Constant {
    pub(super) name: String,
    pub(super) of_type: String,
    pub(super) value: Vec<String>,
    /// Its comment, in one line; empty without one.
    pub(super) why: String,
}

impl Source {
    pub(super) fn read(text: &str) -> Result<Self> {
        let tokens = TokenStream::from_str(text).map_err(|error| anyhow::anyhow!("{error}"))?;
        let mut source = Self {
            text: text.to_owned(),
            summary: summary(text),
            defined: definitions(tokens.clone()),
            ..Self::default()
        };
        source.walk(tokens, false);
        Ok(source)
    }

    fn walk(&mut self, tokens: TokenStream, in_tests: bool) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut comment = String::new();
        let mut of_test = false;
        let mut test = false;
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let rest = tokens.get(at + 1..).unwrap_or_default();
            at += 1;
            match (token, rest) {
                (TokenTree::Punct(hash), [TokenTree::Group(attribute), ..])
                    if hash.as_char() == '#' && attribute.delimiter() == Delimiter::Bracket =>
                {
                    let inside = attribute.stream().to_string().replace(' ', "");
                    match doc(attribute.stream()) {
                        Some(line) => {
                            comment.push_str(line.trim());
                            comment.push('\n');
                        }
                        None => self.note(attribute.stream()),
                    }
                    let name = inside.split('(').next().unwrap_or_default();
                    test |= name == "test" || name.ends_with("::test");
                    of_test |= inside == "cfg(test)";
                    at += 1;
                }
                (TokenTree::Ident(word), [TokenTree::Ident(name), TokenTree::Punct(colon), ..])
                    if word == "const" && colon.as_char() == ':' =>
                {
                    if !in_tests && !of_test {
                        let declared = rest.get(2..).unwrap_or_default();
                        self.constant(name.to_string(), declared, &comment);
                    }
                    (comment, of_test, test) = (String::new(), false, false);
                    at += 2;
                }
                (TokenTree::Ident(word), [TokenTree::Ident(name), ..]) if word == "fn" => {
                    if test {
                        self.tests.push(name.to_string());
                    }
                    comment.clear();
                }
                (TokenTree::Group(group), _) => {
                    self.walk(group.stream(), in_tests || of_test || test);
                    if group.delimiter() == Delimiter::Brace {
                        (comment, of_test, test) = (String::new(), false, false);
                    }
                }
                (TokenTree::Punct(end), _) if matches!(end.as_char(), ';' | ',') => {
                    (comment, of_test, test) = (String::new(), false, false);
                }
                (TokenTree::Literal(literal), _) => {
                    self.texts
                        .insert(literal.to_string().trim_matches('"').to_owned());
                }
                (TokenTree::Ident(_) | TokenTree::Punct(_), _) => {}
            }
        }
    }

    /// Adds texts outside of items.
    fn note(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.note(group.stream()),
                TokenTree::Literal(literal) => {
                    self.texts
                        .insert(literal.to_string().trim_matches('"').to_owned());
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    /// `tokens` follow the colon.
    fn constant(&mut self, name: String, tokens: &[TokenTree], comment: &str) {
        let declared = tokens
            .split(|token| is(token, ';'))
            .next()
            .unwrap_or_default();
        let mut parts = declared.splitn(2, |token| is(token, '='));
        let text = |tokens: &[TokenTree]| {
            let tokens: TokenStream = tokens.iter().cloned().collect();
            tokens.to_string()
        };
        let of_type = text(parts.next().unwrap_or_default());
        let value = flat(parts.next().unwrap_or_default());
        self.constants.push(Constant {
            name,
            of_type,
            value,
            why: in_one_line(comment),
        });
    }
}

/// The text of `#[doc = "…"]`.
fn doc(attribute: TokenStream) -> Option<String> {
    let tokens: Vec<_> = attribute.into_iter().collect();
    let [TokenTree::Ident(word), _, TokenTree::Literal(text)] = tokens.as_slice() else {
        return None;
    };
    if word != "doc" {
        return None;
    }
    let text = text.to_string();
    let text = text.strip_prefix('"')?.strip_suffix('"')?;
    Some(
        text.replace("\\\"", "\"")
            .replace("\\\\", "\\")
            .replace("\\'", "'"),
    )
}

/// Tokens without groups; a group's brackets are tokens of their own.
fn flat(tokens: &[TokenTree]) -> Vec<String> {
    let mut words = Vec::new();
    for token in tokens {
        let TokenTree::Group(group) = token else {
            words.push(token.to_string());
            continue;
        };
        let (open, close) = match group.delimiter() {
            Delimiter::Parenthesis => ("(", ")"),
            Delimiter::Brace => ("{", "}"),
            Delimiter::Bracket => ("[", "]"),
            Delimiter::None => ("", ""),
        };
        words.push(open.to_owned());
        words.extend(flat(&group.stream().into_iter().collect::<Vec<_>>()));
        words.push(close.to_owned());
    }
    words
}

fn is(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

/// The first sentence of the comment at the beginning of a file.
fn summary(text: &str) -> Option<String> {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph: Vec<_> = lines
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let paragraph = paragraph.join(" ");
    (!paragraph.is_empty()).then(|| first_sentence(&paragraph).to_owned())
}

/// Up to the first full stop before a capital letter, a bracket or a backtick.
fn first_sentence(paragraph: &str) -> &str {
    let mut from = 0;
    while let Some(at) = paragraph.get(from..).and_then(|rest| rest.find(". ")) {
        let end = from + at + 1;
        let next = paragraph
            .get(end + 1..)
            .and_then(|rest| rest.chars().next());
        if next.is_some_and(|next| next.is_uppercase() || matches!(next, '`' | '[' | '"')) {
            return paragraph.get(..end).unwrap_or(paragraph);
        }
        from = end;
    }
    paragraph
}

fn in_one_line(comment: &str) -> String {
    comment.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A comment without its link syntax: brackets around a name, and a target behind them.
pub(super) fn without_references(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[`") {
        let Some((name, after)) = after.split_once("`]") else {
            break;
        };
        plain.push_str(before);
        plain.push('`');
        plain.push_str(name);
        plain.push('`');
        rest = match after
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'))
        {
            Some((_, after)) => after,
            None => after,
        };
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_in_its_first_sentence_what_is_in_it() {
        let summary = |text| Source::read(text).unwrap().summary;
        assert_eq!(
            summary("//! What is\n//! here, e.g. this. Not this.\n//!\n//! More.\nfn f() {}"),
            Some("What is here, e.g. this.".to_owned())
        );
        assert_eq!(summary("//! No stop\n"), Some("No stop".to_owned()));
        assert_eq!(summary("fn f() {}"), None);
    }

    #[test]
    fn constants_have_their_comments_but_those_of_tests_do_not_count() {
        let source = Source::read(
            "/// Long, by \"RFC\":\n/// see [`B`].\npub(crate) const A: Duration = f(2 * B);\n\
             impl X { const B: u32 = 3; }\nfn f() { const IN: u8 = 1; }\n\
             #[cfg(test)] const C: u8 = 1;\n#[cfg(test)]\nmod tests { const D: u8 = 1; }",
        )
        .unwrap();
        let constants: Vec<_> = source
            .constants
            .iter()
            .map(|c| (&*c.name, &*c.of_type, c.value.concat(), &*c.why))
            .collect();
        assert_eq!(
            constants,
            [
                (
                    "A",
                    "Duration",
                    "f(2*B)".to_owned(),
                    "Long, by \"RFC\": see [`B`]."
                ),
                ("B", "u32", "3".to_owned(), ""),
                ("IN", "u8", "1".to_owned(), ""),
            ]
        );
        assert_eq!(
            without_references(&source.constants[0].why),
            "Long, by \"RFC\": see `B`."
        );
        assert_eq!(without_references("[`a`](b::c) and [`d`]."), "`a` and `d`.");
    }

    #[test]
    fn tests_are_found_however_they_are_written() {
        let source = Source::read(
            "#[test]\nfn one() {}\nfn none() {}\n#[tokio::test(start_paused = true)]\nasync fn no() {}\n\
             mod m { #[tokio::test]\n async fn two() { f() } }\nproptest! { #[test]\n fn three(a in 0..1) {} }",
        )
        .unwrap();
        assert_eq!(source.tests, ["one", "no", "two", "three"]);
    }

    #[test]
    fn texts_are_those_of_the_code() {
        let source = Source::read("/// gone\n#[env = \"E\"]\nfn here() { f!(\"text\") }").unwrap();
        assert!(source.texts.contains("text") && source.texts.contains("E"));
        assert!(!source.texts.contains("gone") && source.defined.contains("here"));
    }
}
