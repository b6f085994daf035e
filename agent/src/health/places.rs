//! Which connections keep their places when there are too many. Knows no sockets.

use std::{collections::BTreeMap, net::IpAddr, time::Instant};

/// A connection that waits for its request.
#[derive(Debug)]
pub(crate) struct Place<T> {
    /// Its address.
    pub peer: IpAddr,
    /// When it was accepted.
    pub since: Instant,
    /// Dropped together with the place.
    pub held: T,
}

/// The connections that wait for their request, in the order of their arrival.
#[derive(Debug)]
pub(crate) struct Places<T> {
    places: Vec<Place<T>>,
    most: usize,
}

impl<T> Places<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            places: Vec::with_capacity(most),
            most,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.places.len() >= self.most
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Place<T>> {
        self.places.iter()
    }

    /// When the oldest arrived.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.places.first().map(|place| place.since)
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&mut Place<T>) -> bool) {
        self.places.retain_mut(keep);
    }

    pub(crate) fn push(&mut self, place: Place<T>) {
        self.places.push(place);
    }

    /// Removes the oldest connection of the address that holds most. Addresses with no more than
    /// [`FAIR_SHARE`] count alike: among them, the oldest connection goes.
    pub(crate) fn remove_victim(&mut self) -> Option<Place<T>> {
        let mut held = BTreeMap::<_, usize>::new();
        for place in &self.places {
            *held.entry(place.peer).or_default() += 1;
        }
        let share = |place: &Place<T>| held.get(&place.peer).copied().unwrap_or_default();
        let most = self.places.iter().map(share).max()?.max(FAIR_SHARE);
        let is_greedy = |place: &Place<T>| share(place) == most;
        let victim = self.places.iter().position(is_greedy).unwrap_or_default();
        Some(self.places.remove(victim))
    }
}

/// A kubelet has two probes at a time, and two more if those were slow. Prometheus replicas behind
/// one address need no more.
const FAIR_SHARE: usize = 4;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 64;
    const KUBELET: u8 = 0;

    fn places() -> Places<usize> {
        Places::new(MOST)
    }

    /// Gives `peer` a place, like the server.
    fn enter(places: &mut Places<usize>, peer: u8, id: usize) {
        if places.is_full() {
            places.remove_victim();
        }
        places.push(Place {
            peer: Ipv4Addr::new(10, 0, 0, peer).into(),
            since: Instant::now(),
            held: id,
        });
    }

    fn holds(places: &Places<usize>, id: usize) -> bool {
        places.iter().any(|place| place.held == id)
    }

    #[test]
    fn one_address_takes_places_from_itself_alone() {
        let mut places = places();
        enter(&mut places, KUBELET, 0);
        enter(&mut places, KUBELET, 1);
        for id in 2..10_000 {
            enter(&mut places, 1, id);
        }
        assert!(holds(&places, 0) && holds(&places, 1));
        assert_eq!(places.iter().count(), MOST);
    }

    #[test]
    fn two_probes_are_no_reason_to_go_first() {
        let mut places = places();
        for peer in 1..=62 {
            enter(&mut places, peer, usize::from(peer));
        }
        enter(&mut places, KUBELET, 100);
        enter(&mut places, KUBELET, 101);
        enter(&mut places, 63, 63);
        assert!(holds(&places, 100) && holds(&places, 101));
        assert!(!holds(&places, 1), "the oldest goes");
    }

    proptest! {
        /// A probe loses its place only to as many connections as there are places.
        #[test]
        fn a_new_probe_outlives_as_many_as_there_are_places(
            before in prop::collection::vec(1_u8..100, 0..150),
            after in prop::collection::vec(1_u8..100, MOST - 1),
        ) {
            let mut places = places();
            for peer in before {
                enter(&mut places, peer, 1);
            }
            enter(&mut places, KUBELET, 0);
            for peer in after {
                enter(&mut places, peer, 1);
                prop_assert!(holds(&places, 0));
            }
        }
    }
}
