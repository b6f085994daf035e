//! Prototypes of the running kernel's functions and tracepoints, from its BTF, as C writes them.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>. Qualifiers are left out: they do not change what
//! a program may read.

use anyhow::{Context as _, Result, ensure};

/// The functions and types of BTF data, native byte order.
#[derive(Debug)]
pub struct Prototypes<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// The position of each type in `types`; ids count from 1.
    starts: Vec<usize>,
}

impl<'a> Prototypes<'a> {
    /// Indexes `data`, as in `/sys/kernel/btf/vmlinux`.
    pub fn of(data: &'a [u8]) -> Result<Self> {
        ensure!(word16(data, 0)? == MAGIC, "not BTF");
        let header = word(data, 4)?;
        let section = |at: usize| -> Result<&'a [u8]> {
            let begin = header + word(data, at)?;
            let end = begin + word(data, at + 4)?;
            data.get(begin..end).context("BTF is cut short")
        };
        let (types, strings) = (section(8)?, section(16)?);
        // Newer kernels include the length of types of each kind.
        let layout = if header >= 32 { section(24)? } else { &[] };
        let (mut starts, mut at) = (Vec::new(), 0);
        while at < types.len() {
            starts.push(at);
            at += 12 + trailer(word(types, at + 4)?, layout)?;
        }
        Ok(Self {
            types,
            strings,
            starts,
        })
    }

    /// The arguments of a function of the kernel: `["struct socket *", "int"]`; `None` if there is no
    /// such function.
    pub fn function(&self, name: &str) -> Result<Option<Vec<String>>> {
        let Some(at) = self.find(FUNCTION, name)? else {
            return Ok(None);
        };
        self.arguments(word(self.types, at + 8)?).map(Some)
    }

    /// The arguments of a tracepoint, without the first one, which programs do not get.
    pub fn tracepoint(&self, name: &str) -> Result<Option<Vec<String>>> {
        let Some(at) = self.find(TYPEDEF, &format!("btf_trace_{name}"))? else {
            return Ok(None);
        };
        let pointer = self.at(word(self.types, at + 8)?)?;
        let mut arguments = self.arguments(word(self.types, pointer + 8)?)?;
        ensure!(
            !arguments.is_empty(),
            "the tracepoint {name} has no arguments"
        );
        arguments.remove(0);
        Ok(Some(arguments))
    }

    fn find(&self, wanted: usize, name: &str) -> Result<Option<usize>> {
        for at in &self.starts {
            if kind(word(self.types, at + 4)?) == wanted && self.name(*at)? == name {
                return Ok(Some(*at));
            }
        }
        Ok(None)
    }

    fn arguments(&self, prototype: usize) -> Result<Vec<String>> {
        let at = self.at(prototype)?;
        let info = word(self.types, at + 4)?;
        ensure!(kind(info) == PROTOTYPE, "not a prototype: type {prototype}");
        let each = (0..entries(info)).map(|index| {
            let argument = word(self.types, at + 12 + index * 8 + 4)?;
            self.written(argument)
        });
        each.collect()
    }

    /// A type as C writes it.
    fn written(&self, id: usize) -> Result<String> {
        if id == 0 {
            return Ok("void".to_owned());
        }
        let at = self.at(id)?;
        let (info, inner) = (word(self.types, at + 4)?, word(self.types, at + 8)?);
        let name = self.name(at)?;
        Ok(match kind(info) {
            POINTER => match self.written(inner)? {
                pointer if pointer.ends_with('*') => format!("{pointer}*"),
                other => format!("{other} *"),
            },
            VOLATILE | CONST | RESTRICT | TYPE_TAG => self.written(inner)?,
            STRUCT => format!("struct {name}"),
            UNION => format!("union {name}"),
            // Its flag tells a union's from a structure's.
            FORWARD if info >> 31 == 1 => format!("union {name}"),
            FORWARD => format!("struct {name}"),
            ENUM | ENUM64 => format!("enum {name}"),
            PROTOTYPE => "function".to_owned(),
            _ => name,
        })
    }

    fn at(&self, id: usize) -> Result<usize> {
        let start = id.checked_sub(1).and_then(|index| self.starts.get(index));
        start.copied().with_context(|| format!("no type {id}"))
    }

    fn name(&self, at: usize) -> Result<String> {
        let tail = self.strings.get(word(self.types, at)?..);
        let tail = tail.context("a name is outside of BTF's strings")?;
        let name = tail.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(name).into_owned())
    }
}

/// Bytes after the 12 that each type begins with.
fn trailer(info: usize, layout: &[u8]) -> Result<usize> {
    let entries = entries(info);
    Ok(match kind(info) {
        POINTER | FORWARD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNCTION | FLOAT | TYPE_TAG => {
            0
        }
        INT | VARIABLE | DECL_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | SECTION | ENUM64 => 12 * entries,
        ENUM | PROTOTYPE => 8 * entries,
        other => {
            let known = layout.get(other * 4..).and_then(<[u8]>::first_chunk);
            let [once, each, _, _]: [u8; 4] =
                *known.with_context(|| format!("a BTF type of kind {other}"))?;
            usize::from(once) + usize::from(each) * entries
        }
    })
}

/// How many members, values or parameters a type has.
const fn entries(info: usize) -> usize {
    info & 0x00ff_ffff
}

const fn kind(info: usize) -> usize {
    (info >> 24) & 0x7f
}

fn word(data: &[u8], at: usize) -> Result<usize> {
    let bytes = data.get(at..).and_then(<[u8]>::first_chunk);
    let bytes = bytes.context("BTF is cut short")?;
    Ok(u32::from_ne_bytes(*bytes) as usize)
}

fn word16(data: &[u8], at: usize) -> Result<u16> {
    let bytes = data.get(at..).and_then(<[u8]>::first_chunk);
    Ok(u16::from_ne_bytes(*bytes.context("BTF is cut short")?))
}

const MAGIC: u16 = 0xeb9f;

// `include/uapi/linux/btf.h`.
const INT: usize = 1;
const POINTER: usize = 2;
const ARRAY: usize = 3;
const STRUCT: usize = 4;
const UNION: usize = 5;
const ENUM: usize = 6;
const FORWARD: usize = 7;
const TYPEDEF: usize = 8;
const VOLATILE: usize = 9;
const CONST: usize = 10;
const RESTRICT: usize = 11;
const FUNCTION: usize = 12;
const PROTOTYPE: usize = 13;
const VARIABLE: usize = 14;
const SECTION: usize = 15;
const FLOAT: usize = 16;
const DECL_TAG: usize = 17;
const TYPE_TAG: usize = 18;
const ENUM64: usize = 19;

#[cfg(test)]
mod tests {
    use super::*;

    /// BTF of these types, each its words, and strings.
    fn btf(types: &[&[u32]], strings: &[u8]) -> Vec<u8> {
        let types: Vec<u8> = types
            .iter()
            .flat_map(|words| words.iter().flat_map(|word| word.to_ne_bytes()))
            .collect();
        let mut data = MAGIC.to_ne_bytes().to_vec();
        data.extend([1, 0]);
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        for word in [24, 0, length(&types), length(&types), length(strings)] {
            data.extend(word.to_ne_bytes());
        }
        data.extend(types);
        data.extend(strings);
        data
    }

    fn info(kind: usize, entries: u32) -> u32 {
        u32::try_from(kind).unwrap() << 24 | entries
    }

    #[test]
    fn prototypes_are_written_as_in_c() {
        // Strings: 1 int, 5 sock, 10 connect, 18 btf_trace_gone.
        let strings = b"\0int\0sock\0connect\0btf_trace_gone\0";
        let types: &[&[u32]] = &[
            &[1, info(INT, 0), 4, 32],
            &[5, info(STRUCT, 0), 0],
            &[0, info(CONST, 0), 2],
            &[0, info(POINTER, 0), 3],
            // connect(const struct sock *, int): the words are a name and a type for each.
            &[0, info(PROTOTYPE, 2), 1, 0, 4, 0, 1],
            &[10, info(FUNCTION, 0), 5],
            // (void *, const struct sock *)
            &[0, info(POINTER, 0), 0],
            &[0, info(PROTOTYPE, 2), 0, 0, 7, 0, 4],
            &[0, info(POINTER, 0), 8],
            &[18, info(TYPEDEF, 0), 9],
        ];
        let data = btf(types, strings);
        let prototypes = Prototypes::of(&data).unwrap();
        let connect = prototypes.function("connect").unwrap().unwrap();
        assert_eq!(connect, ["struct sock *", "int"]);
        let gone = prototypes.tracepoint("gone").unwrap().unwrap();
        assert_eq!(gone, ["struct sock *"]);
        assert_eq!(prototypes.function("gone").unwrap(), None);
        assert_eq!(prototypes.tracepoint("connect").unwrap(), None);
    }

    #[test]
    fn what_is_no_btf_is_refused() {
        assert!(Prototypes::of(b"").is_err());
        assert!(Prototypes::of(b"\x7fELF____").is_err());
        let mut data = btf(&[&[1, info(INT, 0), 4, 32]], b"\0int\0");
        data.truncate(30);
        assert!(Prototypes::of(&data).is_err());
    }
}
