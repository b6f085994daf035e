//! The memory file's format: a first line with length and checksum of the rest, then one line of
//! JSON for each entry.
//!
//! A file is read whole or refused whole. It is refused if it was cut, if bytes of another write
//! are mixed in, or if it has another format, another boot or a word that this build does not know:
//! counts that are read in part would make a counter fall.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::record::{Left, Pod, Receiver, Told};

/// Why a file is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not a memory, or not all of it is there.
    #[error("it is incomplete")]
    Torn,
    /// A build with another format wrote it.
    #[error("it has format {0}, and this agent reads format {FORMAT}")]
    OtherFormat(u32),
    /// It was written before the last boot.
    #[error("it was written in another boot")]
    OtherBoot,
    /// It contains a time in the future.
    #[error("it contains a time in the future")]
    OfTheFuture,
    /// Anybody may have put it there: it is a link or a FIFO, or has another owner or a second
    /// name.
    #[error("it is not a plain file that this user alone owns")]
    NotOwn,
    /// A build with the same format wrote something that this one does not know.
    #[error("this agent does not understand it: {0}")]
    NotUnderstood(String),
}

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Boot(String),
    Half(u32),
    Receiver(Receiver),
    Pod(Pod),
    Told(Told),
}

/// The line of a pod.
pub(super) fn line_of_pod(pod: &Pod) -> String {
    line(&Line::Pod(pod.clone()))
}

/// The line that says how far a receiver was told.
pub(super) fn line_of_told(told: &Told) -> String {
    line(&Line::Told(told.clone()))
}

/// The line that says that there is a receiver.
pub(super) fn line_of_receiver(receiver: &Receiver) -> String {
    line(&Line::Receiver(*receiver))
}

/// What is written of the pinned kernel half that is read.
pub(super) fn line_of_half(half: u32) -> String {
    line(&Line::Half(half))
}

/// Everything after the first line.
pub(super) fn body<'a>(boot: &str, lines: impl Iterator<Item = &'a str>) -> String {
    let mut body = line(&Line::Boot(boot.to_owned()));
    body.extend(lines);
    body
}

/// The file with this body.
pub(super) fn encode(body: &str) -> Vec<u8> {
    let sum = checksum(body.as_bytes());
    let mut file = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(file, "{NAME} {FORMAT} {} {sum:016x}", body.len());
    file.push_str(body);
    file.into_bytes()
}

/// Reads a file that was written in this `boot`.
pub(super) fn decode(file: &[u8], boot: &str) -> Result<Left, Refusal> {
    let body = read(file)?;
    let mut lines = body.split_inclusive('\n').map(|line| {
        serde_json::from_str(line).map_err(|error| Refusal::NotUnderstood(error.to_string()))
    });
    match lines.next() {
        Some(Ok(Line::Boot(written))) if written == boot => {}
        Some(Ok(Line::Boot(_))) => return Err(Refusal::OtherBoot),
        Some(Err(error)) => return Err(error),
        Some(Ok(Line::Half(_) | Line::Receiver(_) | Line::Pod(_) | Line::Told(_))) | None => {
            return Err(Refusal::Torn);
        }
    }
    let mut left = Left::default();
    for line in lines {
        match line? {
            Line::Half(half) => left.half = Some(half),
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

/// Everything after the first line, if its length and checksum are those of the first line.
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
    // Serializing cannot fail: there is no map, and every key is a string.
    let mut json = serde_json::to_string(line).unwrap_or_default();
    json.push('\n');
    json
}

/// FNV-1a with 64 bits. Each step is a bijection, so one changed byte always changes the sum.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

const NAME: &str = "statlink-memory";
/// Raise it when an older build could misread a file: a word or a unit changes its meaning, or a
/// figure is counted in another way. A new word needs no new format: older builds refuse a word
/// they do not know.
const FORMAT: u32 = 1;
