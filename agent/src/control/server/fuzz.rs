//! Fuzzes requests on the control socket: a process that may open it may write anything.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    time::Duration,
};

use bolero::check;
use tokio::sync::broadcast;

use super::{Request, Server};
use crate::{
    fuzz::{Edit, ITERATIONS, edited},
    snapshot::Snapshots,
};

const REQUESTS: [&str; 2] = ["status\n", "events\n"];

#[test]
fn any_request_is_answered_by_one_line_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("statlink.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (events, _kept) = broadcast::channel(1);
    // Nobody serves snapshots, as when the agent stops: `status` gets an empty answer.
    let (snapshots, _) = Snapshots::channel();
    let server = {
        let _entered = runtime.enter();
        Server::bind(&path).unwrap()
    };
    let served = runtime.spawn(server.serve(snapshots, events));

    check!()
        .with_iterations(ITERATIONS)
        .with_type::<(u8, Vec<Edit>)>()
        .for_each(|(request, edits)| {
            let request = REQUESTS[usize::from(*request) % REQUESTS.len()];
            let request = edited(request.as_bytes(), edits.get(..3).unwrap_or(edits));
            let mut stream = UnixStream::connect(&path).unwrap();
            // Far longer than it takes: a server that hangs fails the test, not the run.
            stream
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
            // The server may have closed after reading the most that it reads of a request.
            let _ = stream.write_all(&request);
            let _ = stream.shutdown(Shutdown::Write);
            let mut answer = Vec::new();
            // It may also close before it has read everything, which ends the stream with an error.
            if let Err(error) = stream.read_to_end(&mut answer) {
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "no answer and no end");
            }
            let line = request.split_inclusive(|byte| *byte == b'\n').next();
            let line = str::from_utf8(line.unwrap_or_default());
            if line.is_ok_and(|line| line.parse::<Request>().is_err()) {
                let answer = answer.strip_suffix(b"\n").expect("a whole line");
                let refused: String = serde_json::from_slice(answer).unwrap();
                assert!(refused.contains("status"), "names no request: {refused}");
            } else {
                assert!(answer.is_empty(), "{answer:?}");
            }
            assert!(!served.is_finished(), "the server has gone");
        });
}
