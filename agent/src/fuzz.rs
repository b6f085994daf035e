//! Shared parts of the fuzz targets. A target is a test in a module `fuzz` below the reader it
//! feeds: the reader must neither panic, nor hang, nor accept invalid input.
//!
//! `cargo xtask test fuzz` runs each for a fixed number of random inputs, in seconds; a failure
//! prints the input and a seed. `cargo xtask fuzz` looks for new paths through the code instead,
//! for as long as requested. Its findings become tests beside the reader.

use bolero::TypeGenerator;

/// Inputs of one short run. Together the targets take a few seconds.
pub(crate) const ITERATIONS: usize = 5_000;

/// A change to a valid input. Random bytes alone would seldom pass a reader's first check.
#[derive(Clone, Debug, TypeGenerator)]
pub(crate) enum Edit {
    Byte {
        at: u16,
        value: u8,
    },
    Word {
        at: u16,
        value: u32,
    },
    Insert {
        at: u16,
        bytes: Vec<u8>,
    },
    Token {
        at: u16,
        token: u8,
    },
    Remove {
        at: u16,
        #[generator(1..=8)]
        count: u8,
    },
    Repeat {
        at: u16,
        #[generator(1..=8)]
        count: u8,
    },
    Cut {
        at: u16,
    },
}

/// Texts with a meaning to one of the readers.
const TOKENS: [&str; 16] = [
    "/", ":", "://", "%", "%2", "=", ",", "-", "_", ".", "\n", "0", "9999", "null", "{}", "\"",
];

/// `input` with all `edits`, in their order. Places beyond its end wrap around.
pub(crate) fn edited(input: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut data = input.to_vec();
    for edit in edits {
        let place = |at: u16| usize::from(at) % (data.len() + 1);
        match edit {
            Edit::Byte { at, value } => {
                let at = place(*at);
                data.splice(at..data.len().min(at + 1), [*value]);
            }
            Edit::Word { at, value } => {
                let at = place(*at) & !3;
                data.splice(at..data.len().min(at + 4), value.to_ne_bytes());
            }
            Edit::Insert { at, bytes } => {
                let at = place(*at);
                data.splice(at..at, bytes.iter().copied());
            }
            Edit::Token { at, token } => {
                let at = place(*at);
                let token = TOKENS[usize::from(*token) % TOKENS.len()];
                data.splice(at..at, token.bytes());
            }
            Edit::Remove { at, count } => {
                let at = place(*at);
                data.drain(at..data.len().min(at + usize::from(*count)));
            }
            Edit::Repeat { at, count } => {
                let at = place(*at);
                let end = data.len().min(at + usize::from(*count));
                data.extend_from_within(at..end);
            }
            Edit::Cut { at } => data.truncate(place(*at)),
        }
    }
    data
}

/// Edits of text: bytes that are not UTF-8 any more are replaced.
pub(crate) fn edited_text(input: &str, edits: &[Edit]) -> String {
    String::from_utf8_lossy(&edited(input.as_bytes(), edits)).into_owned()
}
