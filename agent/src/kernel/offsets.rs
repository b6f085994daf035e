//! Which members the programs read, and where this kernel keeps them.

use statlink_ebpf::Offsets;

use super::btf::{Btf, BtfError};

/// Resolves every member; the first that is missing or resized is the error.
pub(super) fn resolve(btf: &Btf<'_>) -> Result<Offsets, BtfError> {
    let at = |structure, path, width| btf.offset(structure, path, width);
    Ok(Offsets {
        sock_dport: at("sock", "__sk_common.skc_dport", 2)?,
        sock_family: at("sock", "__sk_common.skc_family", 2)?,
        sock_state: at("sock", "__sk_common.skc_state", 1)?,
        sock_net: at("sock", "__sk_common.skc_net", 8)?,
        sock_daddr: at("sock", "__sk_common.skc_daddr", 4)?,
        sock_v6_daddr: at("sock", "__sk_common.skc_v6_daddr", 16)?,
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
        tcp_packets_out: at("tcp_sock", "packets_out", 4)?,
        tcp_snd_una: at("tcp_sock", "snd_una", 4)?,
        tcp_snd_nxt: at("tcp_sock", "snd_nxt", 4)?,
        tcp_total_retrans: at("tcp_sock", "total_retrans", 4)?,
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
