//! The part of HTTP that a probe needs: one request without a body, one answer, and the end.

use super::{
    head::Head,
    probes::{ProbeResult, Probes},
};

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Ask this probe; `body` is false for HEAD.
    Probe { probe: Probe, body: bool },
    /// No probe has this path.
    Unknown,
    /// A method other than GET and HEAD.
    Method,
    /// Not HTTP, or longer than a probe's request.
    Malformed,
}

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    Live,
    Ready,
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
            b"/healthz" => Self::Probe {
                probe: Probe::Live,
                body,
            },
            b"/readyz" => Self::Probe {
                probe: Probe::Ready,
                body,
            },
            _ => Self::Unknown,
        })
    }
}

/// The whole answer. It contains nothing that the client sent.
pub(super) fn answer(request: Request, probes: &Probes) -> String {
    let (status, line, body) = match request {
        Request::Probe { probe, body } => match probe.result(probes) {
            Ok(()) => ("200 OK", "ok".to_owned(), body),
            Err(why) => ("503 Service Unavailable", why, body),
        },
        Request::Unknown => ("404 Not Found", "/healthz or /readyz".to_owned(), true),
        Request::Method => ("405 Method Not Allowed", "GET or HEAD".to_owned(), true),
        Request::Malformed => ("400 Bad Request", "GET or HEAD".to_owned(), true),
    };
    let length = line.len() + "\n".len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    );
    if body {
        format!("{head}{line}\n")
    } else {
        head
    }
}

impl Probe {
    fn result(self, probes: &Probes) -> ProbeResult {
        match self {
            Self::Live => (probes.live)(),
            Self::Ready => (probes.ready)(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 4096;

    #[test]
    fn a_request_is_read_once_its_header_is_complete() {
        let whole =
            b"GET /readyz HTTP/1.1\r\nHost: 10.0.0.1:8082\r\nUser-Agent: kube-probe/1.33\r\n\r\n";
        for cut in 0..whole.len() {
            assert_eq!(
                Request::read(whole.get(..cut).unwrap(), MOST),
                None,
                "{cut}"
            );
        }
        let ready = Request::Probe {
            probe: Probe::Ready,
            body: true,
        };
        assert_eq!(Request::read(whole, MOST), Some(ready));
        assert_eq!(
            Request::read(b"HEAD /readyz?verbose HTTP/1.0\r\n\r\n", MOST),
            Some(Request::Probe {
                probe: Probe::Ready,
                body: false
            })
        );
    }

    #[test]
    fn what_is_no_probe_s_request_has_an_answer_too() {
        let long = [b'a'; MOST];
        for (received, expected) in [
            (b"GET / HTTP/1.1\r\n\r\n".as_slice(), Request::Unknown),
            (b"POST /healthz HTTP/1.1\r\n\r\n", Request::Method),
            (b"GET /healthz\r\n\r\n", Request::Malformed),
            (b"GET /healthz HTTP/2.0\r\n\r\n", Request::Malformed),
            (b"GET /healthz HTTP/1.1 x\r\n\r\n", Request::Malformed),
            (b"\r\n\r\n", Request::Malformed),
            (b"\x16\x03\x01\r\n\r\n", Request::Malformed),
            (&long, Request::Malformed),
        ] {
            assert_eq!(
                Request::read(received, MOST),
                Some(expected),
                "{received:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(received in prop::collection::vec(any::<u8>(), 0..MOST + 1)) {
            let request = Request::read(&received, MOST);
            prop_assert!(request.is_some() || received.len() < MOST);
        }
    }
}
