//! The `statlink` binary.
fn main() {}
