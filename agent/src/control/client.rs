//! The commands' side of the control socket.

use std::{
    io::{self, BufRead, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;

use super::{
    status::{Status, StatusHead},
    wire::Request,
};

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
    /// The answer has another form: the agent has another version.
    #[error(
        "the agent on {path} answers in a form unknown here: {source}; are both of one version?"
    )]
    Form {
        /// The socket.
        path: PathBuf,
        /// The part that is not understood.
        source: serde_json::Error,
    },
}

/// Asks for the status once.
///
/// # Errors
///
/// If no agent listens on `path`, it does not answer within 5 s, or it has another version.
pub(crate) fn status(path: &Path) -> Result<Status, ClientError> {
    let no_answer = |source| ClientError::NoAnswer {
        path: path.to_owned(),
        source,
    };
    let stream = ask(path, Request::Status)?;
    stream
        .set_read_timeout(Some(ANSWER_TIMEOUT))
        .map_err(no_answer)?;
    let mut answer = BufReader::new(stream);
    let head = line(&mut answer).map_err(no_answer)?;
    let head = head.ok_or_else(|| no_answer(io::Error::other("it is stopping")))?;
    let form = |source| ClientError::Form {
        path: path.to_owned(),
        source,
    };
    let StatusHead { mut status, links } = serde_json::from_slice(&head).map_err(form)?;
    if links > MAX_LINKS {
        let error = format!("it has {links} links, and {MAX_LINKS} are read at most");
        return Err(no_answer(io::Error::other(error)));
    }
    for _ in 0..links {
        let link = line(&mut answer).map_err(no_answer)?;
        let link = link.ok_or_else(|| no_answer(io::ErrorKind::UnexpectedEof.into()))?;
        status
            .links
            .push(serde_json::from_slice(&link).map_err(form)?);
    }
    Ok(status)
}

/// The next line of an answer; `None` at its end.
fn line(answer: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = answer.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    if read > 0 && !line.ends_with(b"\n") {
        return Err(io::Error::other("its answer breaks off in a line"));
    }
    Ok((read > 0).then_some(line))
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

/// The agent answers in milliseconds, and under load in tenths of a second. An agent that takes
/// longer hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bounds how much a process that is no agent can make the command read at once. A link takes some
/// 400 bytes, 1 kB with the longest names.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// Bounds the whole answer. The kernel half has room for some hundred links.
const MAX_LINKS: usize = 4096;

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// What the command reports for an answer.
    fn answered(answer: &str) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("statlink.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let agent = thread::spawn({
            let answer = answer.to_owned();
            move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = String::new();
                BufReader::new(&stream).read_line(&mut request).unwrap();
                assert_eq!(request, "status\n");
                // The command may exit before it has read everything.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let status = status(&path);
        agent.join().unwrap();
        match status {
            Ok(status) => format!("{} links", status.links.len()),
            Err(error) => error.to_string().replace(path.to_str().unwrap(), "PATH"),
        }
    }

    #[test]
    fn an_answer_that_is_none_is_told() {
        let head = |links: usize| {
            format!(
                r#"{{"status":{{"version":"1","hooks_missing":[],"records_lost":0,"links":[]}},"links":{links}}}"#
            )
        };
        assert_eq!(answered(&format!("{}\n", head(0))), "0 links");
        let told = [
            (String::new(), "it is stopping"),
            (head(0), "its answer breaks off in a line"),
            (format!("{}\n", head(1)), "unexpected end of file"),
            (
                format!("{}\n", head(5_000)),
                "it has 5000 links, and 4096 are read at most",
            ),
            ("x".repeat(100_000), "its answer breaks off in a line"),
        ];
        for (answer, why) in told {
            let expected = format!("the agent on PATH did not answer: {why}");
            assert_eq!(answered(&answer), expected);
        }
        let unknown = answered("[]\n");
        assert!(unknown.ends_with("are both of one version?"), "{unknown}");
    }
}
