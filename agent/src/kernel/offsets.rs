//! Which members the programs read, and where this kernel keeps them.

use statlink_ebpf::Offsets;

use super::btf::{Btf, BtfError};

/// Resolves every member; the first that is missing or resized is the error.
pub(super) fn resolve(btf: &Btf<'_>) -> Result<Offsets, BtfError> {
    resolve_by(|structure, path, width| btf.offset(structure, path, width))
}

fn resolve_by(
    at: impl Fn(&'static str, &'static str, u32) -> Result<u32, BtfError>,
) -> Result<Offsets, BtfError> {
    Ok(Offsets {
        sock_dport: at("sock", "__sk_common.skc_dport", 2)?,
        sock_family: at("sock", "__sk_common.skc_family", 2)?,
        sock_state: at("sock", "__sk_common.skc_state", 1)?,
        sock_net: at("sock", "__sk_common.skc_net", 8)?,
        sock_daddr: at("sock", "__sk_common.skc_daddr", 4)?,
        // Without CONFIG_IPV6 there is none, and no socket of that family either.
        sock_v6_daddr: where_there_is(at("sock", "__sk_common.skc_v6_daddr", 16))?,
        sock_protocol: at("sock", "sk_protocol", 2)?,
        sock_err: at("sock", "sk_err", 4)?,
        sock_err_soft: at("sock", "sk_err_soft", 4)?,
        sock_shutdown: at("sock", "sk_shutdown", 1)?,
        sock_user_data: at("sock", "sk_user_data", 8)?,
        net_inum: at("net", "ns.inum", 4)?,
        tcp_timeouts: at("tcp_sock", "inet_conn.icsk_retransmits", 1)?,
        tcp_lrcvtime: at("tcp_sock", "inet_conn.icsk_ack.lrcvtime", 4)?,
        tcp_lsndtime: at("tcp_sock", "lsndtime", 4)?,
        tcp_bytes_received: at("tcp_sock", "bytes_received", 8)?,
        tcp_srtt_us: at("tcp_sock", "srtt_us", 4)?,
        tcp_write_seq: at("tcp_sock", "write_seq", 4)?,
        tcp_snd_una: at("tcp_sock", "snd_una", 4)?,
        tcp_snd_nxt: at("tcp_sock", "snd_nxt", 4)?,
        tcp_total_retrans: at("tcp_sock", "total_retrans", 4)?,
        tcp_mss_clamp: at("tcp_sock", "rx_opt.mss_clamp", 2)?,
        socket_sk: at("socket", "sk", 8)?,
        task_tgid: at("task_struct", "tgid", 4)?,
        task_pid: at("task_struct", "pid", 4)?,
        task_comm: at("task_struct", "comm", 16)?,
        task_flags: at("task_struct", "flags", 4)?,
        task_files: at("task_struct", "files", 8)?,
        files_fdt: at("files_struct", "fdt", 8)?,
        fdtable_max_fds: at("fdtable", "max_fds", 4)?,
        fdtable_fd: at("fdtable", "fd", 8)?,
        file_inode: at("file", "f_inode", 8)?,
        file_private_data: at("file", "private_data", 8)?,
        inode_mode: at("inode", "i_mode", 2)?,
        mptcp_first: where_there_is(at("mptcp_sock", "first", 8))?,
        task_nsproxy: at("task_struct", "nsproxy", 8)?,
        nsproxy_net_ns: at("nsproxy", "net_ns", 8)?,
    })
}

/// 0 for a member that this kernel may do without, and does.
fn where_there_is(offset: Result<u32, BtfError>) -> Result<u32, BtfError> {
    match offset {
        Err(BtfError::NoStruct(_) | BtfError::NoMember { .. }) => Ok(0),
        offset => offset,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kernel::attach_types::{Named, reduced};

    /// A form in which kernels have these structures, as `offsets/kernels/make.sh` made it.
    struct Form {
        name: &'static str,
        /// As a kernel's build writes it: by pahole.
        btf: &'static [u8],
        /// Where the compiler put each member: `sock_dport: 12`.
        compiler: &'static str,
    }

    macro_rules! forms {
        ($($name:literal),*) => {
            [$(Form {
                name: $name,
                btf: include_bytes!(concat!("offsets/kernels/", $name, ".btf")),
                compiler: include_str!(concat!("offsets/kernels/", $name, ".txt")),
            }),*]
        };
    }

    /// Of kernels that are not booted; who has which: `deploy/docs/kernels.md`.
    const FORMS: [Form; 6] = forms!(
        "bit-field-protocol",
        "kept-sizes",
        "groups-and-enum64",
        "without-ipv6",
        "randomized",
        "tags-of-clang"
    );

    /// `name: offset` by line.
    fn by_name(text: &str) -> BTreeMap<&str, &str> {
        let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
        lines
            .map(|(name, offset)| (name, offset.trim_end_matches(',')))
            .collect()
    }

    #[test]
    fn members_are_where_the_compiler_put_them_in_every_form() {
        for form in FORMS {
            let btf = Btf::parse(form.btf).unwrap();
            match resolve(&btf) {
                Ok(offsets) => assert_eq!(
                    by_name(&format!("{offsets:#?}")),
                    by_name(form.compiler),
                    "{}",
                    form.name
                ),
                // Before 5.6, and so in RHEL 8, which is 4.18 with a newer BPF.
                Err(error) => assert_eq!(
                    (form.name, error.to_string().as_str()),
                    ("bit-field-protocol", "`sock.sk_protocol` is a bit field")
                ),
            }
        }
    }

    #[test]
    fn what_programs_attach_to_keeps_its_number_in_every_form() {
        let named = Named::Function("main".to_owned());
        for form in FORMS {
            let whole = Btf::parse(form.btf).unwrap();
            let data = reduced(&whole, std::slice::from_ref(&named)).unwrap();
            let left = Btf::parse(&data).unwrap();
            let number = |btf: &Btf<'_>| {
                let mut types = btf.types().map(Result::unwrap);
                types
                    .find(|(_, _, name)| *name == b"main")
                    .map(|(id, ..)| id)
            };
            assert_eq!(number(&left), number(&whole), "{}", form.name);
            assert!(number(&whole).is_some(), "{}", form.name);
        }
    }

    /// A kernel that has every member but those of which this says why not.
    fn kernel(refuse: impl Fn(&str, &str) -> Option<BtfError>) -> Result<Offsets, BtfError> {
        resolve_by(|structure, path, _| refuse(structure, path).map_or(Ok(8), Err))
    }

    fn none(structure: &str, member: &str) -> Option<BtfError> {
        Some(BtfError::NoMember {
            structure: structure.to_owned(),
            member: member.to_owned(),
        })
    }

    #[test]
    fn a_kernel_without_ipv6_or_mptcp_is_supported() {
        let without = |structure: &str, path: &str| match (structure, path) {
            ("sock", "__sk_common.skc_v6_daddr") => none(structure, path),
            ("mptcp_sock", _) => Some(BtfError::NoStruct(structure.to_owned())),
            _ => None,
        };
        let offsets = kernel(without).unwrap();
        assert_eq!((offsets.sock_v6_daddr, offsets.mptcp_first), (0, 0));
        assert_eq!(offsets.sock_daddr, 8);
    }

    #[test]
    fn a_member_that_is_needed_stops_the_load_by_its_name() {
        let without = |structure: &str, path: &str| match path {
            "sk_err" => none(structure, path),
            _ => None,
        };
        let error = kernel(without).unwrap_err().to_string();
        assert_eq!(error, "no member `sk_err` in `struct sock`");
    }

    #[test]
    fn an_optional_member_of_another_width_is_refused_all_the_same() {
        let resized = |structure: &str, path: &str| {
            (path == "__sk_common.skc_v6_daddr").then(|| BtfError::Width {
                structure: structure.to_owned(),
                member: path.to_owned(),
                expected: 16,
                found: 4,
            })
        };
        assert!(kernel(resized).is_err());
    }
}
