//! The modules of a crate and their imports from each other, read from their tokens.
//!
//! Paths in the bodies of macros count as well, which a reader of syntax trees would not see. Tests
//! do not count: they may import anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use anyhow::{Context as _, Result, ensure};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A module by its names from the crate's root; the root itself has none.
pub(super) type Name = Vec<String>;

/// The modules of one crate.
#[derive(Debug, Default)]
pub(super) struct Source {
    modules: BTreeMap<Name, Module>,
}

/// Where one module imports from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    pub(super) line: usize,
}

/// The imports between modules: from, to, and the first place of each.
pub(super) type Imports = BTreeMap<(Name, Name), Place>;

#[derive(Debug, Default)]
struct Module {
    file: PathBuf,
    children: BTreeSet<String>,
    /// The imported names, each with its origin.
    uses: BTreeMap<String, Name>,
    /// Each path into this crate, as it is written, with its line.
    paths: Vec<(usize, Name)>,
}

impl Source {
    /// Reads the crate whose root is `lib`, for example `agent/src/lib.rs`.
    pub(super) fn read(lib: &Path) -> Result<Self> {
        let mut source = Self::default();
        source.file(Name::new(), lib)?;
        Ok(source)
    }

    pub(super) fn modules(&self) -> impl Iterator<Item = &Name> {
        self.modules.keys()
    }

    /// Every import of one module from another.
    pub(super) fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (from, module) in &self.modules {
            for (line, path) in &module.paths {
                let Some(to) = self.resolve(from, path, 0).filter(|to| to != from) else {
                    continue;
                };
                imports.entry((from.clone(), to)).or_insert_with(|| Place {
                    file: module.file.clone(),
                    line: *line,
                });
            }
        }
        imports
    }

    fn file(&mut self, name: Name, file: &Path) -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let tokens = TokenStream::from_str(&text)
            .map_err(|error| anyhow::anyhow!("{error}"))
            .with_context(|| format!("read {}", file.display()))?;
        self.module(name, file, tokens)
    }

    fn module(&mut self, name: Name, file: &Path, tokens: TokenStream) -> Result<()> {
        let mut reader = Reader::default();
        reader.read(tokens, true);
        let Reader {
            mut module,
            declared,
            inline,
        } = reader;
        module.file = file.to_owned();
        self.modules.insert(name.clone(), module);
        for child in declared {
            let path = child_file(file, name.is_empty(), &child);
            ensure!(path.is_file(), "{} is not a file", path.display());
            self.file(below(&name, child), &path)?;
        }
        for (child, tokens) in inline {
            self.module(below(&name, child), file, tokens)?;
        }
        Ok(())
    }

    /// The module that a path leads to, or that has the item it leads to; `None` outside of the
    /// crate.
    fn resolve(&self, from: &Name, path: &[String], depth: u8) -> Option<Name> {
        // A name that is imported under itself.
        if depth > DEEPEST {
            return None;
        }
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Name::new(),
            "self" => from.clone(),
            "super" => parent(from)?,
            _ => {
                rest = path;
                let module = self.modules.get(from)?;
                if !module.children.contains(first) && !module.uses.contains_key(first) {
                    return None;
                }
                from.clone()
            }
        };
        while let Some((segment, after)) = rest.split_first() {
            let module = self.modules.get(&at)?;
            if segment == "super" {
                at = parent(&at)?;
            } else if module.children.contains(segment) {
                at = below(&at, segment.clone());
            } else if let Some(used) = module.uses.get(segment) {
                let path: Vec<_> = used.iter().chain(after).cloned().collect();
                return self.resolve(&at, &path, depth + 1);
            } else {
                break;
            }
            rest = after;
        }
        Some(at)
    }
}

/// Reads the tokens of one module.
#[derive(Default)]
struct Reader {
    module: Module,
    declared: Vec<String>,
    inline: Vec<(String, TokenStream)>,
}

impl Reader {
    /// `items` says whether `tokens` are the module's own items, and not the inside of one.
    fn read(&mut self, tokens: TokenStream, items: bool) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut rest = tokens.as_slice();
        while let Some((token, after)) = rest.split_first() {
            rest = match (token, after) {
                (TokenTree::Punct(hash), [TokenTree::Group(attribute), after @ ..])
                    if hash.as_char() == '#' && is_test(attribute) =>
                {
                    skip_item(after)
                }
                (TokenTree::Ident(word), [TokenTree::Ident(name), next, after @ ..])
                    if items && word == "mod" =>
                {
                    self.child(&name.to_string(), next);
                    after
                }
                // Not the `use<..>` of a type.
                (TokenTree::Ident(word), [next, ..]) if word == "use" && !is(next, '<') => {
                    let end = after
                        .iter()
                        .position(|token| is(token, ';'))
                        .unwrap_or(after.len());
                    let (tree, after) = after.split_at(end);
                    self.uses(&Name::new(), tree, items);
                    after
                }
                (TokenTree::Ident(_), _) => {
                    let (path, after) = path(rest);
                    if path.len() > 1 {
                        self.module.paths.push((token.span().start().line, path));
                    }
                    after
                }
                (TokenTree::Group(group), _) => {
                    self.read(group.stream(), false);
                    after
                }
                (TokenTree::Punct(_) | TokenTree::Literal(_), _) => after,
            };
        }
    }

    fn child(&mut self, name: &str, body: &TokenTree) {
        self.module.children.insert(name.to_owned());
        match body {
            TokenTree::Group(body) => self.inline.push((name.to_owned(), body.stream())),
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {
                self.declared.push(name.to_owned());
            }
        }
    }

    /// The paths of `use prefix::tree`, one by one.
    fn uses(&mut self, prefix: &Name, tree: &[TokenTree], items: bool) {
        let (mut name, rest) = path(tree);
        let line = tree.first().map_or(0, |token| token.span().start().line);
        let mut full = prefix.clone();
        full.append(&mut name);
        if let Some(TokenTree::Group(group)) = rest.iter().find(|token| is_brace(token)) {
            let inside: Vec<_> = group.stream().into_iter().collect();
            for tree in inside.split(|token| is(token, ',')) {
                if !tree.is_empty() {
                    self.uses(&full, tree, items);
                }
            }
            return;
        }
        // `use path::{self}`.
        if full.len() > 1 && full.last().is_some_and(|last| last == "self") {
            full.pop();
        }
        let alias = match rest {
            [TokenTree::Ident(word), TokenTree::Ident(alias), ..] if word == "as" => {
                Some(alias.to_string())
            }
            _ => full.last().cloned(),
        };
        let glob = rest.iter().any(|token| is(token, '*'));
        self.module.paths.push((line, full.clone()));
        if let Some(alias) = alias.filter(|alias| items && !glob && *alias != "_") {
            self.module.uses.insert(alias, full);
        }
    }
}

/// The names of the path at the beginning of `tokens`, and the tokens after it.
fn path(tokens: &[TokenTree]) -> (Name, &[TokenTree]) {
    let mut names = Name::new();
    let mut rest = tokens;
    while let [TokenTree::Ident(name), after @ ..] = rest {
        names.push(name.to_string());
        rest = after;
        match rest {
            [first, second, after @ ..] if is(first, ':') && is(second, ':') => rest = after,
            _ => break,
        }
    }
    (names, rest)
}

/// The tokens after the item at the beginning of `tokens`: it ends with `;` or its body.
fn skip_item(tokens: &[TokenTree]) -> &[TokenTree] {
    let end = tokens
        .iter()
        .position(|token| is(token, ';') || is_brace(token));
    end.and_then(|end| tokens.get(end + 1..))
        .unwrap_or_default()
}

/// Whether an attribute is `cfg(test)`.
fn is_test(attribute: &Group) -> bool {
    attribute.delimiter() == Delimiter::Bracket
        && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

fn is(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_brace(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

fn child_file(of: &Path, root: bool, child: &str) -> PathBuf {
    let owns_directory = root || of.file_name().is_some_and(|name| name == "mod.rs");
    let directory = if owns_directory {
        of.parent().unwrap_or(Path::new("")).to_owned()
    } else {
        of.with_extension("")
    };
    let file = directory.join(format!("{child}.rs"));
    if file.is_file() {
        file
    } else {
        directory.join(child).join("mod.rs")
    }
}

fn below(module: &Name, child: String) -> Name {
    let mut name = module.clone();
    name.push(child);
    name
}

fn parent(module: &Name) -> Option<Name> {
    let (_, parent) = module.split_last()?;
    Some(parent.to_vec())
}

/// Re-exports of re-exports.
const DEEPEST: u8 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// The imports of a crate of these files, as `from -> to`.
    fn imports(files: &[(&str, &str)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let source = Source::read(&dir.path().join("lib.rs")).unwrap();
        let imports = source.imports();
        imports
            .keys()
            .map(|(from, to)| format!("{} -> {}", from.join("::"), to.join("::")))
            .collect()
    }

    #[test]
    fn each_way_to_write_an_import_counts() {
        let found = imports(&[
            (
                "lib.rs",
                "mod a; mod b; pub mod c; mod d { pub struct D; } pub use c::deep::Deep;",
            ),
            ("a.rs", "use crate::{b::{self, B}, Deep};"),
            ("b.rs", "fn f() { println!(\"{}\", super::d::D::new()) }"),
            (
                "c/mod.rs",
                "pub(crate) mod deep; mod other; fn f() -> other::Other {}",
            ),
            ("c/deep.rs", "pub struct Deep;"),
            (
                "c/other.rs",
                "use std::fmt; use super::deep as x; fn f(_: super::Own, _: x::Deep) {}",
            ),
        ]);
        assert_eq!(
            found,
            [
                " -> c::deep",
                "a -> b",
                "a -> c::deep",
                "b -> d",
                "c -> c::other",
                "c::other -> c",
                "c::other -> c::deep",
            ]
        );
    }

    #[test]
    fn tests_comments_and_other_crates_do_not_count() {
        let found = imports(&[
            ("lib.rs", "mod a; mod b;"),
            (
                "a.rs",
                "//! [`crate::b`]\nuse std::b; use b::X;\n#[cfg(test)] mod tests { use crate::b; }\n#[cfg(test)] use crate::b::Y;",
            ),
            ("b.rs", "#[cfg(test)] mod tests;"),
        ]);
        assert_eq!(found, [""; 0]);
    }
}
