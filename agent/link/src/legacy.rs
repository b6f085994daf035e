//! Legacy: what an agent leaves of a link to its successor.

use serde::{Deserialize, Serialize};

use crate::{Cause, FailedAttempt, time::Timestamp};

/// What the next agent needs to know of a link to continue. It does not say whether the link is
/// reachable now: the successor has to look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Legacy {
    /// Whether it has ever been reachable.
    pub was_reachable: bool,
    /// The outage that was under way.
    pub outage: Option<OutageUnderWay>,
    /// Whether the last dial was answered and held and then refused: the next one must show more
    /// before it counts.
    pub wary: bool,
}

/// An outage that has not ended, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutageUnderWay {
    /// When it began.
    pub since: Timestamp,
    /// The cause at its onset, or the first that became known.
    pub cause: Cause,
    /// Errors of every kind since the link was reachable.
    pub errors: u64,
    /// The last failed attempts since then, oldest first.
    pub attempts: Vec<FailedAttempt>,
}
