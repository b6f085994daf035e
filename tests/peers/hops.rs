//! A proxy in the activator's pod, as a mesh's sidecar: haproxy behind a redirection, which takes
//! the activator's connection whatever the autoscaler does. It explains, and never proves.

use std::{fs, net::SocketAddrV4, time::Duration};

use statlink_tests::{
    fault::Fault,
    figures::Figures,
    netns::Pod,
    peer::{Activator, PORT, Traffic},
    process::Process,
    scenario::Bed,
    service::Service,
};
use tempfile::TempDir;

use crate::{PATIENCE, start_agent, told::log};

/// What dials `service` in `pod` meets the sidecar; both last as long as this.
struct Sidecar {
    _haproxy: Process,
    _redirection: Fault,
    _directory: TempDir,
}

impl Sidecar {
    /// One that passes everything on to `upstream`.
    fn passing(pod: &Pod, service: SocketAddrV4, upstream: SocketAddrV4) -> Self {
        let rules = format!("mode tcp\n  retries 0\n  server upstream {upstream}\n");
        Self::start(pod, service, &rules)
    }

    /// One that answers by itself.
    fn answering(pod: &Pod, service: SocketAddrV4, status: u16) -> Self {
        let rules = format!("mode http\n  http-request deny deny_status {status}\n");
        Self::start(pod, service, &rules)
    }

    fn start(pod: &Pod, service: SocketAddrV4, rules: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("haproxy.cfg");
        let configuration = format!(
            "defaults\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\
             listen sidecar\n  bind 127.0.0.1:{SIDECAR}\n  {rules}"
        );
        fs::write(&file, configuration).unwrap();
        let mut command = pod.namespace.command("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        let mut haproxy = Process::spawn("haproxy", command).unwrap();
        let redirection = Fault::redirect(&pod.namespace, service, SIDECAR).unwrap();
        let listens = || {
            pod.namespace
                .run(|| std::net::TcpStream::connect(("127.0.0.1", SIDECAR)).is_ok())
        };
        while !listens().unwrap() {
            assert!(haproxy.is_running(), "{}", haproxy.describe());
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            _haproxy: haproxy,
            _redirection: redirection,
            _directory: directory,
        }
    }
}

/// A node without an autoscaler yet, an agent, a pod, and the Service that its activator dials.
fn world() -> (Bed, Pod, SocketAddrV4, SocketAddrV4) {
    let mut bed = Bed::without_autoscaler().unwrap();
    start_agent(&mut bed);
    let pod = bed.network.pod("activator").unwrap();
    let service = Service::new(bed.network.node(), PORT).unwrap().socket();
    let upstream = SocketAddrV4::new(bed.autoscaler_pod.v4, PORT);
    (bed, pod, service, upstream)
}

fn hop_of(bed: &Bed, activator: &Activator) -> Option<String> {
    let lines = log(bed, activator, "ERROR");
    let line = lines.last()?;
    line.get("hop.address").as_str().map(str::to_owned)
}

#[test]
fn an_upstream_that_refuses_the_sidecar_is_the_cause() {
    let (mut bed, pod, service, upstream) = world();
    let _sidecar = Sidecar::passing(&pod, service, upstream);
    let activator = Activator::start(&pod, service.into(), Traffic::Idle).unwrap();
    bed.wait_error(&activator, "connect", "connection_refused", PATIENCE)
        .unwrap();
    bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
    assert_eq!(hop_of(&bed, &activator), Some(upstream.to_string()));

    bed.start_autoscaler().unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    bed.check_invariants().unwrap();
}

#[test]
fn a_sidecar_that_refuses_the_upgrade_by_itself_fails_the_handshake() {
    for status in [403, 503] {
        let (bed, pod, service, _) = world();
        let _sidecar = Sidecar::answering(&pod, service, status);
        let activator = Activator::start(&pod, service.into(), Traffic::Idle).unwrap();
        bed.wait_error(&activator, "connect", "handshake_failed", PATIENCE)
            .unwrap();
        bed.wait_reachable(&activator, 0, PATIENCE).unwrap();
        assert_eq!(hop_of(&bed, &activator), None, "{status}");
        assert_eq!(Figures::of(&bed, &activator).connects, 0.0);
    }
}

#[test]
fn a_sidecar_that_acknowledges_for_a_lost_upstream_does_not_hide_it() {
    let (mut bed, pod, service, upstream) = world();
    bed.start_autoscaler().unwrap();
    let _sidecar = Sidecar::passing(&pod, service, upstream);
    let flowing = Traffic::Every(Duration::from_secs(1));
    let activator = Activator::start(&pod, service.into(), flowing).unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    assert_eq!(Figures::of(&bed, &activator).checks("connect"), 1.0);

    let blackhole = bed.faults(&activator).blackhole().unwrap();
    bed.wait_error(&activator, "disconnect", "stalled", PATIENCE)
        .unwrap();
    assert_eq!(hop_of(&bed, &activator), Some(upstream.to_string()));
    blackhole.heal().unwrap();
    bed.wait_reachable(&activator, 1, PATIENCE).unwrap();
    bed.check_invariants().unwrap();
}

/// Where the sidecar listens.
const SIDECAR: u16 = 15_001;
