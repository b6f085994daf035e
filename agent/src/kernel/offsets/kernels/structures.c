// The kernel's structures in the forms that kernels have them which cannot be booted here, cut down to
// what the agent looks for and what may stand in its way. `make.sh` has one form's types described as
// BTF by the encoder that kernels use, and its offsets by the compiler. Members that nobody looks for
// are here for their places only.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short umode_t;
typedef int pid_t;
typedef struct {
	int counter;
} atomic_t;

// clang hands the kernel's annotations of pointers on to BTF, and gcc 12 does not
// (`include/linux/compiler_types.h`).
#ifdef TAGS
#define __rcu __attribute__((btf_type_tag("rcu")))
#define __user __attribute__((btf_type_tag("user")))
#define __tagged __attribute__((btf_decl_tag("bpf_kfunc")))
#else
#define __rcu
#define __user
#define __tagged
#endif

// Red Hat keeps the sizes that modules were built for: a member that changed is in an unnamed union with
// what it replaced (`include/linux/rh_kabi.h`).
#ifdef KABI
#define UNIQUE_(line) rh_kabi_hidden_##line
#define UNIQUE(line) UNIQUE_(line)
#define REPLACED(old, new)         \
	union {                    \
		new;               \
		struct {           \
			old;       \
		} UNIQUE(__LINE__); \
		union {            \
		};                 \
	}
#else
#define REPLACED(old, new) new
#endif

// Kernels since 6.8 mark where the members begin that are used together: by arrays of nothing.
#ifdef GROUPS
#define GROUP(name) u8 __cacheline_group_begin__##name[0]
#else
#define GROUP(name)
#endif

struct net;
struct proto;
struct file;

typedef struct {
	struct net *net;
} possible_net_t;

struct in6_addr {
	union {
		u8 u6_addr8[16];
		u16 u6_addr16[8];
		u32 u6_addr32[4];
	} in6_u;
};

#ifdef GROUPS
// A kind of BTF that pahole writes since 1.24.
enum sk_pacing {
	SK_PACING_NONE = 0,
	SK_PACING_FQ = 0x200000000ULL,
};
#endif

struct sock_common {
	union {
		u64 skc_addrpair;
		struct {
			u32 skc_daddr;
			u32 skc_rcv_saddr;
		};
	};
	union {
		unsigned int skc_hash;
		u16 skc_u16hashes[2];
	};
	union {
		u32 skc_portpair;
		struct {
			u16 skc_dport;
			u16 skc_num;
		};
	};
	unsigned short skc_family;
	volatile unsigned char skc_state;
	unsigned char skc_reuse : 4;
	unsigned char skc_reuseport : 1;
	unsigned char skc_ipv6only : 1;
	int skc_bound_dev_if;
	struct proto *skc_prot;
	possible_net_t skc_net;
#ifndef NO_IPV6
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
#endif
	atomic_t skc_cookie;
};

struct sock {
	struct sock_common __sk_common;
	GROUP(sock_write_rx);
	atomic_t sk_drops;
	int sk_err;
#ifdef GROUPS
	enum sk_pacing sk_pacing_status;
#endif
	struct socket *sk_socket;
#ifdef BIT_FIELD_PROTOCOL
	// Up to 5.5: a word for all, with a sentinel before it.
	unsigned int __sk_flags_offset[0];
	unsigned int sk_padding : 1, sk_kern_sock : 1, sk_no_check_tx : 1, sk_no_check_rx : 1,
		sk_userlocks : 4, sk_protocol : 8, sk_type : 16;
#else
	u8 sk_padding : 1, sk_kern_sock : 1, sk_no_check_tx : 1, sk_no_check_rx : 1, sk_userlocks : 4;
	REPLACED(unsigned int sk_type, u16 sk_type);
	REPLACED(unsigned int sk_protocol, u16 sk_protocol);
#endif
	int sk_err_soft;
	REPLACED(unsigned int sk_shutdown, u8 sk_shutdown);
	void *sk_user_data __tagged;
};

struct inet_sock {
	struct sock sk;
	u32 inet_saddr;
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
	u8 icsk_ca_state : 5, icsk_ca_initialized : 1;
	u8 icsk_retransmits;
	struct {
		u8 pending;
		u32 ato : 8, lrcv_flowlabel : 20, unused : 4;
		u32 lrcvtime;
	} icsk_ack;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	GROUP(tcp_sock_read_tx);
	u32 write_seq;
	u32 snd_una;
	GROUP(tcp_sock_write_txrx);
	u32 snd_nxt;
	u64 bytes_received;
	u32 srtt_us;
	u32 lsndtime;
	u32 total_retrans;
	struct tcp_options_received {
		u32 rcv_tsval;
		u16 saw_tstamp : 1, dsack : 1, snd_wscale : 4, rcv_wscale : 4;
		u16 user_mss;
		u16 mss_clamp;
	} rx_opt;
};

#ifndef NO_IPV6
struct mptcp_sock {
	struct inet_connection_sock sk;
	u64 local_key;
	struct sock *first;
};
#endif

struct ns_common {
	atomic_t stashed;
	unsigned int inum;
};

struct net {
	atomic_t passive;
	struct ns_common ns;
};

struct socket {
	u32 state;
	struct file *file;
	struct sock *sk;
};

struct fdtable {
	unsigned int max_fds;
	struct file __rcu **fd;
};

struct files_struct {
	atomic_t count;
	struct fdtable __rcu *fdt;
};

struct inode {
	umode_t i_mode;
	u16 i_opflags;
};

struct file {
	union {
		void *f_llist;
		u32 f_iocb_flags;
	};
	struct inode *f_inode;
	void *private_data;
};

struct nsproxy {
	atomic_t count;
	struct net *net_ns;
};

struct task_struct {
	u64 thread_info;
// Randomized kernels shuffle the members between these two, which are an unnamed structure
// (`randomized_struct_fields_start`).
#ifdef RANDOMIZED
	struct {
		struct nsproxy *nsproxy;
		char comm[16];
		pid_t tgid;
		float unlikely;
		struct files_struct *files;
		unsigned int flags;
		void __user *set_child_tid;
		pid_t pid;
	};
#else
	unsigned int flags;
	pid_t pid;
	pid_t tgid;
	void __user *set_child_tid;
	char comm[16];
	struct files_struct *files;
	struct nsproxy *nsproxy;
#endif
	u64 thread;
};

// As `Offsets` is written.
#define AT(name, structure, member) \
	__builtin_printf("%s: %zu\n", #name, __builtin_offsetof(struct structure, member))

int main(void)
{
	AT(sock_dport, sock, __sk_common.skc_dport);
	AT(sock_family, sock, __sk_common.skc_family);
	AT(sock_state, sock, __sk_common.skc_state);
	AT(sock_net, sock, __sk_common.skc_net);
	AT(sock_daddr, sock, __sk_common.skc_daddr);
#ifdef NO_IPV6
	__builtin_printf("sock_v6_daddr: 0\n");
#else
	AT(sock_v6_daddr, sock, __sk_common.skc_v6_daddr);
#endif
#ifndef BIT_FIELD_PROTOCOL
	AT(sock_protocol, sock, sk_protocol);
#endif
	AT(sock_err, sock, sk_err);
	AT(sock_err_soft, sock, sk_err_soft);
	AT(sock_shutdown, sock, sk_shutdown);
	AT(sock_user_data, sock, sk_user_data);
	AT(net_inum, net, ns.inum);
	AT(tcp_timeouts, tcp_sock, inet_conn.icsk_retransmits);
	AT(tcp_lrcvtime, tcp_sock, inet_conn.icsk_ack.lrcvtime);
	AT(tcp_lsndtime, tcp_sock, lsndtime);
	AT(tcp_bytes_received, tcp_sock, bytes_received);
	AT(tcp_srtt_us, tcp_sock, srtt_us);
	AT(tcp_write_seq, tcp_sock, write_seq);
	AT(tcp_snd_una, tcp_sock, snd_una);
	AT(tcp_snd_nxt, tcp_sock, snd_nxt);
	AT(tcp_total_retrans, tcp_sock, total_retrans);
	AT(tcp_mss_clamp, tcp_sock, rx_opt.mss_clamp);
	AT(socket_sk, socket, sk);
	AT(task_tgid, task_struct, tgid);
	AT(task_pid, task_struct, pid);
	AT(task_comm, task_struct, comm);
	AT(task_flags, task_struct, flags);
	AT(task_files, task_struct, files);
	AT(files_fdt, files_struct, fdt);
	AT(fdtable_max_fds, fdtable, max_fds);
	AT(fdtable_fd, fdtable, fd);
	AT(file_inode, file, f_inode);
	AT(file_private_data, file, private_data);
	AT(inode_mode, inode, i_mode);
#ifdef NO_IPV6
	__builtin_printf("mptcp_first: 0\n");
#else
	AT(mptcp_first, mptcp_sock, first);
#endif
	AT(task_nsproxy, task_struct, nsproxy);
	AT(nsproxy_net_ns, nsproxy, net_ns);
	return 0;
}
