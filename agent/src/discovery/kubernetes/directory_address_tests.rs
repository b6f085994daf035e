//! Tests: events of the API in, addresses of the peer out.

use serde_json::json;

use super::{tests::directory, *};

fn service(name: &str, address: &str) -> Service {
    serde_json::from_value(json!({
        "metadata": { "name": name }, "spec": { "clusterIPs": [address] },
    }))
    .unwrap()
}

fn slice(name: &str, addresses: &[&str]) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": { "name": name }, "endpoints": [{ "addresses": addresses }],
    }))
    .unwrap()
}

/// A directory that has listed these objects.
fn listed_peer(services: &[Service], slices: &[EndpointSlice]) -> Directory {
    let mut directory = directory(&[]);
    for service in services {
        directory.apply(WatchEvent::Services(Event::InitApply(service.clone())));
    }
    directory.apply(WatchEvent::Services(Event::InitDone));
    for slice in slices {
        directory.apply(WatchEvent::EndpointSlices(Event::InitApply(slice.clone())));
    }
    directory.apply(WatchEvent::EndpointSlices(Event::InitDone));
    directory
}

#[test]
fn the_peer_s_addresses_are_known_once_both_are_listed() {
    let mut directory = directory(&[]);
    assert_eq!(directory.peer_addresses(), None);
    let service = service("autoscaler", "10.96.0.9");
    directory.apply(WatchEvent::Services(Event::InitApply(service.clone())));
    assert!(
        !directory
            .apply(WatchEvent::Services(Event::InitDone))
            .addresses
    );
    assert!(directory.knows_pods() && !directory.is_synced());
    assert!(
        directory
            .apply(WatchEvent::EndpointSlices(Event::InitDone))
            .addresses
    );
    assert!(directory.is_synced());
    let known = |addresses: &[&str]| Some(addresses.iter().map(|a| a.parse().unwrap()).collect());
    assert_eq!(directory.peer_addresses(), known(&["10.96.0.9"]));

    let change = directory.apply(WatchEvent::EndpointSlices(Event::Apply(slice(
        "s",
        &["10.1.0.7"],
    ))));
    assert!(change.addresses && !change.names);
    assert_eq!(
        directory.peer_addresses(),
        known(&["10.1.0.7", "10.96.0.9"])
    );
    // An update with the same addresses changes nothing.
    let change = directory.apply(WatchEvent::EndpointSlices(Event::Apply(slice(
        "s",
        &["10.1.0.7"],
    ))));
    assert!(!change.addresses);
    // Without a Service, nothing says which addresses are right.
    assert!(
        directory
            .apply(WatchEvent::Services(Event::Delete(service)))
            .addresses
    );
    assert_eq!(directory.peer_addresses(), None);
}

#[test]
fn addresses_are_known_only_while_both_watches_are_current() {
    let mut directory = listed_peer(&[service("autoscaler", "10.96.0.9")], &[]);
    let known = directory.peer_addresses();
    assert!(known.is_some());
    let mut apply = |watch, health| directory.apply(WatchEvent::Health(watch, health)).addresses;
    assert!(apply(Watched::EndpointSlices, WatchHealth::Stale));
    assert!(!apply(Watched::Services, WatchHealth::Stale));
    assert!(!apply(Watched::EndpointSlices, WatchHealth::Current));
    assert!(apply(Watched::Services, WatchHealth::Current));
    assert!(!apply(Watched::Services, WatchHealth::Current));
    assert_eq!(directory.peer_addresses(), known);
    directory.apply(WatchEvent::Health(Watched::Services, WatchHealth::Stale));
    assert_eq!(directory.peer_addresses(), None);
    assert_eq!(directory.last_peer_addresses(), known);
}

#[test]
fn a_set_that_is_empty_or_cannot_be_known_is_unknown() {
    let headless = || service("autoscaler", "None");
    assert_eq!(listed_peer(&[headless()], &[]).peer_addresses(), None);
    let empty = slice("s", &[]);
    assert_eq!(listed_peer(&[headless()], &[empty]).peer_addresses(), None);
    let one = slice("s", &["10.1.0.7"]);
    let known = listed_peer(&[headless()], std::slice::from_ref(&one)).peer_addresses();
    assert_eq!(known, Some(BTreeSet::from([[10, 1, 0, 7].into()])));
    let external: Service = serde_json::from_value(json!({
        "metadata": { "name": "autoscaler" },
        "spec": { "type": "ExternalName", "externalName": "autoscaler.example" },
    }))
    .unwrap();
    assert_eq!(listed_peer(&[external], &[one]).peer_addresses(), None);
}

#[test]
fn both_families_of_a_dual_stack_service_are_known() {
    let objects = include_str!("object/cases/autoscaler-dual-stack.json");
    let objects: Vec<serde_json::Value> = serde_json::from_str(objects).unwrap();
    let service: Service = serde_json::from_value(objects[0].clone()).unwrap();
    let slices: Vec<EndpointSlice> = objects[1..]
        .iter()
        .map(|slice| serde_json::from_value(slice.clone()).unwrap())
        .collect();
    let expected = ["10.96.0.9", "10.244.0.7", "fd00:10:96::9"];
    let expected = expected.iter().map(|one| one.parse().unwrap()).collect();
    let known = listed_peer(&[service], &slices).peer_addresses();
    assert_eq!(known, Some(expected));
}
