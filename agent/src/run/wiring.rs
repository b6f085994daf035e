//! `statlink run`: everything put together, and taken apart again.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::{Notify, broadcast, watch},
};

use super::{
    event_loop::{self, EventLoop},
    export::export,
    publish::Publisher,
    standby,
};
use crate::{
    clock, control,
    discovery::{Discovery, kubernetes},
    health,
    kernel::{
        Kernel, Pinning, Watch,
        tracefs::{self, Tracefs},
    },
    memory::{Left, Memory, MemoryError, Opened},
    options::Options,
    privileges, scrape,
    snapshot::{Purpose, Snapshots},
    telemetry::{
        Telemetry,
        config::Config as TelemetryConfig,
        logs::{self, Lines},
    },
};

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
///
/// Fails if the kernel half, a socket or the export cannot be set up, or the kernel half can no
/// longer be read.
pub(crate) fn run(options: Options) -> anyhow::Result<()> {
    // A mount namespace is a thread's own: while there is but one thread.
    let tracefs = tracefs::show();
    // Dropped last, whatever happens: then the last lines are written.
    let (lines, _flush) = Lines::of_stdout().context("start the thread of log lines")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The loop runs on the main thread, which alone keeps capabilities. The worker carries
        // exports and sockets; further threads read open files and start the SDK.
        .worker_threads(1)
        .on_thread_start(privileges::give_up)
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let result = runtime.block_on(serve(options, tracefs, lines));
    shut_down(runtime);
    result
}

async fn serve(options: Options, tracefs: Tracefs, lines: Lines) -> anyhow::Result<()> {
    // First of all: a signal that comes while hooks are attached must end it in order, too.
    let stop = stop_signal()?;
    tokio::pin!(stop);
    let (ready, readiness) = watch::channel(false);
    let started = Arc::new(OnceLock::new());
    let health = match options.health_address {
        Some(address) => {
            let probes = probes(Arc::clone(&started), options.telemetry.interval, readiness);
            let (server, stop) = health::Server::bind(address, probes)?;
            // A thread of its own, without capabilities: whoever floods it delays nothing else.
            tokio::task::spawn_blocking(|| server.serve());
            Some(stop)
        }
        None => None,
    };
    let found = match options.state_dir.as_deref() {
        // What is pinned is read by one agent at a time.
        Some(directory) if options.pin_directory.is_some() => {
            let turn = standby::turn(directory, &options, &tracefs, &lines, &ready, &mut stop);
            match turn.await? {
                Some(opened) => Some(Ok(opened)),
                None => return Ok(()),
            }
        }
        Some(directory) => Some(Memory::open_soon(directory).await),
        None => None,
    };
    if let (Some(Err(MemoryError::Taken(_))), Some(directory)) = (&found, &options.state_dir) {
        tokio::spawn(Memory::clear_after(directory.clone()));
    }
    let opened = found.as_ref().and_then(|found| found.as_ref().ok());
    let memory = opened.map(|opened| Arc::clone(&opened.memory));
    let telemetry = start_telemetry(options.telemetry.clone(), memory.clone()).await?;
    logs::init(
        options.log_format,
        options.log_filter,
        lines,
        telemetry.log_provider(),
    )?;
    // Nobody else sets it.
    let _ = started.set(telemetry.clone());
    for warning in &options.telemetry.warnings {
        tracing::warn!("{warning}.");
    }
    let left = take_over(found);
    // Without a memory nobody could say how far what is pinned is told.
    let pin_directory = options
        .pin_directory
        .as_deref()
        .filter(|_| memory.is_some());
    if options.pin_directory.is_some() && pin_directory.is_none() {
        tracing::warn!(
            "Nothing is pinned, for nothing can be left in --state-dir: what happens until the next agent has \
             attached its own goes unseen."
        );
    }
    let kernel = attach(&options.watch, &tracefs, pin_directory, &left)?;
    if let Some(memory) = &memory {
        memory.reads(kernel.half());
        // Whoever is killed before the first export leaves a successor what it has pinned, too.
        let _ = tokio::time::timeout(LAST_WRITE, Arc::clone(memory).written()).await;
    }
    privileges::reduce_to(privileges::running());
    release_memory();

    let (events, _) = broadcast::channel(EVENTS);
    let transition = Arc::new(Notify::new());
    let (snapshots, requests) = Snapshots::channel();
    let (watch_events, watch_queue) = kubernetes::event_queue();

    let control = control::server::Server::bind(&options.socket)?;
    let control = tokio::spawn(control.serve(snapshots.clone(), events.clone()));
    let page = match options.metrics_address {
        Some(address) => {
            let server = scrape::Server::bind(address)?;
            Some(tokio::spawn(
                server.serve(telemetry.clone(), snapshots.clone()),
            ))
        }
        None => None,
    };
    let exports = tokio::spawn(export(
        telemetry.clone(),
        snapshots.clone(),
        Arc::clone(&transition),
        options.telemetry.interval,
    ));
    let discovery = match &options.kubernetes {
        Some(settings) => {
            let server = kubernetes::find().await?;
            let doubts = kubernetes::watch(&server, settings, &watch_events)?;
            tokio::spawn(await_sync(snapshots, ready));
            Discovery::with_kubernetes(options.selector).with_doubts(doubts)
        }
        None => {
            // There is nothing to wait for.
            ready.send_replace(true);
            Discovery::new(options.selector)
        }
    };

    let publisher = Publisher::new(telemetry.clone(), events, transition);
    let event_loop = EventLoop::new(kernel, discovery, publisher);
    let event_loop = match memory.clone() {
        Some(memory) => event_loop.with_memory(memory, left),
        None => event_loop,
    };
    let last = event_loop.run(requests, watch_queue, stop).await;
    // The watches of the Kubernetes API end with it.
    drop(watch_events);

    exports.abort();
    drop(health);
    if let Some(page) = page {
        page.abort();
    }
    control.abort();
    // Its end removes the socket.
    let _ = control.await;
    if let Some(memory) = memory {
        // If it is not in time, a successor shows less, and the last export arrives all the same.
        let _ = tokio::time::timeout(LAST_WRITE, memory.written()).await;
    }
    if !telemetry.shutdown(Arc::new(last?)).await {
        tracing::warn!("The last export did not arrive.");
    }
    tracing::info!("Stopped.");
    Ok(())
}

/// Loads the kernel half, and logs what is attached and what is not.
fn attach(
    watch: &Watch,
    tracefs: &Tracefs,
    pin_directory: Option<&Path>,
    left: &Left,
) -> anyhow::Result<Kernel> {
    let started = clock::now();
    let (kernel, pinning) = match pin_directory {
        Some(directory) => {
            let before = event_loop::succession::before(left);
            let (kernel, pinning) = Kernel::load_pinned(watch, tracefs, directory, &before)?;
            (kernel, Some(pinning))
        }
        None => (Kernel::load(watch, tracefs)?, None),
    };
    let attached = clock::now().saturating_since(started);
    for state in kernel.hooks() {
        if let (Some(missing), Some(lost)) = (&state.missing, state.hook.without()) {
            tracing::warn!(
                hook = state.hook.name,
                reason = missing.reason,
                cause = missing.cause.name(),
                "Hook is not attached: {lost}; {}.",
                missing.cure
            );
        }
    }
    if let Some(refused) = &kernel.connect_seen().fallen_back {
        tracing::info!(
            reason = refused.reason,
            "connect() is seen by tracepoints, for this kernel refuses fexit: each system call of \
             this node takes about 40 ns longer."
        );
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        port = watch.port,
        hooks = kernel
            .hooks()
            .iter()
            .filter(|state| state.missing.is_none())
            .count(),
        connect_hook = kernel.connect_seen().as_str(),
        attach_ms = attached.as_secs_f64() * 1e3,
        "Attached."
    );
    if let Some(pinning) = pinning {
        log_pinning(&pinning);
    }
    Ok(kernel)
}

/// What the agent before this one left; logs if that is nothing although it should be.
fn take_over(found: Option<Result<Opened, MemoryError>>) -> Left {
    if let Some(Ok(opened)) = &found
        && opened.is_on_disk
    {
        tracing::warn!(
            "--state-dir is on a disk, and exports may wait for it: a directory in memory (tmpfs) does as well, \
             for what is in it is of use until the next boot only."
        );
    }
    match found.map(|found| found.map(|opened| opened.left)) {
        Some(Ok(Ok(left))) => {
            if !left.pods.is_empty() {
                tracing::info!(
                    pods = left.pods.len(),
                    "Counts go on from what the agent before this one left."
                );
            }
            return left;
        }
        Some(Ok(Err(refusal))) => tracing::warn!(
            %refusal,
            "What the agent before this one left is not taken over: its counts begin at 0."
        ),
        Some(Err(error)) => tracing::warn!(
            %error,
            "Nothing is left to a successor: its counts will begin at 0."
        ),
        None => {}
    }
    Left::default()
}

fn log_pinning(pinning: &Pinning) {
    match pinning {
        Pinning::Adopted => tracing::info!(
            "Goes on with what the agent before this one has attached, and with its records."
        ),
        Pinning::Fresh {
            unfit,
            removed,
            unpinned,
        } => {
            if let Some(unfit) = unfit {
                tracing::warn!(
                    reason = %unfit,
                    "What lay there under this agent's name was not taken over, and is replaced."
                );
            }
            tracing::info!(
                removed,
                "Pinned: it goes on when this agent ends, until `statlink uninstall`."
            );
            if !unpinned.is_empty() {
                tracing::info!(
                    hooks = unpinned.join(","),
                    "These hooks end with the agent, for this kernel cannot pin them."
                );
            }
        }
        Pinning::Without(error) => tracing::warn!(
            %error,
            "Nothing is pinned: what happens until the next agent has attached its own goes unseen."
        ),
    }
}

/// The SDK starts threads of its own: from one without privilege, so that they have none.
async fn start_telemetry(
    config: TelemetryConfig,
    memory: Option<Arc<Memory>>,
) -> anyhow::Result<Telemetry> {
    tokio::task::spawn_blocking(move || Telemetry::start_with(&config, memory))
        .await
        .context("set up the export")?
        .context("set up the export")
}

/// Makes the agent ready once the Kubernetes API has listed everything. It stays ready, whatever
/// happens to the API later.
async fn await_sync(snapshots: Snapshots, ready: watch::Sender<bool>) {
    while let Some(snapshot) = snapshots.take(Purpose::Look).await {
        if snapshot.agent.synced {
            // Nobody may be asking for it.
            let _ = ready.send(true);
            return;
        }
        tokio::time::sleep(SYNC_CADENCE).await;
    }
}

/// What the probes say of the agent whose telemetry has `started`, or is still to.
fn probes(
    started: Arc<OnceLock<Telemetry>>,
    interval: Duration,
    ready: watch::Receiver<bool>,
) -> health::Probes {
    let limit = interval * MISSED_COLLECTIONS + SLACK;
    health::Probes {
        live: Box::new(move || {
            let age = started.get().map(Telemetry::since_collection);
            match age.filter(|age| *age > limit) {
                Some(age) => Err(format!("no collection for {} s", age.as_secs())),
                None => Ok(()),
            }
        }),
        ready: Box::new(move || {
            if *ready.borrow() {
                Ok(())
            } else {
                Err(NOT_SYNCED.to_owned())
            }
        }),
    }
}

/// Ready at the first SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Gives back what reading the kernel's types took: glibc keeps some 20 MB of it otherwise.
fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim has no preconditions and is thread-safe.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A task that hangs must not keep the process from ending.
fn shut_down(runtime: Runtime) {
    runtime.shutdown_timeout(LAST_TASKS);
}

/// In memory it takes a millisecond; a directory that hangs must not take the time of the last export.
const LAST_WRITE: Duration = Duration::from_secs(1);
/// What `/readyz` says until then.
const NOT_SYNCED: &str = "the Kubernetes API has not been read once yet; where it refuses, the log \
     and `statlink check` say why";
/// By how many events a slow reader of `statlink events` may lag behind before it is told how many
/// it missed: a common loss of 200 links (four events each), and some. 300 kB at most.
const EVENTS: usize = 1024;
/// How often to look whether the API has listed everything. It is looked at for a moment after the
/// start only, and a kubelet asks once a second at most.
const SYNC_CADENCE: Duration = Duration::from_millis(200);
/// The agent is taken for dead after so many intervals without a collection: one may be skipped
/// while an export hangs, and the next with it.
const MISSED_COLLECTIONS: u32 = 3;
/// On top of that: a collection waits for the export before it (3 s, and at most 4 s), and on a
/// starved node for its turn. Far more than either, so that a kubelet never restarts an agent that
/// is merely slow.
const SLACK: Duration = Duration::from_secs(15);
/// How long tasks may take to end after the last export. None has anything left to do: enough for one
/// that runs to get its turn and end, and little beside the 5 s of the last export.
const LAST_TASKS: Duration = Duration::from_millis(200);
