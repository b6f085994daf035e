//! The decisions of the kernel half, without the code that fetches their facts.
//!
//! The programs call exactly these functions. They are plain arithmetic and comparison, so the host
//! can test them. If a decision may not need a fact that costs a helper call, it fetches the fact
//! through a trait ([`Evidence`]).

mod connect;
mod ending;
mod heard;
mod quota;
mod reporting;
mod state;

pub use connect::{ConnectReturn, connect_return};
pub use ending::{Closing, Evidence, end_of_attempt, end_of_connection, phase_at_end};
pub use heard::{NEVER_HEARD, answers_a_close, heard_ns, ticks_ago_ns};
pub use quota::{Quota, next_place};
pub use reporting::{has_room_to_spare, is_half_full, is_lookup_due, is_stall};
pub use state::{StateChange, TCP_CLOSE, TCP_ESTABLISHED, TCP_SYN_SENT, open_phase, state_change};
