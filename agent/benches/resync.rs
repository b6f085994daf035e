//! What a resynchronisation costs, by the number of links. As root; figures are printed, nothing
//! is asserted.
//!
//! Each link is a process with one open connection, which this program starts: itself, as
//! `hold PORT`. CPU time is measured, so that what else runs on the machine changes little.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};
use statlink::{
    clock,
    kernel::{ConnectHook, Kernel, LISTING_SETTLES, Source, Watch, tracefs},
};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    if let [_, hold, port, ..] = &arguments[..]
        && hold == "hold"
    {
        return keep_open(port.parse()?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        let accepted: Vec<_> = listener.incoming().collect();
        drop(accepted);
    });
    let watch = Watch {
        port,
        process_names: vec!["nobody".to_owned()],
        connect_hook: ConnectHook::default(),
    };
    let mut kernel = Kernel::load(&watch, &tracefs::look())?;
    println!("CPU milliseconds of a pass, median of {ROUNDS}; all but the files are on the loop");
    println!(
        "{:<8}{:>10}{:>10}{:>10}{:>10}{:>14}",
        "links", "files", "walk", "list", "settle", "open files"
    );
    let mut holders = Vec::new();
    let mut sources = Vec::new();
    for links in LINKS {
        while holders.len() < links {
            let holder = Holder::start(port)?;
            sources.push(holder.source()?);
            kernel.track(holder.source()?)?;
            holders.push(holder);
        }
        kernel.drain(|_| {});
        let mut files = Vec::new();
        let (mut walks, mut lists, mut settles) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let begun = cpu_time();
            if let Some(open_files) = kernel.open_files()? {
                open_files.read()?;
            }
            files.push(cpu_time() - begun);
            let begun = cpu_time();
            kernel.list([], clock::now())?;
            walks.push(cpu_time() - begun);
            let begun = cpu_time();
            let listing = kernel.list(sources.iter().copied(), clock::now())?;
            let listing = listing.context("nothing changes")?;
            lists.push(cpu_time() - begun);
            thread::sleep(LISTING_SETTLES);
            let begun = cpu_time();
            let settled = kernel.settle(listing)?;
            settles.push(cpu_time() - begun);
            let found: usize = settled.values().map(|inventory| inventory.open.len()).sum();
            anyhow::ensure!(found == links, "{found} of {links}");
        }
        let open_files = fs::read_to_string("/proc/sys/fs/file-nr")?;
        println!(
            "{links:<8}{:>10.2}{:>10.2}{:>10.2}{:>10.2}{:>14}",
            median(&mut files),
            median(&mut walks),
            median(&mut lists),
            median(&mut settles),
            open_files.split_whitespace().next().unwrap_or("?"),
        );
    }
    Ok(())
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Neither is ever negative.
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// In milliseconds.
fn median(values: &mut [Duration]) -> f64 {
    values.sort();
    let median = values.get(values.len() / 2).copied().unwrap_or_default();
    median.as_secs_f64() * 1e3
}

/// Opens one connection, and keeps it until the standard input ends.
fn keep_open(port: u16) -> Result<()> {
    let _open = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    println!("connected");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A process with an open connection.
struct Holder(Child);

impl Holder {
    fn start(port: u16) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(["hold", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("its output")?;
        BufReader::new(output).read_line(&mut String::new())?;
        Ok(Self(child))
    }

    fn source(&self) -> Result<Source> {
        Ok(Source {
            netns: u32::try_from(fs::metadata("/proc/self/ns/net")?.ino())?,
            tgid: self.0.id(),
        })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const LINKS: [usize; 3] = [1, 10, 200];
const ROUNDS: usize = 11;
