//! `statlink run`: everything put together, and taken apart again.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use rustix::thread::CapabilitySet;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::{Notify, broadcast, mpsc, watch},
    time::{Instant, sleep_until},
};

use super::Agent;
use crate::{
    clock, control,
    discovery::{Discovery, kubernetes},
    health,
    kernel::{Kernel, tracefs},
    options::Options,
    privileges,
    snapshot::Snapshots,
    telemetry::{Telemetry, config::Config as TelemetryConfig, logs, pace::Pace},
};

/// Runs the agent until SIGTERM or SIGINT.
pub fn run(options: Options) -> anyhow::Result<()> {
    let mounted = tracefs::show();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The loop runs on the main thread; the worker carries exports and the sockets, which
        // take no privilege.
        .worker_threads(1)
        .on_thread_start(|| privileges::reduce_to(CapabilitySet::empty()))
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let result = runtime.block_on(serve(options, mounted));
    shut_down(runtime);
    result
}

async fn serve(options: Options, mounted: std::io::Result<()>) -> anyhow::Result<()> {
    // First of all: a signal that comes while hooks are attached must end it in order, too.
    let stop = stop_signal()?;
    let telemetry = start_telemetry(options.telemetry.clone()).await?;
    logs::init(
        options.log_format,
        options.log_filter,
        telemetry.log_provider(),
    )?;
    if let Err(error) = mounted {
        tracing::debug!(%error, "Tracefs could not be mounted.");
    }
    let started = clock::now();
    let kernel = Kernel::load(&options.watch)?;
    privileges::reduce_to(privileges::running());
    release_memory();
    let attached = clock::now().saturating_since(started);
    for state in kernel.hooks() {
        if let (Some(missing), Some(lost)) = (&state.missing, state.hook.without()) {
            tracing::warn!(
                hook = state.hook.name,
                reason = missing.reason,
                "Hook is not attached: {lost}; {}.",
                missing.cure
            );
        }
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        port = options.watch.port,
        hooks = kernel
            .hooks()
            .iter()
            .filter(|state| state.missing.is_none())
            .count(),
        attach_ms = attached.as_secs_f64() * 1e3,
        "Attached."
    );

    let (reports, _) = broadcast::channel(REPORTS);
    let transition = Arc::new(Notify::new());
    let (snapshots, request_queue) = Snapshots::channel();
    let (events, event_queue) = mpsc::channel(WATCH_EVENTS);
    // Without the API there is nothing to wait for.
    let (ready, readiness) = watch::channel(options.kubernetes.is_none());

    let control = control::server::Server::bind(&options.socket)?;
    let control = tokio::spawn(control.serve(snapshots.clone(), reports.clone()));
    let health = match options.health_address {
        Some(address) => {
            let probes = probes(telemetry.clone(), options.telemetry.interval, readiness);
            let server = health::Server::bind(address, probes).await?;
            Some(tokio::spawn(server.serve()))
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
            kubernetes::watch(&kubernetes::find().await?, settings, &events)?;
            Discovery::with_kubernetes(options.selector)
        }
        None => Discovery::new(options.selector),
    };
    let agent = Agent::new(kernel, discovery, telemetry.clone(), reports, transition);
    if options.kubernetes.is_some() {
        tokio::spawn(tell_readiness(snapshots, ready));
    }
    let last = agent.run(request_queue, event_queue, stop).await;
    // Its watches end with it.
    drop(events);

    exports.abort();
    if let Some(health) = health {
        health.abort();
    }
    control.abort();
    // Its end removes the socket.
    let _ = control.await;
    let last = last?;
    if !telemetry.shutdown(Arc::new(last)).await {
        tracing::warn!("The last export did not arrive.");
    }
    tracing::info!("Stopped.");
    Ok(())
}

/// The SDK starts threads of its own: from one without privilege, so that they have none.
async fn start_telemetry(config: TelemetryConfig) -> anyhow::Result<Telemetry> {
    tokio::task::spawn_blocking(move || Telemetry::start(&config))
        .await
        .context("set up the export")?
        .context("set up the export")
}

/// Says so once the Kubernetes API has told everything: what happens to it later takes nothing
/// away.
async fn tell_readiness(snapshots: Snapshots, ready: watch::Sender<bool>) {
    while let Some(snapshot) = snapshots.take().await {
        if snapshot.agent.synced {
            // Nobody may be asking for it.
            let _ = ready.send(true);
            return;
        }
        tokio::time::sleep(SYNC_CADENCE).await;
    }
}

/// Exports at the pace that [`Pace`] allows.
async fn export(
    telemetry: Telemetry,
    snapshots: Snapshots,
    transition: Arc<Notify>,
    interval: Duration,
) {
    let mut pace = Pace::new(clock::now(), interval);
    loop {
        let now = clock::now();
        let due = pace.next_deadline().unwrap_or(now);
        let wake = Instant::now() + due.saturating_since(now);
        tokio::select! {
            () = transition.notified() => pace.transition(),
            () = sleep_until(wake) => {}
        }
        if pace.poll(clock::now()) {
            let Some(snapshot) = snapshots.take().await else {
                return;
            };
            // Whether it arrived is counted, and logged once an outage, by the exporter.
            let delivery = telemetry.export(snapshot).await;
            pace.done();
            if delivery.arrived && delivery.withheld {
                pace.transition();
            }
        }
    }
}

fn probes(
    telemetry: Telemetry,
    interval: Duration,
    ready: watch::Receiver<bool>,
) -> health::Probes {
    let limit = interval * 3 + SLACK;
    health::Probes {
        live: Box::new(move || {
            let age = telemetry.stats().since_collection;
            if age <= limit {
                Ok(())
            } else {
                Err(format!("no collection for {} s", age.as_secs()))
            }
        }),
        ready: Box::new(move || {
            if *ready.borrow() {
                Ok(())
            } else {
                Err("the Kubernetes API has not told everything yet".to_owned())
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
    runtime.shutdown_timeout(Duration::from_millis(200));
}

/// Reports that a slow reader of `statlink events` may lag behind.
const REPORTS: usize = 1024;
/// A listing is taken in as it comes.
const WATCH_EVENTS: usize = 64;
/// How often to look whether the API has told everything.
const SYNC_CADENCE: Duration = Duration::from_millis(200);
/// A collection may wait for one that times out.
const SLACK: Duration = Duration::from_secs(15);
