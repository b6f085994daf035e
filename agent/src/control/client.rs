//! The commands' side of the control socket.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

use super::{status::Status, wire::Request};

/// Why the agent did not answer.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// Nothing listens on the socket.
    #[error(
        "no agent answers on {path}: {source}; is `statlink run` running here, and is that its --socket?"
    )]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// Why it could not be opened.
        source: io::Error,
    },
    /// The agent did not answer in full.
    #[error("the agent on {path} did not answer: {source}")]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// What happened instead.
        source: io::Error,
    },
    /// The answer has another form: the agent is of another version.
    #[error(
        "the agent on {path} answers in a form unknown here: {source}; are both of one version?"
    )]
    Form {
        /// The socket.
        path: PathBuf,
        /// What is not understood.
        source: serde_json::Error,
    },
}

/// Asks for the status once.
///
/// # Errors
///
/// If no agent listens on `path`, it does not answer within 5 s, or is of another version.
pub(crate) fn status(path: &Path) -> Result<Status, ClientError> {
    let mut answer = String::new();
    let no_answer = |source| ClientError::NoAnswer {
        path: path.to_owned(),
        source,
    };
    let stream = ask(path, Request::Status)?;
    stream
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .and_then(|()| stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer))
        .map_err(no_answer)?;
    if answer.is_empty() {
        return Err(no_answer(io::Error::other("it is stopping")));
    }
    serde_json::from_str(&answer).map_err(|source| ClientError::Form {
        path: path.to_owned(),
        source,
    })
}

/// Asks for events: one line of JSON for each, until the agent stops.
///
/// # Errors
///
/// If no agent listens on `path`.
pub(crate) fn events(path: &Path) -> Result<impl Iterator<Item = io::Result<String>>, ClientError> {
    ask(path, Request::Events).map(|stream| BufReader::new(stream).lines())
}

fn ask(path: &Path, request: Request) -> Result<UnixStream, ClientError> {
    let no_agent = |source| ClientError::NoAgent {
        path: path.to_owned(),
        source,
    };
    let mut stream = UnixStream::connect(path).map_err(no_agent)?;
    writeln!(stream, "{request}").map_err(no_agent)?;
    Ok(stream)
}

/// The agent answers in milliseconds, and under load in tenths of a second. After this it hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bounds what a process that is no agent can make the command read. A link takes some 400 bytes, so
/// this is enough for more than two thousand.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
