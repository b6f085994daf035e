//! Writes log lines on a thread of its own, so that nobody waits for the reader of standard output.
//!
//! A container's standard output is a pipe that the node's runtime empties. If it does not, a write
//! blocks. A loop that wrote would then stop, miss the deadlines of its links, and let the ring
//! overflow. So lines wait in a bounded queue. Lines without room are dropped and counted; once
//! there is room again, a line reports how many.

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

use crate::{privileges, terminal::json_printable};

/// The sink of log lines; it takes each line whole.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// When dropped, waits until the queued lines are written.
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
    /// Answered when all earlier lines are written.
    Flush(SyncSender<()>),
}

impl Lines {
    /// Lines on standard output. The number of lost lines is itself logged.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub(crate) fn of_stdout() -> io::Result<(Self, Flush)> {
        Self::start(io::stdout(), FLUSH, |lost| {
            tracing::warn!(
                lines = lost,
                "Log lines were lost: standard output was not read."
            );
        })
    }

    /// The writing thread calls `report` with the number of lost lines.
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
                // A line was taken from the queue, so there is room for the report.
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
            // The reader may be gone; the agent works on.
            Message::Line(line) => {
                let _ = output.write_all(&line);
            }
            Message::Flush(done) => {
                let _ = output.flush();
                // The caller may have given up.
                let _ = done.try_send(());
            }
        }
    }
}

impl Write for &Lines {
    /// Queues the whole `line`, or counts it as lost.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let message = Message::Line(one_line(line));
        if self.queue.try_send(message).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The line as it may be printed to a terminal: servers and processes say what they like, and it is in
/// there.
fn one_line(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let (text, end) = match text.strip_suffix('\n') {
        Some(text) => (text, "\n"),
        None => (&*text, ""),
    };
    let mut line = json_printable(text).into_owned();
    line.push_str(end);
    line.into_bytes()
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
        // The queue is full, so nobody reads. It may get room before the time is over.
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

/// How many lines may wait for standard output. If 110 pods, the most that a node runs by default,
/// lose their links together, each has two lines. A line takes up to 1 kB, so this is half a
/// megabyte at most.
const WAITING: usize = 512;
/// How long the end of the process waits for the last lines. A pipe with a reader takes them in
/// milliseconds. A pipe without one must not delay the end of the process: its last export had 5 s
/// of the 10 s that the chart gives.
const FLUSH: Duration = Duration::from_secs(1);
/// How many times to look for room in that time: every 50 ms, a delay that nobody notices.
const STEPS: u32 = 20;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// An output that takes each write when the test allows it, and shows the written text.
    struct Gate {
        entered: Sender<()>,
        opened: Receiver<()>,
        written: Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.entered.send(());
            // After the test has dropped its end, every write passes.
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
    fn a_line_cannot_act_on_the_terminal_that_shows_it() {
        for (line, written) in [
            ("{\"a\":\"b\"}\n", "{\"a\":\"b\"}\n"),
            ("\u{9b}2J\u{202e}\n", "\\u009b2J\\u202e\n"),
            ("text\nfake line\n", "text\\u000afake line\n"),
        ] {
            assert_eq!(
                String::from_utf8(one_line(line.as_bytes())).unwrap(),
                written
            );
        }
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
