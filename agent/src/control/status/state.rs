//! A state as four fields side by side, `null` where a state has none.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::link::{Cause, State, UnknownReason};

#[derive(Serialize, Deserialize)]
struct Fields<W> {
    state: W,
    since_seconds: Option<f64>,
    cause: Option<Cause>,
    unknown_reason: Option<UnknownReason>,
}

pub(crate) fn serialize<S: Serializer>(
    state: &State<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let (since, cause, unknown_reason) = match *state {
        State::Starting | State::Idle | State::Ended => (None, None, None),
        State::Reachable { since } => (since, None, None),
        State::Unreachable { since, cause } => (Some(since), Some(cause), None),
        State::Unknown { since, reason } => (Some(since), None, Some(reason)),
    };
    let fields = Fields {
        state: state.as_str(),
        since_seconds: since.map(|since| since.as_secs_f64()),
        cause,
        unknown_reason,
    };
    fields.serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<State<Duration>, D::Error> {
    let fields = Fields::<String>::deserialize(deserializer)?;
    let since = fields.since_seconds.map(Duration::try_from_secs_f64);
    let since = since.transpose().map_err(D::Error::custom)?;
    Ok(match (fields.state.as_str(), since, fields.cause) {
        ("starting", _, _) => State::Starting,
        ("idle", _, _) => State::Idle,
        ("reachable", since, _) => State::Reachable { since },
        ("unreachable", Some(since), Some(cause)) => State::Unreachable { since, cause },
        ("ended", _, _) => State::Ended,
        ("unknown", Some(since), _) => State::Unknown {
            since,
            reason: fields
                .unknown_reason
                .ok_or_else(|| D::Error::custom("the state \"unknown\" lacks its reason"))?,
        },
        (state, _, _) => {
            let error = format!("state {state:?} is unknown, or lacks its start or its cause");
            return Err(D::Error::custom(error));
        }
    })
}
