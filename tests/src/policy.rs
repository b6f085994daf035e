//! A policy that makes connect() fail with EPERM, by a program on the activator's cgroup, like the
//! eBPF policies of a node.

use std::fs::File;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{CgroupAttachMode, CgroupSockAddr},
};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    write::{Object, Symbol, SymbolSection},
};

use crate::container::Container;

/// While this exists, no process in the container can connect, in either family.
#[derive(Debug)]
pub struct Policy(#[expect(dead_code, reason = "attached until it is dropped")] Ebpf);

impl Policy {
    /// Attaches the policy to the container.
    pub fn refuse(container: &Container) -> Result<Self> {
        let mut programs = Ebpf::load(&programs()?).context("load the policy")?;
        for name in HOOKS {
            let program = programs.program_mut(name).context("no such program")?;
            let program: &mut CgroupSockAddr = program.try_into()?;
            program.load()?;
            let group = File::open(container.group())?;
            program.attach(group, CgroupAttachMode::Single)?;
        }
        Ok(Self(programs))
    }
}

/// An object file with one program for each hook, which returns 0: refused.
fn programs() -> Result<Vec<u8>> {
    /// `r0 = 0; exit`, as the kernel's `struct bpf_insn`.
    const REFUSE: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    for name in HOOKS {
        let section = format!("cgroup/{name}").into_bytes();
        let section = object.add_section(Vec::new(), section, SectionKind::Text);
        object.append_section_data(section, &REFUSE, 8);
        object.add_symbol(Symbol {
            name: name.into(),
            value: 0,
            size: REFUSE.len() as u64,
            kind: SymbolKind::Text,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        });
    }
    Ok(object.write()?)
}

const HOOKS: [&str; 2] = ["connect4", "connect6"];
