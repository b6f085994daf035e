//! The part of the kernel half that a resynchronisation needs, so that its order is tested without
//! a kernel.

use std::collections::HashMap;

use statlink_ebpf::Source;

use crate::{
    clock,
    kernel::{Inventory, Kernel, KernelError, Listing, LossReason, OpenFiles},
    time::Timestamp,
};

/// What the kernel half holds. Each method does the same as the method of [`Kernel`] with its name.
pub(crate) trait Holdings {
    /// The current moment.
    fn now(&self) -> Timestamp;

    /// How many records were lost, by reason.
    fn losses(&self) -> Result<[(LossReason, u64); LossReason::ALL.len()], KernelError>;

    /// How many events each hook has missed.
    fn missed_events(&self) -> Vec<(&'static str, u64)>;

    /// How many connections of `source` the kernel half had no room for.
    fn refused(&mut self, source: Source) -> Result<u32, KernelError>;

    /// A pass over the open files for another thread to run; `None` if the kernel offers none.
    fn open_files(&mut self) -> Result<Option<ReadFiles>, KernelError>;

    /// The first look: one walk of the map of connections.
    fn list(
        &mut self,
        sources: impl IntoIterator<Item = Source>,
        now: Timestamp,
    ) -> Result<Option<Listing>, KernelError>;

    /// The second look: the sources that did not change meanwhile.
    fn settle(&mut self, listing: Listing) -> Result<HashMap<Source, Inventory>, KernelError>;
}

/// Reads the open files to the end. Blocks.
pub(crate) type ReadFiles = Box<dyn FnOnce() -> Result<(), KernelError> + Send>;

impl Holdings for Kernel {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn losses(&self) -> Result<[(LossReason, u64); LossReason::ALL.len()], KernelError> {
        self.losses()
    }

    fn missed_events(&self) -> Vec<(&'static str, u64)> {
        self.missed_events()
    }

    fn refused(&mut self, source: Source) -> Result<u32, KernelError> {
        Ok(self.source_totals(source)?.refused)
    }

    fn open_files(&mut self) -> Result<Option<ReadFiles>, KernelError> {
        let files = self.open_files()?;
        Ok(files.map(|files| Box::new(|| OpenFiles::read(files)) as ReadFiles))
    }

    fn list(
        &mut self,
        sources: impl IntoIterator<Item = Source>,
        now: Timestamp,
    ) -> Result<Option<Listing>, KernelError> {
        self.list(sources, now)
    }

    fn settle(&mut self, listing: Listing) -> Result<HashMap<Source, Inventory>, KernelError> {
        self.settle(listing)
    }
}
