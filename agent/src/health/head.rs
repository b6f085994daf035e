//! The head of an HTTP request. The agent's servers read only what it asks for, and no headers.

/// The first line of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head<'a> {
    /// A request for this path, without its query; `body` is false for HEAD.
    Get { path: &'a [u8], body: bool },
    /// A method other than GET and HEAD.
    Method,
    /// Not HTTP, or longer than a legitimate request.
    Malformed,
}

impl<'a> Head<'a> {
    /// Reads a head; `None` while it is incomplete and shorter than `most` bytes.
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
