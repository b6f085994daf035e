//! What a check is.

use serde::{Deserialize, Serialize};

/// The value of `kn.check.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// One per attempt, decided at upgraded or failure.
    Connect,
    /// One per link every 5 s, traffic or none.
    Liveness,
    /// One at each loss of a live connection, a stall included.
    Disconnect,
}

impl CheckKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Connect, Self::Liveness, Self::Disconnect];

    /// The attribute's value, byte for byte.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Liveness => "liveness",
            Self::Disconnect => "disconnect",
        }
    }
}
