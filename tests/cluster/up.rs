//! The cluster itself, without the agent: Knative's own metric is there to compare with.

use statlink_tests::{
    cluster::{Cluster, KNATIVE},
    collector::Value,
    scenario::metric::REACHABLE,
};

use crate::SOON;

#[test]
fn knative_s_own_metric_follows_the_autoscaler() {
    let mut cluster = Cluster::start().unwrap();
    let told = |cluster: &Cluster, value: f64| {
        cluster
            .exports
            .wait_for(REACHABLE, &[("peer", "autoscaler")], SOON, |point| {
                point.value == Value::Gauge(value)
            })
            .unwrap()
    };
    told(&cluster, 1.0);

    cluster.scale(KNATIVE, "deployment/autoscaler", 0).unwrap();
    told(&cluster, 0.0);

    cluster.scale(KNATIVE, "deployment/autoscaler", 1).unwrap();
    cluster
        .rollout_status(KNATIVE, "deployment/autoscaler", SOON)
        .unwrap();
    told(&cluster, 1.0);

    assert_eq!(cluster.exports.undecodable(), Vec::<String>::new());
}
