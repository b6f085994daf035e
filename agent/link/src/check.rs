//! What a check is.

use crate::closed_list::closed_list;

closed_list! {
    /// The value of `kn.check.kind`.
    CheckKind {
        /// One per attempt, decided at upgraded or failure.
        Connect = "connect",
        /// One per link every 5 s, traffic or none.
        Liveness = "liveness",
        /// One at each loss of a live connection, a stall included.
        Disconnect = "disconnect",
    }
}
