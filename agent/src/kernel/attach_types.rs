//! The kernel's types, down to the few that are looked up by name.
//!
//! aya finds what a program attaches to by name among all types of the kernel, and keeps each of them
//! in memory for that: about 20 MB. All it takes is the number, so all other types are left nameless here.

use super::btf::{Btf, BtfError, FORWARD, FUNCTION, MAGIC, TYPEDEF};

/// A type that is looked up by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A function of the kernel.
    Function(String),
    /// A typedef, as a tracepoint has one.
    Typedef(String),
}

impl Named {
    fn is(&self, kind: u32, name: &[u8]) -> bool {
        match self {
            Self::Function(wanted) => kind == FUNCTION && wanted.as_bytes() == name,
            Self::Typedef(wanted) => kind == TYPEDEF && wanted.as_bytes() == name,
        }
    }
}

/// BTF in which the types `wanted`, as far as `btf` has them, have their names and their numbers, and
/// nothing else is but what keeps those numbers.
///
/// # Errors
///
/// Fails if the data contradicts itself.
pub(super) fn reduced(btf: &Btf<'_>, wanted: &[Named]) -> Result<Vec<u8>, BtfError> {
    let mut types = Vec::new();
    let mut strings = vec![0];
    let mut next = 1;
    for found in btf.types() {
        let (id, kind, name) = found?;
        if !wanted.iter().any(|named| named.is(kind, name)) {
            continue;
        }
        for _ in next..id {
            types.extend(NAMELESS);
        }
        next = id + 1;
        types.extend([length(&strings)?, kind << 24, 0]);
        strings.extend(name);
        strings.push(0);
    }
    let types: Vec<u8> = types.into_iter().flat_map(u32::to_ne_bytes).collect();

    let mut data = MAGIC.to_ne_bytes().to_vec();
    data.extend([VERSION, 0]);
    let (types_length, strings_length) = (length(&types)?, length(&strings)?);
    for word in [HEADER, 0, types_length, types_length, strings_length] {
        data.extend(word.to_ne_bytes());
    }
    data.extend(types);
    data.extend(strings);
    Ok(data)
}

fn length<T>(of: &[T]) -> Result<u32, BtfError> {
    u32::try_from(of.len()).map_err(|_| BtfError::Malformed(0))
}

/// A forward declaration is the shortest type: a name, what it is, and a third word.
const NAMELESS: [u32; 3] = [0, FORWARD << 24, 0];
const VERSION: u8 = 1;
/// Length of a header without later sections: `struct btf_header`, `include/uapi/linux/btf.h`.
const HEADER: u32 = 24;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::kernel::hooks::{HOOKS, Hook};

    fn id_of(btf: &Btf<'_>, named: &Named) -> Option<u32> {
        let mut types = btf.types().map(Result::unwrap);
        let found = types.find(|(_, kind, name)| named.is(*kind, name));
        found.map(|(id, _, _)| id)
    }

    #[test]
    fn what_is_left_of_this_kernel_has_each_hooks_target_under_its_own_number() {
        let data =
            fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with CONFIG_DEBUG_INFO_BTF=y");
        let whole = Btf::parse(&data).unwrap();
        let wanted: Vec<_> = HOOKS.iter().filter_map(Hook::type_name).collect();
        let reduced = reduced(&whole, &wanted).unwrap();
        assert!(reduced.len() < data.len() / 2, "{} bytes", reduced.len());
        let left = Btf::parse(&reduced).unwrap();
        for name in &wanted {
            assert_eq!(id_of(&left, name), id_of(&whole, name), "{name:?}");
        }
        // Each is on every supported kernel.
        let required = Named::Typedef("btf_trace_inet_sock_set_state".to_owned());
        assert!(wanted.contains(&required));
        assert!(id_of(&left, &required).is_some());
    }

    #[test]
    fn nothing_else_is_left_and_nothing_after_the_last() {
        let data =
            fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with CONFIG_DEBUG_INFO_BTF=y");
        let whole = Btf::parse(&data).unwrap();
        let wanted = Named::Typedef("btf_trace_tcp_destroy_sock".to_owned());
        let function = Named::Function("btf_trace_tcp_destroy_sock".to_owned());
        let data = reduced(&whole, &[wanted.clone(), function]).unwrap();
        let left = Btf::parse(&data).unwrap();
        let (last, kind, name) = left.types().last().unwrap().unwrap();
        assert!(wanted.is(kind, name));
        assert_eq!(Some(last), id_of(&whole, &wanted));
        let named = left.types().filter(|of| !of.as_ref().unwrap().2.is_empty());
        assert_eq!(named.count(), 1);
    }

    #[test]
    fn of_what_is_not_there_nothing_is_left() {
        let none = reduced(
            &Btf::parse(EMPTY).unwrap(),
            &[Named::Function("f".to_owned())],
        );
        assert_eq!(none.as_deref(), Ok(EMPTY));
    }

    /// No types, and the one string that there always is.
    #[cfg(target_endian = "little")]
    const EMPTY: &[u8] = &[
        0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0,
    ];
}
