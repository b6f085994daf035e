//! Which transitions of a link are logged, so that its log stays readable.
//!
//! Pure: it is told the time, and what it gives is logged. An outage has two lines, one at each
//! end. After [`TOLD`] outages within a minute the link flaps: what follows is summed up, a line
//! a minute, until a minute goes by in which no outage ends.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    link::Cause,
    report::{EndedOutage, EventKind},
    time::Timestamp,
};

/// EventKind is to be logged of one link.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// EventKind was reported, now or a while ago.
    Report(EventKind),
    /// EventKind follows is summed up.
    Flaps,
    /// EventKind a minute of flapping amounts to.
    Summary(Summary),
    /// No outage ended for a minute, and none is under way.
    Settled,
}

/// A stretch of flapping.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// How long it took.
    pub length: Duration,
    /// Outages that ended in it, by the cause at their onset.
    pub outages: BTreeMap<Cause, u64>,
    /// How long they lasted together, seconds.
    pub unreachable: f64,
    /// Their errors.
    pub errors: u64,
    /// Whether another one is under way at its end.
    pub under_way: bool,
}

/// The log of one link.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// The outage under way.
    outage: Option<Onset>,
    /// Until when it may wait for its cause to become known.
    held: Option<Timestamp>,
    /// It was reachable before: outages begin with a loss, which tells what can be known of it.
    reached: bool,
    /// When the last outages that were told began.
    told: VecDeque<Timestamp>,
    flapping: Option<Flapping>,
}

/// How an outage began.
#[derive(Clone, Debug)]
struct Onset {
    /// As it was reported last.
    what: EventKind,
    told: bool,
}

/// EventKind is summed up since the last line.
#[derive(Clone, Debug)]
struct Flapping {
    since: Timestamp,
    summary: Summary,
}

impl Story {
    /// EventKind is to be logged of `what`, which became known at `now`.
    pub fn take(&mut self, now: Timestamp, what: &EventKind) -> Vec<Line> {
        match what {
            EventKind::Unreachable { .. } => self.unreachable(now, what),
            EventKind::Reachable { outage, .. } => self.reachable(outage.as_ref(), what),
            EventKind::Idle => self.idle(what),
            EventKind::Ended => {
                let rest = self.close(now);
                rest.into_iter().chain([report(what)]).collect()
            }
            EventKind::Discovered
            | EventKind::Connected { .. }
            | EventKind::ConnectFailed(_)
            | EventKind::Disconnected { .. } => vec![report(what)],
        }
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let of_flapping = self.flapping.as_ref();
        let of_flapping = of_flapping.map(|flapping| flapping.since + MINUTE);
        self.held.into_iter().chain(of_flapping).min()
    }

    /// EventKind is to be logged at `now`. Early, it is nothing.
    pub fn on_deadline(&mut self, now: Timestamp) -> Option<Line> {
        if self.held.take_if(|until| *until <= now).is_some() {
            return self.outage.as_mut().and_then(Onset::tell);
        }
        let flapping = self.flapping.as_ref()?;
        if now < flapping.since + MINUTE {
            return None;
        }
        if let Some(summary) = self.summary(now) {
            return Some(Line::Summary(summary));
        }
        self.flapping = None;
        self.told.clear();
        match &mut self.outage {
            Some(onset) => onset.tell(),
            None => Some(Line::Settled),
        }
    }

    /// EventKind was left unsaid: nothing follows.
    pub fn close(&mut self, now: Timestamp) -> Vec<Line> {
        let held = self.held.take().and(self.outage.as_mut());
        let held = held.and_then(Onset::tell);
        let summary = self.summary(now).map(Line::Summary);
        *self = Self::default();
        held.into_iter().chain(summary).collect()
    }

    /// An outage began, or the cause of the one under way became known.
    fn unreachable(&mut self, now: Timestamp, what: &EventKind) -> Vec<Line> {
        if let Some(onset) = &mut self.outage {
            onset.what = what.clone();
            let held = self.held.take();
            return held.and_then(|_| onset.tell()).into_iter().collect();
        }
        let onset = self.outage.insert(Onset {
            what: what.clone(),
            told: false,
        });
        if self.flapping.is_some() {
            return Vec::new();
        }
        self.told
            .retain(|began| now.saturating_since(*began) < MINUTE);
        if self.told.len() >= TOLD {
            self.flapping = Some(Flapping {
                since: now,
                summary: Summary::default(),
            });
            return onset.tell().into_iter().chain([Line::Flaps]).collect();
        }
        self.told.push_back(now);
        if !self.reached && is_unknown(what) {
            self.held = Some(now + PATIENCE);
            return Vec::new();
        }
        onset.tell().into_iter().collect()
    }

    fn reachable(&mut self, outage: Option<&EndedOutage>, what: &EventKind) -> Vec<Line> {
        self.reached = true;
        let mut onset = self.outage.take();
        let held = self.held.take().and(onset.as_mut());
        let held = held.and_then(Onset::tell);
        let (Some(flapping), Some(outage)) = (&mut self.flapping, outage) else {
            return held.into_iter().chain([report(what)]).collect();
        };
        let summary = &mut flapping.summary;
        *summary.outages.entry(outage.cause).or_default() += 1;
        summary.unreachable += outage.duration.as_secs_f64();
        summary.errors += outage.errors;
        Vec::new()
    }

    /// EventKind ends an outage without a recovery is its last line.
    fn idle(&mut self, what: &EventKind) -> Vec<Line> {
        self.reached = false;
        let mut onset = self.outage.take();
        let held = self.held.take().and(onset.as_mut());
        let held = held.and_then(Onset::tell);
        if self.flapping.is_some() {
            return Vec::new();
        }
        held.into_iter().chain([report(what)]).collect()
    }

    /// EventKind there was since the last one, if an outage ended.
    fn summary(&mut self, now: Timestamp) -> Option<Summary> {
        let flapping = self.flapping.as_mut()?;
        let length = now.saturating_since(flapping.since);
        flapping.since = now;
        let summary = std::mem::take(&mut flapping.summary);
        (!summary.outages.is_empty()).then(|| Summary {
            length,
            under_way: self.outage.is_some(),
            ..summary
        })
    }
}

impl Onset {
    /// Its line, once.
    fn tell(&mut self) -> Option<Line> {
        let untold = !std::mem::replace(&mut self.told, true);
        untold.then(|| report(&self.what))
    }
}

fn report(what: &EventKind) -> Line {
    Line::Report(what.clone())
}

/// Whether nothing can be told of the cause yet, not even an attempt.
fn is_unknown(what: &EventKind) -> bool {
    matches!(what, EventKind::Unreachable { cause: Cause::Other, attempts, .. } if attempts.is_empty())
}

/// So many outages within a minute are told one by one.
const TOLD: usize = 3;
const MINUTE: Duration = Duration::from_secs(60);
/// By then the lack of attempts is the cause, if nothing else is.
const PATIENCE: Duration = Duration::from_secs(25);

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    fn peer() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 8080))
    }

    fn down(cause: Cause) -> EventKind {
        EventKind::Unreachable {
            cause,
            peer_address: Some(peer()),
            proxy_address: None,
            attempts: Vec::new(),
        }
    }

    fn up(cause: Cause, duration: f64) -> EventKind {
        EventKind::Reachable {
            outage: Some(EndedOutage {
                duration: Duration::from_secs_f64(duration),
                cause,
                errors: 2,
                attempts: Vec::new(),
            }),
            peer_address: peer(),
        }
    }

    /// Outages of 100 ms, from `begin` on, one each `every` milliseconds; what is logged.
    fn flap(story: &mut Story, begin: u64, every: u64, outages: u64) -> Vec<Line> {
        let mut lines = Vec::new();
        for n in 0..outages {
            let onset = at(begin + n * every);
            lines.extend(story.on_deadline(onset));
            lines.extend(story.take(onset, &down(Cause::ConnectionReset)));
            let back = onset + Duration::from_millis(100);
            lines.extend(story.take(back, &up(Cause::ConnectionReset, 0.1)));
        }
        lines
    }

    #[test]
    fn an_outage_has_a_line_at_each_end() {
        let mut story = Story::default();
        let lines = flap(&mut story, 0, 30_000, 4);
        assert_eq!(lines.len(), 8);
        assert!(lines.iter().all(|line| matches!(line, Line::Report(_))));
        assert_eq!(story.next_deadline(), None);
    }

    #[test]
    fn a_cause_that_becomes_known_adds_no_line() {
        let mut story = Story::default();
        assert_eq!(story.take(at(0), &down(Cause::Other)), []);
        let known = down(Cause::Dns);
        assert_eq!(story.take(at(4_000), &known), [Line::Report(known)]);
        assert_eq!(story.take(at(5_000), &down(Cause::Stalled)), []);
    }

    #[test]
    fn a_loss_is_told_at_once_whatever_its_cause() {
        let mut story = Story::default();
        let first = EventKind::Reachable {
            outage: None,
            peer_address: peer(),
        };
        story.take(at(0), &first);
        let unknown = down(Cause::Other);
        assert_eq!(story.take(at(1), &unknown), [Line::Report(unknown)]);
        assert_eq!(story.take(at(2), &down(Cause::Dns)), []);
    }

    #[test]
    fn an_outage_is_told_without_a_cause_when_none_becomes_known() {
        let mut story = Story::default();
        let unknown = down(Cause::Other);
        assert_eq!(story.take(at(0), &unknown), []);
        assert_eq!(story.on_deadline(at(24_999)), None);
        assert_eq!(story.next_deadline(), Some(at(25_000)));
        assert_eq!(
            story.on_deadline(at(25_000)),
            Some(Line::Report(unknown.clone()))
        );
        assert_eq!(story.next_deadline(), None);

        for end in [up(Cause::Other, 1.0), EventKind::Ended] {
            let mut story = Story::default();
            assert_eq!(story.take(at(0), &unknown), []);
            let lines = story.take(at(1_000), &end);
            assert_eq!(lines, [Line::Report(unknown.clone()), Line::Report(end)]);
        }
    }

    #[test]
    fn an_outage_may_end_with_nothing_to_be_connected_to() {
        let mut story = Story::default();
        let unknown = down(Cause::Other);
        story.take(at(0), &unknown);
        let lines = story.take(at(1_000), &EventKind::Idle);
        assert_eq!(
            lines,
            [Line::Report(unknown), Line::Report(EventKind::Idle)]
        );
        assert_eq!(story.next_deadline(), None);
        // One that flaps has its summary.
        flap(&mut story, 2_000, 300, 10);
        story.take(at(6_000), &down(Cause::Stalled));
        assert_eq!(story.take(at(6_100), &EventKind::Idle), []);
    }

    #[test]
    fn flapping_is_a_line_a_minute() {
        let mut story = Story::default();
        let lines = flap(&mut story, 0, 300, 1_000);
        let [first @ .., flaps, one, two, three, four] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        assert_eq!(first.len(), 7);
        assert_eq!(*flaps, Line::Flaps);
        for summary in [one, two, three, four] {
            let Line::Summary(summary) = summary else {
                panic!("{summary:?}");
            };
            assert_eq!(
                summary.outages,
                BTreeMap::from([(Cause::ConnectionReset, 200)])
            );
            assert_eq!((summary.errors, summary.under_way), (400, false));
            assert!((summary.unreachable - 20.0).abs() < 1e-6);
            assert_eq!(summary.length, MINUTE);
        }
        // The last, begun minute; then a quiet one.
        assert!(matches!(
            story.on_deadline(at(301_000)),
            Some(Line::Summary(_))
        ));
        assert_eq!(story.on_deadline(at(361_000)), Some(Line::Settled));
        assert_eq!(story.next_deadline(), None);
        assert_eq!(flap(&mut story, 400_000, 300, 1).len(), 2);
    }

    #[test]
    fn an_outage_that_lasts_is_told_although_the_link_flapped() {
        let mut story = Story::default();
        flap(&mut story, 0, 300, 4);
        let lasting = down(Cause::Stalled);
        assert_eq!(story.take(at(2_000), &lasting), []);
        let Some(Line::Summary(summary)) = story.on_deadline(at(61_000)) else {
            panic!("no summary");
        };
        assert!(summary.under_way);
        assert_eq!(story.on_deadline(at(121_000)), Some(Line::Report(lasting)),);
        let back = up(Cause::Stalled, 200.0);
        assert_eq!(story.take(at(202_000), &back), [Line::Report(back)]);
    }

    #[test]
    fn what_is_unsaid_is_said_at_the_end() {
        let mut story = Story::default();
        flap(&mut story, 0, 300, 10);
        let lines = story.close(at(5_000));
        let [Line::Summary(summary)] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        assert_eq!(
            summary.outages,
            BTreeMap::from([(Cause::ConnectionReset, 7)])
        );
    }

    proptest! {
        #[test]
        fn no_outage_has_more_than_two_lines_but_for_one_a_minute(
            // Milliseconds until the next onset, and that it lasts; whether its cause is known.
            outages in prop::collection::vec((1..90_000_u64, 1..90_000_u64, any::<bool>()), 1..200),
        ) {
            let mut story = Story::default();
            let (mut now, mut lines) = (at(0), Vec::new());
            let mut until = |story: &mut Story, lines: &mut Vec<Line>, ms| {
                let end = now + Duration::from_millis(ms);
                while let Some(due) = story.next_deadline().filter(|due| *due <= end) {
                    lines.extend(story.on_deadline(due));
                }
                now = end;
                end
            };
            let number = outages.len();
            for (rest, length, known) in outages {
                let onset = until(&mut story, &mut lines, rest);
                let cause = if known { Cause::Stalled } else { Cause::Other };
                lines.extend(story.take(onset, &down(cause)));
                let back = until(&mut story, &mut lines, length);
                lines.extend(story.take(back, &up(cause, 1.0)));
            }
            let end = until(&mut story, &mut lines, 120_000);
            let minutes = end.saturating_since(at(0)).as_secs().div_ceil(60);
            let summaries = lines.iter().filter(|line| !matches!(line, Line::Report(_)));
            prop_assert!(lines.len() <= 2 * number + summaries.count());
            prop_assert!(lines.len() as u64 <= 2 * minutes * (TOLD as u64 + 1));
            prop_assert_eq!(story.next_deadline(), None);
        }
    }
}
