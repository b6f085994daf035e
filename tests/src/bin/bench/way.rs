//! The shortest path through a kernel program, counted in instructions: its cost for an unrelated
//! event, as far as that can be known without a clock.
//!
//! If a helper can fail, that path may be shorter than any event's.

use std::{collections::VecDeque, os::fd::AsRawFd as _};

use anyhow::{Context as _, Result, ensure};
use aya::programs::ProgramInfo;

/// The fewest instructions from a program's start to its end, as the kernel runs it, without the
/// code that the verifier found dead. Instructions inside of helpers and functions are not counted.
pub(crate) fn shortest(program: &ProgramInfo) -> Result<usize> {
    let instructions = translated(program)?;
    steps_to_exit(&instructions).context("no way leads to its end")
}

/// `struct bpf_insn`, `include/uapi/linux/bpf.h`.
const BYTES: usize = 8;

/// Breadth first: the first exit found is the nearest.
fn steps_to_exit(program: &[u8]) -> Option<usize> {
    let instructions: Vec<&[u8]> = program.chunks_exact(BYTES).collect();
    let mut seen = vec![false; instructions.len()];
    let mut next = VecDeque::from([(0, 1)]);
    while let Some((at, steps)) = next.pop_front() {
        let Some(&[code, _, low, high, i0, i1, i2, i3]) = instructions.get(at) else {
            continue;
        };
        if std::mem::replace(seen.get_mut(at)?, true) {
            continue;
        }
        let jump = |by: i64| {
            let to = i64::try_from(at).ok()? + 1 + by;
            usize::try_from(to).ok()
        };
        let offset = i64::from(i16::from_le_bytes([*low, *high]));
        let immediate = i64::from(i32::from_le_bytes([*i0, *i1, *i2, *i3]));
        let mut go = |to: Option<usize>| next.extend(to.map(|to| (to, steps + 1)));
        match (code & CLASS, code & OPERATION) {
            (JMP, EXIT) => return Some(steps),
            (JMP, ALWAYS) => go(jump(offset)),
            // The long form, since 6.6.
            (JMP32, ALWAYS) => go(jump(immediate)),
            (JMP, CALL) => go(jump(0)),
            (JMP | JMP32, _) => {
                go(jump(0));
                go(jump(offset));
            }
            // The one instruction of two slots.
            _ if *code == LOAD_64 => go(jump(1)),
            _ => go(jump(0)),
        }
    }
    None
}

/// The kernel's translation of a program.
fn translated(program: &ProgramInfo) -> Result<Vec<u8>> {
    let length = program.size_translated().context("its size is not told")?;
    let mut instructions = vec![0; usize::try_from(length)?];
    let descriptor = program.fd()?;
    let mut info = Info {
        translated_length: length,
        translated: instructions.as_mut_ptr() as u64,
        ..Info::default()
    };
    let mut request = Request {
        descriptor: u32::try_from(std::os::fd::AsFd::as_fd(&descriptor).as_raw_fd())?,
        length: u32::try_from(size_of::<Info>())?,
        info: (&raw mut info) as u64,
    };
    // SAFETY: both structures begin like the kernel's, and the lengths passed are their own. The
    // kernel writes no more instructions than there is room for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            OBJ_GET_INFO_BY_FD,
            &raw mut request,
            size_of::<Request>(),
        )
    };
    ensure!(result == 0, std::io::Error::last_os_error());
    ensure!(
        info.translated != 0,
        "the kernel shows no instructions to this process"
    );
    Ok(instructions)
}

/// The beginning of `struct bpf_prog_info`, of which a prefix may be passed.
#[derive(Default)]
#[repr(C)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    compiled_length: u32,
    translated_length: u32,
    compiled: u64,
    translated: u64,
}

/// `union bpf_attr` of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct Request {
    descriptor: u32,
    length: u32,
    info: u64,
}

/// `enum bpf_cmd`.
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
/// Parts of an instruction's code, `include/uapi/linux/bpf_common.h` and `bpf.h`.
const CLASS: u8 = 0x07;
const OPERATION: u8 = 0xf0;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const ALWAYS: u8 = 0x00;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
const LOAD_64: u8 = 0x18;

#[cfg(test)]
mod tests {
    use super::*;

    /// An instruction with this code, offset and immediate.
    fn i(code: u8, offset: i16, immediate: i32) -> [u8; BYTES] {
        let [low, high] = offset.to_le_bytes();
        let [i0, i1, i2, i3] = immediate.to_le_bytes();
        [code, 0, low, high, i0, i1, i2, i3]
    }

    const MOVE: u8 = 0xb7;
    const IF_EQUAL: u8 = 0x15;
    const LEAVE: u8 = JMP | EXIT;

    #[test]
    fn a_straight_program_takes_all_its_instructions() {
        let program = [i(MOVE, 0, 0), i(JMP | CALL, 0, 14), i(LEAVE, 0, 0)].concat();
        assert_eq!(steps_to_exit(&program), Some(3));
    }

    #[test]
    fn the_shorter_branch_is_the_way() {
        let program = [
            i(IF_EQUAL, 4, 0),
            i(MOVE, 0, 0),
            i(MOVE, 0, 0),
            i(MOVE, 0, 0),
            i(LEAVE, 0, 0),
            i(MOVE, 0, 0),
            i(LEAVE, 0, 0),
        ];
        assert_eq!(steps_to_exit(&program.concat()), Some(3));
    }

    #[test]
    fn a_load_of_64_bits_is_one_instruction() {
        let program = [i(LOAD_64, 0, 1), i(0, 0, 1), i(LEAVE, 0, 0)].concat();
        assert_eq!(steps_to_exit(&program), Some(2));
    }

    #[test]
    fn jumps_lead_back_and_far() {
        let program = [
            i(JMP | ALWAYS, 2, 0),
            i(MOVE, 0, 0),
            i(LEAVE, 0, 0),
            i(JMP32 | ALWAYS, 0, -3),
        ];
        // Past the last one, back to the second, on to the third.
        assert_eq!(steps_to_exit(&program.concat()), Some(4));
    }

    #[test]
    fn a_program_without_an_end_has_no_way_to_it() {
        assert_eq!(steps_to_exit(&i(JMP | ALWAYS, -1, 0)), None);
        assert_eq!(steps_to_exit(&[]), None);
    }
}
