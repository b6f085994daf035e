//! Pinning what was attached anew, for a successor.

use std::io;

use aya::{pin::PinError, programs::links::PinnedLink, sys::SyscallError};

use super::{
    super::{
        hooks::HookError,
        load::{Constants, OBJECT, Types, Watch},
        loaded::Whole,
        pins::{
            directory::{LINK, MAP, PROGRAM, Pins, PinsError, failed},
            format::Format,
        },
        version::KernelVersion,
    },
    adopt::{data, half, pin_name},
};

/// What is left.
pub(super) struct Left {
    /// The id of its ring's map.
    pub(super) half: u32,
    /// Held until the agent ends, so that the hooks stay whatever becomes of the pins.
    pub(super) links: Vec<PinnedLink>,
    /// How many formats of other agents were removed.
    pub(super) removed: usize,
    /// The hooks that end with this process.
    pub(super) unpinned: Vec<&'static str>,
}

/// Pins every map, and the program and link of every hook that this kernel can pin. What others left is
/// removed when that is done.
pub(super) fn leave(
    watch: &Watch,
    types: &Types,
    whole: &mut Whole,
    owned: &Pins,
) -> Result<Left, PinsError> {
    let format = Format::of(OBJECT, &Constants::of(watch, types, whole.connect.way));
    let new = owned.begin()?;
    let half = half(&whole.ebpf).ok_or_else(|| {
        let unnamed = io::Error::other("the kernel does not say the id of the ring's map");
        failed("name", &new)(unnamed)
    })?;
    for (name, map) in whole.ebpf.maps() {
        let path = new.join(format!("{MAP}{}", pin_name(name)));
        let map = data(map).ok_or_else(|| {
            failed("pin", &path)(io::Error::other("this agent pins no maps of its kind"))
        })?;
        map.pin(&path)
            .map_err(|error| failed("pin", &path)(into_io(error)))?;
    }
    let running = KernelVersion::running();
    let mut links = Vec::new();
    let mut unpinned = Vec::new();
    for (hook, attachment) in std::mem::take(&mut whole.attachments) {
        if !hook.can_be_pinned(running) {
            unpinned.push(hook.name);
            continue;
        }
        let path = new.join(format!("{PROGRAM}{}", hook.name));
        let program = whole.ebpf.program_mut(hook.name);
        let program = program
            .ok_or_else(|| failed("pin", &path)(io::Error::other(HookError::NotInObject)))?;
        program
            .pin(&path)
            .map_err(|error| failed("pin", &path)(into_io(error)))?;
        let path = new.join(format!("{LINK}{}", hook.name));
        let link = hook.take_link(&mut whole.ebpf, attachment);
        let link = link.map_err(|error| failed("pin", &path)(io::Error::other(error)))?;
        let link = link
            .pin(&path)
            .map_err(|error| failed("pin", &path)(into_io(error)))?;
        links.push(link);
    }
    Ok(Left {
        half,
        removed: owned.complete(&format)?,
        links,
        unpinned,
    })
}

fn into_io(error: PinError) -> io::Error {
    match error {
        PinError::SyscallError(SyscallError { io_error, .. }) => io_error,
        PinError::NoFd { .. } | PinError::InvalidPinPath { .. } => io::Error::other(error),
    }
}
