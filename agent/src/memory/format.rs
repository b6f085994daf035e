//! The file: a first line that says how long the rest is and what it adds up to, and a line of JSON for
//! each thing that is remembered.
//!
//! Nothing is believed of a file that is not there in full: one that was cut, or has bytes of another
//! writing in it, is refused as a whole. So is one of another format, of another boot, or with a word
//! that this build does not know: what is understood in part would be a fall of some counter.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::record::{Left, Pod, Receiver, Told};

/// Why a file is not taken over.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not one, or not in full.
    #[error("it is not complete")]
    Torn,
    /// It is of a build that writes another one.
    #[error("it has format {0}, and this agent reads format {FORMAT}")]
    OtherFormat(u32),
    /// It was left before the machine was started.
    #[error("it is of another boot")]
    OtherBoot,
    /// It has a moment that is not yet.
    #[error("it tells of what has not happened yet")]
    OfTheFuture,
    /// It may be anybody's: a link, a FIFO, a file of another user's or with another name.
    #[error("it is not a plain file of this user's alone")]
    NotOwn,
    /// A build of the same format wrote what this one does not know.
    #[error("it says what this agent does not understand: {0}")]
    NotUnderstood(String),
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Boot(String),
    Receiver(Receiver),
    Pod(Pod),
    Told(Told),
}

/// What is written for a pod.
pub(super) fn line_of_pod(pod: &Pod) -> String {
    line(&Line::Pod(pod.clone()))
}

/// What is written of a receiver.
pub(super) fn line_of_told(told: &Told) -> String {
    line(&Line::Told(told.clone()))
}

/// What is written of there being a receiver.
pub(super) fn line_of_receiver(receiver: &Receiver) -> String {
    line(&Line::Receiver(*receiver))
}

/// All after the first line.
pub(super) fn body<'a>(boot: &str, lines: impl Iterator<Item = &'a str>) -> String {
    let mut body = line(&Line::Boot(boot.to_owned()));
    body.extend(lines);
    body
}

/// A file of this.
pub(super) fn encode(body: &str) -> Vec<u8> {
    let sum = checksum(body.as_bytes());
    let mut file = String::new();
    // To a String, it cannot fail.
    let _ = writeln!(file, "{NAME} {FORMAT} {} {sum:016x}", body.len());
    file.push_str(body);
    file.into_bytes()
}

/// What is in a file that was written in this `boot`.
pub(super) fn decode(file: &[u8], boot: &str) -> Result<Left, Refusal> {
    let body = read(file)?;
    let mut lines = body.split_inclusive('\n').map(|line| {
        serde_json::from_str(line).map_err(|error| Refusal::NotUnderstood(error.to_string()))
    });
    match lines.next() {
        Some(Ok(Line::Boot(written))) if written == boot => {}
        Some(Ok(Line::Boot(_))) => return Err(Refusal::OtherBoot),
        Some(Err(error)) => return Err(error),
        Some(Ok(Line::Receiver(_) | Line::Pod(_) | Line::Told(_))) | None => {
            return Err(Refusal::Torn);
        }
    }
    let mut left = Left::default();
    for line in lines {
        match line? {
            Line::Receiver(receiver) => {
                left.receivers.insert(receiver);
            }
            Line::Pod(pod) => left.pods.push(pod),
            Line::Told(told) => left.told.push(told),
            Line::Boot(_) => return Err(Refusal::Torn),
        }
    }
    Ok(left)
}

/// All after the first line, if it is what that says.
fn read(file: &[u8]) -> Result<&str, Refusal> {
    let file = str::from_utf8(file).map_err(|_| Refusal::Torn)?;
    let (first, body) = file.split_once('\n').ok_or(Refusal::Torn)?;
    let mut words = first.split(' ');
    if words.next() != Some(NAME) {
        return Err(Refusal::Torn);
    }
    let format = words.next().and_then(|word| word.parse().ok());
    let length = words.next().and_then(|word| word.parse::<usize>().ok());
    let sum = words
        .next()
        .and_then(|word| u64::from_str_radix(word, 16).ok());
    let format: u32 = format.ok_or(Refusal::Torn)?;
    if format != FORMAT {
        return Err(Refusal::OtherFormat(format));
    }
    let is_whole = length == Some(body.len())
        && sum == Some(checksum(body.as_bytes()))
        && words.next().is_none();
    if is_whole {
        Ok(body)
    } else {
        Err(Refusal::Torn)
    }
}

fn line(line: &Line) -> String {
    // It has no map and no key that is not a string, so it cannot fail.
    let mut json = serde_json::to_string(line).unwrap_or_default();
    json.push('\n');
    json
}

/// FNV-1a of 64 bits. Each of its steps is a bijection, so a byte that is not what was written always
/// shows.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

const NAME: &str = "statlink-memory";
/// Grows when a build before could take a file for something else: a word that means something
/// new, a unit, a figure that is counted otherwise. A word that is added is refused by its name.
const FORMAT: u32 = 1;
