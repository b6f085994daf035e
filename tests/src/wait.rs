//! Waiting for a condition, in the place of a sleep.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Asks `ready` again and again until it answers; gives the answer. `what` names it in the error.
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

/// Often enough for what takes milliseconds, and cheap for what takes seconds.
const PERIOD: Duration = Duration::from_millis(10);
