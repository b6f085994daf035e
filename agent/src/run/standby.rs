//! Waiting for the agent before this one to end: whoever has the memory counts and exports, and nobody else.

use std::path::Path;

use tokio::sync::watch;

use crate::{
    discovery::kubernetes,
    kernel::{Kernel, tracefs::Tracefs},
    memory::{Memory, MemoryError, Opened},
    options::Options,
    telemetry::logs::{self, Lines},
};

/// The memory in `directory`, once it is this agent's turn; `None` if it is to `stop` before.
///
/// While another agent is at work, this one first does all that may fail. It is `ready` then: what replaces
/// agents waits for that, and ends the other one.
///
/// # Errors
///
/// If this agent could not do its work.
pub(super) async fn turn(
    directory: &Path,
    options: &Options,
    tracefs: &Tracefs,
    lines: &Lines,
    ready: &watch::Sender<bool>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<Option<Result<Opened, MemoryError>>> {
    let opened = Memory::open(directory);
    if !matches!(opened, Err(MemoryError::Taken(_))) {
        return Ok(Some(opened));
    }
    let _lines = logs::until_then(options.log_format, lines.clone());
    drop(Kernel::load(&options.watch, tracefs)?);
    if options.kubernetes.is_some() {
        kubernetes::find().await?;
    }
    tracing::info!(
        "Another agent is at work here. This one could be, and goes on where that one ends."
    );
    ready.send_replace(true);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(None),
            () = Memory::free(directory) => {}
        }
        match Memory::open(directory) {
            // A third one was quicker.
            Err(MemoryError::Taken(_)) => {}
            opened => return Ok(Some(opened)),
        }
    }
}
