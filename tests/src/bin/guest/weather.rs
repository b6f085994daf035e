//! Bad networks, by netem: links that Knative keeps must not be reported lost.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use statlink_tests::{figures::Figures, netns, scenario::Bed};

use crate::{
    links::{Link, Links, Mark},
    verdict::Verdicts,
};

/// A name, and the arguments of `tc`.
const WEATHER: &[(&str, &str)] = &[
    ("netem loss", "loss 5%"),
    ("netem delay, reorder, duplicate", MILD),
];

/// Weather in which every packet arrives.
pub(crate) const MILD: &str = "delay 20ms 10ms reorder 25% 50% duplicate 10%";

/// Plays each for as long as a client needs to notice anything: at most 10 s without reading.
const LONG: Duration = Duration::from_secs(30);

pub(crate) fn all(verdicts: &mut Verdicts, bed: &Bed, links: &Links) -> Result<()> {
    for &(name, what) in WEATHER {
        if !verdicts.wants(name) {
            continue;
        }
        let before: Vec<_> = links.all.iter().map(|link| link.mark(bed)).collect();
        begin(links, what)?;
        // The weather lasts: there is no event to wait for.
        thread::sleep(LONG);
        end(links)?;
        let checked = links.wait_checks(bed, 1);
        verdicts.judge(name, "checked", checked);
        for (link, before) in links.all.iter().zip(before) {
            verdicts.judge(name, link.form, unharmed(bed, link, &before));
        }
    }
    Ok(())
}

/// Begins the weather on every link.
pub(crate) fn begin(links: &Links, what: &str) -> Result<()> {
    for link in &links.all {
        let mut tc = link.activator.pod.namespace.command("tc");
        tc.args(["qdisc", "add", "dev", "eth0", "root", "netem"]);
        netns::run(tc.args(what.split(' ')))?;
    }
    Ok(())
}

/// Ends it.
pub(crate) fn end(links: &Links) -> Result<()> {
    for link in &links.all {
        let mut tc = link.activator.pod.namespace.command("tc");
        netns::run(tc.args(["qdisc", "del", "dev", "eth0", "root"]))?;
    }
    Ok(())
}

fn unharmed(bed: &Bed, link: &Link, before: &Mark) -> Result<()> {
    ensure!(
        link.failed_dials(before) == 0,
        "Knative dialled, and failed"
    );
    link.is_well(bed, &before.figures)?;
    let connects = Figures::of(bed, &link.activator).connects;
    ensure!(connects == before.figures.connects, "connected again");
    Ok(())
}
