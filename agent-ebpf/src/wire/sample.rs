//! One look at one connection.

/// What the `sample` program read from one connection's socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sample {
    /// `CLOCK_MONOTONIC` of the look, nanoseconds.
    pub time_ns: u64,
    /// As [`Record::heard_ns`](super::Record::heard_ns) (`icsk_ack.lrcvtime`).
    pub heard_ns: u64,
    /// When data was last sent (`tcp_sock.lsndtime`), to the kernel's tick.
    pub sent_ns: u64,
    /// `tcp_sock.bytes_received`.
    pub bytes_received: u64,
    /// Smoothed round-trip time, microseconds; 0 while there is none.
    pub srtt_us: u32,
    /// Bytes written and not yet acknowledged, sent or not (`tcp_sock.write_seq` less `snd_una`).
    pub unacknowledged: u32,
    /// Retransmission timeouts in a row (`icsk_retransmits`).
    pub timeouts: u8,
    /// TCP state (`skc_state`).
    pub state: u8,
    /// 1 if the socket belonged to the requested connection both before and after the look.
    pub valid: u8,
    /// 1 if data bypasses TCP on this socket (sockmap), so that TCP's counters say nothing about
    /// it.
    pub bypassed: u8,
    /// The largest segment that the peer takes, bytes (`tcp_sock.rx_opt.mss_clamp`).
    pub peer_mss: u16,
    /// Explicit padding, 0.
    pub _pad: [u8; 2],
}

const _: () = assert!(size_of::<Sample>() == 48);
