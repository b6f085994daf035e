//! Tests: claims in, links or refusals out.

use serde_json::json;

use super::*;
use crate::discovery::kubernetes::{directory_of, pod_object};

fn place(container: Option<(&str, &str)>, cgroup: &str, netns: u32) -> Place {
    let container = container.map(|(uid, id)| Container {
        pod_uid: Some(uid.to_owned()),
        id: Some(id.to_owned()),
    });
    Place {
        container,
        cgroup: cgroup.to_owned(),
        netns: Some(netns),
    }
}

fn claim(pod: &str, by: NamedBy, uid: Option<&str>, place: Place) -> Claim {
    Claim {
        kind: 0,
        identity: PodIdentity {
            uid: uid.map(str::to_owned),
            pod: pod.to_owned(),
            namespace: "knative-serving".to_owned(),
            host_network: false,
        },
        by,
        place,
    }
}

fn itself(pod: &str, cgroup: &str, netns: u32) -> Claim {
    claim(pod, NamedBy::Environment, None, place(None, cgroup, netns))
}

const REPORTED: NamedBy = NamedBy::Api { reported: true };
const UNREPORTED: NamedBy = NamedBy::Api { reported: false };

#[test]
fn the_first_of_a_name_keeps_it_while_it_lives() {
    let mut claims = Claims::default();
    claims.admit(7, itself("activator-1", "0::/a", 2)).unwrap();
    for (cgroup, netns) in [("0::/a", 3), ("0::/b", 2)] {
        let second = claims.admit(8, itself("activator-1", cgroup, netns));
        assert_eq!(second, Err(Refusal::Taken(7)), "{cgroup} {netns}");
    }
    // Another process of the same pod is no stranger.
    claims.admit(9, itself("activator-1", "0::/a", 2)).unwrap();
    let other_kind = Claim {
        kind: 1,
        ..itself("activator-1", "0::/b", 3)
    };
    claims.admit(10, other_kind).unwrap();
    for pid in [7, 9] {
        claims.release(pid);
    }
    claims.admit(8, itself("activator-1", "0::/b", 3)).unwrap();
}

#[test]
fn a_process_below_its_container_s_group_is_in_the_container() {
    let mut claims = Claims::default();
    let in_container = |id, cgroup| {
        let place = place(Some(("uid", id)), cgroup, 2);
        claim("activator-1", NamedBy::Environment, Some("uid"), place)
    };
    claims.admit(7, in_container("one", "0::/one")).unwrap();
    claims
        .admit(8, in_container("one", "0::/one/init"))
        .unwrap();
    let another = claims.admit(9, in_container("two", "0::/two"));
    assert_eq!(another, Err(Refusal::Taken(7)));
}

#[test]
fn no_number_of_strangers_keeps_out_what_the_api_names() {
    let mut claims = Claims::default();
    let admitted = (1000..3000).filter(|pid| {
        let claim = itself(&format!("a-{pid}"), "0::/a", *pid);
        claims.admit(*pid, claim).is_ok()
    });
    assert_eq!(admitted.count(), MOST_BY_ENVIRONMENT);
    for pid in 1..500 {
        let uid = format!("uid-{pid}");
        let place = place(Some((&uid, "c")), "0::/k", pid);
        let named = claim(&format!("b-{pid}"), REPORTED, Some(&uid), place);
        claims.admit(pid, named).unwrap();
    }
    assert_eq!(
        claims.admit(5000, itself("a-5000", "0::/a", 5000)),
        Err(Refusal::TooMany)
    );
    // If the kernel half has no room, one of them goes first.
    assert_eq!(claims.last_by_environment(), Some(1199));
    // When one of them has ended, there is room for another.
    claims.release(1000);
    claims.admit(5000, itself("a-5000", "0::/a", 5000)).unwrap();
}

#[test]
fn beside_the_reported_client_an_unreported_container_waits() {
    let mut claims = Claims::default();
    let of = |by, id| {
        let place = place(Some(("uid", id)), "0::/k", 2);
        claim("activator-1", by, Some("uid"), place)
    };
    claims.admit(7, of(REPORTED, "one")).unwrap();
    let debugger = claims.admit(8, of(UNREPORTED, "two"));
    assert_eq!(debugger, Err(Refusal::Unreported(7)));
    // The container was restarted, and the kubelet has not reported it yet.
    claims.release(7);
    claims.admit(9, of(UNREPORTED, "three")).unwrap();
    assert!(claims.has_pod("uid"));
}

#[test]
fn a_sidecar_that_was_taken_for_the_client_loses_its_link_when_the_api_tells() {
    let mut claims = Claims::default();
    let of = |id| {
        let place = place(Some(("uid", id)), "0::/k", 2);
        claim("activator-1", UNREPORTED, Some("uid"), place)
    };
    claims.admit(7, of("one")).unwrap();
    claims.admit(8, of("two")).unwrap();
    let nothing = directory_of(&[pod_object("uid", "activator-1", json!([]))]);
    assert_eq!(claims.correct(&nothing), Correction::default());
    let told = directory_of(&[pod_object(
        "uid",
        "activator-1",
        json!([
            { "name": "proxy", "containerID": "containerd://one" },
            { "name": "activator", "containerID": "containerd://two" },
        ]),
    )]);
    assert_eq!(claims.correct(&told).lost, [7]);
    assert!(!claims.contains(7) && claims.contains(8));
    // It cannot come back beside the client.
    assert_eq!(claims.admit(7, of("one")), Err(Refusal::Unreported(8)));
}

#[test]
fn what_named_itself_before_the_pods_were_listed_is_measured_by_the_list() {
    let mut claims = Claims::default();
    let in_container = |pod, uid, id| {
        let place = place(Some((uid, id)), "0::/k", 2);
        claim(pod, NamedBy::Environment, Some(uid), place)
    };
    claims
        .admit(1, in_container("activator-1", "uid", "one"))
        .unwrap();
    claims
        .admit(2, in_container("activator-2", "uid", "one"))
        .unwrap();
    claims
        .admit(3, in_container("activator-3", "elsewhere", "x"))
        .unwrap();
    claims.admit(4, itself("other", "0::/", 9)).unwrap();
    let unlisted = Directory::new(["activator".to_owned()]);
    assert_eq!(claims.correct(&unlisted), Correction::default());
    let listed = directory_of(&[
        pod_object(
            "uid",
            "activator-1",
            json!([{ "name": "activator", "containerID": "containerd://one" }]),
        ),
        pod_object("b", "other", json!([])),
    ]);
    let correction = claims.correct(&listed);
    // Another pod's name, a container that is not listed, and a listed pod's name outside that pod.
    assert_eq!(correction.lost, [2, 3, 4]);
    let [(1, adopted)] = &correction.adopted[..] else {
        panic!("{correction:?}");
    };
    assert_eq!(adopted.uid.as_deref(), Some("uid"));
    // From now on the API names it, whatever other processes claim.
    assert_eq!(claims.correct(&listed), Correction::default());
    assert_eq!(claims.last_by_environment(), None);
}

#[test]
fn what_ended_with_its_pod_is_a_client_no_longer() {
    let mut claims = Claims::default();
    let reported = json!([{ "name": "activator", "containerID": "containerd://one" }]);
    let place = place(Some(("uid", "one")), "0::/k", 2);
    claims
        .admit(7, claim("activator-1", REPORTED, Some("uid"), place))
        .unwrap();
    let mut ended = directory_of(&[pod_object("uid", "activator-1", reported)]);
    assert_eq!(claims.correct(&ended), Correction::default());
    ended.relist(&[]);
    assert_eq!(claims.correct(&ended).lost, [7]);
}
