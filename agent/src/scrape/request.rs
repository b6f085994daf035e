//! The part of HTTP that a scrape needs: one request without a body, one answer, and the end.

use std::sync::Arc;

use crate::health::Head;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// The page; `body` is false for HEAD.
    Page { body: bool },
    /// Nothing has this path.
    Unknown,
    /// A method other than GET and HEAD.
    Method,
    /// Not HTTP, or longer than a scrape's request.
    Malformed,
}

impl Request {
    /// Reads a request; `None` while its head is incomplete and shorter than `most` bytes.
    pub(super) fn read(received: &[u8], most: usize) -> Option<Self> {
        let (path, body) = match Head::read(received, most)? {
            Head::Get { path, body } => (path, body),
            Head::Method => return Some(Self::Method),
            Head::Malformed => return Some(Self::Malformed),
        };
        Some(match path {
            b"/metrics" => Self::Page { body },
            _ => Self::Unknown,
        })
    }

    /// The answer; `page` is the page, or why there is none.
    pub(super) fn answer(self, page: Result<Arc<str>, NoPage>) -> Answer {
        let (status, kind, body) = match (self, page) {
            (Self::Page { .. }, Ok(page)) => ("200 OK", PAGE, page),
            (Self::Page { .. }, Err(NoPage::Stopping)) => (UNAVAILABLE, PLAIN, "stopping\n".into()),
            (Self::Page { .. }, Err(NoPage::Busy)) => {
                (UNAVAILABLE, PLAIN, "others are being answered\n".into())
            }
            (Self::Unknown, _) => ("404 Not Found", PLAIN, "/metrics\n".into()),
            (Self::Method, _) => ("405 Method Not Allowed", PLAIN, "GET or HEAD\n".into()),
            (Self::Malformed, _) => ("400 Bad Request", PLAIN, "GET or HEAD\n".into()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n"
        );
        let has_body = self != (Self::Page { body: false });
        Answer {
            head,
            body: has_body.then_some(body),
        }
    }
}

/// Why there is no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPage {
    /// The agent is stopping.
    Stopping,
    /// The limit of running answers is reached.
    Busy,
}

/// An answer. It contains nothing that the client sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: String,
    /// Clients share one page; `None` for HEAD.
    pub(super) body: Option<Arc<str>>,
}

const UNAVAILABLE: &str = "503 Service Unavailable";

/// The text format of Prometheus, which every scraper can read.
const PAGE: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

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
        let page = || Ok("a 1\n".into());
        for (received, page, expected) in [
            ("GET /metrics HTTP/1.1", page(), "200 OK"),
            ("GET /metrics HTTP/1.1", Err(NoPage::Stopping), UNAVAILABLE),
            ("GET /metrics HTTP/1.1", Err(NoPage::Busy), UNAVAILABLE),
            ("GET / HTTP/1.1", page(), "404 Not Found"),
            ("POST /metrics HTTP/1.1", page(), "405 Method Not Allowed"),
            ("GET /metrics", page(), "400 Bad Request"),
        ] {
            let request = Request::read(format!("{received}\r\n\r\n").as_bytes(), MOST).unwrap();
            let Answer { head, body } = request.answer(page);
            let status = head.lines().next().unwrap();
            assert_eq!(status, format!("HTTP/1.1 {expected}"), "{received}");
            let length = format!("Content-Length: {}\r\n", body.unwrap().len());
            assert!(head.contains(&length), "{head}");
        }
        let Answer { head, body } = Request::Page { body: false }.answer(page());
        assert!(head.contains("Content-Length: 4\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(body, None);
    }

    /// The page of 200 links has two megabytes.
    #[test]
    fn a_page_is_not_copied_for_an_answer() {
        let page: Arc<str> = "a 1\n".into();
        let answer = Request::Page { body: true }.answer(Ok(Arc::clone(&page)));
        assert!(Arc::ptr_eq(&answer.body.unwrap(), &page));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(received in prop::collection::vec(any::<u8>(), 0..MOST + 1)) {
            let request = Request::read(&received, MOST);
            prop_assert!(request.is_some() || received.len() < MOST);
        }
    }
}
