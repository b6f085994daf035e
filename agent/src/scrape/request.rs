//! As much of HTTP as a scrape speaks: one request without a body, one answer, and the end.

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// The page; `body` is false for HEAD.
    Page { body: bool },
    /// Nothing has this path.
    Unknown,
    /// Another method than GET and HEAD.
    Method,
    /// No HTTP, or more than a scrape sends.
    Malformed,
}

impl Request {
    /// Reads a request; `None` while its header is not complete and shorter than `most` bytes.
    pub(super) fn read(received: &[u8], most: usize) -> Option<Self> {
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
        let path = target.split(|byte| *byte == b'?').next();
        Some(match path {
            Some(b"/metrics") => Self::Page { body },
            Some(_) | None => Self::Unknown,
        })
    }

    /// The whole answer; without a page the agent is stopping. Nothing in it comes from the client.
    pub(super) fn answer(self, page: Option<&str>) -> String {
        let (status, kind, body) = match (self, page) {
            (Self::Page { .. }, Some(page)) => ("200 OK", PAGE, page),
            (Self::Page { .. }, None) => ("503 Service Unavailable", PLAIN, "stopping\n"),
            (Self::Unknown, _) => ("404 Not Found", PLAIN, "/metrics\n"),
            (Self::Method, _) => ("405 Method Not Allowed", PLAIN, "GET or HEAD\n"),
            (Self::Malformed, _) => ("400 Bad Request", PLAIN, "GET or HEAD\n"),
        };
        let length = body.len();
        let body = if self == (Self::Page { body: false }) {
            ""
        } else {
            body
        };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
    }
}

/// The text format of Prometheus, which whatever scrapes can read.
const PAGE: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";
/// The end of a header.
const END: &[u8] = b"\r\n\r\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 4096;

    #[test]
    fn a_request_is_read_once_its_header_is_complete() {
        let whole =
            b"GET /metrics HTTP/1.1\r\nHost: 10.0.0.1:9464\r\nUser-Agent: Prometheus/3.16\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(
                Request::read(whole.get(..cut).unwrap(), MOST),
                None,
                "{cut}"
            );
        }
        let page = |body| Some(Request::Page { body });
        assert_eq!(Request::read(whole, MOST), page(true));
        let head = b"HEAD /metrics?name[]=x HTTP/1.0\r\n\r\n";
        assert_eq!(Request::read(head, MOST), page(false));
    }

    #[test]
    fn each_request_has_its_answer() {
        for (received, page, expected) in [
            ("GET /metrics HTTP/1.1", Some("a 1\n"), "200 OK"),
            ("GET /metrics HTTP/1.1", None, "503 Service Unavailable"),
            ("GET / HTTP/1.1", Some("a 1\n"), "404 Not Found"),
            ("POST /metrics HTTP/1.1", Some(""), "405 Method Not Allowed"),
            ("GET /metrics", Some(""), "400 Bad Request"),
        ] {
            let request = Request::read(format!("{received}\r\n\r\n").as_bytes(), MOST).unwrap();
            let answer = request.answer(page);
            let status = answer.lines().next().unwrap();
            assert_eq!(status, format!("HTTP/1.1 {expected}"), "{received}");
        }
        let head = Request::Page { body: false }.answer(Some("a 1\n"));
        assert!(head.contains("Content-Length: 4\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(received in prop::collection::vec(any::<u8>(), 0..MOST + 1)) {
            let request = Request::read(&received, MOST);
            prop_assert!(request.is_some() || received.len() < MOST);
        }
    }
}
