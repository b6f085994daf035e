//! BTF that is assembled type by type, BTF that is broken, and this kernel's.

use std::fs;

use super::*;

fn len<T>(slice: &[T]) -> u32 {
    u32::try_from(slice.len()).unwrap()
}

/// Assembles BTF, type by type.
#[derive(Default)]
struct Assembler {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Assembler {
    fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
        }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = len(&self.strings);
        self.strings.extend(text.bytes().chain([0]));
        at
    }

    fn words(mut self, words: &[u32]) -> Self {
        self.types
            .extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        self
    }

    fn int(mut self, name: &str, size: u32) -> Self {
        let name = self.string(name);
        self.words(&[name, INT << 24, size, size * 8])
    }

    fn modifier(self, kind: u32, id: u32) -> Self {
        self.words(&[0, kind << 24, id])
    }

    fn array(self, element: u32, length: u32) -> Self {
        self.words(&[0, ARRAY << 24, 0, element, 1, length])
    }

    /// Members as (name, type, bit offset); `flags` is the kind flag in bit 31.
    fn composite(
        mut self,
        kind: u32,
        name: &str,
        size: u32,
        flags: u32,
        members: &[(&str, u32, u32)],
    ) -> Self {
        let mut words = vec![self.string(name), flags | kind << 24 | len(members), size];
        for (name, id, bits) in members {
            words.extend([self.string(name), *id, *bits]);
        }
        self.words(&words)
    }

    fn build(self) -> Vec<u8> {
        let (types, strings) = (len(&self.types), len(&self.strings));
        self.finish(&[24, 0, types, types, strings], &[])
    }

    /// With a section that says how long types of each kind are.
    fn build_with(self, layout: &[u8]) -> Vec<u8> {
        let (types, strings) = (len(&self.types), len(&self.strings));
        let after = types + strings;
        self.finish(&[32, 0, types, types, strings, after, len(layout)], layout)
    }

    fn finish(self, header: &[u32], layout: &[u8]) -> Vec<u8> {
        let mut data = MAGIC.to_ne_bytes().to_vec();
        data.extend([1, 0]);
        data.extend(header.iter().flat_map(|word| word.to_ne_bytes()));
        data.extend(self.types);
        data.extend(self.strings);
        data.extend(layout);
        data
    }
}

/// A socket in small: nested, anonymous, qualified and bit-field members.
fn sample() -> Vec<u8> {
    Assembler::new()
        .int("u16", 2) // 1
        .int("u64", 8) // 2
        .composite(UNION, "", 8, 0, &[("port", 1, 0), ("word", 2, 0)]) // 3
        .modifier(CONST, 1) // 4
        .modifier(TYPEDEF, 4) // 5
        .composite(
            STRUCT,
            "common",
            24,
            0,
            &[("first", 2, 0), ("", 3, 64), ("q", 5, 128)],
        ) // 6
        .modifier(POINTER, 6) // 7
        .array(1, 3) // 8
        .composite(
            STRUCT,
            "sock",
            48,
            1 << 31,
            &[
                ("common", 6, 0),
                ("next", 7, 24 * 8),
                ("list", 8, 32 * 8),
                ("flag", 1, (1 << 24) | (40 * 8)),
            ],
        ) // 9
        .build()
}

#[test]
fn members_are_found_through_anonymous_unions_and_qualifiers() {
    let data = sample();
    let btf = Btf::parse(&data).unwrap();
    assert_eq!(btf.offset("sock", "common.port", 2), Ok(8));
    assert_eq!(btf.offset("sock", "common.word", 8), Ok(8));
    assert_eq!(btf.offset("sock", "common.q", 2), Ok(16));
    assert_eq!(btf.offset("sock", "next", 8), Ok(24));
    assert_eq!(btf.offset("sock", "list", 6), Ok(32));
}

#[test]
fn what_is_missing_or_resized_is_named() {
    let data = sample();
    let btf = Btf::parse(&data).unwrap();
    let text = |structure, path, width| btf.offset(structure, path, width).unwrap_err().to_string();
    assert_eq!(text("socket", "sk", 8), "no `struct socket`");
    assert_eq!(
        text("sock", "common.gone", 2),
        "no member `common.gone` in `struct sock`"
    );
    assert_eq!(
        text("sock", "common.port", 4),
        "`sock.common.port` is 2 bytes wide, not 4"
    );
    assert_eq!(text("sock", "flag", 2), "`sock.flag` is a bit field");
}

/// A type of a kind to come, with four bytes for each of its two entries, before a structure.
fn of_the_future() -> Assembler {
    Assembler::new()
        .words(&[0, (KIND_TO_COME << 24) | 2, 0, 1, 2])
        .int("u16", 2)
        .composite(STRUCT, "sock", 2, 0, &[("port", 2, 0)])
}

const KIND_TO_COME: u32 = 22;

#[test]
fn a_kind_that_is_not_known_is_named() {
    let data = of_the_future().build();
    let error = Btf::parse(&data).err().unwrap();
    assert_eq!(error, BtfError::UnknownKind(KIND_TO_COME));
}

#[test]
fn a_kind_that_is_not_known_is_passed_over_where_the_data_says_how_long_it_is() {
    let mut layout = vec![0; 4 * KIND_TO_COME as usize];
    layout.extend([0, 4, 0, 0]);
    let data = of_the_future().build_with(&layout);
    let btf = Btf::parse(&data).unwrap();
    assert_eq!(btf.offset("sock", "port", 2), Ok(0));
}

#[test]
fn nothing_cut_short_or_scrambled_makes_it_panic() {
    let data = sample();
    for length in 0..data.len() {
        if let Ok(btf) = Btf::parse(&data[..length]) {
            let _ = btf.offset("sock", "common.port", 2);
        }
    }
    for at in 0..data.len() {
        for value in [0, 0x7f, 0xff] {
            let mut scrambled = data.clone();
            scrambled[at] = value;
            if let Ok(btf) = Btf::parse(&scrambled) {
                let _ = btf.offset("sock", "common.port", 2);
            }
        }
    }
}

#[test]
fn a_type_that_refers_to_itself_ends() {
    let data = Assembler::new()
        .modifier(TYPEDEF, 1)
        .composite(STRUCT, "sock", 8, 0, &[("", 2, 0), ("x", 1, 0)])
        .build();
    let btf = Btf::parse(&data).unwrap();
    assert!(btf.offset("sock", "x", 8).is_err());
}

#[test]
fn offsets_that_add_up_to_too_much_are_refused() {
    let far = u32::MAX - 7;
    let data = Assembler::new()
        .int("u16", 2)
        .composite(UNION, "", 8, 0, &[("port", 1, far)])
        .composite(STRUCT, "sock", 8, 0, &[("", 2, far), ("in", 2, far)])
        .build();
    let btf = Btf::parse(&data).unwrap();
    for path in ["port", "in.port"] {
        let refused = btf.offset("sock", path, 2).unwrap_err();
        assert!(matches!(refused, BtfError::Malformed(_)), "{refused}");
    }
}

#[test]
fn a_type_that_holds_itself_twice_is_refused_soon() {
    let data = Assembler::new()
        .composite(STRUCT, "sock", 8, 0, &[("", 1, 0), ("", 1, 64)])
        .build();
    let btf = Btf::parse(&data).unwrap();
    assert!(btf.offset("sock", "port", 2).is_err());
}

#[test]
fn this_kernel_is_understood() {
    let data = fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with CONFIG_DEBUG_INFO_BTF=y");
    let btf = Btf::parse(&data).unwrap();
    let offsets = crate::kernel::offsets::resolve(&btf).unwrap();
    // Stable since `struct sock_common` has its present form (3.10).
    assert_eq!(offsets.sock_dport, 12);
    assert_eq!(offsets.sock_family, 16);
    assert_eq!(offsets.sock_state, 18);
    assert_eq!(offsets.sock_daddr, 0);
}
