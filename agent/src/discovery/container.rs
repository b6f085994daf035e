//! Which pod and container a process belongs to, by the name of its control group.
//!
//! Reading `/proc/PID/cgroup` needs no capability. The kubelet names a pod's group by the pod's uid,
//! and the runtime names the group below it by the container's id, in one of two styles:
//!
//! - cgroupfs: `/kubepods/burstable/pod<uid>/<container id>`
//! - systemd: `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid, - as _>.slice/`
//!   `cri-containerd-<container id>.scope` (`crio-…`, `docker-…`)
//!
//! Source: `pkg/kubelet/cm/{cgroup_manager_linux,pod_container_manager_linux}.go` of Kubernetes.

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    /// The pod's uid.
    pub(super) pod_uid: String,
    /// The container's id, without the runtime's prefix.
    pub(super) id: String,
}

impl Container {
    /// Parses `/proc/PID/cgroup`; any line may name the container. `None` for a process outside of
    /// pods.
    pub(super) fn of(cgroup: &str) -> Option<Self> {
        cgroup.lines().find_map(|line| {
            // `hierarchy:controllers:path`; only the path may contain colons.
            let path = line.splitn(3, ':').nth(2)?;
            let mut groups = path.split('/');
            let pod_uid = groups.by_ref().find_map(pod_uid)?;
            let id = container_id(groups.next()?)?;
            Some(Self { pod_uid, id })
        })
    }
}

/// The uid in the name of a pod's group.
fn pod_uid(group: &str) -> Option<String> {
    let name = group.strip_suffix(".slice").unwrap_or(group);
    let uid = if name == group {
        name.strip_prefix("pod")?
    } else {
        name.strip_prefix("kubepods")?.rsplit_once("-pod")?.1
    };
    // The systemd style escapes the dashes. A static pod's uid is a hash without dashes.
    let uid = uid.replace('_', "-");
    let plausible = uid.len() >= 32 && uid.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    plausible.then_some(uid)
}

/// The id in the name of a container's group.
fn container_id(group: &str) -> Option<String> {
    let name = group.strip_suffix(".scope").unwrap_or(group);
    let id = name.rsplit_once('-').map_or(name, |(_runtime, id)| id);
    let plausible = id.len() == 64 && id.chars().all(|c| c.is_ascii_hexdigit());
    plausible.then(|| id.to_owned())
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0b1c2d3e-4f50-4617-8899-aabbccddeeff";
    const ID: &str = "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd";

    fn found(cgroup: &str) -> Option<(String, String)> {
        Container::of(cgroup).map(|found| (found.pod_uid, found.id))
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
        ] {
            let expected = Some((UID.to_owned(), ID.to_owned()));
            assert_eq!(found(&cgroup), expected, "{cgroup}");
        }
    }

    #[test]
    fn a_static_pod_has_a_hash_for_a_uid() {
        let uid = "0123456789abcdef0123456789abcdef";
        let cgroup = format!("0::/kubepods/pod{uid}/{ID}\n");
        assert_eq!(found(&cgroup), Some((uid.to_owned(), ID.to_owned())));
    }

    #[test]
    fn processes_outside_of_pods_have_no_container() {
        for cgroup in [
            String::new(),
            "0::/\n".to_owned(),
            "0::/system.slice/sshd.service\n".to_owned(),
            format!("0::/system.slice/docker-{ID}.scope\n"),
            format!("0::/kubepods/pod{UID}\n"),
            format!("0::/kubepods/podium/{ID}\n"),
            format!("0::/kubepods/pod{UID}/short\n"),
            format!("garbage pod{UID}/{ID}"),
        ] {
            assert_eq!(found(&cgroup), None, "{cgroup}");
        }
    }
}
