//! Maps of the kernel half: taking them over, and what their errors mean.

use std::io;

use aya::{
    Ebpf,
    maps::{Map, MapError},
};

use super::error::KernelError;

/// Takes the map of this name out of the loaded object.
pub(super) fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, KernelError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let found = ebpf.take_map(name).ok_or_else(|| KernelError::Map {
        map: name,
        source: MapError::InvalidName {
            name: name.to_owned(),
        },
    })?;
    T::try_from(found).map_err(failed(name))
}

/// The error of an access to the map of this name.
pub(super) fn failed(map: &'static str) -> impl Fn(MapError) -> KernelError {
    move |source| KernelError::Map { map, source }
}

/// The map has no such entry.
pub(super) fn not_found(error: &MapError) -> bool {
    kind(error) == Some(io::ErrorKind::NotFound)
        || matches!(error, MapError::KeyNotFound | MapError::ElementNotFound)
}

fn kind(error: &MapError) -> Option<io::ErrorKind> {
    if let MapError::SyscallError(error) = error {
        return Some(error.io_error.kind());
    }
    None
}
