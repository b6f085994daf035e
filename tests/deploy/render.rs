//! Runs Helm and Kustomize, and parses what they render.

use std::{collections::BTreeMap, process::Output};

use serde_json::Value;
use statlink_tests::deploy;

/// Objects by kind, namespace and name.
pub(crate) type Objects = BTreeMap<String, Value>;

/// Helm on this chart.
pub(crate) fn helm(arguments: &[&str]) -> Output {
    deploy::helm(arguments).unwrap()
}

/// What the chart installs with these arguments.
pub(crate) fn template(arguments: &[&str]) -> Objects {
    template_all(&[&["--skip-tests"], arguments].concat())
}

/// The same with what `helm test` runs.
pub(crate) fn template_all(arguments: &[&str]) -> Objects {
    let fixed = ["template", "statlink", "--namespace", "statlink"];
    let output = helm(&[&fixed, arguments].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    objects(&text(&output.stdout))
}

/// What Kustomize builds of a directory below `deploy/kustomize`.
pub(crate) fn kustomize(directory: &str) -> Objects {
    objects(&deploy::kustomize(directory).unwrap())
}

/// What a program printed on standard error.
pub(crate) fn stderr(output: &Output) -> String {
    text(&output.stderr)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn objects(yaml: &str) -> Objects {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    let named = documents
        .into_iter()
        .filter(|one| !one.is_null())
        .map(|one| {
            let name = |path: &str| one.pointer(path).and_then(Value::as_str).unwrap_or("-");
            let key = format!(
                "{} {}/{}",
                name("/kind"),
                name("/metadata/namespace"),
                name("/metadata/name")
            );
            (key, one)
        });
    named.collect()
}
