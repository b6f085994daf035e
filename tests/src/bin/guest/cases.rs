//! The faults, each on every link at once: cause and count must be those of the table.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use statlink_tests::{
    fault::{Fault, Faults, Reject, Route},
    figures::Figures,
    scenario::Bed,
};

use crate::{
    PATIENCE,
    links::{Link, Links, Mark, patiently},
    verdict::Verdicts,
};

pub(crate) struct Case {
    pub(crate) name: &'static str,
    trouble: Trouble,
    /// Why the connection is lost: one of these, each with the text that Knative's client then
    /// logs.
    losses: &'static [(&'static str, &'static str)],
    /// Why the dials after that fail; `None`: the first one succeeds.
    dials: Option<&'static str>,
}

#[derive(Clone, Copy)]
enum Trouble {
    /// A fault of the network.
    Network(fn(&Faults<'_>) -> Result<Option<Fault>>),
    /// SIGTERM to the autoscaler, and later a new one.
    Restart,
    /// SIGSTOP to the autoscaler, and later SIGCONT.
    Freeze,
}

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "reset",
        trouble: Trouble::Network(|faults| faults.reset_established().map(|()| None)),
        losses: &[("connection_reset", "")],
        dials: None,
    },
    Case {
        name: "abort",
        trouble: Trouble::Network(|faults| faults.abort_at_client().map(|()| None)),
        losses: &[("connection_aborted", "")],
        dials: None,
    },
    Case {
        name: "restart",
        trouble: Trouble::Restart,
        losses: &[
            ("peer_closed", ""),
            // A server that ends with unread data sends a reset instead of its FIN.
            ("connection_reset", ""),
            // It announces its end, and on a slow machine the client closes first.
            ("local_closed", "close 1012"),
        ],
        dials: Some("connection_refused"),
    },
    Case {
        name: "blackhole",
        trouble: Trouble::Network(|faults| faults.blackhole().map(Some)),
        losses: &[("stalled", "")],
        dials: Some("timeout"),
    },
    Case {
        name: "no endpoint",
        trouble: Trouble::Network(|faults| broken(faults, Reject::PortUnreachable)),
        losses: &[("connection_reset", "")],
        dials: Some("connection_refused"),
    },
    Case {
        name: "host unreachable",
        trouble: Trouble::Network(|faults| broken(faults, Reject::HostUnreachable)),
        losses: &[("connection_reset", "")],
        dials: Some("host_unreachable"),
    },
    // It fails within connect(), before any SYN: only the hooks of connect() see it.
    Case {
        name: "prohibited route",
        trouble: Trouble::Network(|faults| {
            let fault = faults.route(Route::Prohibit)?;
            faults.reset_established()?;
            Ok(Some(fault))
        }),
        // In an emulated machine the reset may take longer than the client waits for an answer.
        losses: &[("connection_reset", ""), ("stalled", "i/o timeout")],
        dials: Some("permission_denied"),
    },
    Case {
        name: "frozen peer",
        trouble: Trouble::Freeze,
        losses: &[("stalled", "")],
        dials: Some("handshake_failed"),
    },
];

/// New connections are refused, and existing ones get a reset.
fn broken(faults: &Faults<'_>, with: Reject) -> Result<Option<Fault>> {
    let fault = faults.reject_syn(with)?;
    faults.reset_established()?;
    Ok(Some(fault))
}

/// Plays the table.
pub(crate) fn all(verdicts: &mut Verdicts, bed: &mut Bed, links: &mut Links) -> Result<()> {
    for case in CASES {
        if verdicts.wants(case.name) {
            play(case, verdicts, bed, links)?;
        }
    }
    Ok(())
}

/// Plays one of them.
pub(crate) fn play(
    case: &Case,
    verdicts: &mut Verdicts,
    bed: &mut Bed,
    links: &mut Links,
) -> Result<()> {
    let marks: Vec<_> = links.all.iter().map(|link| link.mark(bed)).collect();
    let faults = match case.trouble {
        Trouble::Network(inject) => links.faults(bed, inject)?,
        Trouble::Restart => {
            bed.autoscaler()?.process.terminate(PATIENCE)?;
            Vec::new()
        }
        Trouble::Freeze => {
            bed.autoscaler()?.process.freeze()?;
            Vec::new()
        }
    };
    for (link, mark) in links.all.iter().zip(&marks) {
        let seen = told(case, bed, link, mark);
        verdicts.judge(case.name, &format!("{}: told", link.form), seen);
    }
    match case.trouble {
        Trouble::Network(_) => {}
        Trouble::Restart => bed.start_autoscaler()?,
        Trouble::Freeze => bed.autoscaler()?.process.thaw()?,
    }
    for fault in faults {
        fault.heal()?;
    }
    links.wait_back(bed, &marks)?;
    for (link, mark) in links.all.iter().zip(&marks) {
        let counted = counted(case, bed, link, mark);
        if !verdicts.judge(case.name, &format!("{}: counted", link.form), counted) {
            show(bed, link, mark);
        }
    }
    Ok(())
}

/// The agent reports the loss with its cause, and that dials fail with theirs.
fn told(case: &Case, bed: &Bed, link: &Link, mark: &Mark) -> Result<()> {
    let wait = |kind: &str, causes: &[&str]| {
        let count = |figures: &Figures| -> f64 {
            let of_kind = figures.errors(kind).into_iter();
            of_kind
                .filter(|(cause, _)| causes.contains(cause))
                .map(|(_, count)| count)
                .sum()
        };
        let before = count(&mark.figures);
        patiently(&format!("{kind} of {causes:?}"), || {
            Ok((count(&Figures::of(bed, &link.activator)) > before).then_some(()))
        })
    };
    let losses: Vec<_> = case.losses.iter().map(|(cause, _)| *cause).collect();
    wait("disconnect", &losses)?;
    case.dials.map_or(Ok(()), |cause| wait("connect", &[cause]))
}

/// Only the expected errors were counted, and as many as Knative's own log has.
fn counted(case: &Case, bed: &Bed, link: &Link, mark: &Mark) -> Result<()> {
    let now = Figures::of(bed, &link.activator);
    let grown = grown(&mark.figures, &now);
    let told = |cause: &str| grown.contains_key(&("disconnect".to_owned(), cause.to_owned()));
    let lost = case.losses.iter().find(|(cause, _)| told(cause));
    let (lost, says) = lost.or(case.losses.first()).context("a case has a loss")?;
    let lines = link.activator.process.lines_after(mark.lines);
    ensure!(
        lines
            .iter()
            .any(|line| line.event() == Some("lost") && line.text.contains(says)),
        "told {lost}, and Knative says nothing of {says:?}"
    );
    let mut expected = BTreeMap::from([(("disconnect", *lost), 1.0)]);
    let failed = link.failed_dials(mark);
    if let Some(cause) = case.dials {
        #[expect(clippy::cast_precision_loss, reason = "a few dials")]
        expected.insert(("connect", cause), failed as f64);
    } else {
        ensure!(failed == 0, "Knative says that {failed} dials failed");
    }
    let expected: BTreeMap<_, _> = expected
        .into_iter()
        .filter(|(_, count)| *count > 0.0)
        .map(|((kind, cause), count)| ((kind.to_owned(), cause.to_owned()), count))
        .collect();
    ensure!(
        grown == expected,
        "counted {grown:?}, expected {expected:?}"
    );
    let connects = now.connects - mark.figures.connects;
    ensure!(connects == 1.0, "{connects} connections, expected 1");
    Ok(())
}

/// The errors of attempts and losses since then. Liveness errors, one every 5 s, depend on time.
fn grown(before: &Figures, now: &Figures) -> BTreeMap<(String, String), f64> {
    let grown = now.errors.iter().map(|(key, count)| {
        let before = before.errors.get(key).copied().unwrap_or_default();
        (key.clone(), count - before)
    });
    grown
        .filter(|((kind, _), count)| kind != "liveness" && *count > 0.0)
        .collect()
}

/// For a person, to understand a bad judgement.
fn show(bed: &Bed, link: &Link, mark: &Mark) {
    for line in link.activator.process.lines_after(mark.lines) {
        println!("{}: {}", link.form, line.text);
    }
    if let Some(agent) = &bed.agent {
        for line in agent.process.lines_after(mark.agent_lines) {
            println!("agent: {}", line.text);
        }
    }
}
