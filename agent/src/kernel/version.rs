//! Versions of Linux, to compare.

use std::fmt;

/// A version of Linux: what `since` means for a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    major: u16,
    minor: u16,
}

impl KernelVersion {
    /// The oldest kernel that statlink runs on: the first with a ring buffer (5.8) that is also a
    /// long-term one, and the oldest that is tested.
    pub const OLDEST: Self = Self::new(5, 10);

    /// The running kernel's; `None` if its release does not begin with one.
    pub fn running() -> Option<Self> {
        Self::of(&rustix::system::uname().release().to_string_lossy())
    }

    /// `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// The version that `uname -r` begins with.
    pub fn of(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next()?.parse().ok();
        Some(Self::new(next()?, next()?))
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::KernelVersion;

    #[test]
    fn versions_compare_by_number() {
        assert!(KernelVersion::new(5, 9) < KernelVersion::OLDEST);
        assert!(KernelVersion::new(5, 11) > KernelVersion::OLDEST);
        assert_eq!(KernelVersion::OLDEST.to_string(), "5.10");
    }

    #[test]
    fn a_release_begins_with_its_version() {
        let of = KernelVersion::of;
        assert_eq!(of("5.10.0-46-cloud-amd64"), Some(KernelVersion::OLDEST));
        assert_eq!(of("6.18.44-fc-v657"), Some(KernelVersion::new(6, 18)));
        assert_eq!(of("7.2-rc1"), Some(KernelVersion::new(7, 2)));
        assert_eq!(of("unknown"), None);
    }
}
