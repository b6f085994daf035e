//! How many instructions a link takes for what happens to it: counted by valgrind, so that no load of the
//! machine changes the figures. `-- --json` prints them for machines. Figures are printed, nothing is asserted.
//!
//! This program runs itself under valgrind twice, to do the same thing often and twice as often: the
//! difference is what the thing takes, without the start of the program.

use std::{
    env, hint::black_box, net::SocketAddr, process::Command, process::ExitCode, time::Duration,
};

use statlink_ebpf::{End, Phase};
use statlink_link::{ConnectionId, Input, Link, Output, Sample, time::Timestamp};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [REPLAY, what, times] => replay(what, times),
        _ => report(arguments.contains(&"--json")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report(json: bool) -> Result<(), String> {
    for (number, (what, _)) in SCRIPTS.iter().enumerate() {
        let [once, twice] = [TIMES, 2 * TIMES].map(|times| instructions(what, times));
        let each = twice?.saturating_sub(once?) / TIMES;
        match (json, number) {
            (true, _) => println!("{{\"figure\":\"{what}\",\"instructions\":{each}}}"),
            (false, 0) => println!("{:<48}{:>14}\n{what:<48}{each:>14}", "link", "instructions"),
            (false, _) => println!("{what:<48}{each:>14}"),
        }
    }
    Ok(())
}

/// What valgrind counts while this program does `what` so many times.
fn instructions(what: &str, times: u64) -> Result<u64, String> {
    let this = env::current_exe().map_err(|error| format!("who am I: {error}"))?;
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args([REPLAY, what, &times.to_string()]);
    let output = valgrind.output();
    let output = output.map_err(|error| format!("valgrind: {error}; install it, as a package"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("valgrind: {said}"));
    }
    // "==PID== Collected : INSTRUCTIONS"
    let counted = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let counted = counted.and_then(|(_, count)| count.trim().parse().ok());
    counted.ok_or_else(|| format!("valgrind told no count: {said}"))
}

fn replay(what: &str, times: &str) -> Result<(), String> {
    let script = SCRIPTS.iter().find(|(name, _)| *name == what);
    let (_, script) = script.ok_or_else(|| format!("there is no {what:?}"))?;
    let times = times.parse().map_err(|_| format!("how often: {times:?}"))?;
    let mut driver = Driver::new();
    driver.connect();
    for _ in 0..times {
        script(&mut driver);
    }
    black_box(driver.link.state());
    Ok(())
}

/// What happens, and its name.
type Script = (&'static str, fn(&mut Driver));

const SCRIPTS: &[Script] = &[
    ("a dial is refused", Driver::refused),
    (
        "a connection is made, upgraded and reset",
        Driver::made_and_reset,
    ),
    ("ten seconds of a healthy connection", Driver::healthy),
];

/// One link, and the kernel and the clock that it sees.
struct Driver {
    link: Link,
    now: Timestamp,
    outputs: Vec<Output>,
    /// The connection that is open, if one is.
    open: Option<ConnectionId>,
    heard: Timestamp,
}

impl Driver {
    fn new() -> Self {
        let now = Timestamp::from_nanos(1_000_000_000_000);
        Self {
            link: Link::discovered(now),
            now,
            outputs: Vec::new(),
            open: None,
            heard: now,
        }
    }

    fn connect(&mut self) {
        let connection = self.dial();
        self.handle(Input::Established {
            connection,
            peer_address: PEER,
            attempted: Some(connection.born),
        });
        self.open = Some(connection);
        self.pass(SECOND);
    }

    fn refused(&mut self) {
        self.pass(SECOND);
        let connection = self.dial();
        self.end(connection, Phase::Connecting, End::Refused, 111);
    }

    fn made_and_reset(&mut self) {
        if let Some(open) = self.open.take() {
            self.end(open, Phase::Held, End::Reset, 104);
        }
        self.connect();
    }

    fn healthy(&mut self) {
        self.pass(10 * SECOND);
    }

    fn dial(&mut self) -> ConnectionId {
        self.now = self.now + Duration::from_millis(1);
        let connection = ConnectionId {
            sock: 0xffff_8880_0000_1000,
            born: self.now,
        };
        self.handle(Input::Attempted {
            connection,
            peer_address: PEER,
        });
        connection
    }

    fn end(&mut self, connection: ConnectionId, phase: Phase, how: End, errno: u16) {
        self.now = self.now + Duration::from_millis(1);
        self.handle(Input::Ended {
            connection,
            peer_address: PEER,
            attempted: Some(connection.born),
            phase,
            how,
            errno,
            heard: (phase == Phase::Held).then_some(self.heard),
        });
    }

    /// Time passes, and whatever falls due is done.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.link.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(deadline);
            self.link.on_deadline(self.now, &mut self.outputs);
            self.perform();
        }
        self.now = until;
    }

    fn handle(&mut self, input: Input) {
        self.link.handle(self.now, input, &mut self.outputs);
        self.perform();
    }

    /// Looks where it is to look: at a healthy connection, or at none.
    fn perform(&mut self) {
        while !self.outputs.is_empty() {
            for output in std::mem::take(&mut self.outputs) {
                match output {
                    Output::Sample(connection) => {
                        // The last pong.
                        self.heard = self.heard.max(self.now - PONG);
                        let sample = Sample {
                            established: true,
                            heard: Some(self.heard),
                            sent: Some(self.heard),
                            unacknowledged: false,
                            timeouts: 0,
                            rtt: Some(Duration::from_micros(200)),
                            looped: false,
                        };
                        let sample = (self.open == Some(connection)).then_some(sample);
                        let input = Input::Sampled { connection, sample };
                        self.link.handle(self.now, input, &mut self.outputs);
                    }
                    Output::OutageGoesOn => {}
                    Output::Event(event) => {
                        black_box(event);
                    }
                }
            }
        }
    }
}

const REPLAY: &str = "replay";
/// More than the 256 ends that a link remembers, so that its memory is full.
const TIMES: u64 = 1_000;
const SECOND: Duration = Duration::from_secs(1);
/// How long ago a healthy peer was last heard, at most: less than its pings' 3.33 s.
const PONG: Duration = Duration::from_millis(100);
const PEER: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
    8080,
);
