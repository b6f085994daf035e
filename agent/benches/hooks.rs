//! What each program costs per event, over an empty one on the same hook: an unrelated socket, and
//! a matched one. As root; figures are printed, nothing is asserted.
//!
//! The kernel's own account (`run_time_ns / run_cnt`) is used. About 60 ns of each figure are the
//! measurement itself, the same for the empty program.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    thread,
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Btf, Ebpf,
    programs::{Program, loaded_programs},
    sys::{Stats, enable_stats},
};
use statlink::kernel::{ConnectHook, Kernel, Source, Watch, tracefs};

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let _stats = enable_stats(Stats::RunTime).context("count the programs' run time")?;
    println!("ns per event, {ROUNDS} rounds of {CONNECTS} loopback connects, median");
    println!(
        "{:<22}{:>10}{:>12}{:>10}{:>11}",
        "program", "empty", "unrelated", "over", "matched"
    );
    // connect() is seen in one of two ways: each has a turn.
    measure(ConnectHook::Fexit, &[SET_STATE, DESTROY, STREAM_CONNECT])?;
    measure(ConnectHook::Tracepoints, &[ENTER, EXIT])
}

/// Loads the kernel half in one of its ways, and prints what these programs of it cost.
fn measure(connect_hook: ConnectHook, pairs: &[Pair]) -> Result<()> {
    let tracefs = tracefs::show();
    let (server, bystander) = (Server::start()?, Server::start()?);
    let others = ids()?;
    let watch = Watch {
        port: server.port,
        process_names: vec!["nobody".to_owned()],
        connect_hook,
    };
    let mut kernel = Kernel::load(&watch, &tracefs)?;
    for state in kernel.hooks() {
        if let Some(missing) = &state.missing {
            println!("{}: {}", state.hook.name, missing.reason);
        }
    }
    // A kernel that refuses a program also refuses its baseline.
    let pairs = pairs.iter().filter(|pair| kernel.hooked(pair.program));
    let pairs: Vec<&Pair> = pairs.collect();
    let _empty = Empty::attach(&pairs)?;

    let mut unrelated = Figures::of_programs_beside(&others);
    let mut matched = Figures::of_programs_beside(&others);
    // Both sources at once would disturb each other: first the bystander's port, which the first
    // instructions reject.
    for _ in 0..ROUNDS {
        unrelated.measure(|| bystander.connect(CONNECTS))?;
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
    for pair in pairs {
        let figures = (
            unrelated.median(pair.yardstick),
            unrelated.median(pair.program),
            matched.median(pair.program),
        );
        let (Some(empty), Some(ours), Some(matched)) = figures else {
            println!("{:<22}{:>10}", pair.program, "never ran");
            continue;
        };
        println!(
            "{:<22}{empty:>10.1}{ours:>12.1}{:>+10.1}{matched:>11.1}",
            pair.program,
            ours - empty,
        );
    }
    for (reason, count) in kernel.losses()? {
        if count > 0 {
            println!("lost by {}: {count}", reason.name());
        }
    }
    Ok(())
}

/// Time per run of each program, by name.
struct Figures<'a> {
    /// Programs that were there before, such as another agent's.
    others: &'a BTreeSet<u32>,
    ns: BTreeMap<String, Vec<f64>>,
}

impl<'a> Figures<'a> {
    fn of_programs_beside(others: &'a BTreeSet<u32>) -> Self {
        Self {
            others,
            ns: BTreeMap::new(),
        }
    }

    fn measure(&mut self, work: impl FnOnce()) -> Result<()> {
        let before = totals(self.others)?;
        work();
        for (name, (time, runs)) in totals(self.others)? {
            let (time_before, runs_before) = before.get(&name).copied().unwrap_or_default();
            let runs = runs.saturating_sub(runs_before);
            if runs > 0 {
                let per_run = time.saturating_sub(time_before) as f64 / runs as f64;
                self.ns.entry(name).or_default().push(per_run);
            }
        }
        Ok(())
    }

    /// `None` if it never ran.
    fn median(&self, name: &str) -> Option<f64> {
        // Names in the kernel are cut to 15 bytes.
        let key: String = name.chars().take(15).collect();
        let mut values = self.ns.get(&key)?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

/// Run time and runs of each program, by name.
fn totals(without: &BTreeSet<u32>) -> Result<BTreeMap<String, (u64, u64)>> {
    let mut totals = BTreeMap::new();
    for program in loaded_programs() {
        let program = program?;
        if let Some(name) = program.name_as_str()
            && !without.contains(&program.id())
        {
            let time = u64::try_from(program.run_time().as_nanos())?;
            totals.insert(name.to_owned(), (time, program.run_count()));
        }
    }
    Ok(totals)
}

fn ids() -> Result<BTreeSet<u32>> {
    loaded_programs().map(|program| Ok(program?.id())).collect()
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

    fn connect(&self, times: u32) {
        for _ in 0..times {
            // Ephemeral ports may run out for a moment; one connect less does not matter.
            drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        }
    }
}

/// The baselines, attached while this exists.
struct Empty(#[expect(dead_code, reason = "held for its drop")] Ebpf);

impl Empty {
    fn attach(pairs: &[&Pair]) -> Result<Self> {
        let btf = Btf::from_sys_fs()?;
        let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/statlink-empty"));
        let mut ebpf = Ebpf::load(object)?;
        for pair in pairs {
            let name = pair.yardstick;
            let program = ebpf.program_mut(name).context(name)?;
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "yardsticks are of three kinds"
            )]
            match program {
                Program::BtfTracePoint(program) => {
                    program.load(pair.hook, &btf)?;
                    program.attach()?;
                }
                Program::FExit(program) => {
                    program.load(pair.hook, &btf)?;
                    program.attach()?;
                }
                Program::TracePoint(program) => {
                    program.load()?;
                    program.attach("syscalls", pair.hook)?;
                }
                other => bail!("{name} is a program of the kind {:?}", other.prog_type()),
            }
        }
        Ok(Self(ebpf))
    }
}

/// A program, its baseline, and the hook of both.
struct Pair {
    program: &'static str,
    yardstick: &'static str,
    hook: &'static str,
}

const SET_STATE: Pair = Pair {
    program: "inet_sock_set_state",
    yardstick: "empty_set_state",
    hook: "inet_sock_set_state",
};
const DESTROY: Pair = Pair {
    program: "tcp_destroy_sock",
    yardstick: "empty_destroy",
    hook: "tcp_destroy_sock",
};
const STREAM_CONNECT: Pair = Pair {
    program: "inet_stream_connect",
    yardstick: "empty_stream",
    hook: "inet_stream_connect",
};
const ENTER: Pair = Pair {
    program: "sys_enter_connect",
    yardstick: "empty_enter",
    hook: "sys_enter_connect",
};
const EXIT: Pair = Pair {
    program: "sys_exit_connect",
    yardstick: "empty_exit",
    hook: "sys_exit_connect",
};
const ROUNDS: usize = 5;
const CONNECTS: u32 = 20_000;
const BATCH: u32 = 200;
