//! A machine that lacks something: one line that names it and the cure, and the exit code.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt as _,
    process::{Command, Output},
    time::Duration,
};

use serde_json::Value;
use statlink_tests::{
    agent, build,
    netns::Network,
    peer::Activator,
    process::{Line, Process},
    wait,
};

use crate::PATIENCE;

/// A shell in a mount namespace of its own that runs `before` and then `statlink ARGUMENTS`.
fn statlink_after(before: &str, arguments: &str) -> Command {
    statlink_by("", before, arguments)
}

/// The same, executed by a program and its arguments.
fn statlink_by(by: &str, before: &str, arguments: &str) -> Command {
    let binary = agent::command(None).unwrap();
    let binary = binary.get_program().to_str().unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-ec"])
        .arg(format!("{before}\nexec {by} {binary} {arguments}"))
        // It needs no Collector.
        .env("OTEL_METRICS_EXPORTER", "none");
    command
}

/// The same without these capabilities.
fn statlink_without(capabilities: &str, before: &str, arguments: &str) -> Command {
    let dropped = capabilities
        .split(',')
        .map(|name| format!("-{name}"))
        .collect::<Vec<_>>()
        .join(",");
    let by = format!("setpriv --bounding-set={dropped} --inh-caps={dropped}");
    statlink_by(&by, before, arguments)
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The findings of `check --json`, and its exit code.
fn check(command: &mut Command) -> (Vec<Value>, Option<i32>) {
    let output = command.output().unwrap();
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let findings = document.pointer("/findings").unwrap().as_array().unwrap();
    let ok = document.pointer("/ok").unwrap();
    assert_eq!(
        ok,
        &Value::Bool(output.status.code() == Some(0)),
        "{document}"
    );
    (findings.clone(), output.status.code())
}

fn verdict<'a>(findings: &'a [Value], subject: &str) -> &'a str {
    field(of(findings, subject), "verdict")
}

fn of<'a>(findings: &'a [Value], subject: &str) -> &'a Value {
    let is_it = |finding: &&Value| field(finding, "subject") == subject;
    let finding = findings.iter().find(is_it);
    finding.unwrap_or_else(|| panic!("no {subject}"))
}

fn field<'a>(finding: &'a Value, name: &str) -> &'a str {
    finding
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[test]
fn this_machine_has_all_that_the_agent_needs() {
    let mut command = statlink_after("", "check --json --socket /run/statlink-check/s.sock");
    let (findings, code) = check(&mut command);
    assert_eq!(code, Some(0), "{findings:#?}");
    for subject in [
        "kernel types",
        "hook inet_sock_set_state",
        "hook enumerate",
        "hook sample",
        "CAP_BPF",
        "control socket",
    ] {
        assert_eq!(verdict(&findings, subject), "ok");
    }
    // fexit where the kernel has it, and then no tracepoint.
    let sees_connect = findings.iter().filter(|finding| {
        let subject = field(finding, "subject");
        subject == "hook inet_stream_connect" || subject == "hook sys_enter_connect"
    });
    let verdicts: Vec<_> = sees_connect.map(|hook| field(hook, "verdict")).collect();
    assert_eq!(verdicts, ["ok"], "{findings:#?}");
    assert!(
        !std::path::Path::new("/run/statlink-check").exists(),
        "it left its directory behind"
    );
}

#[test]
fn without_kernel_types_the_message_names_their_file() {
    let hidden = "mount -t tmpfs none /sys/kernel/btf";
    let cut = "head -c 1000 /sys/kernel/btf/vmlinux >/dev/shm/statlink-btf-$$; \
               mount --bind /dev/shm/statlink-btf-$$ /sys/kernel/btf/vmlinux; \
               rm /dev/shm/statlink-btf-$$";
    for before in [hidden, cut] {
        let output = statlink_after(before, "run").output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let message = stderr(&output);
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(message.contains("/sys/kernel/btf/vmlinux"), "{message}");

        let (findings, code) = check(&mut statlink_after(before, "check --json"));
        assert_eq!(code, Some(3));
        assert_eq!(verdict(&findings, "kernel types"), "unsupported");
    }
    let output = statlink_after(hidden, "run").output().unwrap();
    assert!(
        stderr(&output).contains("CONFIG_DEBUG_INFO_BTF=y"),
        "{output:?}"
    );
}

#[test]
fn a_capability_that_is_missing_is_named() {
    for missing in ["bpf,sys_admin", "perfmon,sys_admin"] {
        let output = statlink_without(missing, "", "run").output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{missing}: {output:?}");
        let message = stderr(&output);
        assert_eq!(message.lines().count(), 1, "{message}");
        let name = missing.split(',').next().unwrap();
        let subject = format!("CAP_{}", name.to_uppercase());
        let cure = format!("add {subject} to the container's capabilities");
        assert!(message.contains(&cure), "{message}");

        let (findings, code) = check(&mut statlink_without(missing, "", "check --json"));
        assert_eq!(code, Some(3), "{missing}");
        assert_eq!(verdict(&findings, &subject), "unsupported");
    }
    let (findings, code) = check(&mut statlink_without("sys_ptrace", "", "check --json"));
    assert_eq!(code, Some(1));
    assert_eq!(verdict(&findings, "CAP_SYS_PTRACE"), "failed");
}

/// `statlink ARGUMENTS` after `before`, under a seccomp filter that answers one system call.
fn statlink_refused(call: &str, errno: i32, before: &str, arguments: &str) -> Command {
    let refusing = build::helper("refusing").unwrap();
    let refusing = refusing.to_str().unwrap();
    statlink_by(&format!("{refusing} {call} {errno}"), before, arguments)
}

#[test]
fn a_seccomp_filter_is_named_and_no_capability_that_is_held() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        let output = statlink_refused("bpf", errno, "", "run").output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let message = stderr(&output);
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(message.contains("seccomp filter"), "{message}");
        assert!(!message.contains("add CAP_"), "{message}");

        let (findings, code) = check(&mut statlink_refused("bpf", errno, "", "check --json"));
        assert_eq!(code, Some(3));
        let causes: Vec<_> = findings.iter().map(|one| field(one, "cause")).collect();
        assert!(causes.contains(&"seccomp"), "{findings:#?}");
        assert_eq!(verdict(&findings, "CAP_BPF"), "ok");
    }
}

#[test]
fn the_first_reason_is_kept_where_a_hook_is_refused() {
    // As a profile that admits bpf() alone does. tracefs is visible here, or is mounted.
    let check_tracepoints = format!("check --json {TRACEPOINTS}");
    let mut command = statlink_refused("perf_event_open", libc::EACCES, "", &check_tracepoints);
    let (findings, code) = check(&mut command);
    assert_eq!(code, Some(0), "{findings:#?}");
    assert_eq!(verdict(&findings, "tracefs"), "ok");
    let hook = of(&findings, "hook sys_enter_connect");
    assert_eq!(field(hook, "cause"), "seccomp", "{hook:#}");
    assert!(
        field(hook, "detail").contains("Permission denied"),
        "{hook:#}"
    );

    let socket = std::env::temp_dir().join(format!("statlink-{}-p.sock", std::process::id()));
    let arguments = format!("run {TRACEPOINTS} --socket {}", socket.display());
    let command = statlink_refused("perf_event_open", libc::EACCES, "", &arguments);
    let mut agent = Process::spawn("statlink run", command).unwrap();
    for hook in ["sys_enter_connect", "sys_exit_connect"] {
        let warned = agent
            .wait_for("warning", PATIENCE, |line| line.get("hook") == hook)
            .unwrap();
        assert_eq!(warned.get("cause"), "seccomp", "{}", warned.text);
        assert!(warned.text.contains("perf_event_open()"), "{}", warned.text);
        assert!(!warned.text.contains("mount tracefs"), "{}", warned.text);
    }
    assert_eq!(agent.terminate(PATIENCE).unwrap().code(), Some(0));
}

#[test]
fn a_refused_mount_is_told_with_what_refused_it() {
    let check_tracepoints = format!("check --json {TRACEPOINTS}");
    let refused = statlink_refused("mount", libc::EACCES, HIDE_TRACEFS, &check_tracepoints);
    let without = statlink_without("sys_admin", HIDE_TRACEFS, &check_tracepoints);
    for (mut command, cause) in [(refused, "seccomp"), (without, "capability")] {
        let (findings, code) = check(&mut command);
        assert_eq!(code, Some(0), "{findings:#?}");
        for subject in ["tracefs", "hook sys_enter_connect", "hook sys_exit_connect"] {
            let finding = of(&findings, subject);
            assert_eq!(field(finding, "cause"), cause, "{finding:#}");
            assert!(
                field(finding, "detail").contains("mounting one failed"),
                "{finding:#}"
            );
            assert!(
                field(finding, "cure").contains("read-only hostPath"),
                "{finding:#}"
            );
        }
    }
}

#[test]
fn a_pid_namespace_other_than_the_host_s_is_refused() {
    // A pod without hostPID, and every pod of a node that is itself a container.
    let within = |arguments: &str| {
        let binary = agent::command(None).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--pid", "--fork", "--mount-proc"])
            .arg(binary.get_program())
            .args(arguments.split(' '))
            .env("OTEL_METRICS_EXPORTER", "none");
        command
    };
    let output = within("run")
        .env("OTEL_METRICS_EXPORTER", "otlp")
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "5000")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let message = stderr(&output);
    assert!(message.contains("set hostPID in Kubernetes"), "{message}");
    // What was logged before is not lost.
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(log.contains("4000 ms is used"), "{log}");
    let (findings, code) = check(&mut within("check --json"));
    assert_eq!(code, Some(3));
    assert_eq!(verdict(&findings, "pid namespace"), "unsupported");
}

#[test]
fn activators_that_cannot_be_inspected_are_counted_and_logged_once() {
    let network = Network::new().unwrap();
    let pod = network.pod("activator").unwrap();
    let _activator = Activator::stand_in(&pod, ["idle"]).unwrap();
    let socket = std::env::temp_dir().join(format!("statlink-{}-u.sock", std::process::id()));
    let arguments = format!("run --socket {}", socket.display());
    let without = "sys_ptrace,dac_read_search,dac_override";
    let command = statlink_without(without, "", &arguments);
    let mut agent = Process::spawn("statlink run", command).unwrap();
    let unseen = |line: &Line| {
        let error = line.get("error").as_str().unwrap_or_default();
        error.contains("/environ")
    };
    let warning = agent.wait_for("warning", PATIENCE, unseen).unwrap();
    assert_eq!(warning.get("level"), "WARN");
    assert!(warning.text.contains("CAP_SYS_PTRACE"), "{}", warning.text);
    assert!(warning.get("process.pid").is_u64(), "{}", warning.text);
    // Its next walk of /proc finds a process that took the name without an exec, which no hook sees.
    // The reason is the same, so there is no second warning.
    let _later = renamed_to_activator();
    wait::until("two processes without a link", NEXT_WALK, || {
        let mut status = agent::command(None)?;
        let output = status
            .args(["status", "--json", "--socket"])
            .arg(&socket)
            .output()?;
        let status: Value = serde_json::from_slice(&output.stdout)?;
        let denied = status["clients_refused"]["denied"].as_u64();
        Ok(denied.filter(|denied| *denied >= 2))
    })
    .unwrap();
    let warnings = agent.lines().iter().filter(|line| unseen(line)).count();
    assert_eq!(warnings, 1);
    assert_eq!(agent.terminate(PATIENCE).unwrap().code(), Some(0));
}

#[test]
fn without_tracefs_it_mounts_its_own_or_runs_on_and_says_what_is_missing() {
    let hidden = HIDE_TRACEFS;
    let check_tracepoints = format!("check --json {TRACEPOINTS}");
    let (findings, _) = check(&mut statlink_after(hidden, &check_tracepoints));
    assert_eq!(verdict(&findings, "hook sys_enter_connect"), "ok");

    // A mount takes CAP_SYS_ADMIN.
    let mut command = statlink_without("sys_admin", hidden, &check_tracepoints);
    let (findings, code) = check(&mut command);
    assert_eq!(code, Some(0), "{findings:#?}");
    assert_eq!(verdict(&findings, "hook sys_enter_connect"), "warning");
    assert_eq!(verdict(&findings, "hook inet_sock_set_state"), "ok");

    let socket = std::env::temp_dir().join(format!("statlink-{}.sock", std::process::id()));
    let arguments = format!("run {TRACEPOINTS} --socket {}", socket.display());
    let command = statlink_without("sys_admin", hidden, &arguments);
    let mut agent = Process::spawn("statlink run", command).unwrap();
    let warned = agent
        .wait_for("warning", PATIENCE, |line| line.get("level") == "WARN")
        .unwrap();
    assert_eq!(warned.get("hook"), "sys_enter_connect", "{}", warned.text);
    assert!(warned.text.contains("not seen"), "{}", warned.text);
    assert!(
        warned.text.contains("/sys/kernel/tracing"),
        "{}",
        warned.text
    );
    agent
        .wait_for("start", PATIENCE, |line| line.get("message") == "Attached.")
        .unwrap();
    assert_eq!(agent.terminate(PATIENCE).unwrap().code(), Some(0));
}

#[test]
fn a_socket_or_address_that_cannot_be_used_is_named() {
    let output = statlink_after("", "run --socket /proc/no/statlink.sock")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let message = stderr(&output);
    assert!(message.contains("/proc/no/statlink.sock"), "{message}");
    assert!(message.contains("--socket"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let socket = std::env::temp_dir().join(format!("statlink-{}-h.sock", std::process::id()));
    let arguments = format!(
        "run --health-address {address} --socket {}",
        socket.display()
    );
    let output = statlink_after("", &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let message = stderr(&output);
    assert!(message.contains(&address.to_string()), "{message}");
    assert!(message.contains("in use"), "{message}");
    assert!(!socket.exists(), "it left its socket behind");
}

#[test]
fn pins_without_a_state_are_refused_by_the_flag_that_asks_for_them() {
    for (arguments, variables, named) in [
        (
            "run --pin-directory /sys/fs/bpf/statlink",
            "",
            "--pin-directory",
        ),
        (
            "run",
            "STATLINK_PIN_DIRECTORY=/sys/fs/bpf/statlink",
            "STATLINK_PIN_DIRECTORY",
        ),
    ] {
        let mut command = statlink_after("", arguments);
        if let Some((name, value)) = variables.split_once('=') {
            command.env(name, value);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let message = stderr(&output);
        let expected = format!("{named}: needs --state-dir");
        assert!(message.contains(&expected), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

/// A process of another user that gives itself the activator's name.
fn renamed_to_activator() -> Process {
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            "printf activator >/proc/$$/comm && echo renamed && read -r end",
        ])
        .gid(65_532)
        .uid(65_532);
    let mut process = Process::spawn("a renamed process", shell).unwrap();
    process
        .wait_for("new name", PATIENCE, |line| line.text == "renamed")
        .unwrap();
    process
}

/// What needs tracefs is asked for: where fexit loads, it is not tried.
const TRACEPOINTS: &str = "--connect-hook tracepoints";
/// In a mount namespace of one's own.
const HIDE_TRACEFS: &str = "umount -l /sys/kernel/tracing /sys/kernel/debug/tracing /sys/kernel/debug \
     2>/dev/null || true";
/// The agent walks /proc every 30 s.
const NEXT_WALK: Duration = Duration::from_secs(60);
