//! The page of numbers: every constant of the agent that is a number or a time, with the reason in
//! its comment.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use super::{
    Tree, cell, link,
    source::{Constant, Source},
};
use crate::lint::block::Block;

const PAGE: &str = "agent/docs/numbers.md";

/// The marks of each part of the page, and the directory of its constants.
const PARTS: &[(&str, &str)] = &[
    ("numbers-link", "agent/link/src"),
    ("numbers-kernel-half", "agent-ebpf/src"),
    ("numbers-agent", "agent/src"),
];

pub(super) fn blocks(tree: &Tree, faults: &mut Vec<String>) -> Vec<Block> {
    let known = Known::of(tree);
    let mut blocks = Vec::new();
    for (name, directory) in PARTS {
        let mut text = "\n| name | value | why | where |\n|---|---|---|---|\n".to_owned();
        for (file, source) in tree.below(directory).filter(|(file, _)| is_shipped(file)) {
            for constant in &source.constants {
                if !is_listed(file, constant) {
                    continue;
                }
                if constant.why.is_empty() {
                    faults.push(format!(
                        "{}: {} has no comment that says why",
                        file.display(),
                        constant.name
                    ));
                    continue;
                }
                let _ = writeln!(
                    text,
                    "| `{}` | {} | {} | [{}]({}) |",
                    constant.name,
                    known.value(file, constant),
                    cell(&constant.why),
                    file.strip_prefix(directory).unwrap_or(file).display(),
                    link(PAGE, file),
                );
            }
        }
        text.push('\n');
        blocks.push(Block {
            document: PAGE,
            name: (*name).to_owned(),
            text,
        });
    }
    blocks
}

/// Neither a test nor the simulator.
fn is_shipped(file: &Path) -> bool {
    let name = |part: &std::ffi::OsStr| {
        let part = part.to_string_lossy();
        part == "sim"
            || part.starts_with("tests")
            || part == "fuzz.rs"
            || part.ends_with("_tests.rs")
    };
    !file.iter().any(name)
}

/// All constants of a file of timings or limits, and every time. Of the others, those with a
/// comment: the rest are numbers that others chose, such as a protocol's.
fn is_listed(file: &Path, constant: &Constant) -> bool {
    let is_time = constant.of_type.contains("Duration");
    let is_number = matches!(
        constant.of_type.as_str(),
        "u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "f64"
    ) || constant.of_type.starts_with("[f64");
    let all = file.ends_with("timings.rs") || file.ends_with("limits.rs");
    is_time || all && constant.name != "_" || is_number && !constant.why.is_empty()
}

/// The values of constants that others use.
struct Known<'a> {
    by_name: BTreeMap<&'a str, Vec<(&'a Path, &'a [String])>>,
}

impl<'a> Known<'a> {
    fn of(tree: &'a Tree) -> Self {
        let mut by_name: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (file, Source { constants, .. }) in &tree.rust {
            for constant in constants {
                by_name
                    .entry(constant.name.as_str())
                    .or_default()
                    .push((file.as_path(), constant.value.as_slice()));
            }
        }
        Self { by_name }
    }

    /// A constant's value as people write it; unchanged from the code if it is more than a number.
    fn value(&self, file: &Path, constant: &Constant) -> String {
        let (name, words) = (constant.name.as_str(), constant.value.as_slice());
        if let [open, .., close] = words
            && open == "["
            && close == "]"
        {
            let values = words.iter().filter(|word| word.starts_with(is_digit));
            return format!("{} values", values.count());
        }
        let range = words
            .windows(3)
            .position(|three| three.concat() == "..=")
            .and_then(|at| Some((words.get(..at)?, words.get(at + 3..)?)))
            .and_then(|(from, to)| {
                let from = self.number(file, from, DEEPEST)?;
                Some((from, self.number(file, to, DEEPEST)?))
            });
        let is_time = constant.of_type.contains("Duration") || name.ends_with("_NS");
        match (range, self.number(file, words, DEEPEST)) {
            (Some((from, to)), _) if is_time => format!("{} to {}", time(from), time(to)),
            (Some((from, to)), _) => format!("{} to {}", grouped(from), grouped(to)),
            (None, Some(number)) if is_time => time(number),
            (None, Some(number)) if name.contains("BYTES") => bytes(number),
            (None, Some(number)) => grouped(number),
            (None, None) => fields(words),
        }
    }

    /// The value of sums and products of numbers and other constants, from left to right.
    fn number(&self, file: &Path, words: &[String], depth: u8) -> Option<u128> {
        let depth = depth.checked_sub(1)?;
        if let Some((unit, inside)) = call(words) {
            let scale = match unit {
                "from_secs" => 1_000_000_000,
                "from_millis" => 1_000_000,
                "from_micros" => 1_000,
                "from_nanos" => 1,
                _ => return None,
            };
            return Some(self.number(file, inside, depth)? * scale);
        }
        // For a path, the last name.
        let words = match words {
            [_, first, second, name] if first == ":" && second == ":" => std::slice::from_ref(name),
            _ => words,
        };
        let mut words = words.iter().map(String::as_str);
        let mut total = self.term(file, words.next()?, depth)?;
        while let Some(operator) = words.next() {
            let next = words.next()?;
            total = match operator {
                "*" => total.checked_mul(self.term(file, next, depth)?)?,
                "+" => total.checked_add(self.term(file, next, depth)?)?,
                "<" if next == "<" => {
                    total.checked_shl(self.term(file, words.next()?, depth)?.try_into().ok()?)?
                }
                _ => return None,
            };
        }
        Some(total)
    }

    fn term(&self, file: &Path, word: &str, depth: u8) -> Option<u128> {
        if word.starts_with(is_digit) {
            return word.replace('_', "").parse().ok();
        }
        let named = self.by_name.get(word)?;
        let own = named.iter().find(|(of, _)| *of == file);
        match (own, named.as_slice()) {
            (Some((of, value)), _) | (None, [(of, value)]) => self.number(of, value, depth),
            (None, _) => None,
        }
    }
}

/// The function and the argument of `Duration::from_secs(…)`.
fn call(words: &[String]) -> Option<(&str, &[String])> {
    match words {
        [duration, first, second, unit, open, inside @ .., close]
            if duration == "Duration"
                && first == ":"
                && second == ":"
                && open == "("
                && close == ")"
                && !inside.iter().any(|word| word == "(") =>
        {
            Some((unit, inside))
        }
        _ => None,
    }
}

fn time(nanoseconds: u128) -> String {
    let in_units = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "min"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "µs"),
    ];
    for (unit, name) in in_units {
        let whole = nanoseconds / unit;
        let tenths = nanoseconds % unit * 10 / unit;
        let exact = nanoseconds.is_multiple_of(unit / 10);
        // 60 s rather than 1 min, and 1.5 s, but not 1.5 min.
        let in_tenths = matches!(name, "s" | "ms") && tenths > 0;
        let enough = if name == "min" { whole > 1 } else { whole > 0 };
        if enough && exact && (tenths == 0 || in_tenths) {
            return if tenths == 0 {
                format!("{} {name}", grouped(whole))
            } else {
                format!("{whole}.{tenths} {name}")
            };
        }
    }
    format!("{nanoseconds} ns")
}

fn bytes(number: u128) -> String {
    match number {
        n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => format!("{} MiB", n >> 20),
        n if n >= 1 << 10 && n.is_multiple_of(1 << 10) => format!("{} KiB", n >> 10),
        n => format!("{} bytes", grouped(n)),
    }
}

/// With a comma between thousands.
fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digits.len() > 4 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A value with several parts, such as `a: 1, b: 2`.
fn fields(words: &[String]) -> String {
    let inside = words.split(|word| word == "{").nth(1);
    let inside = inside.and_then(|rest| rest.split(|word| word == "}").next());
    match inside {
        Some(inside) => {
            let text = inside.concat().replace(':', ": ").replace(',', ", ");
            text.replace(": : ", "::").trim_end_matches(", ").to_owned()
        }
        None => format!("`{}`", words.concat().replace('|', "\\|")),
    }
}

fn is_digit(character: char) -> bool {
    character.is_ascii_digit()
}

/// The nesting of constants: more than there is, and an end for cycles.
const DEEPEST: u8 = 8;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// The rows of the page for these constants.
    fn rows(text: &str) -> (Vec<String>, Vec<String>) {
        let tree = Tree {
            rust: vec![(
                PathBuf::from("agent/link/src/timings.rs"),
                Source::read(text).unwrap(),
            )],
            text: Vec::new(),
        };
        let mut faults = Vec::new();
        let blocks = blocks(&tree, &mut faults);
        let rows = blocks[0].text.lines().skip(3).map(str::to_owned);
        (rows.filter(|row| !row.is_empty()).collect(), faults)
    }

    #[test]
    fn a_constant_is_listed_with_its_value_and_its_reason() {
        let (rows, faults) = rows(
            "/// Because [`B`].\nconst A: Duration = Duration::from_millis(1_500);\n\
             /// So.\nconst B: u32 = 2 * C;\n/// Why.\nconst C: u32 = 1 << 10;\n\
             /// N.\nconst D_NS: u64 = 250 * MS;\n/// M.\nconst MS: u64 = 1_000_000;\n\
             /// R.\nconst E: RangeInclusive<Duration> = m::A..=H;\n/// T.\nconst G_BYTES: u32 = 128 * C;\n\
             /// S.\nconst H: Duration = Duration::from_secs(3600);\n/// Q.\nconst I: [f64; 2] = [0.5, 1.0];\n\
             /// P.\nconst J: Quota = Quota { own: 2, from: Place::Own, ..A };\n",
        );
        let start = |row: &String| row.split(" | ").take(3).collect::<Vec<_>>().join(" | ");
        assert_eq!(
            rows.iter().map(start).collect::<Vec<_>>(),
            [
                "| `A` | 1.5 s | Because `B`.",
                "| `B` | 2048 | So.",
                "| `C` | 1024 | Why.",
                "| `D_NS` | 250 ms | N.",
                "| `MS` | 1,000,000 | M.",
                "| `E` | 1.5 s to 1 h | R.",
                "| `G_BYTES` | 128 KiB | T.",
                "| `H` | 1 h | S.",
                "| `I` | 2 values | Q.",
                "| `J` | own: 2, from: Place::Own, ..A | P.",
            ]
        );
        assert!(faults.is_empty());
    }

    #[test]
    fn a_constant_without_a_reason_is_a_fault() {
        let (rows, faults) = rows("const A: u32 = 1;");
        assert!(rows.is_empty());
        assert_eq!(
            faults,
            ["agent/link/src/timings.rs: A has no comment that says why"]
        );
    }

    #[test]
    fn times_are_written_as_people_do() {
        assert_eq!(time(60_000_000_000), "60 s");
        assert_eq!(time(600_000_000_000), "10 min");
        assert_eq!(time(1_500_000_000), "1.5 s");
        assert_eq!(time(20_000_000), "20 ms");
        assert_eq!(time(3_333_000_000), "3333 ms");
    }
}
