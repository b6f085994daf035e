//! What the kernel must have, and what the kernel half records of real sockets.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panic")]

mod half;
mod pins;
mod preflight;
mod privileges;
mod records;
mod strangers;
mod what_counts;

use std::time::Duration;

/// Long enough on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
