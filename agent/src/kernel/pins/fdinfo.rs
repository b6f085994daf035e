//! What the kernel says of an open map, program or link in `/proc/self/fdinfo`. It takes no capability,
//! where asking by an id takes CAP_SYS_ADMIN.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// What a map must have in common with another one to stand in for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) kind: u64,
    pub(crate) key_size: u64,
    pub(crate) value_size: u64,
    pub(crate) max_entries: u64,
    pub(crate) flags: u64,
}

/// Of what kind an object is, with its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Map { id: u32, shape: Shape },
    Program { id: u32 },
    Link { program: u32 },
}

/// What the kernel says of `object`; `None` if it is none of these.
pub(crate) fn of(object: BorrowedFd<'_>) -> io::Result<Option<Object>> {
    let path = format!("/proc/self/fdinfo/{}", object.as_raw_fd());
    Ok(parse(&fs::read_to_string(path)?))
}

/// `bpf_map_show_fdinfo()`, `bpf_prog_show_fdinfo()` and `bpf_link_show_fdinfo()`, `kernel/bpf/syscall.c`.
fn parse(fdinfo: &str) -> Option<Object> {
    let value = |name: &str| {
        let mut lines = fdinfo.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let text = found.trim();
        match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    };
    let id = |name| value(name).and_then(|id| u32::try_from(id).ok());
    if let Some(map) = id("map_id") {
        return Some(Object::Map {
            id: map,
            shape: Shape {
                kind: value("map_type")?,
                key_size: value("key_size")?,
                value_size: value("value_size")?,
                max_entries: value("max_entries")?,
                flags: value("map_flags")?,
            },
        });
    }
    let program = id("prog_id")?;
    Some(if id("link_id").is_some() {
        Object::Link { program }
    } else {
        Object::Program { id: program }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_known_by_its_lines() {
        let map = "pos:\t0\nflags:\t02000002\nmnt_id:\t15\nmap_type:\t1\nkey_size:\t8\nvalue_size:\t176\n\
                   max_entries:\t384\nmap_flags:\t0x80\nmap_extra:\t0x0\nmemlock:\t4096\nmap_id:\t12\n\
                   frozen:\t0\n";
        let shape = Shape {
            kind: 1,
            key_size: 8,
            value_size: 176,
            max_entries: 384,
            flags: 0x80,
        };
        assert_eq!(parse(map), Some(Object::Map { id: 12, shape }));
        let program = "pos:\t0\nprog_type:\t26\nprog_jited:\t1\nprog_tag:\ta04f5eef06a7f555\n\
                       memlock:\t4096\nprog_id:\t7\nrecursion_misses:\t0\n";
        assert_eq!(parse(program), Some(Object::Program { id: 7 }));
        let link = "pos:\t0\nlink_type:\traw_tracepoint\nlink_id:\t3\nprog_tag:\ta04f5eef06a7f555\n\
                    prog_id:\t7\ntp_name:\tsys_enter\n";
        assert_eq!(parse(link), Some(Object::Link { program: 7 }));
    }

    #[test]
    fn anything_else_is_no_object() {
        assert_eq!(parse("pos:\t0\nflags:\t02\n"), None);
        assert_eq!(parse("map_id:\t5\nmap_type:\tmany\n"), None);
        assert_eq!(parse("map_id:\t-5\n"), None);
        assert_eq!(parse(""), None);
    }
}
