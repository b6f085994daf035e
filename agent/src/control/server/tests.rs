//! Tests: who can reach the socket, and what its clients get.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{
    control::client,
    snapshot::{LinkSnapshot, SeriesName},
};

fn path(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("run/statlink.sock")
}

#[tokio::test]
async fn only_the_owner_can_open_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = path(&directory);
    let _server = Server::bind(&path).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[tokio::test]
async fn the_socket_of_a_running_agent_is_left_alone_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = path(&directory);
    let _server = Server::bind(&path).unwrap();
    let error = Server::bind(&path).unwrap_err();
    assert!(
        matches!(&error, BindError::InUse(of) if *of == path),
        "{error}"
    );
    assert!(path.exists());
}

#[tokio::test]
async fn the_socket_of_a_dead_agent_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("left");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    Server::bind(&path).unwrap();
}

#[tokio::test]
async fn a_file_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "precious").unwrap();
    let error = Server::bind(&path).unwrap_err();
    assert!(matches!(error, BindError::NotASocket(_)), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_directory_that_cannot_be_created_is_named() {
    let path = Path::new("/proc/statlink/statlink.sock");
    let error = Server::bind(path).unwrap_err().to_string();
    assert!(error.contains("/proc/statlink/statlink.sock"), "{error}");
    assert!(error.contains("--socket"), "{error}");
}

#[tokio::test]
async fn dropping_it_removes_its_own_socket_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = path(&directory);
    drop(Server::bind(&path).unwrap());
    assert!(!path.parent().unwrap().exists(), "it made the directory");

    let server = Server::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(server);
    assert!(path.exists());
}

#[tokio::test]
async fn an_unknown_request_is_answered_with_the_known_ones() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(b"sudo\n").await.unwrap();
    let (events, _) = broadcast::channel(1);
    client(theirs, &Snapshots::channel().0, &events)
        .await
        .unwrap();
    let mut answer = String::new();
    ours.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "\"expected `status` or `events`\"\n");
}

/// Once, 10 pods with names of 120 kB each made `status` fail, and so would 2,500 with short ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_of_a_thousand_links_arrives_as_a_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = path(&directory);
    let link = |n: u32| LinkSnapshot {
        name: SeriesName::longest(n),
        pid: n,
        ..LinkSnapshot::starting("")
    };
    let snapshot = Arc::new(Snapshot {
        links: (0..1_000).map(link).collect(),
        ..Snapshot::default()
    });
    let (snapshots, mut requests) = Snapshots::channel();
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            let _ = request.reply.send(Arc::clone(&snapshot));
        }
    });
    let (events, _kept) = broadcast::channel(1);
    let served = tokio::spawn(Server::bind(&path).unwrap().serve(snapshots, events));
    let asked = tokio::task::spawn_blocking(move || client::status(&path));
    let status = asked.await.unwrap().unwrap();
    served.abort();
    let pids: Vec<_> = status.links.iter().map(|link| link.name.pid).collect();
    assert_eq!(pids, (0..1_000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_disconnected() {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let (events, _) = broadcast::channel(1);
    let error = client(theirs, &Snapshots::channel().0, &events)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}
