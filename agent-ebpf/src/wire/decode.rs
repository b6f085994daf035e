//! Errors about bytes from the kernel half.

use core::fmt;

/// Bytes that this build of userspace does not understand: they come from another version of the
/// kernel half, or something else wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// There are more or fewer bytes than the type has.
    Length {
        /// The type.
        what: &'static str,
        /// Its size, bytes.
        expected: usize,
        /// The number of bytes found.
        found: usize,
    },
    /// A byte stands for no value of the type.
    Value {
        /// The type.
        what: &'static str,
        /// The byte.
        found: u8,
    },
}

impl DecodeError {
    pub(super) const fn length<T>(what: &'static str, bytes: &[u8]) -> Self {
        Self::Length {
            what,
            expected: size_of::<T>(),
            found: bytes.len(),
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length {
                what,
                expected,
                found,
            } => write!(f, "a {what} has {expected} bytes, found {found}"),
            Self::Value { what, found } => write!(f, "no {what} has the number {found}"),
        }
    }
}

impl core::error::Error for DecodeError {}
