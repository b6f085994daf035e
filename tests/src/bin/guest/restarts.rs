//! Agents that start later than the connections: the first one, and one after a crash.

use anyhow::{Context as _, Result, ensure};
use statlink_tests::{
    agent,
    figures::Figures,
    scenario::{Bed, link, metric},
};

use crate::{
    agent_facts,
    links::{Links, patiently},
    verdict::Verdicts,
};

/// The first agent finds the existing connections, and no error on them.
pub(crate) fn older_connections(verdicts: &mut Verdicts, bed: &Bed, links: &Links) {
    let checked = links.wait_checks(bed, 2);
    verdicts.judge("older connections", "checked", checked);
    for link in &links.all {
        let found = link
            .is_well(bed, &Figures::default())
            .and_then(|()| never_zero(bed, links, 0));
        verdicts.judge("older connections", link.form, found);
    }
}

/// SIGKILL, and another one: healthy links stay healthy.
pub(crate) fn killed_agent(
    verdicts: &mut Verdicts,
    bed: &mut Bed,
    options: &agent::Options,
    links: &Links,
) -> Result<()> {
    if !verdicts.wants("killed agent") {
        return Ok(());
    }
    if !verdicts.are_good() {
        agent_facts::show_log(bed);
    }
    let agent = bed.agent.as_mut().context("no agent")?;
    agent.process.kill()?;
    let mark = bed.collector.read(<[_]>::len);
    bed.start_agent_with(options)?;
    let first = patiently("export of the second agent", || {
        let exports = bed.collector.read(<[_]>::len);
        let all = links.all.iter().all(|of| {
            bed.collector.read(|exports| {
                let points = exports.iter().skip(mark).flat_map(|export| &export.points);
                let mut points =
                    points.filter(|point| point.is(metric::REACHABLE, &link(&of.activator.pod)));
                points.next().is_some()
            })
        });
        Ok((exports > mark && all).then_some(()))
    });
    verdicts.judge("killed agent", "finds its links", first);
    // Whether its counts continue or start over: there is nothing to count.
    let before: Vec<_> = links
        .all
        .iter()
        .map(|link| Figures::of(bed, &link.activator))
        .collect();
    let checked = links.wait_checks(bed, 2);
    verdicts.judge("killed agent", "checked", checked);
    for (link, before) in links.all.iter().zip(&before) {
        let well = link
            .is_well(bed, before)
            .and_then(|()| never_zero(bed, links, mark));
        verdicts.judge("killed agent", link.form, well);
    }
    Ok(())
}

/// No later export said that a link is not reachable.
fn never_zero(bed: &Bed, links: &Links, mark: usize) -> Result<()> {
    bed.collector.read(|exports| {
        let points = exports.iter().skip(mark).flat_map(|export| &export.points);
        for point in points {
            let zero = links.all.iter().find(|of| {
                point.is(metric::REACHABLE, &link(&of.activator.pod)) && point.value.number() == 0.0
            });
            ensure!(
                zero.is_none(),
                "a healthy link was told unreachable: {point:?}"
            );
        }
        Ok(())
    })
}
