//! The kinds of checks.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_word() {
        let words = CheckKind::ALL.map(CheckKind::as_str);
        assert_eq!(words, ["connect", "liveness", "disconnect"]);
        for kind in CheckKind::ALL {
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{}\"", kind.as_str()));
        }
    }
}
