//! The head of an HTTP request, as far as this agent's servers read one: what is asked for, and no headers.

/// What the first line of a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head<'a> {
    /// What is at this path, without its query; `body` is false for HEAD.
    Get { path: &'a [u8], body: bool },
    /// Another method than GET and HEAD.
    Method,
    /// No HTTP, or more than anybody sends who may ask.
    Malformed,
}

impl<'a> Head<'a> {
    /// Reads a head; `None` while it is not complete and shorter than `most` bytes.
    pub(crate) fn read(received: &'a [u8], most: usize) -> Option<Self> {
        let is_complete = received.windows(END.len()).any(|bytes| bytes == END);
        if !is_complete {
            return (received.len() >= most).then_some(Self::Malformed);
        }
        let line = received.split(|byte| *byte == b'\r').next()?;
        let mut words = line.split(|byte| *byte == b' ');
        let (method, target, version) = (words.next()?, words.next(), words.next());
        let (Some(target), Some(b"HTTP/1.1" | b"HTTP/1.0"), None) = (target, version, words.next())
        else {
            return Some(Self::Malformed);
        };
        let body = match method {
            b"GET" => true,
            b"HEAD" => false,
            _ => return Some(Self::Method),
        };
        let path = target.split(|byte| *byte == b'?').next()?;
        Some(Self::Get { path, body })
    }
}

/// The end of a head.
const END: &[u8] = b"\r\n\r\n";
