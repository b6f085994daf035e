//! The table of hooks against the kernels on which the agent was judged: what each of them has, by its
//! BTF (`tests/prototypes.json`), and what came of it (`tests/kernels.json`). `cargo xtask test kernels`
//! writes both.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;

/// What a hook is on one kernel.
#[derive(Debug, PartialEq, Eq)]
enum There {
    /// It attaches.
    Attachable,
    /// It is of newer kernels: neither tried nor missing.
    NotOffered,
    /// The other way to see connect() does its work.
    Replaced,
    /// Nothing does.
    Lost,
}

fn there(hook: &Hook, release: &str, architecture: &str, found: &Value) -> There {
    let version = KernelVersion::of(release).unwrap();
    if !hook.is_offered_by(Some(version)) {
        return There::NotOffered;
    }
    let fits = match hook.target {
        Target::BtfTracepoint => begins(hook, &found[hook.name]),
        Target::FunctionReturn => {
            let all = found[hook.name].as_array().map(Vec::len);
            all == Some(hook.arguments.len()) && begins(hook, &found[hook.name])
        }
        Target::Iterator(over) => begins(hook, &found[&*format!("bpf_iter_{over}")]),
        // Neither relies on anything of BTF's.
        Target::Tracepoint(_) | Target::OnDemand => true,
    };
    if fits && version >= hook.since && version >= hook.target.since(architecture) {
        There::Attachable
    } else if hook.way == Some(Way::Functions) {
        There::Replaced
    } else {
        There::Lost
    }
}

/// Whether a kernel's arguments begin with those that the hook relies on.
fn begins(hook: &Hook, found: &Value) -> bool {
    let Some(found) = found.as_array() else {
        return false;
    };
    let fits = |(wanted, found): (&&str, &Value)| {
        let found = found.as_str().unwrap_or_default();
        found == *wanted || (*wanted == "*" && found.ends_with('*'))
    };
    found.len() >= hook.arguments.len() && hook.arguments.iter().zip(found).all(fits)
}

fn read(text: &str) -> BTreeMap<String, Value> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn each_kernel_of_the_matrix_has_the_hooks_that_the_table_says() {
    let prototypes = read(include_str!("../../../tests/prototypes.json"));
    let judged = read(include_str!("../../../tests/kernels.json"));
    assert!(prototypes.len() > 1, "no kernel was looked at");
    for (release, found) in &prototypes {
        let architecture = if release.contains("arm64") {
            "aarch64"
        } else {
            "x86_64"
        };
        let mut way = Way::Functions;
        for hook in HOOKS {
            match there(hook, release, architecture, found) {
                There::Attachable | There::NotOffered => {}
                There::Replaced => way = Way::Tracepoints,
                // All of them have every hook, by one way or the other.
                There::Lost => panic!("{release} has no {}", hook.name),
            }
        }
        let hook = match way {
            Way::Functions => "fexit",
            Way::Tracepoints => "tracepoints",
        };
        // So it was in a guest, too, wherever the agent came so far.
        let rows = judged
            .iter()
            .filter(|(_, row)| row["kernel"] == **release && row["connect_hook"].is_string());
        for (name, row) in rows {
            assert_eq!(row["connect_hook"], hook, "{name}");
            assert_eq!(row["hooks_missing"], serde_json::json!([]), "{name}");
        }
    }
}

#[test]
fn what_a_kernel_lacks_is_replaced_or_lost() {
    let hook = |name: &str| HOOKS.iter().find(|hook| hook.name == name).unwrap();
    let socket = ["struct socket *", "struct sockaddr *", "int", "int"];
    let found = serde_json::json!({
        "inet_stream_connect": socket,
        "inet_dgram_connect": &socket[..3],
        "sched_process_exec": null,
        "tcp_retransmit_skb": ["struct sock *", "struct sk_buff *", "int"],
    });
    let on = |name, release, architecture| there(hook(name), release, architecture, &found);
    for (name, release, architecture, expected) in [
        (
            "inet_stream_connect",
            "6.1.0-1",
            "x86_64",
            There::Attachable,
        ),
        (
            "inet_stream_connect",
            "5.10.0-1",
            "aarch64",
            There::Replaced,
        ),
        ("inet_stream_connect", "6.1.0-1", "aarch64", There::Replaced),
        (
            "inet_stream_connect",
            "6.12.1",
            "aarch64",
            There::Attachable,
        ),
        // What it returned would be looked for at another place.
        ("inet_dgram_connect", "6.1.0-1", "x86_64", There::Replaced),
        ("sched_process_exec", "6.1.0-1", "x86_64", There::Lost),
        ("tcp_retransmit_skb", "7.3.4", "x86_64", There::Attachable),
        ("enumerate", "7.3.4", "x86_64", There::Lost),
        (
            "inet_sk_error_report",
            "5.10.0-1",
            "x86_64",
            There::NotOffered,
        ),
        ("sample", "7.3.4", "x86_64", There::Attachable),
    ] {
        assert_eq!(
            on(name, release, architecture),
            expected,
            "{name} {release}"
        );
    }
}

fn left_out_by(running: Option<KernelVersion>) -> Vec<&'static str> {
    let left_out = HOOKS.iter().filter(|hook| !hook.is_offered_by(running));
    left_out.map(|hook| hook.name).collect()
}

#[test]
fn only_what_a_supported_kernel_is_too_old_for_is_left_out() {
    let none: [&str; 0] = [];
    assert_eq!(
        left_out_by(Some(KernelVersion::new(5, 13))),
        ["inet_sk_error_report"]
    );
    assert_eq!(left_out_by(Some(KernelVersion::new(5, 14))), none);
    assert_eq!(left_out_by(None), none);
    // A kernel that is older than all that are supported gets to hear why it is refused.
    let older = left_out_by(Some(KernelVersion::new(4, 18)));
    assert_eq!(older, ["inet_sk_error_report"]);
}
