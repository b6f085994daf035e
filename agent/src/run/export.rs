//! When to export: at each interval, and soon after a transition. `Telemetry::shutdown` makes the
//! last export, at the end of the process.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::{
    clock,
    snapshot::{Purpose, Snapshots},
    telemetry::{Telemetry, pace::Pace},
};

/// Exports at the pace of [`Pace`] until the agent stops.
pub(super) async fn export(
    telemetry: Telemetry,
    snapshots: Snapshots,
    transition: Arc<Notify>,
    interval: Duration,
) {
    let mut pace = Pace::new(clock::now(), interval, fastrand::f64());
    loop {
        let now = clock::now();
        let due = pace.next_deadline().unwrap_or(now);
        let wake = Instant::now() + due.saturating_since(now);
        tokio::select! {
            () = transition.notified() => pace.transition(),
            () = sleep_until(wake) => {}
        }
        if pace.poll(clock::now()) {
            let Some(snapshot) = snapshots.take(Purpose::Export).await else {
                return;
            };
            let idle = telemetry.is_idle(&snapshot);
            if idle && pace.is_rest(clock::now()) {
                telemetry.skip();
                pace.skipped();
                continue;
            }
            // The exporter counts failures and logs them once an outage.
            let delivery = telemetry.export(snapshot).await;
            pace.done(idle);
            if delivery.arrived && delivery.withheld {
                pace.transition();
            }
        }
    }
}
