//! A mock of a Kubernetes API server, without TLS: it lists what it is given, and its watches send
//! nothing. For what takes an answer, not a server.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{container::Container, netns::Namespace, scratch};

/// A running mock; its thread ends with the process.
#[derive(Debug)]
pub struct MockApi {
    kubeconfig: PathBuf,
    directory: TempDir,
}

/// What it lists.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Of any namespace and node: the mock does not select.
    pub pods: Vec<Value>,
    /// Services; none leaves the peer's addresses unknown.
    pub services: Vec<Value>,
}

impl MockApi {
    /// Listens on loopback, of a network namespace or else of the test's own.
    pub fn start(objects: Objects, at: Option<&Namespace>) -> Result<Self> {
        let bind = || TcpListener::bind("127.0.0.1:0");
        let listener = match at {
            Some(namespace) => namespace.run(bind)?,
            None => bind(),
        };
        let listener = listener.context("listen as the mock of an API server")?;
        let address = listener.local_addr().context("find its address")?;
        let objects = Arc::new(objects);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let objects = Arc::clone(&objects);
                // A client that goes away ends its thread.
                thread::spawn(move || answer(client, &objects));
            }
        });
        let directory = scratch::directory("mock-api")?;
        let kubeconfig = directory.path().join("config");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "mock",
            "clusters": [{"name": "mock", "cluster": {
                "server": format!("http://{address}"), "certificate-authority-data": AUTHORITY,
            }}],
            "users": [{"name": "mock", "user": {}}],
            "contexts": [{"name": "mock", "context": {"cluster": "mock", "user": "mock"}}],
        });
        fs::write(&kubeconfig, config.to_string())
            .with_context(|| format!("write {}", kubeconfig.display()))?;
        Ok(Self {
            kubeconfig,
            directory,
        })
    }

    /// The file that leads to it.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A directory that goes with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// A pod as the API server lists it; its containers as the kubelet reports them.
pub fn pod(namespace: &str, name: &str, uid: &str, containers: &[(&str, &Container)]) -> Value {
    let statuses: Vec<_> = containers
        .iter()
        .map(|(name, container)| {
            json!({"name": name, "containerID": format!("containerd://{}", container.id)})
        })
        .collect();
    json!({
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": "1"},
        "status": {"containerStatuses": statuses},
    })
}

fn answer(client: TcpStream, objects: &Objects) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut writer = client;
    loop {
        let mut request = String::new();
        reader.read_line(&mut request).ok().filter(|n| *n > 0)?;
        let mut header = String::new();
        while reader.read_line(&mut header).ok()? > 2 {
            header.clear();
        }
        if request.contains("watch=true") {
            write!(
                writer,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            .ok()?;
            // Nothing more until the client closes.
            return reader.read_line(&mut header).ok().map(|_| ());
        }
        let items = if request.contains("/pods?") {
            objects.pods.as_slice()
        } else if request.contains("/services?") {
            objects.services.as_slice()
        } else {
            &[]
        };
        let list = json!({
            "kind": "List", "apiVersion": "v1",
            "metadata": {"resourceVersion": "1"}, "items": items,
        })
        .to_string();
        let length = list.len();
        write!(
            writer,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{list}"
        )
        .ok()?;
    }
}

/// A certificate, base64 of PEM, that signs nothing: without one a client asks the system for its own,
/// and does not start where there are none, as in a guest.
const AUTHORITY: &str = "\
    LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJkakNDQVJ1Z0F3SUJBZ0lVVndWU2VJVzVOS3VXV2ZtQ3JWSjllT2E2\
    dm9Nd0NnWUlLb1pJemowRUF3SXcKRHpFTk1Bc0dBMVVFQXd3RWJXOWphekFnRncweU5qRXhNamd4TlRBeU1qUmFHQTh5TVRJ\
    Mk1URXdOREUxTURJeQpORm93RHpFTk1Bc0dBMVVFQXd3RWJXOWphekJaTUJNR0J5cUdTTTQ5QWdFR0NDcUdTTTQ5QXdFSEEw\
    SUFCTUw0CnlGRXBOMTVxVUZNbTVrVXJyaWlZUFNlMkZGdUc3b2hKUDcxbUVhQ0lqdDlLeEVZWFdPd0R4TDBnOWVMV3dLTDcK\
    YVJ6R1BZMnpCbVFNS2IyU1BNaWpVekJSTUIwR0ExVWREZ1FXQkJSUlptTGJiM3cvZnAydVhRR08wTVk0aHFmdwppekFmQmdO\
    VkhTTUVHREFXZ0JSUlptTGJiM3cvZnAydVhRR08wTVk0aHFmd2l6QVBCZ05WSFJNQkFmOEVCVEFECkFRSC9NQW9HQ0NxR1NN\
    NDlCQU1DQTBrQU1FWUNJUUQyYi9WTTlPMXZiSXBucmNBTGViMjFzTUMzZ2tLOC91cWIKNythZEhOclFzd0loQU1yc2ptU0dL\
    Nk5uMXNSYzJlNW5EL2ljenhteGF1K0ZDZFVDUS9qZHZQQzYKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";
