//! The API server's own validation of the manifests.

use statlink_tests::{build, control_plane::ControlPlane, deploy, netns::Network};

#[test]
fn the_api_server_accepts_everything_that_helm_and_kustomize_render() {
    let network = Network::new().unwrap();
    let plane = ControlPlane::start(network.node()).unwrap();
    // A dry run creates nothing, so the namespaces must exist.
    for namespace in ["statlink", "knative-serving", "serving", "observability"] {
        plane.namespace(namespace).unwrap();
    }
    define_operator_kinds(&plane);
    let mut rendered = Vec::new();
    for values in deploy::examples().unwrap() {
        let values = values.to_str().unwrap();
        for profile in ["privileged", "restricted"] {
            let profile = format!("security.profile={profile}");
            let template = ["template", "statlink", "--namespace=statlink", "--values"];
            let output = deploy::helm(&[&template[..], &[values, "--set", &profile]].concat());
            let manifests = String::from_utf8(output.unwrap().stdout).unwrap();
            rendered.push(manifests);
        }
    }
    for name in ["own-namespace", "base", "restricted"] {
        rendered.push(deploy::kustomize(name).unwrap());
    }
    for manifests in &rendered {
        let accepted = plane.try_apply(manifests).unwrap();
        assert!(accepted.contains("daemonset.apps/"), "{accepted}");
    }
    let all = rendered.join("\n---\n");
    for kind in ["PodMonitor", "PrometheusRule", "ServiceMonitor"] {
        assert!(all.contains(&format!("kind: {kind}\n")), "{kind}");
    }
    // The validation is strict: an unknown field is refused.
    let base = rendered.last().unwrap();
    let typo = base.replacen("hostPID: true", "hostPid: true", 1);
    let refusal = plane.try_apply(&typo).unwrap_err().to_string();
    assert!(refusal.contains("hostPid"), "{refusal}");
}

/// Gives the API server the kinds that the Prometheus operator brings, with their schemas.
fn define_operator_kinds(plane: &ControlPlane) {
    let definitions = build::operator_definitions().unwrap();
    for kind in ["podmonitors", "prometheusrules", "servicemonitors"] {
        let file = definitions.join(format!("monitoring.coreos.com_{kind}.yaml"));
        let file = file.to_str().unwrap();
        plane.kubectl(&["create", "--filename", file]).unwrap();
        let definition = format!("customresourcedefinition/{kind}.monitoring.coreos.com");
        let served = ["wait", "--for=condition=Established", "--timeout=60s"];
        plane
            .kubectl(&[&served[..], &[&definition]].concat())
            .unwrap();
    }
}

/// `namespace:` of an overlay moves every object; the Role is of use in Knative's namespace alone.
#[test]
fn an_overlay_with_its_own_namespace_may_read_knative_s() {
    let network = Network::new().unwrap();
    let plane = ControlPlane::start(network.node()).unwrap();
    plane.namespace("knative-serving").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("own.yaml");
    std::fs::write(&file, deploy::kustomize("own-namespace").unwrap()).unwrap();
    let file = file.to_str().unwrap();
    plane.kubectl(&["apply", "--filename", file]).unwrap();
    for resource in ["pods", "services", "endpointslices.discovery.k8s.io"] {
        for verb in ["list", "watch"] {
            let may = |namespace| {
                let account = "--as=system:serviceaccount:observability:statlink";
                // It ends with 1 for a no.
                plane.kubectl(&[
                    "auth",
                    "can-i",
                    verb,
                    resource,
                    account,
                    "--namespace",
                    namespace,
                ])
            };
            assert_eq!(may("knative-serving").unwrap().trim(), "yes");
            assert!(may("observability").is_err(), "{verb} {resource}");
        }
    }
}
