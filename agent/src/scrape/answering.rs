//! Limits how many pages are written at a time, in total and to one address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The running answers, by address.
#[derive(Debug, Default)]
pub(super) struct Answering(Mutex<HashMap<IpAddr, usize>>);

/// One running answer; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    answering: &'a Answering,
    peer: IpAddr,
}

impl Answering {
    /// Starts an answer to `peer`. `None` if `peer`, or all addresses together, have reached their
    /// limit.
    pub(super) fn enter(&self, peer: IpAddr) -> Option<UnderWay<'_>> {
        let mut held = self.lock();
        let has_room = held.values().sum::<usize>() < MAX_ANSWERS;
        let own = held.get(&peer).copied().unwrap_or_default();
        if !has_room || own >= MAX_ANSWERS_OF_ONE {
            return None;
        }
        held.insert(peer, own + 1);
        Some(UnderWay {
            answering: self,
            peer,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut held = self.answering.lock();
        if let Some(own) = held.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.peer);
            }
        }
    }
}

/// How many pages may be written at one time: enough for some Prometheus replicas and a person. A
/// slow reader keeps its page in memory, 2 MB for 200 links: all together a third of what the chart
/// allows.
const MAX_ANSWERS: usize = 16;
/// The limit for one address: enough for two Prometheus replicas behind one, such as a node's. So
/// slow readers need eight addresses to keep another client out.
const MAX_ANSWERS_OF_ONE: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: usize) -> IpAddr {
        [10, 0, 0, u8::try_from(number).unwrap()].into()
    }

    #[test]
    fn one_address_does_not_keep_another_out() {
        let answering = Answering::default();
        let mut own: Vec<_> = (0..MAX_ANSWERS)
            .map_while(|_| answering.enter(peer(1)))
            .collect();
        assert_eq!(own.len(), MAX_ANSWERS_OF_ONE);
        assert!(answering.enter(peer(2)).is_some());
        // An answer that has ended makes room.
        own.pop();
        own.extend(answering.enter(peer(1)));
        assert_eq!(own.len(), MAX_ANSWERS_OF_ONE);
    }

    #[test]
    fn all_together_have_a_bound() {
        let answering = Answering::default();
        let held: Vec<_> = (0..MAX_ANSWERS)
            .map(|number| answering.enter(peer(number)))
            .collect();
        assert!(held.iter().all(Option::is_some));
        assert!(answering.enter(peer(100)).is_none());
        drop(held);
        assert!(answering.enter(peer(100)).is_some());
        assert!(
            answering.lock().is_empty(),
            "nothing is kept of whoever has gone"
        );
    }
}
