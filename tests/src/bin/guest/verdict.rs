//! The judgements, and their output.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// The judgements so far.
#[derive(Debug)]
pub(crate) struct Verdicts {
    only: String,
    passed: u32,
    failed: u32,
}

impl Verdicts {
    pub(crate) fn new(only: &str) -> Self {
        Self {
            only: only.to_owned(),
            passed: 0,
            failed: 0,
        }
    }

    /// Whether this case was requested.
    pub(crate) fn wants(&self, case: &str) -> bool {
        self.only.split(',').any(|part| case.contains(part))
    }

    /// Reports one judgement; returns whether it is good.
    pub(crate) fn judge(&mut self, case: &str, what: &str, result: Result<()>) -> bool {
        let (ok, detail) = match result {
            Ok(()) => (true, String::new()),
            Err(error) => (false, format!("{error:#}")),
        };
        *(if ok {
            &mut self.passed
        } else {
            &mut self.failed
        }) += 1;
        tell(
            "judged",
            &json!({ "case": case, "what": what, "ok": ok, "detail": detail }),
        );
        ok
    }

    /// Reports a fact.
    pub(crate) fn fact(&self, name: &str, value: impl Into<Value>) {
        let value: Value = value.into();
        tell("fact", &json!({ "name": name, "value": value }));
    }

    /// Whether every judgement so far is a good one.
    pub(crate) fn are_good(&self) -> bool {
        self.failed == 0
    }

    pub(crate) fn end(self) -> Result<()> {
        let Self { passed, failed, .. } = self;
        tell("end", &json!({ "passed": passed, "failed": failed }));
        ensure!(failed == 0, "{failed} of {} failed", passed + failed);
        Ok(())
    }
}

/// On a line of its own, even if the kernel has begun one on the same serial line.
fn tell(what: &str, content: &Value) {
    println!("\n@{what} {content}");
}
