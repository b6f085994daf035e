//! The rules, told as scenarios, and the properties that hold whatever happens.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that panics has failed, which is what it is for"
)]

mod causes;
mod connecting;
mod properties;
mod reachability;
mod resynchronisation;
mod stalls;
mod story;
