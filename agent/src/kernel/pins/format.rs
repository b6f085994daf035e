//! The name of all that must be the same for one agent to go on with what another one has attached.

use std::fmt;

/// Names the kernel half to the byte: its programs and maps, and what they were told before they were
/// loaded. Whatever differs, be it the peer's port, gives another name, and so another directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format(String);

impl Format {
    /// Of this object, loaded with these constants.
    pub(crate) fn of(object: &[u8], constants: &impl fmt::Debug) -> Self {
        let mut hash = Fnv::new();
        hash.add(object);
        hash.add(format!("{constants:?}").as_bytes());
        Self(format!("{LAYOUT}-{:032x}", hash.0))
    }

    /// Whether a directory of this name can only be an agent's, of whatever version.
    pub(crate) fn is_one(name: &str) -> bool {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let Some((layout, hash)) = name.split_once('-') else {
            return false;
        };
        let version = layout.strip_prefix('v').unwrap_or_default();
        !version.is_empty()
            && version.bytes().all(|byte| byte.is_ascii_digit())
            && hash.len() == 32
            && hash.bytes().all(hex)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// FNV-1a of 128 bits: nobody who could choose its input may write to the directory.
/// <http://www.isthe.com/chongo/tech/comp/fnv/>
struct Fnv(u128);

impl Fnv {
    const fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u128::from(*byte);
            self.0 = self
                .0
                .wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}

/// How the pins lie in their directory, and what userspace notes in the maps. Raise it with either.
const LAYOUT: &str = "v1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_differs_gives_another_name() {
        let one = Format::of(b"object", &(8080, "fexit"));
        assert_eq!(one, Format::of(b"object", &(8080, "fexit")));
        assert_ne!(one, Format::of(b"object", &(8081, "fexit")));
        assert_ne!(one, Format::of(b"objecu", &(8080, "fexit")));
        assert!(Format::is_one(one.as_str()), "{one:?}");
    }

    #[test]
    fn the_hash_is_the_published_one() {
        let mut hash = Fnv::new();
        hash.add(b"foobar");
        assert_eq!(hash.0, 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }

    #[test]
    fn a_directory_of_another_name_is_nobodys() {
        let hash = "0123456789abcdef0123456789abcdef";
        assert!(Format::is_one(&format!("v12-{hash}")));
        for name in [
            "new".to_owned(),
            "v1".to_owned(),
            format!("v-{hash}"),
            format!("vx-{hash}"),
            format!("1-{hash}"),
            format!("v1-{hash}0"),
            format!("v1-{}", hash.to_uppercase()),
        ] {
            assert!(!Format::is_one(&name), "{name}");
        }
    }
}
