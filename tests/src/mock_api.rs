//! A mock of a Kubernetes API server, without TLS: it lists given objects, its watches send
//! changes, and it can be away. For tests that need no server with validation or selection by node.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{container::Container, netns::Namespace, scratch};

/// A running mock; its threads end with the process.
#[derive(Debug)]
pub struct MockApi {
    shared: Arc<Shared>,
    kubeconfig: PathBuf,
    directory: TempDir,
}

/// The objects at its start.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Of any namespace and node: the mock selects only by labels, and only objects that have
    /// labels.
    pub pods: Vec<Value>,
    /// Services; none leaves the peer's addresses unknown.
    pub services: Vec<Value>,
}

/// What its threads share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By resource, such as `pods`.
    objects: Vec<(&'static str, Value)>,
    /// All changes, oldest first: the version of each is its place, counted from 1.
    changes: Vec<Change>,
    is_away: bool,
    connections: Vec<TcpStream>,
    /// Watches of pods that have received everything.
    pod_watches: u32,
}

#[derive(Clone, Debug)]
struct Change {
    resource: &'static str,
    /// As in the `type` of a watch's event.
    kind: &'static str,
    object: Value,
}

// === impl MockApi ===

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
        let shared = Arc::<Shared>::default();
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
        let mock = Self {
            shared: Arc::clone(&shared),
            kubeconfig,
            directory,
        };
        for pod in objects.pods {
            mock.put(PODS, pod);
        }
        for service in objects.services {
            mock.put("services", service);
        }
        thread::spawn(move || serve(&listener, &shared));
        Ok(mock)
    }

    /// The file that leads to it.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A directory with the same lifetime.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Adds an object of a resource (`pods`, `services`, `endpointslices`), or replaces the one of its
    /// name.
    pub fn put(&self, resource: &'static str, object: Value) {
        let kind = match self.shared.state().take(resource, name(&object)) {
            Some(_) => "MODIFIED",
            None => "ADDED",
        };
        self.change(resource, kind, object);
    }

    /// Removes an object, if it is there.
    pub fn remove(&self, resource: &'static str, name: &str) {
        let known = self.shared.state().take(resource, name);
        if let Some(object) = known {
            self.change(resource, "DELETED", object);
        }
    }

    /// Ends every connection, and closes each new one at once.
    pub fn leave(&self) {
        let mut state = self.shared.state();
        state.is_away = true;
        for connection in state.connections.drain(..) {
            // Its client may have disconnected already.
            let _ = connection.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }

    /// Answers again. Clients that ask get the changes made meanwhile.
    pub fn come_back(&self) {
        self.shared.state().is_away = false;
    }

    /// Whether at least this many watches of pods have received everything.
    pub fn is_followed_by(&self, watches: u32) -> bool {
        self.shared.state().pod_watches >= watches
    }

    fn change(&self, resource: &'static str, kind: &'static str, mut object: Value) {
        let mut state = self.shared.state();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            let version = state.changes.len() + 1;
            metadata.insert("resourceVersion".into(), version.to_string().into());
        }
        if kind != "DELETED" {
            state.objects.push((resource, object.clone()));
        }
        state.changes.push(Change {
            resource,
            kind,
            object,
        });
        self.shared.changed.notify_all();
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

// === impl Shared ===

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn take(&mut self, resource: &str, name: &str) -> Option<Value> {
        let place = self
            .objects
            .iter()
            .position(|(of, object)| *of == resource && self::name(object) == name)?;
        Some(self.objects.swap_remove(place).1)
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming().flatten() {
        let Ok(connection) = client.try_clone() else {
            continue;
        };
        {
            let mut state = shared.state();
            if state.is_away {
                continue;
            }
            state.connections.push(connection);
        }
        let shared = Arc::clone(shared);
        // A client that disconnects ends its thread.
        thread::spawn(move || answer(client, &shared));
    }
}

fn answer(client: TcpStream, shared: &Shared) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut writer = client;
    loop {
        let mut request = String::new();
        reader.read_line(&mut request).ok().filter(|n| *n > 0)?;
        let mut header = String::new();
        while reader.read_line(&mut header).ok()? > 2 {
            header.clear();
        }
        let resource = [PODS, "services", "endpointslices"]
            .into_iter()
            .find(|of| request.contains(&format!("/{of}?")))
            .unwrap_or("others");
        if request.contains("watch=true") {
            return watch(&mut writer, shared, resource, &request).ok();
        }
        let (items, version) = {
            let state = shared.state();
            let of = state.objects.iter();
            let of = of.filter(|(of, object)| *of == resource && selects(&request, object));
            let items: Vec<_> = of.map(|(_, object)| object.clone()).collect();
            (items, state.changes.len())
        };
        let list = json!({
            "kind": "List", "apiVersion": "v1",
            "metadata": {"resourceVersion": version.to_string()}, "items": items,
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

/// Sends changes from the requested version on, for as long as a real server does.
fn watch(
    writer: &mut TcpStream,
    shared: &Shared,
    resource: &'static str,
    request: &str,
) -> io::Result<()> {
    write!(
        writer,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )?;
    let mut told: usize = parameter(request, "resourceVersion")
        .and_then(|version| version.parse().ok())
        .unwrap_or_default();
    let deadline = Instant::now() + LONGEST_WATCH;
    loop {
        let (changes, is_over) = {
            let mut state = shared.state();
            let followed = u32::from(resource == PODS);
            state.pod_watches += followed;
            let wait = deadline.saturating_duration_since(Instant::now());
            let idle = |state: &mut State| state.changes.len() <= told && !state.is_away;
            let waited = shared.changed.wait_timeout_while(state, wait, idle);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.pod_watches -= followed;
            let changes = state.changes.get(told..).unwrap_or_default().to_vec();
            (changes, state.is_away || Instant::now() >= deadline)
        };
        told += changes.len();
        let of = |change: &&Change| change.resource == resource && selects(request, &change.object);
        for change in changes.iter().filter(of) {
            let event = json!({ "type": change.kind, "object": change.object }).to_string();
            write!(writer, "{:x}\r\n{event}\n\r\n", event.len() + 1)?;
        }
        if is_over {
            return write!(writer, "0\r\n\r\n");
        }
    }
}

/// Whether a request's label selector, which has only equalities, selects an object; an object
/// without labels is always selected.
fn selects(request: &str, object: &Value) -> bool {
    let Some(labels) = object.pointer("/metadata/labels") else {
        return true;
    };
    let selector = parameter(request, "labelSelector").unwrap_or_default();
    let selector = selector
        .replace("%3D", "=")
        .replace("%2C", ",")
        .replace("%2F", "/");
    let mut wanted = selector.split(',').filter_map(|term| term.split_once('='));
    wanted.all(|(key, value)| labels.get(key).is_some_and(|label| label == value))
}

/// A parameter of a request's query, undecoded.
fn parameter<'a>(request: &'a str, key: &str) -> Option<&'a str> {
    let query = request.split(' ').nth(1)?.split_once('?')?.1;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(of, _)| *of == key).map(|(_, value)| value)
}

fn name(object: &Value) -> &str {
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    name.unwrap_or_default()
}

const PODS: &str = "pods";

/// A client requests 290 s (`timeoutSeconds`), and treats a watch that lasts longer as dead.
const LONGEST_WATCH: Duration = Duration::from_secs(280);

/// A certificate, base64 of PEM, that signs nothing. Without one a client loads the system's, and
/// does not start if there are none, as in a guest.
const AUTHORITY: &str = "\
    LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJkakNDQVJ1Z0F3SUJBZ0lVVndWU2VJVzVOS3VXV2ZtQ3JWSjllT2E2\
    dm9Nd0NnWUlLb1pJemowRUF3SXcKRHpFTk1Bc0dBMVVFQXd3RWJXOWphekFnRncweU5qRXhNamd4TlRBeU1qUmFHQTh5TVRJ\
    Mk1URXdOREUxTURJeQpORm93RHpFTk1Bc0dBMVVFQXd3RWJXOWphekJaTUJNR0J5cUdTTTQ5QWdFR0NDcUdTTTQ5QXdFSEEw\
    SUFCTUw0CnlGRXBOMTVxVUZNbTVrVXJyaWlZUFNlMkZGdUc3b2hKUDcxbUVhQ0lqdDlLeEVZWFdPd0R4TDBnOWVMV3dLTDcK\
    YVJ6R1BZMnpCbVFNS2IyU1BNaWpVekJSTUIwR0ExVWREZ1FXQkJSUlptTGJiM3cvZnAydVhRR08wTVk0aHFmdwppekFmQmdO\
    VkhTTUVHREFXZ0JSUlptTGJiM3cvZnAydVhRR08wTVk0aHFmd2l6QVBCZ05WSFJNQkFmOEVCVEFECkFRSC9NQW9HQ0NxR1NN\
    NDlCQU1DQTBrQU1FWUNJUUQyYi9WTTlPMXZiSXBucmNBTGViMjFzTUMzZ2tLOC91cWIKNythZEhOclFzd0loQU1yc2ptU0dL\
    Nk5uMXNSYzJlNW5EL2ljenhteGF1K0ZDZFVDUS9qZHZQQzYKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";
