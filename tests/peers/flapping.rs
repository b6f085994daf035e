//! A link that breaks again and again.

use statlink_tests::{figures::Figures, peer::Traffic, process::Line, scenario::Bed};

use crate::{PATIENCE, agent_log::wait_log, start_agent};

#[test]
fn a_link_that_flaps_is_counted_exactly_and_summed_up_in_the_log() {
    const RESETS: u32 = 8;
    let mut bed = Bed::new().unwrap();
    start_agent(&mut bed);
    let mut events = bed.agent.as_ref().unwrap().events().unwrap();
    let activator = bed.activator("activator", Traffic::Idle).unwrap();
    let up = |line: &Line| line.event() == Some("reachable");
    let mut mark = 0;
    for _ in 0..RESETS {
        events
            .wait_for_after(mark, "reachable", PATIENCE, up)
            .unwrap();
        mark = events.mark();
        bed.faults(&activator).reset_established().unwrap();
    }
    events
        .wait_for_after(mark, "reachable", PATIENCE, up)
        .unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    let figures = Figures::of(&bed, &activator);
    let resets = f64::from(RESETS);
    assert_eq!(figures.errors("disconnect"), [("connection_reset", resets)]);
    assert_eq!(figures.connects, resets + 1.0);

    // Three outages with a line at each end, the beginning of the fourth, and one line for the
    // rest.
    assert_eq!(wait_log(&bed, &activator, "ERROR", 4).len(), 4);
    assert_eq!(wait_log(&bed, &activator, "INFO", 1 + 3).len(), 1 + 3);
    let agent = bed.agent.as_mut().unwrap();
    agent.process.terminate(PATIENCE).unwrap();
    let lines = agent.process.lines();
    let rest = "Autoscaler was repeatedly not reachable from activator.";
    let rest: Vec<_> = lines
        .iter()
        .filter(|line| line.get("message") == rest)
        .collect();
    let [rest] = rest.as_slice() else {
        panic!("{lines:#?}");
    };
    assert_eq!(rest.get("outages"), RESETS - 3, "{}", rest.text);
    assert_eq!(
        rest.get("error.types"),
        "5 connection_reset",
        "{}",
        rest.text
    );
    assert_eq!(rest.get("reachable"), true, "{}", rest.text);
    bed.check_invariants().unwrap();
}
