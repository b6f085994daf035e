//! What each program costs per event, over an empty one on the same hook: an unrelated socket, and
//! a matched one. As root; figures are printed, nothing is asserted.
//!
//! The kernel's own account (`run_time_ns / run_cnt`) is used. About 60 ns of each figure are the
//! measurement itself, the same for the empty program.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    thread,
};

use anyhow::{Context as _, Result};
use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, TracePoint, loaded_programs},
    sys::{Stats, enable_stats},
};
use statlink::kernel::{ConnectHook, Kernel, Source, Watch, tracefs};

fn main() -> Result<()> {
    let tracefs = tracefs::show();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let _stats = enable_stats(Stats::RunTime).context("count the programs' run time")?;
    let server = Server::start()?;
    let bystander = Server::start()?;
    let watch = Watch {
        port: server.port,
        process_names: vec!["nobody".to_owned()],
        connect_hook: ConnectHook::default(),
    };
    let mut kernel = Kernel::load(&watch, &tracefs)?;
    let _empty = Empty::attach()?;

    println!("ns per event, {ROUNDS} rounds of {CONNECTS} loopback connects, median");
    println!(
        "{:<22}{:>10}{:>12}{:>10}{:>11}",
        "program", "empty", "unrelated", "over", "matched"
    );
    let mut unrelated = Figures::default();
    let mut matched = Figures::default();
    // Both sources at once would disturb each other: first the bystander's port, which the first
    // instructions reject.
    for _ in 0..ROUNDS {
        unrelated.measure(|| bystander.storm())?;
    }
    kernel.track(Source {
        netns: u32::try_from(std::fs::metadata("/proc/self/ns/net")?.ino())?,
        tgid: std::process::id(),
    })?;
    for _ in 0..ROUNDS {
        matched.measure(|| {
            // Read in between, or the ring is full and the programs have less to do.
            for _ in 0..CONNECTS / BATCH {
                server.connect(BATCH);
                kernel.drain(|_| {});
            }
        })?;
    }
    for (program, yardstick) in PAIRS {
        let (empty, ours) = (unrelated.median(yardstick), unrelated.median(program));
        println!(
            "{program:<22}{empty:>10.1}{ours:>12.1}{:>+10.1}{:>11.1}",
            ours - empty,
            matched.median(program)
        );
    }
    for (reason, count) in kernel.losses()? {
        if count > 0 {
            println!("lost by {}: {count}", reason.name());
        }
    }
    Ok(())
}

/// Run time and runs of each program, by name.
#[derive(Default)]
struct Figures(BTreeMap<String, Vec<f64>>);

impl Figures {
    fn measure(&mut self, work: impl FnOnce()) -> Result<()> {
        let before = totals()?;
        work();
        for (name, (time, runs)) in totals()? {
            let (time_before, runs_before) = before.get(&name).copied().unwrap_or_default();
            let runs = runs.saturating_sub(runs_before);
            if runs > 0 {
                let per_run = time.saturating_sub(time_before) as f64 / runs as f64;
                self.0.entry(name).or_default().push(per_run);
            }
        }
        Ok(())
    }

    /// Names in the kernel are cut to 15 bytes.
    fn median(&self, name: &str) -> f64 {
        let key: String = name.chars().take(15).collect();
        let mut values = self.0.get(&key).cloned().unwrap_or_default();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

fn totals() -> Result<BTreeMap<String, (u64, u64)>> {
    let mut totals = BTreeMap::new();
    for program in loaded_programs() {
        let program = program?;
        if let Some(name) = program.name_as_str() {
            let time = u64::try_from(program.run_time().as_nanos())?;
            totals.insert(name.to_owned(), (time, program.run_count()));
        }
    }
    Ok(totals)
}

/// Accepts and closes.
struct Server {
    port: u16,
}

impl Server {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || listener.incoming().for_each(drop));
        Ok(Self { port })
    }

    fn storm(&self) {
        self.connect(CONNECTS);
    }

    fn connect(&self, times: u32) {
        for _ in 0..times {
            // Ephemeral ports may run out for a moment; one connect less does not matter.
            drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        }
    }
}

/// The yardstick, attached as long as it lives.
struct Empty(#[expect(dead_code, reason = "held for its drop")] Ebpf);

impl Empty {
    fn attach() -> Result<Self> {
        let btf = Btf::from_sys_fs()?;
        let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/statlink-empty"));
        let mut ebpf = Ebpf::load(object)?;
        for (name, hook) in [
            ("empty_set_state", "inet_sock_set_state"),
            ("empty_destroy", "tcp_destroy_sock"),
        ] {
            let program: &mut BtfTracePoint = ebpf.program_mut(name).context(name)?.try_into()?;
            program.load(hook, &btf)?;
            program.attach()?;
        }
        for (name, hook) in [
            ("empty_enter", "sys_enter_connect"),
            ("empty_exit", "sys_exit_connect"),
        ] {
            let program: &mut TracePoint = ebpf.program_mut(name).context(name)?.try_into()?;
            program.load()?;
            program.attach("syscalls", hook)?;
        }
        Ok(Self(ebpf))
    }
}

/// Each program and its yardstick.
const PAIRS: [(&str, &str); 4] = [
    ("inet_sock_set_state", "empty_set_state"),
    ("tcp_destroy_sock", "empty_destroy"),
    ("sys_enter_connect", "empty_enter"),
    ("sys_exit_connect", "empty_exit"),
];
const ROUNDS: usize = 5;
const CONNECTS: u32 = 20_000;
const BATCH: u32 = 200;
