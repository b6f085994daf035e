//! Circles and implied arrows of a directed graph.

use std::collections::{BTreeMap, BTreeSet};

/// The arrows of each node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Graph<N>(BTreeMap<N, BTreeSet<N>>);

impl<N: Ord + Clone> Graph<N> {
    pub(super) fn new(arrows: impl IntoIterator<Item = (N, N)>) -> Self {
        let mut graph: BTreeMap<N, BTreeSet<N>> = BTreeMap::new();
        for (from, to) in arrows {
            graph.entry(to.clone()).or_default();
            graph.entry(from).or_default().insert(to);
        }
        Self(graph)
    }

    /// Groups of nodes that all reach each other: a group of several nodes is a circle.
    pub(super) fn circles(&self) -> Vec<Vec<N>> {
        let mut circles = BTreeSet::new();
        for node in self.0.keys() {
            let reached = self.reached_from(node);
            let circle: Vec<_> = reached
                .iter()
                .filter(|other| self.reached_from(other).contains(node))
                .cloned()
                .collect();
            if !circle.is_empty() {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    /// The arrows, without those that a longer path implies.
    pub(super) fn reduced(&self) -> Vec<(N, N)> {
        let mut arrows = Vec::new();
        for (from, all) in &self.0 {
            for to in all {
                let implied = all
                    .iter()
                    .any(|other| other != to && self.reached_from(other).contains(to));
                if !implied {
                    arrows.push((from.clone(), to.clone()));
                }
            }
        }
        arrows
    }

    /// Everything that arrows lead to from `node`; itself only through a circle.
    fn reached_from(&self, node: &N) -> BTreeSet<N> {
        let mut reached = BTreeSet::new();
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            for next in self.0.get(node).into_iter().flatten() {
                if reached.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_found_whole_and_once() {
        let graph = Graph::new([("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("e", "e")]);
        assert_eq!(graph.circles(), [vec!["b", "c"], vec!["e"]]);
        assert!(
            Graph::new([("a", "b"), ("a", "c"), ("b", "c")])
                .circles()
                .is_empty()
        );
    }

    #[test]
    fn an_arrow_that_others_imply_is_left_out() {
        let graph = Graph::new([("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")]);
        assert_eq!(graph.reduced(), [("a", "b"), ("a", "d"), ("b", "c")]);
    }
}
