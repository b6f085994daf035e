//! The names that a Rust file defines, read from its tokens.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// Functions, constants, statics, types, traits and macros, wherever they are; variants and named
/// fields; and every name in a macro's braces, because tokens do not show what a macro makes of
/// them.
pub(super) fn definitions(file: TokenStream) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    items(file, &mut names);
    names
}

/// The content of the next braces.
#[derive(Clone, Copy)]
enum Body {
    Items,
    Fields,
    Variants,
}

fn items(tokens: TokenStream, names: &mut BTreeSet<String>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut body = Body::Items;
    let mut rest = tokens.as_slice();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            // A lifetime, or a pointer: `'static` and `*const` begin no item.
            (TokenTree::Punct(mark), [TokenTree::Ident(_), behind @ ..])
                if matches!(mark.as_char(), '\'' | '*') =>
            {
                rest = behind;
            }
            (
                TokenTree::Ident(called),
                [TokenTree::Punct(mark), TokenTree::Ident(name), behind @ ..],
            ) if called == "macro_rules" && mark.as_char() == '!' => {
                names.insert(name.to_string());
                rest = behind;
            }
            (
                TokenTree::Ident(_),
                [TokenTree::Punct(mark), TokenTree::Group(group), behind @ ..],
            ) if mark.as_char() == '!' && group.delimiter() == Delimiter::Brace => {
                all(group.stream(), names);
                rest = behind;
            }
            (TokenTree::Ident(keyword), [TokenTree::Ident(name), ..]) => {
                if let Some(begun) = body_of(&keyword.to_string()) {
                    body = begun;
                    names.insert(name.to_string());
                }
            }
            (TokenTree::Group(group), _) if group.delimiter() == Delimiter::Brace => {
                match body {
                    Body::Items => items(group.stream(), names),
                    Body::Fields => fields(group.stream(), names),
                    Body::Variants => variants(group.stream(), names),
                }
                body = Body::Items;
            }
            (TokenTree::Group(group), _) => items(group.stream(), names),
            (TokenTree::Punct(end), _) if end.as_char() == ';' => body = Body::Items,
            (TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_), _) => {}
        }
    }
}

/// What an item's keyword has in its braces; `None` for another word. `const fn` also defines `fn`,
/// which nobody looks for.
fn body_of(keyword: &str) -> Option<Body> {
    match keyword {
        "struct" => Some(Body::Fields),
        "enum" => Some(Body::Variants),
        "fn" | "const" | "static" | "trait" | "type" => Some(Body::Items),
        _ => None,
    }
}

fn fields(tokens: TokenStream, names: &mut BTreeSet<String>) {
    each_member(tokens, |member| {
        // A single colon: not that of a path.
        if let [TokenTree::Ident(name), TokenTree::Punct(colon), ..] = member
            && colon.as_char() == ':'
            && colon.spacing() == Spacing::Alone
        {
            names.insert(name.to_string());
        }
    });
}

fn variants(tokens: TokenStream, names: &mut BTreeSet<String>) {
    each_member(tokens, |member| {
        if let [TokenTree::Ident(name), rest @ ..] = member {
            names.insert(name.to_string());
            if let [TokenTree::Group(group), ..] = rest
                && group.delimiter() == Delimiter::Brace
            {
                fields(group.stream(), names);
            }
        }
    });
}

/// The text between commas, without attributes and visibility.
fn each_member(tokens: TokenStream, mut each: impl FnMut(&[TokenTree])) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let is_comma =
        |token: &TokenTree| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ',');
    for member in tokens.split(is_comma) {
        each(bare(member));
    }
}

fn bare(member: &[TokenTree]) -> &[TokenTree] {
    match member {
        [TokenTree::Punct(hash), TokenTree::Group(_), rest @ ..] if hash.as_char() == '#' => {
            bare(rest)
        }
        [TokenTree::Ident(word), TokenTree::Group(_), rest @ ..] if word == "pub" => rest,
        [TokenTree::Ident(word), rest @ ..] if word == "pub" => rest,
        _ => member,
    }
}

fn all(tokens: TokenStream, names: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => all(group.stream(), names),
            TokenTree::Ident(name) => {
                names.insert(name.to_string());
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> BTreeSet<String> {
        definitions(text.parse().unwrap())
    }

    #[test]
    fn every_kind_of_item_is_a_definition_wherever_it_stands() {
        let found = names(
            "pub(crate) const fn one(a: u8) -> u8 { const TWO: u8 = 2; a }\n\
             static THREE: &'static str = \"\"; type Four = u8;\n\
             mod inner { impl X { pub async fn five(&self) {} } trait Six { fn seven(); } }\n\
             macro_rules! eight { () => {}; }\n#[test]\nfn nine() {}",
        );
        for name in [
            "one", "TWO", "THREE", "Four", "five", "Six", "seven", "eight", "nine",
        ] {
            assert!(found.contains(name), "{name}: {found:?}");
        }
    }

    #[test]
    fn fields_and_variants_are_definitions() {
        let found = names(
            "struct A<T: B> where T: C { #[d] pub(super) e: F<G, h::I>, pub j: K }\n\
             enum L { /// Doc.\n M, N(O), P { q: R }, S = 1 }\nstruct T(U);",
        );
        let defined = ["A", "L", "M", "N", "P", "S", "T", "e", "j", "q"];
        assert_eq!(found, BTreeSet::from(defined.map(str::to_owned)));
    }

    #[test]
    fn what_is_only_used_is_none() {
        let found = names(
            "use a::Used; fn here(used: *const Used, of: &'static Used) -> Used {\n\
             let used = Used { used: 1 }; used::call(used.field, Used::Variant, mac!(used)) }",
        );
        assert_eq!(found, BTreeSet::from(["here".to_owned()]));
    }

    #[test]
    fn what_stands_in_the_braces_of_a_macro_may_be_defined_by_it() {
        let found = names("closed_list! { /// Doc.\n Cause { Dns = \"dns\" } }");
        assert!(found.contains("Cause") && found.contains("Dns"));
    }
}
