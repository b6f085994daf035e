//! Tests: the rules as scenarios, and the properties that hold whatever happens.

mod addresses;
mod causes;
mod connecting;
mod events;
mod fanout;
mod fanout_properties;
mod going_on;
mod inheritance;
mod lookups;
mod properties;
mod proxies;
mod races;
mod reachability;
mod refusals;
mod resynchronisation;
mod stalls;
mod story;
mod unknown;
