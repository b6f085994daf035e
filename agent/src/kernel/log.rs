//! The programs' own debug lines, off unless `--log debug` or `--log info,statlink::hooks=debug` asks
//! for them. While off, they are not even in the loaded programs.

use aya::Ebpf;
use aya_log::{EbpfLogger, Level};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinHandle,
};

/// The constant that holds the level.
pub(super) use aya_log::LEVEL;

/// The ring that holds the lines.
pub(super) const MAP: &str = "AYA_LOGS";

/// What the programs are to log. At 0 the verifier takes the logging out as dead code.
pub(super) fn level() -> u8 {
    if wanted() { Level::Debug as u8 } else { 0 }
}

/// The size of the ring: what aya's own has when lines are logged, else one page, the least that
/// the kernel accepts.
pub(super) fn bytes() -> u32 {
    if wanted() { 128 * 1024 } else { 4096 }
}

fn wanted() -> bool {
    tracing::enabled!(target: "statlink::hooks", tracing::Level::DEBUG)
}

/// Reads the lines until it is dropped.
pub(super) struct Reader(JoinHandle<()>);

impl Reader {
    /// Call it before the programs are loaded. `None` if nothing is logged, or the lines cannot be
    /// read: the agent runs all the same.
    pub(super) fn start(ebpf: &mut Ebpf) -> Option<Self> {
        if !wanted() {
            return None;
        }
        let logger = EbpfLogger::init(ebpf)
            .map_err(|error| tracing::warn!(%error, "The programs' debug lines cannot be read."))
            .ok()?;
        // SAFETY: the logger owns its descriptor and is not taken out of the AsyncFd.
        let registered = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
        let mut lines = registered
            .map_err(|error| tracing::warn!(%error, "The programs' debug lines cannot be read."))
            .ok()?;
        Some(Self(tokio::spawn(async move {
            while let Ok(mut ready) = lines.readable_mut().await {
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
        })))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}
