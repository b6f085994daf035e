//! Fuzzes the reader of `/proc/PID/cgroup`: the container's runtime chooses those names.

use bolero::check;

use super::Container;
use crate::fuzz::{Edit, ITERATIONS, edited_text};

const NAMES: [&str; 4] = [
    "0::/kubepods/burstable/pod0b1c2d3e-4f50-4617-8899-aabbccddeeff/\
     aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd\n",
    "0::/kubepods.slice/kubepods-burstable.slice/\
     kubepods-burstable-pod0b1c2d3e_4f50_4617_8899_aabbccddeeff.slice/\
     cri-containerd-aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd.scope\n",
    "11:memory:/kubepods/pod0123456789abcdef0123456789abcdef/\
     aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd\n1:name=systemd:/\n",
    "0::/system.slice/docker-aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd.scope\n",
];

#[test]
fn what_is_found_in_any_name_is_a_uid_and_an_id() {
    check!()
        .with_iterations(ITERATIONS)
        .with_type::<(u8, Vec<Edit>)>()
        .for_each(|(name, edits)| {
            let edits = edits.get(..3).unwrap_or(edits);
            let text = edited_text(NAMES[usize::from(*name) % NAMES.len()], edits);
            let Some(found) = Container::of(&text) else {
                return;
            };
            // Both become attributes of a series, and the uid is compared with the API's.
            let hexadecimal = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
            if let Some(uid) = &found.pod_uid {
                assert!(
                    [32, 36].contains(&uid.len()) && hexadecimal(uid),
                    "{found:?}"
                );
            }
            if let Some(id) = &found.id {
                assert!(id.len() == 64 && hexadecimal(id), "{found:?}");
                assert!(text.contains(id), "{found:?}");
            }
            assert!(found.pod_uid.is_some() || found.id.is_some());
        });
}
