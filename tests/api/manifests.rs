//! What is deployed, by the API server's own validation.

use statlink_tests::{control_plane::ControlPlane, deploy, netns::Network};

#[test]
fn the_api_server_accepts_all_that_helm_and_kustomize_render() {
    let network = Network::new().unwrap();
    let plane = ControlPlane::start(network.node()).unwrap();
    // A dry run makes no namespace for what follows.
    for namespace in ["statlink", "knative-serving", "serving"] {
        plane.namespace(namespace).unwrap();
    }
    let mut rendered = Vec::new();
    for values in deploy::examples().unwrap() {
        let values = values.to_str().unwrap();
        for profile in ["privileged", "restricted"] {
            let profile = format!("security.profile={profile}");
            let template = ["template", "statlink", "--namespace=statlink", "--values"];
            let output = deploy::helm(&[&template[..], &[values, "--set", &profile]].concat());
            rendered.push(String::from_utf8(output.unwrap().stdout).unwrap());
        }
    }
    for name in ["base", "restricted"] {
        rendered.push(deploy::kustomize(name).unwrap());
    }
    for manifests in &rendered {
        let told = plane.try_apply(manifests).unwrap();
        assert!(told.contains("daemonset.apps/"), "{told}");
    }
    // It is the API server that accepts: what it does not know, it refuses.
    let base = rendered.last().unwrap();
    let typo = base.replacen("hostPID: true", "hostPid: true", 1);
    let refusal = plane.try_apply(&typo).unwrap_err().to_string();
    assert!(refusal.contains("hostPid"), "{refusal}");
}
