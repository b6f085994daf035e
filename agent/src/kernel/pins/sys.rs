//! The two calls of bpf() that aya has no way to make without CAP_SYS_ADMIN.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// What the kernel knows of a program.
pub(crate) struct Program {
    /// At most 15 bytes of its name.
    pub(crate) name: Vec<u8>,
    /// The ids of the maps that it uses.
    pub(crate) maps: Vec<u32>,
}

/// Opens what is pinned at `path`, of whatever kind.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    /// The part of `union bpf_attr` for BPF_OBJ_GET.
    #[repr(C)]
    struct Get {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut get = Get {
        pathname: path.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    let fd = bpf(BPF_OBJ_GET, &mut get)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Asks for the name of a program and for its maps.
pub(crate) fn program(program: BorrowedFd<'_>) -> io::Result<Program> {
    let mut maps = [0_u32; MOST_MAPS as usize];
    let mut info = Info {
        nr_map_ids: MOST_MAPS,
        map_ids: maps.as_mut_ptr() as u64,
        ..Info::default()
    };
    /// The part of `union bpf_attr` for BPF_OBJ_GET_INFO_BY_FD.
    #[repr(C)]
    struct Ask {
        bpf_fd: i32,
        info_len: u32,
        info: u64,
    }
    let mut ask = Ask {
        bpf_fd: program.as_raw_fd(),
        info_len: u32::try_from(size_of::<Info>()).map_err(io::Error::other)?,
        info: (&raw mut info) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut ask)?;
    let used = info.nr_map_ids as usize;
    let maps = maps.get(..used).ok_or_else(|| {
        io::Error::other(format!(
            "it uses {used} maps, more than any of this agent's"
        ))
    })?;
    let name = info.name.iter().copied().take_while(|byte| *byte != 0);
    Ok(Program {
        name: name.collect(),
        maps: maps.to_vec(),
    })
}

/// The beginning of `struct bpf_prog_info`: the kernel fills in as much as is asked for.
#[derive(Default)]
#[repr(C)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    xlated_len: u32,
    jited: u64,
    xlated: u64,
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
}

const _: () = {
    assert!(core::mem::offset_of!(Info, nr_map_ids) == 52);
    assert!(core::mem::offset_of!(Info, name) == 64);
};

fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is the beginning of `union bpf_attr` as the command reads it, with its size; the
    // kernel takes what is beyond for zeroes.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// `enum bpf_cmd`, `include/uapi/linux/bpf.h`.
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// The kernel half has half as many.
const MOST_MAPS: u32 = 32;
