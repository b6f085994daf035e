//! Waiting for a condition, instead of sleeping.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Calls `ready` again and again until it returns a value; returns that. `what` names it in the
/// error.
pub fn until<T>(
    what: &str,
    timeout: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(answer) = ready()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("no {what} within {timeout:?}");
        }
        thread::sleep(PERIOD);
    }
}

/// Often enough for waits of milliseconds, and cheap enough for waits of seconds.
const PERIOD: Duration = Duration::from_millis(10);
