//! One look at one connection, on demand.

use std::time::Duration;

use aya::programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _};
use statlink_ebpf::Sample as RawSample;

use super::{error::KernelError, hooks::HookError, loaded::Kernel, maps::failed, records::heard};
use crate::{
    chain::chain,
    link::{ConnectionId, Sample},
    time::Timestamp,
};

/// What one look gave.
#[derive(Debug, Default, PartialEq)]
pub struct Look {
    /// What TCP says of the connection; `None` if the kernel no longer knows it.
    pub sample: Option<Sample>,
    /// Whether its data passes TCP by, so that TCP's counters say nothing of it.
    pub bypassed: bool,
}

impl Kernel {
    /// Looks at one connection; `None` if the kernel no longer knows it.
    ///
    /// # Errors
    ///
    /// Fails if the kernel refuses to run the program or to read its answer.
    pub fn sample(&mut self, connection: ConnectionId) -> Result<Option<Sample>, KernelError> {
        Ok(self.look(connection)?.sample)
    }

    /// The same, and whether its data passes TCP by.
    ///
    /// # Errors
    ///
    /// As [`sample`](Self::sample).
    pub fn look(&mut self, connection: ConnectionId) -> Result<Look, KernelError> {
        let raw = self.run_sample(connection.sock, connection.born.as_nanos())?;
        if raw.valid == 0 {
            return Ok(Look::default());
        }
        let sample = Some(Sample {
            established: raw.state == TCP_ESTABLISHED,
            heard: heard(raw.heard_ns),
            sent: Some(Timestamp::from_nanos(raw.sent_ns)),
            unacknowledged: raw.unacknowledged > 0,
            timeouts: raw.timeouts,
            rtt: (raw.srtt_us > 0).then(|| Duration::from_micros(u64::from(raw.srtt_us))),
            looped: raw.peer_mss > LARGEST_SEGMENT,
        });
        Ok(Look {
            sample,
            bypassed: raw.bypassed != 0,
        })
    }

    /// Runs the `sample` program.
    fn run_sample(&mut self, sock: u64, born_ns: u64) -> Result<RawSample, KernelError> {
        let run = |reason: &(dyn std::error::Error + 'static)| KernelError::Run {
            program: "sample",
            reason: chain(reason),
        };
        let program = self.ebpf.program_mut("sample");
        let program = program.ok_or_else(|| run(&HookError::NotInObject))?;
        let program: &mut RawTracePoint = program.try_into().map_err(|error| run(&error))?;
        let mut options = RawTracePointRunOptions::new();
        let [first, second, ..] = &mut options.args;
        (*first, *second) = (sock, born_ns);
        program.test_run(options).map_err(|error| run(&error))?;
        self.sample.get(&0, 0).map_err(failed("SAMPLE"))
    }
}

/// A peer that takes larger segments is on the loopback, whose MTU is 64 KiB: an Ethernet's is 9,216
/// bytes at most. The peer says so in its SYN, by the route to this side (`ipv4_default_advmss()`,
/// `net/ipv4/route.c`). Of IP over InfiniBand, with up to 64 KiB, this is not true: there others in the
/// pod may be taken for a proxy.
const LARGEST_SEGMENT: u16 = 16_000;
/// `include/net/tcp_states.h`.
const TCP_ESTABLISHED: u8 = 1;
