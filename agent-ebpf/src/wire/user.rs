//! aya's marker for plain data, which only userspace needs.

use super::{ConnectCall, Connection, Neighbourhood, Offsets, Record, Sample, Source, Totals};

// SAFETY: `repr(C)`, `Copy`, only integers and arrays of them, and no implicit padding: any bytes of
// the right length are a valid value.
unsafe impl aya::Pod for Record {}
// SAFETY: as for `Record`.
unsafe impl aya::Pod for Source {}
// SAFETY: as for `Record`.
unsafe impl aya::Pod for Totals {}
// SAFETY: as for `Record`.
unsafe impl aya::Pod for Connection {}
// SAFETY: as for `Record`.
unsafe impl aya::Pod for ConnectCall {}
// SAFETY: as for `Record`.
unsafe impl aya::Pod for Sample {}
// SAFETY: as for `Record`.
unsafe impl aya::Pod for Offsets {}
// SAFETY: as for `Record`.
unsafe impl aya::Pod for Neighbourhood {}
