//! What the activator itself saw, from its log: every dial, every loss, and Knative's own metric.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use statlink_tests::process::{Line, Process};

/// One activator's history, read from its own log.
#[derive(Debug, Default)]
pub(crate) struct History {
    read: usize,
    seen: Vec<Seen>,
}

/// One relevant line of the log.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: SystemTime,
    pub(crate) what: Saw,
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saw {
    /// A dial failed; the text of its error names this cause.
    DialFailed(&'static str),
    /// A lookup failed, so there was no dial.
    LookupFailed,
    /// This many dials of a life that never connects were refused.
    Flapped(u64),
    /// The process ended, which is no loss.
    Ended,
    /// A server that holds refused connections accepted a dial.
    Accepted,
    Established,
    /// The connection was lost; these causes are possible by the error's text.
    Lost(&'static [&'static str]),
    /// Knative's own gauge fell to 0.
    NativeLost,
}

/// The sums of a part of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Attempts that failed, by cause.
    pub(crate) failed: BTreeMap<&'static str, u64>,
    pub(crate) established: u64,
    pub(crate) lost: u64,
    /// How many lost connections were too short to be *upgraded*: least and most.
    pub(crate) short: (u64, u64),
    /// The causes of those attempts, the certain ones first.
    pub(crate) short_causes: Vec<&'static str>,
}

impl History {
    /// Reads new output.
    pub(crate) fn read(&mut self, process: &Process) {
        let lines = process.lines_after(self.read);
        self.read += lines.len();
        self.seen.extend(lines.iter().filter_map(seen));
    }

    /// Reads when a server in the autoscaler's place accepted this activator's dials.
    pub(crate) fn read_accepted(&mut self, server: &Process) {
        let lines = server.lines();
        let accepted = lines.iter().filter(|line| line.event() == Some("accepted"));
        self.seen.extend(accepted.filter_map(|line| {
            Some(Seen {
                at: line.time()?,
                what: Saw::Accepted,
                text: line.text.clone(),
            })
        }));
        // Stable: the activator's output stays in its order.
        self.seen.sort_by_key(|seen| seen.at);
    }

    /// A life that never connects made this many dials.
    pub(crate) fn flapped(&mut self, dials: u64) {
        self.add(Saw::Flapped(dials));
    }

    /// The process ended; the next one of the same pod has its own log.
    pub(crate) fn ended(&mut self) {
        self.read = 0;
        self.add(Saw::Ended);
    }

    fn add(&mut self, what: Saw) {
        self.seen.push(Seen {
            at: SystemTime::now(),
            what,
            text: format!("{what:?}"),
        });
    }

    /// Whether the activator believes that it is connected.
    pub(crate) fn connected(&self) -> bool {
        let mut newest = self.seen.iter().rev().map(|seen| seen.what);
        let decides = |what: &Saw| matches!(what, Saw::Established | Saw::Lost(_) | Saw::Ended);
        let decided = newest.find(decides);
        decided == Some(Saw::Established)
    }

    /// When anything was last seen.
    pub(crate) fn last(&self) -> Option<SystemTime> {
        self.seen.last().map(|seen| seen.at)
    }

    pub(crate) fn mark(&self) -> usize {
        self.seen.len()
    }

    pub(crate) fn since(&self, mark: usize) -> &[Seen] {
        self.seen.get(mark..).unwrap_or_default()
    }
}

impl Sums {
    /// Every dial that was decided.
    pub(crate) fn attempts(&self) -> u64 {
        self.failed.values().sum::<u64>() + self.established
    }

    pub(crate) fn of(seen: &[Seen]) -> Self {
        let mut sums = Self::default();
        // The connection may be older than this part.
        let mut established = None;
        for seen in seen {
            match seen.what {
                Saw::DialFailed(cause) => {
                    // Go tries three times for lack of ports: net/tcpsock_posix.go, doDialTCPProto.
                    let attempts = if cause == "address_unavailable" { 3 } else { 1 };
                    *sums.failed.entry(cause).or_default() += attempts;
                }
                Saw::Established => {
                    sums.established += 1;
                    established = Some(seen.at);
                }
                Saw::Lost(causes) => {
                    sums.lost += 1;
                    let held = established
                        .take()
                        .and_then(|made| seen.at.duration_since(made).ok());
                    let Some(held) = held.filter(|held| *held < CONFIRMED.1) else {
                        continue;
                    };
                    let cause = match causes {
                        ["connection_reset"] => "connection_reset",
                        ["connection_aborted"] => "connection_aborted",
                        _ => "handshake_failed",
                    };
                    sums.short.1 += 1;
                    if held < CONFIRMED.0 {
                        sums.short.0 += 1;
                        sums.short_causes.insert(0, cause);
                    } else {
                        sums.short_causes.push(cause);
                    }
                }
                Saw::Flapped(dials) => {
                    *sums.failed.entry("connection_refused").or_default() += dials;
                }
                Saw::Ended => established = None,
                Saw::LookupFailed | Saw::Accepted | Saw::NativeLost => {}
            }
        }
        sums
    }
}

/// The same history, with the first held refusal as it looks without reading payload: an upgraded
/// connection that is lost when the client gives up. After it, the link waits for a second answer.
pub(crate) fn with_refusals(seen: &[Seen]) -> Vec<Seen> {
    let mut told = Vec::new();
    let mut accepted = None;
    let mut is_known = false;
    for seen in seen {
        if seen.what == Saw::Accepted {
            accepted = Some(seen.at);
        }
        let failed = Saw::DialFailed("handshake_failed") == seen.what
            || Saw::DialFailed("connection_reset") == seen.what;
        if failed
            && !is_known
            && let Some(at) = accepted.take()
        {
            let held = seen.at.duration_since(at).unwrap_or_default();
            is_known = held >= CONFIRMED.0;
            let (what, text) = (Saw::Established, "held refusal".to_owned());
            told.push(Seen { at, what, text });
            told.push(Seen {
                // The text of Go's error does not say which side ended it.
                what: Saw::Lost(if held >= GIVEN_UP {
                    &["handshake_failed"]
                } else {
                    &["peer_closed", "connection_reset"]
                }),
                ..seen.clone()
            });
            continue;
        }
        told.push(seen.clone());
    }
    told
}

/// From the loss of one connection to the next that lasted; the last outage may be open. A life
/// that does not connect has its start-up grace, unless the one before did not connect either.
pub(crate) fn outages(seen: &[Seen], begins_down: Option<SystemTime>) -> Vec<Outage> {
    let mut outages = Vec::new();
    let mut lost = begins_down;
    let mut in_vain = false;
    let decides = |seen: &&Seen| {
        matches!(
            seen.what,
            Saw::Established | Saw::Lost(_) | Saw::Flapped(_) | Saw::Ended
        )
    };
    let mut connections = seen.iter().filter(decides).peekable();
    while let Some(seen) = connections.next() {
        if let Saw::Lost(_) = seen.what {
            lost = lost.or(Some(seen.at));
        } else if let Saw::Flapped(_) = seen.what {
            lost = lost.or(Some(seen.at).filter(|_| in_vain));
            in_vain = true;
        }
        if seen.what != Saw::Established {
            continue;
        }
        in_vain = false;
        // A connection that is lost at once was never upgraded.
        let end = connections.peek().map(|next| next.at);
        let held = end.and_then(|end| end.duration_since(seen.at).ok());
        if held.is_none_or(|held| held >= CONFIRMED.1) {
            outages.extend(lost.take().map(|from| (from, Some(seen.at))));
        }
    }
    outages.extend(lost.map(|from| (from, None)));
    outages
}

/// Beginning and end.
pub(crate) type Outage = (SystemTime, Option<SystemTime>);

fn seen(line: &Line) -> Option<Seen> {
    let error = line.get("error").as_str().unwrap_or_default();
    let what = match line.event()? {
        "dial_failed" if error.contains("lookup ") => Saw::LookupFailed,
        "dial_failed" => Saw::DialFailed(dial_cause(error)),
        "established" => Saw::Established,
        "lost" => Saw::Lost(loss_causes(error)),
        "native" if line.get("reachable") == 0 => Saw::NativeLost,
        _ => return None,
    };
    Some(Seen {
        at: line.time()?,
        what,
        text: line.text.clone(),
    })
}

/// The cause that the activator's own error names.
fn dial_cause(error: &str) -> &'static str {
    let says = |text| error.contains(text);
    // On an established connection, upgraded or not.
    if says("connection reset by peer") {
        return "connection_reset";
    }
    if says("software caused connection abort") {
        return "connection_aborted";
    }
    // Any other error after the connection was made is an error of the handshake.
    if !says("dial tcp") {
        return "handshake_failed";
    }
    if says("connection refused") {
        "connection_refused"
    } else if says("no route to host") {
        "host_unreachable"
    } else if says("network is unreachable") {
        "network_unreachable"
    } else if says("permission denied") || says("operation not permitted") {
        "permission_denied"
    } else if says("cannot assign requested address") {
        "address_unavailable"
    } else if says("i/o timeout") || says("connection timed out") {
        "timeout"
    } else {
        "_OTHER"
    }
}

/// The causes that are possible by the text of the reader's or the writer's error.
fn loss_causes(error: &str) -> &'static [&'static str] {
    if error.contains("connection reset by peer") {
        &["connection_reset"]
    } else if error.contains("EOF") {
        &["peer_closed"]
    } else if error.contains("websocket: close 1") {
        // A close frame. A server that then closes without having read the client's own sends RST
        // instead of FIN (`tcp_close()`), which is a reset by its rule.
        &["peer_closed", "connection_reset"]
    } else if error.contains("software caused connection abort") {
        &["connection_aborted"]
    } else if error.contains("i/o timeout") {
        GAVE_UP
    } else {
        // A failed write says only that the connection was gone.
        &["connection_reset", "peer_closed", "local_closed"]
    }
}

/// The activator's read deadline passed: 10 s without a pong. The connection had stalled long
/// before, so a close by the activator is the cause only if a stall had just healed.
pub(crate) const GAVE_UP: &[&str] = &["local_closed"];

/// *Upgraded* is confirmed 250 ms after the answer, give or take the differences between two clocks
/// and processes.
const CONFIRMED: (Duration, Duration) = (Duration::from_millis(220), Duration::from_millis(280));

/// A dial has 3 s in all, and connecting takes little of them.
const GIVEN_UP: Duration = Duration::from_millis(2_900);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_go_have_one_cause_each() {
        for (error, cause) in [
            (
                "dial tcp 10.77.0.2:8080: connect: connection refused",
                "connection_refused",
            ),
            (
                "dial tcp 10.77.0.2:8080: connect: no route to host",
                "host_unreachable",
            ),
            ("dial tcp 10.77.0.2:8080: i/o timeout", "timeout"),
            (
                "read tcp 10.77.0.3:4->10.77.0.2:8080: i/o timeout",
                "handshake_failed",
            ),
            (
                "read tcp 10.77.0.3:4->10.77.0.2:8080: read: connection reset by peer",
                "connection_reset",
            ),
            ("websocket: bad handshake", "handshake_failed"),
        ] {
            assert_eq!(dial_cause(error), cause, "{error}");
        }
    }

    #[test]
    fn what_is_lost_at_once_was_never_upgraded() {
        let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let seen = [
            (0, Saw::Lost(&["connection_reset"])),
            (100, Saw::DialFailed("connection_refused")),
            (200, Saw::Established),
            (300, Saw::Lost(&["connection_reset"])),
            (400, Saw::Established),
            (650, Saw::Lost(&["connection_reset"])),
            (900, Saw::Established),
        ]
        .map(|(ms, what)| Seen {
            at: at(ms),
            what,
            text: String::new(),
        });
        let sums = Sums::of(&seen);
        assert_eq!((sums.established, sums.lost, sums.short), (3, 3, (1, 2)));
        // The second was too short to end the outage, and the third may have been.
        assert_eq!(outages(&seen, None), [(at(0), Some(at(900)))]);
    }
}
