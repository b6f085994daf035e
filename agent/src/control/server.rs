//! The agent's side of the control socket. The number of clients, their requests and their time are
//! bounded.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, Mode, fchmod, flock},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};
use serde::Serialize;
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, broadcast},
    task::JoinSet,
    time::timeout,
};

use super::{
    status::{self, StatusHead},
    wire::{MissedEvents, Request},
};
use crate::{
    link_event::LinkEvent,
    snapshot::{Purpose, Snapshot, Snapshots},
};

/// A socket that is bound. Dropping it removes the socket.
#[derive(Debug)]
pub(crate) struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket: a socket that is at the path later may be another agent's.
    identity: (u64, u64),
    /// The socket's directory, if this agent created it.
    made: Option<PathBuf>,
}

/// Why there is no control socket.
#[derive(Debug, Error)]
pub(crate) enum BindError {
    /// Another agent listens there.
    #[error(
        "control socket {0}: another statlink is running on it; stop that one, or name another socket with --socket"
    )]
    InUse(PathBuf),
    /// Something else is at the path.
    #[error(
        "control socket {0}: the path holds something that is not a socket; name another path with --socket"
    )]
    NotASocket(PathBuf),
    /// The kernel refused.
    #[error(
        "control socket {path}: {action}: {source}; name a path in a writable directory with --socket"
    )]
    Refused {
        /// The requested path.
        path: PathBuf,
        /// The operation that failed.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl Server {
    /// Binds `path` for this user only, and creates its directory if it is missing. Replaces a socket
    /// that a dead agent left behind.
    ///
    /// # Errors
    ///
    /// If another agent listens there, the path is not a socket, or the kernel refuses.
    pub(crate) fn bind(path: &Path) -> Result<Self, BindError> {
        let refused = |action| {
            move |source: io::Error| BindError::Refused {
                path: path.to_owned(),
                action,
                source,
            }
        };
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let made = (!parent.exists()).then(|| parent.to_owned());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(refused("create its directory"))?;
        // If two agents start at once, neither may remove the socket that the other has just bound.
        let directory = File::open(parent).map_err(refused("open its directory"))?;
        flock(&directory, FlockOperation::LockExclusive)
            .map_err(|error| refused("lock its directory")(error.into()))?;
        remove_stale(path, refused("remove a stale one"))?;
        let listener = bound(path).map_err(refused("bind"))?;
        let metadata = fs::symlink_metadata(path).map_err(refused("stat it"))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
            made,
        })
    }

    /// Answers clients until it is dropped; their connections are dropped with it.
    pub(crate) async fn serve(self, snapshots: Snapshots, events: broadcast::Sender<LinkEvent>) {
        let permits = Arc::new(Semaphore::new(MAX_CLIENTS));
        let mut clients = JoinSet::new();
        loop {
            while clients.try_join_next().is_some() {}
            // The semaphore is never closed. Without a permit, clients wait in the kernel's
            // backlog.
            let permit = Arc::clone(&permits).acquire_owned().await;
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let (snapshots, events) = (snapshots.clone(), events.clone());
                    clients.spawn(async move {
                        if let Err(error) = client(stream, &snapshots, &events).await {
                            tracing::debug!(%error, "A client of the control socket went away.");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "Control socket could not accept.");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let still_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if still_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "Control socket could not be removed.");
        }
        if let Some(made) = &self.made {
            // This fails if the directory holds anything else by now, as it should.
            let _ = fs::remove_dir(made);
        }
    }
}

fn remove_stale(path: &Path, refused: impl Fn(io::Error) -> BindError) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        // Nobody listens.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(refused)
        }
        Err(error) => Err(refused(error)),
    }
}

/// Binds and listens. The mode is set before there is a path, so that no other user can connect in
/// between: `unix_bind` gives the path the mode of the socket's inode (`net/unix/af_unix.c`).
fn bound(path: &Path) -> io::Result<UnixListener> {
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

async fn client(
    mut stream: UnixStream,
    snapshots: &Snapshots,
    events: &broadcast::Sender<LinkEvent>,
) -> io::Result<()> {
    // Subscribe before reading the request, so that a client misses nothing that happens after it
    // has sent it.
    let events = events.subscribe();
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    let mut line = String::new();
    timeout(
        REQUEST_TIMEOUT,
        (&mut read).take(MAX_REQUEST_BYTES).read_line(&mut line),
    )
    .await??;
    match line.parse() {
        Ok(Request::Status) => {
            // `None` if the agent is stopping.
            if let Some(snapshot) = snapshots.take(Purpose::Look).await {
                timeout(ANSWER_LIMIT, send_status(&mut write, &snapshot)).await??;
            }
        }
        Ok(Request::Events) => send_events(events, &mut read, &mut write).await?,
        Err(error) => send(&mut write, &error.to_string()).await?,
    }
    Ok(())
}

/// Sends the status a few links at a time, so that its text is never in memory as a whole.
async fn send_status(
    write: &mut (impl tokio::io::AsyncWrite + Unpin),
    snapshot: &Snapshot,
) -> io::Result<()> {
    send(write, &StatusHead::from(snapshot)).await?;
    let (mut text, mut links) = (Vec::new(), status::lines(snapshot).peekable());
    while links.peek().is_some() {
        for link in links.by_ref().take(LINKS_AT_ONCE) {
            serde_json::to_writer(&mut text, &link)?;
            text.push(b'\n');
        }
        timeout(WRITE_TIMEOUT, write.write_all(&text)).await??;
        text.clear();
    }
    Ok(())
}

/// Sends events until the client disconnects.
async fn send_events(
    mut events: broadcast::Receiver<LinkEvent>,
    read: &mut (impl tokio::io::AsyncRead + Unpin),
    write: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> io::Result<()> {
    loop {
        let mut nothing = [0];
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => send(write, &event).await?,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    send(write, &MissedEvents { missed }).await?;
                }
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
            // A client sends nothing more. It has disconnected, or does not speak this protocol.
            _ = read.read(&mut nothing) => return Ok(()),
        }
    }
}

async fn send(
    write: &mut (impl tokio::io::AsyncWrite + Unpin),
    value: &impl Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    timeout(WRITE_TIMEOUT, write.write_all(&line)).await?
}

/// People and scripts of one user connect, a few at a time; more wait in the backlog.
const MAX_CLIENTS: usize = 16;
/// Clients that wait in the kernel for a place; more block in connect(2).
const BACKLOG: i32 = 16;
/// The longest request has 7 bytes.
const MAX_REQUEST_BYTES: u64 = 64;
/// A client sends its request at once; a silent one must not keep its place.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// A client that stops reading for this long loses its place.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// A client that reads a whole status more slowly than this also loses its place.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// 400 bytes to 1 kB each: one write(2) for some kilobytes.
const LINKS_AT_ONCE: usize = 16;
/// When accept(2) fails, mostly for lack of file descriptors, it fails again at once: do not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
