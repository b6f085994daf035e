//! Passes over all tasks or all their open files, by the kernel's own iterators.

use std::{fs::File, io};

use aya::programs::Iter;
use statlink_ebpf::Process;

use super::{error::KernelError, hooks::HookError, loaded::Kernel};
use crate::chain::chain;

/// A pass over every open file of every task, which puts the open connections of tracked sources
/// into the map of connections.
///
/// On a node with 100,000 open files it takes tens of milliseconds. Whoever reads it needs no
/// capability (those were checked when it was made), so a thread without any can.
#[derive(Debug)]
pub struct OpenFiles(File);

impl OpenFiles {
    /// Makes the pass. Blocks until it is complete.
    ///
    /// # Errors
    ///
    /// Fails if the kernel ends the pass early.
    pub fn read(self) -> Result<(), KernelError> {
        exhaust(ENUMERATE, self.0, &mut io::sink())
    }
}

impl Kernel {
    /// A pass over every open file, still to be made; `None` where this kernel has no such thing.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn open_files(&mut self) -> Result<Option<OpenFiles>, KernelError> {
        if !self.hooked(ENUMERATE) {
            return Ok(None);
        }
        self.iterator(ENUMERATE).map(|file| Some(OpenFiles(file)))
    }

    /// Inode number of the network namespace of a process of the watched name, or of `kthreadd`;
    /// `None` if it is neither, is gone, or this kernel has no such thing.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses.
    pub fn network_namespace(&mut self, tgid: u32) -> Result<Option<u32>, KernelError> {
        if !self.hooked(NAMESPACES) {
            return Ok(None);
        }
        let mut processes = Vec::new();
        exhaust(NAMESPACES, self.iterator(NAMESPACES)?, &mut processes)?;
        let (processes, _) = processes.as_chunks::<{ size_of::<Process>() }>();
        let mut processes = processes.iter().copied().map(Process::from_bytes);
        let found = processes.find(|process| process.tgid == tgid);
        Ok(found
            .map(|process| process.netns)
            .filter(|netns| *netns != 0))
    }

    /// One pass of the iterator of this name, still to be read.
    fn iterator(&mut self, name: &'static str) -> Result<File, KernelError> {
        let run = |reason: &(dyn std::error::Error + 'static)| failed(name, reason);
        let program = self.ebpf.program_mut(name);
        let program = program.ok_or_else(|| run(&HookError::NotInObject))?;
        let program: &mut Iter = program.try_into().map_err(|error| run(&error))?;
        let link = program.attach().map_err(|error| run(&error))?;
        let link = program.take_link(link).map_err(|error| run(&error))?;
        link.into_file().map_err(|error| run(&error))
    }
}

/// Reads a pass to its end, into `out`.
fn exhaust(
    name: &'static str,
    mut pass: File,
    out: &mut impl io::Write,
) -> Result<(), KernelError> {
    loop {
        match io::copy(&mut pass, out) {
            Ok(_) => return Ok(()),
            // After a million objects of which nothing was written: `MAX_ITER_OBJECTS` of
            // `kernel/bpf/bpf_iter.c`. It goes on where it was.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(name, &error)),
        }
    }
}

fn failed(program: &'static str, reason: &(dyn std::error::Error + 'static)) -> KernelError {
    KernelError::Run {
        program,
        reason: chain(reason),
    }
}

/// As in the table of hooks.
const ENUMERATE: &str = "enumerate";
const NAMESPACES: &str = "namespaces";
