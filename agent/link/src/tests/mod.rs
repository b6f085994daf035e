//! The rules, told as scenarios, and the properties that hold whatever happens.

mod addresses;
mod causes;
mod connecting;
mod fanout;
mod fanout_properties;
mod hops;
mod lookups;
mod properties;
mod reachability;
mod resynchronisation;
mod stalls;
mod story;
