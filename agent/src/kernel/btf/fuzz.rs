//! The reader of the kernel's BTF.

use bolero::{TypeGenerator, check};

use super::Btf;
use crate::fuzz::{Edit, ITERATIONS, edited};

/// A type as BTF has them: whatever its kind, with a name and references that exist.
#[derive(Clone, Debug, TypeGenerator)]
struct Type {
    name: u8,
    kind: u8,
    flag: bool,
    size: u32,
    /// Read as members, parameters or values: name, type, offset.
    entries: Vec<(u8, u8, u32)>,
}

/// The names that types and members choose from; the first is none.
const NAMES: [&str; 5] = ["", "sock", "common", "port", "other"];

/// Enough for every kind that refers to others.
const MOST_TYPES: usize = 12;

#[test]
fn any_types_are_read_or_refused() {
    check!()
        .with_iterations(ITERATIONS)
        .with_type::<(Vec<Type>, Vec<Edit>)>()
        .for_each(|(types, edits)| {
            let types = types.get(..MOST_TYPES).unwrap_or(types);
            read(&edited(
                &assemble(types),
                edits.get(..1).unwrap_or_default(),
            ));
            read(&assemble(types));
        });
}

#[test]
fn any_bytes_are_read_or_refused() {
    check!().with_iterations(ITERATIONS).for_each(read);
}

fn read(data: &[u8]) {
    let Ok(btf) = Btf::parse(data) else { return };
    for structure in ["sock", "common"] {
        for path in ["port", "common.port", "common.other.port"] {
            let _ = btf.offset(structure, path, 2);
        }
    }
}

/// Well-formed BTF of these types, as far as lengths go.
fn assemble(types: &[Type]) -> Vec<u8> {
    let mut strings = Vec::new();
    let offsets: Vec<_> = NAMES
        .iter()
        .map(|name| {
            let at = u32::try_from(strings.len()).unwrap();
            strings.extend(name.bytes().chain([0]));
            at
        })
        .collect();
    let name = |index: u8| offsets[usize::from(index) % offsets.len()];
    let mut body = Vec::new();
    for of in types {
        let kind = u32::from(of.kind) % 20;
        let count = u32::try_from(of.entries.len()).unwrap();
        let info = u32::from(of.flag) << 31 | kind << 24 | count;
        // A type refers to one of the types, or to none (`void`).
        let id = |id: u8| u32::from(id) % u32::try_from(types.len() + 1).unwrap();
        let refers = matches!(kind, 2 | 8..=12 | 14 | 17 | 18);
        let size = if refers {
            id(of.size.to_ne_bytes()[0])
        } else {
            of.size
        };
        let mut words = vec![name(of.name), info, size];
        // What follows each kind: `btf_type` in `include/uapi/linux/btf.h`.
        match kind {
            1 | 14 | 17 => words.push(of.size),
            3 => words.extend([id(of.name), id(of.kind), of.size]),
            4 | 5 | 15 | 19 => words.extend(
                of.entries
                    .iter()
                    .flat_map(|(n, t, offset)| [name(*n), id(*t), *offset]),
            ),
            6 | 13 => words.extend(of.entries.iter().flat_map(|(n, t, _)| [name(*n), id(*t)])),
            _ => {}
        }
        body.extend(words.into_iter().flat_map(u32::to_ne_bytes));
    }
    let (types, names) = (
        u32::try_from(body.len()).unwrap(),
        u32::try_from(strings.len()).unwrap(),
    );
    let mut data = 0xeb9f_u16.to_ne_bytes().to_vec();
    data.extend([1, 0]);
    data.extend(
        [24, 0, types, types, names]
            .into_iter()
            .flat_map(u32::to_ne_bytes),
    );
    data.extend(body);
    data.extend(strings);
    data
}
