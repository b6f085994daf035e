//! Exit codes: a contract with scripts and manifests.

use super::usage::UsageError;
use crate::{
    control::server,
    discovery::kubernetes,
    health,
    kernel::KernelError,
    memory::MemoryError,
    scrape,
    telemetry::{config::ConfigErrors, logs::LogError},
};

/// Done.
pub(super) const DONE: u8 = 0;
/// Any failure without a code of its own; for `check`, something does not work.
pub(super) const FAILED: u8 = 1;
/// A flag or variable has a value that is not accepted or cannot be used.
pub(super) const USAGE: u8 = 2;
/// The kernel lacks or denies something that the agent needs.
pub(super) const UNSUPPORTED: u8 = 3;

/// The exit code depends on the error's type, not on the command that met it.
pub(super) fn code_of(error: &anyhow::Error) -> u8 {
    if error.is::<KernelError>() {
        UNSUPPORTED
    } else if error.is::<UsageError>()
        || error.is::<ConfigErrors>()
        || error.is::<LogError>()
        || error.is::<MemoryError>()
        || error.is::<kubernetes::ConfigError>()
        || error.is::<server::BindError>()
        || error.is::<health::BindError>()
        || error.is::<scrape::BindError>()
    {
        USAGE
    } else {
        FAILED
    }
}
