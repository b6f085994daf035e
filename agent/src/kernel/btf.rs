//! Where the running kernel keeps a member: a reader of just as much BTF as that takes.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>. aya's own reader hides members, and the crates
//! that show them take twenty times as long. Inputs are distrusted: every access is checked.

use thiserror::Error;

/// Why a member could not be found.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    /// The data is not BTF, or is cut short.
    #[error("not BTF, or cut short, at byte {0}")]
    Malformed(usize),
    /// A type of a kind that this version does not know, in data that does not say how long it is.
    #[error("a BTF type of kind {0}, which this version of statlink does not know")]
    UnknownKind(u32),
    /// There is no such structure.
    #[error("no `struct {0}`")]
    NoStruct(String),
    /// The structure has no such member.
    #[error("no member `{member}` in `struct {structure}`")]
    NoMember {
        /// The structure's name.
        structure: String,
        /// The member's path.
        member: String,
    },
    /// The member is part of a word, which the programs cannot read.
    #[error("`{structure}.{member}` is a bit field")]
    BitField {
        /// The structure's name.
        structure: String,
        /// The member's path.
        member: String,
    },
    /// The member is not as wide as the programs read it.
    #[error("`{structure}.{member}` is {found} bytes wide, not {expected}")]
    Width {
        /// The structure's name.
        structure: String,
        /// The member's path.
        member: String,
        /// Bytes the programs read.
        expected: u32,
        /// Bytes it has.
        found: u32,
    },
}

/// A parsed view of BTF data.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where in `types` each type begins; type ids count from 1.
    starts: Vec<u32>,
}

impl<'a> Btf<'a> {
    /// Indexes `data`, as in `/sys/kernel/btf/vmlinux`, native byte order.
    ///
    /// # Errors
    ///
    /// Fails if `data` is not BTF, or cut short.
    pub fn parse(data: &'a [u8]) -> Result<Self, BtfError> {
        if word16(data, 0)? != MAGIC {
            return Err(BtfError::Malformed(0));
        }
        let header = usize_at(data, 4)?;
        let section = |at: usize| -> Result<&'a [u8], BtfError> {
            let begin = header.saturating_add(usize_at(data, at)?);
            let end = begin.saturating_add(usize_at(data, at + 4)?);
            data.get(begin..end).ok_or(BtfError::Malformed(at))
        };
        let (types, strings) = (section(8)?, section(16)?);
        // A longer header has more sections, and one that says how long types of each kind are.
        let layout = if header >= LAYOUT_HEADER {
            section(24)?
        } else {
            &[]
        };
        let mut starts = Vec::new();
        let mut at = 0;
        while at < types.len() {
            starts.push(u32::try_from(at).map_err(|_| BtfError::Malformed(at))?);
            let info = word(types, at + 4)?;
            let trailer = trailer(info).or_else(|| trailer_by(layout, info));
            at += 12 + trailer.ok_or(BtfError::UnknownKind(kind(info)))?;
        }
        Ok(Self {
            types,
            strings,
            starts,
        })
    }

    /// The byte offset of `path` (members joined by dots) in `struct structure`, if the member is
    /// `width` bytes wide.
    ///
    /// # Errors
    ///
    /// Fails if there is no such member, it has another width, or the data contradicts itself.
    pub fn offset(&self, structure: &str, path: &str, width: u32) -> Result<u32, BtfError> {
        let mut id = self.structure(structure)?;
        let mut bits = 0_u32;
        let mut unnamed = MAX_UNNAMED;
        for segment in path.split('.') {
            let (member, at) =
                self.member(id, segment, 0, &mut unnamed)?
                    .ok_or_else(|| BtfError::NoMember {
                        structure: structure.to_owned(),
                        member: path.to_owned(),
                    })?;
            id = member;
            bits = sum(bits, at, id)?;
        }
        if !bits.is_multiple_of(8) {
            return Err(BtfError::BitField {
                structure: structure.to_owned(),
                member: path.to_owned(),
            });
        }
        let found = self.size(id, 0)?;
        if found != width {
            return Err(BtfError::Width {
                structure: structure.to_owned(),
                member: path.to_owned(),
                expected: width,
                found,
            });
        }
        Ok(bits / 8)
    }

    /// Every type's number, kind and name, by number.
    pub(super) fn types(&self) -> impl Iterator<Item = Result<(u32, u32, &'a [u8]), BtfError>> {
        self.starts.iter().zip(1..).map(|(start, id)| {
            let at = *start as usize;
            let kind = kind(word(self.types, at + 4)?);
            Ok((id, kind, self.name(word(self.types, at)?)))
        })
    }

    fn structure(&self, name: &str) -> Result<u32, BtfError> {
        for (index, start) in self.starts.iter().enumerate() {
            let at = *start as usize;
            if kind(word(self.types, at + 4)?) == STRUCT
                && self.name(word(self.types, at)?) == name.as_bytes()
            {
                return u32::try_from(index + 1).map_err(|_| BtfError::Malformed(at));
            }
        }
        Err(BtfError::NoStruct(name.to_owned()))
    }

    /// The type and bit offset of a member, anonymous structures and unions looked through.
    fn member(
        &self,
        id: u32,
        name: &str,
        depth: u8,
        unnamed: &mut u16,
    ) -> Result<Option<(u32, u32)>, BtfError> {
        let (id, at) = self.resolve(id, depth)?;
        let info = word(self.types, at + 4)?;
        if !matches!(kind(info), STRUCT | UNION) || depth > MAX_DEPTH {
            return Err(BtfError::Malformed(id as usize));
        }
        for index in 0..entries(info) {
            let entry = at + 12 + index * 12;
            let member_name = self.name(word(self.types, entry)?);
            let member_type = word(self.types, entry + 4)?;
            let offset = word(self.types, entry + 8)?;
            // With the kind flag, the upper byte is the width of a bit field: never what the
            // programs read. An odd offset makes `offset` refuse it.
            let bits = match (info >> 31, offset >> 24) {
                (0, _) => offset,
                (_, 0) => offset & 0x00ff_ffff,
                (_, _) => (offset & 0x00ff_ffff) | 1,
            };
            if member_name == name.as_bytes() {
                return Ok(Some((member_type, bits)));
            }
            if member_name.is_empty()
                && let Some((inner, more)) = self.anonymous(member_type, name, depth, unnamed)?
            {
                return Ok(Some((inner, sum(bits, more, member_type)?)));
            }
        }
        Ok(None)
    }

    /// Looks `name` up in an anonymous member; `None` also if that is an unnamed bit field.
    fn anonymous(
        &self,
        id: u32,
        name: &str,
        depth: u8,
        unnamed: &mut u16,
    ) -> Result<Option<(u32, u32)>, BtfError> {
        *unnamed = unnamed
            .checked_sub(1)
            .ok_or(BtfError::Malformed(id as usize))?;
        let (_, at) = self.resolve(id, depth)?;
        match kind(word(self.types, at + 4)?) {
            STRUCT | UNION => self.member(id, name, depth + 1, unnamed),
            _ => Ok(None),
        }
    }

    /// Bytes that a value of a type takes.
    fn size(&self, id: u32, depth: u8) -> Result<u32, BtfError> {
        let (id, at) = self.resolve(id, depth)?;
        match kind(word(self.types, at + 4)?) {
            INT | STRUCT | UNION | ENUM | ENUM64 => word(self.types, at + 8),
            POINTER => Ok(8),
            ARRAY if depth < MAX_DEPTH => {
                let element = self.size(word(self.types, at + 12)?, depth + 1)?;
                Ok(element.saturating_mul(word(self.types, at + 20)?))
            }
            _ => Err(BtfError::Malformed(id as usize)),
        }
    }

    /// Skips typedefs and qualifiers; the type's id and where it begins.
    fn resolve(&self, mut id: u32, depth: u8) -> Result<(u32, usize), BtfError> {
        for _ in depth..=MAX_DEPTH {
            let at = id
                .checked_sub(1)
                .and_then(|index| self.starts.get(index as usize))
                .map(|start| *start as usize)
                .ok_or(BtfError::Malformed(id as usize))?;
            match kind(word(self.types, at + 4)?) {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => id = word(self.types, at + 8)?,
                _ => return Ok((id, at)),
            }
        }
        Err(BtfError::Malformed(id as usize))
    }

    fn name(&self, offset: u32) -> &'a [u8] {
        let tail = self.strings.get(offset as usize..).unwrap_or_default();
        tail.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

/// Bytes that follow the 12-byte head of a type; `None` for a kind that is not known.
fn trailer(info: u32) -> Option<usize> {
    let entries = entries(info);
    Some(match kind(info) {
        POINTER | FORWARD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNCTION | FLOAT | TYPE_TAG => {
            0
        }
        INT | VARIABLE | DECL_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | DATA_SECTION | ENUM64 => 12 * entries,
        ENUM | FUNCTION_PROTO => 8 * entries,
        _ => return None,
    })
}

/// The same by what the data says of its own kinds: an array of `struct btf_layout { u8 info_sz; u8
/// elem_sz; u16 flags; }` by kind, as newer kernels have it.
fn trailer_by(layout: &[u8], info: u32) -> Option<usize> {
    let at = (kind(info) as usize).checked_mul(4)?;
    let [once, each, _, _]: [u8; 4] = *layout.get(at..)?.first_chunk()?;
    usize::from(each)
        .checked_mul(entries(info))?
        .checked_add(usize::from(once))
}

/// How many members, values or parameters a type has. Older kernels use 16 of these bits, and the others
/// are zero.
const fn entries(info: u32) -> usize {
    (info & 0x00ff_ffff) as usize
}

/// Bits from the beginning of a structure; data of any kind may claim more than there can be.
fn sum(bits: u32, more: u32, id: u32) -> Result<u32, BtfError> {
    bits.checked_add(more)
        .ok_or(BtfError::Malformed(id as usize))
}

/// Older kernels use 5 of these bits, and the others are zero.
const fn kind(info: u32) -> u32 {
    (info >> 24) & 0x7f
}

fn word(data: &[u8], at: usize) -> Result<u32, BtfError> {
    data.get(at..)
        .and_then(<[u8]>::first_chunk)
        .map(|bytes| u32::from_ne_bytes(*bytes))
        .ok_or(BtfError::Malformed(at))
}

fn word16(data: &[u8], at: usize) -> Result<u16, BtfError> {
    data.get(at..)
        .and_then(<[u8]>::first_chunk)
        .map(|bytes| u16::from_ne_bytes(*bytes))
        .ok_or(BtfError::Malformed(at))
}

fn usize_at(data: &[u8], at: usize) -> Result<usize, BtfError> {
    word(data, at).map(|value| value as usize)
}

pub(super) const MAGIC: u16 = 0xeb9f;
/// Length of a header with the section of layouts.
const LAYOUT_HEADER: usize = 32;
/// Deeper than any kernel nests; a loop in the data ends here.
const MAX_DEPTH: u8 = 32;
/// Unnamed members that are looked into for one path. The kernel's socket has a dozen. Without a
/// bound, two in each structure that lead back to it are looked into 2^[`MAX_DEPTH`] times.
const MAX_UNNAMED: u16 = 1024;

// `include/uapi/linux/btf.h`.
const INT: u32 = 1;
const POINTER: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
pub(super) const FORWARD: u32 = 7;
pub(super) const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
pub(super) const FUNCTION: u32 = 12;
const FUNCTION_PROTO: u32 = 13;
const VARIABLE: u32 = 14;
const DATA_SECTION: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
