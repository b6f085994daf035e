//! Writes log lines on a thread of its own, so that nobody waits for whoever reads them.
//!
//! Standard output of a container is a pipe that the node's runtime empties. Where it does not, a
//! write blocks, and a loop that wrote would stand still: it would miss the deadlines of its links and
//! let the ring overflow. So lines wait in a bounded queue. Those that find no room are dropped and
//! counted, and once there is room again a line says how many.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

use crate::privileges;

/// Where lines go; a line is written at once, never in parts.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// Has what waits written when it is dropped.
///
/// It must outlive everything that logs.
#[derive(Debug)]
pub(crate) struct Flush {
    queue: SyncSender<Message>,
    limit: Duration,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Answered when all lines before it are written.
    Flush(SyncSender<()>),
}

impl Lines {
    /// Lines on standard output. How many were lost is logged like anything else.
    ///
    /// # Errors
    ///
    /// Fails if no thread can be started.
    pub(crate) fn of_stdout() -> io::Result<(Self, Flush)> {
        Self::start(io::stdout(), FLUSH, |lost| {
            tracing::warn!(
                lines = lost,
                "Log lines were lost: standard output was not read."
            );
        })
    }

    /// `report` is called on the thread that writes, with how many lines were lost.
    fn start(
        output: impl Write + Send + 'static,
        limit: Duration,
        report: impl Fn(u64) + Send + 'static,
    ) -> io::Result<(Self, Flush)> {
        let (queue, messages) = sync_channel(WAITING);
        let lines = Self {
            queue: queue.clone(),
            lost: Arc::default(),
        };
        let lost = Arc::clone(&lines.lost);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                privileges::give_up();
                write_all(&messages, output, &lost, report);
            })?;
        Ok((lines, Flush { queue, limit }))
    }
}

fn write_all(
    messages: &Receiver<Message>,
    mut output: impl Write,
    lost: &AtomicU64,
    report: impl Fn(u64),
) {
    loop {
        let message = match messages.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Empty) => {
                // There is room for the line that says it.
                let lines = lost.swap(0, Ordering::Relaxed);
                if lines > 0 {
                    report(lines);
                }
                match messages.recv() {
                    Ok(message) => message,
                    Err(_) => return,
                }
            }
            Err(TryRecvError::Disconnected) => return,
        };
        match message {
            // Whoever read it may have gone: the agent does its work all the same.
            Message::Line(line) => {
                let _ = output.write_all(&line);
            }
            Message::Flush(done) => {
                let _ = output.flush();
                // Whoever asked may have given up.
                let _ = done.try_send(());
            }
        }
    }
}

impl Write for &Lines {
    /// Takes all of `line`, or counts it as lost.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        // A full queue is one that nobody reads: then there is nothing to wait for but the limit, in
        // which it may get room.
        let step = self.limit / STEPS;
        let mut message = Message::Flush(done);
        for waited in 0..STEPS {
            match self.queue.try_send(message) {
                Ok(()) => {
                    let _ = written.recv_timeout(self.limit - step * waited);
                    return;
                }
                Err(TrySendError::Full(unsent)) => {
                    message = unsent;
                    if written.recv_timeout(step) != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                }
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }
}

/// Lines that wait for standard output: a common outage of 110 pods, the most that a node runs by
/// default, has two lines each. A line takes up to 1 kB, so half a megabyte at most.
const WAITING: usize = 512;
/// How long the end of the process waits for the last lines. A pipe that is read takes them in
/// milliseconds; one that is not must not keep the process from ending, whose last export had 5 s of
/// the 10 s that the chart gives.
const FLUSH: Duration = Duration::from_secs(1);
/// How often to look for room in that time: each 50 ms, which delays no end that anybody waits for.
const STEPS: u32 = 20;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// An output that takes each write when the test lets it, and shows what it was.
    struct Gate {
        entered: Sender<()>,
        opened: Receiver<()>,
        written: Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.entered.send(());
            // Once the test has dropped its end, everything passes.
            let _ = self.opened.recv();
            let text = String::from_utf8_lossy(bytes).into_owned();
            let _ = self.written.send(text);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The test's ends of a gate.
    struct Ends {
        entered: Receiver<()>,
        open: Sender<()>,
        written: Receiver<String>,
    }

    fn gate() -> (Gate, Ends) {
        let (enter, entered) = channel();
        let (open, opened) = channel();
        let (write, written) = channel();
        let gate = Gate {
            entered: enter,
            opened,
            written: write,
        };
        let ends = Ends {
            entered,
            open,
            written,
        };
        (gate, ends)
    }

    fn log(lines: &Lines, line: &str) {
        (&mut &*lines).write_all(line.as_bytes()).unwrap();
    }

    #[test]
    fn an_output_that_is_not_read_delays_nobody_and_what_is_lost_is_said() {
        let (gate, ends) = gate();
        let (reported, reports) = channel();
        let (lines, flush) = Lines::start(gate, Duration::from_secs(10), move |lost| {
            let _ = reported.send(lost);
        })
        .unwrap();
        log(&lines, "0\n");
        ends.entered.recv().unwrap();
        for number in 1..=WAITING + 2 {
            log(&lines, &format!("{number}\n"));
        }
        drop(ends.open);
        assert_eq!(reports.recv().unwrap(), 2);
        drop(flush);
        let expected = (0..=WAITING).map(|number| format!("{number}\n"));
        assert!(ends.written.try_iter().eq(expected));
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        let (gate, ends) = gate();
        drop(ends.open);
        let (lines, flush) = Lines::start(gate, Duration::from_secs(10), |_| {}).unwrap();
        log(&lines, "a\n");
        log(&lines, "b\n");
        drop(flush);
        assert_eq!(ends.written.try_iter().collect::<Vec<_>>(), ["a\n", "b\n"]);
    }

    #[test]
    fn an_output_that_is_never_read_does_not_keep_the_process_from_ending() {
        for waiting in [1, WAITING + 2] {
            let (gate, ends) = gate();
            let (lines, flush) = Lines::start(gate, Duration::from_millis(20), |_| {}).unwrap();
            for _ in 0..waiting {
                log(&lines, "a\n");
            }
            drop(flush);
            assert!(ends.written.try_recv().is_err());
        }
    }
}
