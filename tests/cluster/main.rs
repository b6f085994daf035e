//! On a real node: a kubelet's pods, Services by kube-proxy, Knative as it is deployed. Needs
//! root.

mod up;

use std::time::Duration;

/// Long enough on a busy machine for a pod to come or go.
const SOON: Duration = Duration::from_secs(90);
