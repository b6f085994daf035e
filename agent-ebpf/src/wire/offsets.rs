//! The offsets of the kernel fields that the programs read.
//!
//! Rust emits no CO-RE relocations. So userspace resolves these offsets from the kernel's BTF at
//! start and passes them in frozen `.rodata`, where the verifier treats them as constants.

/// Byte offsets of kernel structure members.
///
/// Each is relative to the structure named first; the resolver checks sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Offsets {
    /// `struct sock`: `__sk_common.skc_dport`, `__be16`.
    pub sock_dport: u32,
    /// `struct sock`: `__sk_common.skc_family`, `unsigned short`.
    pub sock_family: u32,
    /// `struct sock`: `__sk_common.skc_state`, `unsigned char`.
    pub sock_state: u32,
    /// `struct sock`: `__sk_common.skc_net`, a pointer to `struct net`.
    pub sock_net: u32,
    /// `struct sock`: `__sk_common.skc_daddr`, `__be32`.
    pub sock_daddr: u32,
    /// `struct sock`: `__sk_common.skc_v6_daddr`, `struct in6_addr`.
    pub sock_v6_daddr: u32,
    /// `struct sock`: `sk_protocol`, `u16`.
    pub sock_protocol: u32,
    /// `struct sock`: `sk_err`, `int`.
    pub sock_err: u32,
    /// `struct sock`: `sk_err_soft`, `int`.
    pub sock_err_soft: u32,
    /// `struct sock`: `sk_shutdown`, `u8`.
    pub sock_shutdown: u32,
    /// `struct sock`: `sk_user_data`, a pointer.
    pub sock_user_data: u32,
    /// `struct net`: `ns.inum`, `unsigned int`.
    pub net_inum: u32,
    /// `struct tcp_sock`: `inet_conn.icsk_retransmits`, `u8`.
    pub tcp_timeouts: u32,
    /// `struct tcp_sock`: `inet_conn.icsk_ack.lrcvtime`, `u32`, jiffies.
    pub tcp_lrcvtime: u32,
    /// `struct tcp_sock`: `lsndtime`, `u32`, jiffies.
    pub tcp_lsndtime: u32,
    /// `struct tcp_sock`: `bytes_received`, `u64`.
    pub tcp_bytes_received: u32,
    /// `struct tcp_sock`: `srtt_us`, `u32`, microseconds shifted left by 3.
    pub tcp_srtt_us: u32,
    /// `struct tcp_sock`: `write_seq`, `u32`: the first byte not written.
    pub tcp_write_seq: u32,
    /// `struct tcp_sock`: `snd_una`, `u32`: the first byte not acknowledged.
    pub tcp_snd_una: u32,
    /// `struct tcp_sock`: `snd_nxt`, `u32`: the first byte not sent.
    pub tcp_snd_nxt: u32,
    /// `struct tcp_sock`: `total_retrans`, `u32`.
    pub tcp_total_retrans: u32,
    /// `struct tcp_sock`: `rx_opt.mss_clamp`, `u16`: the largest segment that the peer takes.
    pub tcp_mss_clamp: u32,
    /// `struct socket`: `sk`, a pointer to `struct sock`.
    pub socket_sk: u32,
    /// `struct task_struct`: `tgid`, `pid_t`.
    pub task_tgid: u32,
    /// `struct task_struct`: `pid`, `pid_t`.
    pub task_pid: u32,
    /// `struct task_struct`: `comm`, `char[16]`.
    pub task_comm: u32,
    /// `struct task_struct`: `flags`, `unsigned int`.
    pub task_flags: u32,
    /// `struct task_struct`: `files`, a pointer to `struct files_struct`.
    pub task_files: u32,
    /// `struct files_struct`: `fdt`, a pointer to `struct fdtable`.
    pub files_fdt: u32,
    /// `struct fdtable`: `max_fds`, `unsigned int`.
    pub fdtable_max_fds: u32,
    /// `struct fdtable`: `fd`, a pointer to an array of pointers to `struct file`.
    pub fdtable_fd: u32,
    /// `struct file`: `f_inode`, a pointer to `struct inode`.
    pub file_inode: u32,
    /// `struct file`: `private_data`, a pointer; of a socket's file to its `struct socket`.
    pub file_private_data: u32,
    /// `struct inode`: `i_mode`, `umode_t`.
    pub inode_mode: u32,
    /// `struct mptcp_sock`: `first`, a pointer to the `struct sock` of the first subflow; 0 if the
    /// kernel has no MPTCP.
    pub mptcp_first: u32,
    /// `struct task_struct`: `nsproxy`, a pointer to `struct nsproxy`.
    pub task_nsproxy: u32,
    /// `struct nsproxy`: `net_ns`, a pointer to `struct net`.
    pub nsproxy_net_ns: u32,
}

impl Offsets {
    /// Before userspace sets them.
    pub const ZERO: Self = Self {
        sock_dport: 0,
        sock_family: 0,
        sock_state: 0,
        sock_net: 0,
        sock_daddr: 0,
        sock_v6_daddr: 0,
        sock_protocol: 0,
        sock_err: 0,
        sock_err_soft: 0,
        sock_shutdown: 0,
        sock_user_data: 0,
        net_inum: 0,
        tcp_timeouts: 0,
        tcp_lrcvtime: 0,
        tcp_lsndtime: 0,
        tcp_bytes_received: 0,
        tcp_srtt_us: 0,
        tcp_write_seq: 0,
        tcp_snd_una: 0,
        tcp_snd_nxt: 0,
        tcp_total_retrans: 0,
        tcp_mss_clamp: 0,
        socket_sk: 0,
        task_tgid: 0,
        task_pid: 0,
        task_comm: 0,
        task_flags: 0,
        task_files: 0,
        files_fdt: 0,
        fdtable_max_fds: 0,
        fdtable_fd: 0,
        file_inode: 0,
        file_private_data: 0,
        inode_mode: 0,
        mptcp_first: 0,
        task_nsproxy: 0,
        nsproxy_net_ns: 0,
    };
}
