//! The pod and container of a process, by the name of its control group.
//!
//! Reading `/proc/PID/cgroup` needs no capability. The kubelet names a pod's group by the pod's uid,
//! and the runtime names the group below it by the container's id. How the two are wrapped depends
//! on the driver of each, and the kubelet's and the runtime's may differ:
//!
//! - cgroupfs: `/kubepods/burstable/pod<uid>/<container id>`
//! - systemd: `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid, - as _>.slice/`
//!   `cri-containerd-<container id>.scope` (`crio-…`, `docker-…`)
//! - a systemd kubelet with a cgroupfs runtime: `…-pod<uid>.slice:cri-containerd:<container id>`
//! - a kubelet with `--cgroup-root`: `/kubelet.slice/…/kubelet-kubepods-burstable-pod<uid>.slice/…`
//! - a process in a sibling of the reader's control group namespace: `/../crio-<container id>.scope`,
//!   where the pod's own group is not visible
//!
//! So a pod's uid and a container's id are recognised by their own form, wherever they stand.
//!
//! Source: `pkg/kubelet/cm/{cgroup_manager_linux,pod_container_manager_linux}.go` of Kubernetes.

/// What the name of a control group says about a container: at least one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    /// The pod's uid.
    pub(super) pod_uid: Option<String>,
    /// The container's id, without the runtime's prefix.
    pub(super) id: Option<String>,
}

impl Container {
    /// Parses `/proc/PID/cgroup`. With cgroup v1 the kubelet may use any hierarchy, so the line
    /// that says most counts. `None` for a process outside of containers.
    pub(super) fn of(cgroup: &str) -> Option<Self> {
        let mut found: Option<Self> = None;
        for container in cgroup.lines().filter_map(Self::of_line) {
            if found
                .as_ref()
                .is_none_or(|best| container.rank() > best.rank())
            {
                found = Some(container);
            }
        }
        found
    }

    fn of_line(line: &str) -> Option<Self> {
        // `hierarchy:controllers:path`; only the path may contain colons.
        let path = line.splitn(3, ':').nth(2)?;
        // The kernel appends this if the group was removed while the process is in it
        // (cgroup_path_ns).
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        let mut names = path.split(['/', ':']);
        // The outermost pod: its containers chose the names below it.
        let Some(pod_uid) = names.by_ref().find_map(pod_uid) else {
            // The innermost container: a node may itself be a container.
            let id = path
                .split(['/', ':'])
                .filter_map(container_id)
                .next_back()?;
            return Some(Self {
                pod_uid: None,
                id: Some(id),
            });
        };
        Some(Self {
            pod_uid: Some(pod_uid),
            id: names.find_map(container_id),
        })
    }

    /// Higher if it says more.
    const fn rank(&self) -> (bool, bool) {
        (self.pod_uid.is_some(), self.id.is_some())
    }
}

/// The uid in the name of a pod's group: `pod<uid>`, after any prefix that ends with a dash.
fn pod_uid(name: &str) -> Option<String> {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let (before, uid) = name.rsplit_once("pod")?;
    if !before.is_empty() && !before.ends_with('-') {
        return None;
    }
    // The systemd style escapes the dashes.
    let uid = uid.replace('_', "-");
    (is_uuid(&uid) || is_hash(&uid, STATIC_POD_UID)).then_some(uid)
}

/// The id in the name of a container's group.
fn container_id(name: &str) -> Option<String> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (runtime, id) = name.rsplit_once('-').unwrap_or(("", name));
    // CRI-O and Podman run a monitor for each container, in a group that has the container's id.
    let monitor = runtime.ends_with("conmon");
    (!monitor && is_hash(id, CONTAINER_ID)).then(|| id.to_owned())
}

/// Whether this is a UUID in its usual form (RFC 9562, section 4).
fn is_uuid(text: &str) -> bool {
    let groups = text.split('-').collect::<Vec<_>>();
    groups.len() == UUID.len()
        && groups
            .iter()
            .zip(UUID)
            .all(|(group, len)| is_hash(group, len))
}

fn is_hash(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Digits of each group of a UUID.
const UUID: [usize; 5] = [8, 4, 4, 4, 12];
/// A static pod's uid is an MD5 of its manifest (`applyDefaults` in the kubelet's
/// `pkg/kubelet/config/common.go`).
const STATIC_POD_UID: usize = 32;
/// containerd, CRI-O and Docker give each container 256 random bits.
const CONTAINER_ID: usize = 64;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0b1c2d3e-4f50-4617-8899-aabbccddeeff";
    const ID: &str = "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd";

    const OTHER_UID: &str = "11111111-2222-3333-4444-555555555555";
    const OTHER_ID: &str = "1111111111111111222222222222222233333333333333334444444444444444";

    type Found = (Option<String>, Option<String>);

    fn found(cgroup: &str) -> Found {
        Container::of(cgroup).map_or((None, None), |found| (found.pod_uid, found.id))
    }

    fn both(uid: &str, id: &str) -> Found {
        (Some(uid.to_owned()), Some(id.to_owned()))
    }

    /// Names that kubelets, runtimes and drivers in use produce.
    #[test]
    fn every_case_of_the_field_is_parsed() {
        #[derive(serde::Deserialize)]
        struct Case {
            file: String,
            pod_uid: Option<String>,
            container_id: Option<String>,
        }
        let cases = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/discovery/container/cases/"
        );
        let read = |file: &str| std::fs::read_to_string(format!("{cases}{file}")).unwrap();
        let expected: Vec<Case> = serde_json::from_str(&read("expected.json")).unwrap();
        assert_eq!(
            expected.len() + 1,
            std::fs::read_dir(cases).unwrap().count()
        );
        for case in expected {
            let right = (case.pod_uid, case.container_id);
            assert_eq!(found(&read(&case.file)), right, "{}", case.file);
        }
    }

    #[test]
    fn every_style_of_name_is_parsed() {
        let escaped = UID.replace('-', "_");
        for cgroup in [
            // cgroup v2, cgroupfs driver, each quality of service
            format!("0::/kubepods/pod{UID}/{ID}\n"),
            format!("0::/kubepods/burstable/pod{UID}/{ID}\n"),
            format!("0::/kubepods/besteffort/pod{UID}/{ID}\n"),
            // cgroup v1, several hierarchies
            format!("12:cpu,cpuacct:/\n11:memory:/kubepods/burstable/pod{UID}/{ID}\n0::/\n"),
            // systemd driver: containerd, CRI-O, cri-dockerd
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{escaped}.slice/cri-containerd-{ID}.scope\n"
            ),
            format!("0::/kubepods.slice/kubepods-pod{escaped}.slice/crio-{ID}.scope\n"),
            format!("0::/kubepods.slice/kubepods-pod{escaped}.slice/docker-{ID}.scope\n"),
            // CRI-O puts the process one group deeper.
            format!("0::/kubepods.slice/kubepods-pod{escaped}.slice/crio-{ID}.scope/container\n"),
            // A node that is itself a container.
            format!("0::/system.slice/docker-{ID}.scope/kubelet/kubepods/pod{UID}/{ID}\n"),
            // Seen from a sibling group.
            format!("0::/../../pod{UID}/{ID}\n"),
            // Removed while the process is in it.
            format!("0::/kubepods/pod{UID}/{ID} (deleted)\n"),
            // A container that made groups of its own, named like another pod's.
            format!("0::/kubepods/pod{UID}/{ID}/kubepods/pod{OTHER_UID}/{OTHER_ID}\n"),
            // With cgroup v1, one hierarchy shows the id and another the pod too.
            format!("9:pids:/k8s.io/{OTHER_ID}\n8:cpu:/kubepods/pod{UID}/{ID}\n"),
        ] {
            assert_eq!(found(&cgroup), both(UID, ID), "{cgroup}");
        }
    }

    #[test]
    fn a_static_pod_has_a_hash_for_a_uid() {
        let uid = "0123456789abcdef0123456789abcdef";
        let cgroup = format!("0::/kubepods/pod{uid}/{ID}\n");
        assert_eq!(found(&cgroup), both(uid, ID));
    }

    #[test]
    fn a_container_is_found_without_its_pod_and_a_pod_without_its_container() {
        let id_alone = (None, Some(ID.to_owned()));
        for cgroup in [
            format!("0::/k8s.io/{ID}\n"),
            format!("0::/../crio-{ID}.scope/container\n"),
            format!("0::/../../cri-containerd:{ID}\n"),
            format!("0::/system.slice/docker-{ID}.scope\n"),
            format!("0::/docker/{OTHER_ID}/k8s.io/{ID}\n"),
            format!("0::/kubepods/podium/{ID}\n"),
        ] {
            assert_eq!(found(&cgroup), id_alone, "{cgroup}");
        }
        let pod_alone = (Some(UID.to_owned()), None);
        for cgroup in [
            format!("0::/kubepods/pod{UID}\n"),
            format!("0::/kubepods/pod{UID}/short\n"),
            format!("0::/docker/{OTHER_ID}/kubepods/pod{UID}\n"),
            format!("0::/kubepods/pod{UID}/crio-conmon-{ID}\n"),
        ] {
            assert_eq!(found(&cgroup), pod_alone, "{cgroup}");
        }
    }

    #[test]
    fn processes_outside_of_containers_have_none() {
        for cgroup in [
            String::new(),
            "0::/\n".to_owned(),
            "0::/system.slice/sshd.service\n".to_owned(),
            format!("garbage pod{UID}/{ID}"),
            format!("0::/kubepods/pod{UID}0\n"),
            format!("0::/kubepods/xpod{UID}\n"),
            format!("0::/k8s.io/{ID}0\n"),
            format!("0::/machine.slice/libpod-conmon-{ID}.scope\n"),
        ] {
            assert_eq!(found(&cgroup), (None, None), "{cgroup}");
        }
    }
}
