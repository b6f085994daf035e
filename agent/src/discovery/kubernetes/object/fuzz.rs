//! Fuzzes the reader of the Kubernetes API's objects.

use bolero::check;
use serde_json::Value;

use super::{EndpointSlice, Pod, Service};
use crate::fuzz::{Edit, ITERATIONS, edited};

const POD: &str = r#"{"metadata":{"name":"activator-1","namespace":"knative-serving","uid":"u",
"resourceVersion":"7","deletionTimestamp":"2026-01-02T03:04:05Z"},"spec":{"hostNetwork":true},
"status":{"containerStatuses":[{"name":"activator","containerID":"containerd://abc"},{"name":"b"}],
"initContainerStatuses":[{"name":"sidecar","containerID":"cri-o://def"}]}}"#;
const SERVICE: &str = r#"{"metadata":{"name":"autoscaler"},
"spec":{"clusterIPs":["10.96.0.9","fd00::9","None"],"externalIPs":["192.0.2.1"]}}"#;
const SLICE: &str = r#"{"metadata":{"name":"autoscaler-x"},
"endpoints":[{"addresses":["10.1.0.2","::ffff:10.1.0.3"]},{}]}"#;

#[test]
fn any_object_is_read_or_refused() {
    check!()
        .with_iterations(ITERATIONS)
        .with_type::<Vec<Edit>>()
        .for_each(|edits| {
            let edits = edits.get(..2).unwrap_or(edits);
            let pod = edited(POD.as_bytes(), edits);
            if let Ok(read) = serde_json::from_slice::<Pod>(&pod) {
                // The reader skips most of an object. This one skips nothing, so it also refuses
                // skipped text that is not UTF-8.
                let Ok(whole) = serde_json::from_slice::<Value>(&pod) else {
                    return;
                };
                let deleted = &whole["metadata"]["deletionTimestamp"];
                assert_eq!(read.is_terminating(), !deleted.is_null());
                let host = whole["spec"]["hostNetwork"].as_bool();
                assert_eq!(read.is_on_host_network(), host.unwrap_or_default());
                for (name, id) in read.containers() {
                    let known = |list: &str| {
                        let list = whole["status"][list].as_array();
                        list.into_iter().flatten().any(|one| {
                            let whole = one["containerID"].as_str().unwrap_or_default();
                            one["name"] == name && whole.ends_with(&format!("://{id}"))
                        })
                    };
                    assert!(known("containerStatuses") || known("initContainerStatuses"));
                }
            }
            let service = serde_json::from_slice::<Service>(&edited(SERVICE.as_bytes(), edits));
            let slice = serde_json::from_slice::<EndpointSlice>(&edited(SLICE.as_bytes(), edits));
            let service = service.iter().filter_map(Service::addresses);
            let slice = slice.iter().filter_map(EndpointSlice::addresses);
            for address in service.chain(slice).flatten() {
                // The kernel reports a mapped address in its IPv4 form.
                assert_eq!(address, address.to_canonical());
            }
        });
}
