//! Tests against a mock: a service that answers requests like an API server, one after the other.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Bytes, Frame};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::{discovery::kubernetes::object::Pod, telemetry::logs::capture::Capture};

/// An answer of the mock.
enum Answer {
    /// A status and a whole document.
    Document(StatusCode, Value),
    /// These lines of a watch, which then ends.
    Ending(Vec<Value>),
    /// These lines of a watch, which then stays open and silent.
    Lasting(Vec<Value>),
    /// Connection refused.
    Away,
    /// None, ever.
    Never,
}

type MockBody = BoxBody<Bytes, Infallible>;

/// The stream of events, and the requests made for it, as path and query.
struct Mock {
    events: mpsc::Receiver<WatchEvent>,
    asked: Arc<Mutex<Vec<String>>>,
    doubts: Doubts,
}

impl Mock {
    /// Gives these answers, then a watch that stays silent for ever.
    fn answering(answers: Vec<Answer>) -> Self {
        Self::telling(answers, Watched::Pods(0))
    }

    /// The same, for a watch of `watched`.
    fn telling(answers: Vec<Answer>, watched: Watched) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let answered: Answered = Arc::new(Notify::new());
        let (log, sign) = (Arc::clone(&asked), Arc::clone(&answered));
        let service = tower::service_fn(move |request: Request<Body>| {
            let path = request.uri().path_and_query().unwrap().to_string();
            log.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(path);
            let next = answers.lock().unwrap().pop_front();
            let sign = Arc::clone(&sign);
            async move {
                let next = next.unwrap_or(Answer::Lasting(vec![]));
                if matches!(next, Answer::Never) {
                    pending::<()>().await;
                }
                let response = respond(next)?;
                if response.status().is_success() {
                    sign.notify_one();
                }
                Ok::<_, std::io::Error>(response)
            }
        });
        let api: Api<Pod> = Api::namespaced(Client::new(service, "default"), "knative-serving");
        let (sender, events) = mpsc::channel(16);
        let config = watcher::Config::default().labels("app=activator");
        let mut doubts = Doubts::default();
        let doubted = doubts.add();
        tokio::spawn(follow(
            api,
            config,
            Signals { answered, doubted },
            |event| WatchEvent::Pods(0, event),
            watched,
            Some(WatchLog::new("pods", "knative-serving")),
            sender,
        ));
        Self {
            events,
            asked,
            doubts,
        }
    }

    async fn next(&mut self) -> Event<Pod> {
        let event = timeout(Duration::from_secs(60), self.next_of_objects()).await;
        match event.expect("no event").expect("it gave up") {
            WatchEvent::Pods(_, event) => event,
            event @ (WatchEvent::Services(_)
            | WatchEvent::EndpointSlices(_)
            | WatchEvent::Health(..)) => {
                panic!("{event:?}")
            }
        }
    }

    /// The next event that is not about the watch itself.
    async fn next_of_objects(&mut self) -> Option<WatchEvent> {
        loop {
            match self.events.recv().await {
                Some(WatchEvent::Health(..)) => {}
                event => return event,
            }
        }
    }

    /// Waits for a complete listing of the pods with these names; skips aborted ones.
    async fn lists(&mut self, names: &[&str]) {
        let mut listed = Vec::new();
        loop {
            match self.next().await {
                Event::Init => listed.clear(),
                Event::InitApply(pod) => listed.extend(pod.metadata.name),
                Event::InitDone => break,
                event @ (Event::Apply(_) | Event::Delete(_)) => panic!("{event:?}"),
            }
        }
        assert_eq!(listed, names);
    }

    async fn applies(&mut self, name: &str) {
        let event = self.next().await;
        assert!(
            matches!(&event, Event::Apply(pod) if pod.metadata.name.as_deref() == Some(name)),
            "{event:?}"
        );
    }

    async fn deletes(&mut self, name: &str) {
        let event = self.next().await;
        assert!(
            matches!(&event, Event::Delete(pod) if pod.metadata.name.as_deref() == Some(name)),
            "{event:?}"
        );
    }

    async fn is_silent(&mut self) {
        let event = timeout(Duration::from_secs(1), self.next_of_objects()).await;
        assert!(event.is_err(), "{event:?}");
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn respond(answer: Answer) -> std::io::Result<Response<MockBody>> {
    let lines = |lines: Vec<Value>| {
        let text = lines
            .iter()
            .map(|line| format!("{line}\n"))
            .collect::<String>();
        futures_util::stream::once(async move { Ok(Frame::data(Bytes::from(text))) })
    };
    let (status, body) = match answer {
        Answer::Document(status, document) => {
            (status, Full::new(Bytes::from(document.to_string())).boxed())
        }
        Answer::Ending(events) => (StatusCode::OK, BoxBody::new(StreamBody::new(lines(events)))),
        Answer::Lasting(events) => {
            let silence = futures_util::stream::pending();
            let stream = lines(events).chain(silence);
            (StatusCode::OK, BoxBody::new(StreamBody::new(stream)))
        }
        Answer::Away => return Err(std::io::ErrorKind::ConnectionRefused.into()),
        Answer::Never => return Err(std::io::ErrorKind::TimedOut.into()),
    };
    Ok(Response::builder().status(status).body(body).unwrap())
}

fn pod(name: &str, version: u32) -> Value {
    json!({"metadata": {"name": name, "uid": name, "resourceVersion": version.to_string()}})
}

fn list(version: u32, names: &[&str]) -> Answer {
    let items: Vec<_> = names.iter().map(|name| pod(name, version)).collect();
    let metadata = json!({"resourceVersion": version.to_string()});
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items});
    Answer::Document(StatusCode::OK, list)
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
           "message": "no", "reason": reason, "code": code})
}

fn refusal(code: u16, reason: &str) -> Answer {
    let http = StatusCode::from_u16(code).unwrap();
    Answer::Document(http, status(code, reason))
}

#[tokio::test(start_paused = true)]
async fn listed_and_changed_objects_are_events() {
    let changes = vec![
        event("ADDED", &pod("b", 3)),
        event("MODIFIED", &pod("b", 4)),
        event("DELETED", &pod("a", 5)),
    ];
    let mut mock = Mock::answering(vec![list(2, &["a"]), Answer::Lasting(changes)]);
    mock.lists(&["a"]).await;
    mock.applies("b").await;
    mock.applies("b").await;
    mock.deletes("a").await;
    mock.is_silent().await;
    let asked = mock.asked();
    assert!(
        asked
            .iter()
            .all(|path| path.starts_with("/api/v1/namespaces/knative-serving/pods?"))
    );
    assert!(
        asked
            .iter()
            .all(|path| path.contains("labelSelector=app%3Dactivator")),
        "{asked:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_lists_again() {
    let expired = vec![event("ERROR", &status(410, "Expired"))];
    let mut mock = Mock::answering(vec![
        list(2, &["a"]),
        Answer::Ending(expired),
        list(9, &["b"]),
    ]);
    mock.lists(&["a"]).await;
    mock.lists(&["b"]).await;
    mock.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_was_cut_goes_on_where_it_was() {
    let mut mock = Mock::answering(vec![
        list(2, &["a"]),
        Answer::Ending(vec![event("MODIFIED", &pod("a", 7))]),
        Answer::Away,
        Answer::Lasting(vec![event("ADDED", &pod("b", 8))]),
    ]);
    mock.lists(&["a"]).await;
    mock.applies("a").await;
    mock.applies("b").await;
    let resumed = mock.asked();
    assert!(
        resumed.last().unwrap().contains("resourceVersion=7"),
        "{resumed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_one_warning_and_one_recovery_even_if_no_object_changes() {
    let logged = Capture::new("off,statlink=info");
    let mut mock = Mock::answering(vec![
        list(2, &["a"]),
        refusal(403, "Forbidden"),
        refusal(403, "Forbidden"),
        refusal(403, "Forbidden"),
        Answer::Lasting(vec![]),
    ]);
    mock.lists(&["a"]).await;
    let silence = timeout(Duration::from_secs(300), mock.next_of_objects()).await;
    assert!(silence.is_err(), "{silence:?}");
    let [warning, recovery] = &logged.lines()[..] else {
        panic!("{:#?}", logged.lines());
    };
    assert_eq!(warning["level"], "WARN");
    assert_eq!(
        warning["message"],
        "Watching pods failed: watch pods in knative-serving: no; give the ServiceAccount a Role \
         there with list and watch; if Kustomize installed it with `namespace:`, that moved the \
         Role and its RoleBinding to the agent's own namespace. What is known stays in use."
    );
    assert_eq!(recovery["level"], "INFO");
    assert_eq!(recovery["message"], "Watching pods works again.");
}

#[tokio::test(start_paused = true)]
async fn the_watch_survives_refusals_and_an_absent_server() {
    let mut mock = Mock::answering(vec![
        refusal(403, "Forbidden"),
        Answer::Away,
        refusal(500, "InternalError"),
        list(2, &["a"]),
        refusal(403, "Forbidden"),
        Answer::Lasting(vec![event("DELETED", &pod("a", 3))]),
    ]);
    mock.lists(&["a"]).await;
    mock.deletes("a").await;
    mock.is_silent().await;
}

#[tokio::test(start_paused = true)]
async fn addresses_are_stale_from_the_failure_to_the_answer() {
    let answers = vec![
        list(2, &["a"]),
        Answer::Ending(vec![event("ERROR", &status(410, "Expired"))]),
        Answer::Away,
        Answer::Away,
        list(9, &["a"]),
    ];
    let mut mock = Mock::telling(answers, Watched::Services);
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = timeout(Duration::from_secs(60), mock.events.recv()).await;
        if let Some(WatchEvent::Health(watch, health)) = event.expect("no event") {
            assert_eq!(watch, Watched::Services);
            told.push(health);
        }
    }
    assert_eq!(told, [WatchHealth::Stale, WatchHealth::Current]);
}

/// A server that is frozen, or cut off without a word, ends no watch.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_doubted_and_does_not_answer_is_stale_before_an_address_is_judged() {
    let logged = Capture::new("off,statlink=info");
    let answers = vec![
        list(2, &["a"]),
        Answer::Lasting(vec![]),
        Answer::Never,
        Answer::Never,
        list(9, &["b"]),
    ];
    let mut mock = Mock::telling(answers, Watched::Services);
    mock.lists(&["a"]).await;
    // Without a doubt nobody asks.
    let silence = timeout(Duration::from_secs(60), mock.events.recv()).await;
    assert!(silence.is_err(), "{silence:?}");
    assert_eq!(mock.asked().len(), 2);

    let doubted = Instant::now();
    mock.doubts.raise();
    let stale = async {
        loop {
            if let WatchEvent::Health(_, health) = mock.events.recv().await.unwrap() {
                return health;
            }
        }
    };
    let stale = timeout(DOUBT, stale).await.expect("not told in time");
    assert_eq!(stale, WatchHealth::Stale);
    assert!(doubted.elapsed() < DOUBT);
    // Meanwhile more doubts ask for nothing more.
    mock.doubts.raise();
    // It is asked on a new connection each time, and lists what it has now.
    mock.lists(&["b"]).await;
    assert!(doubted.elapsed() < RESTART * 3, "{:?}", doubted.elapsed());
    let said: Vec<_> = logged
        .lines()
        .iter()
        .map(|line| line["message"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        said,
        [
            "Watching pods failed: list pods in knative-serving: no answer within 1.5 s. What is \
             known stays in use.",
            "Watching pods works again.",
        ]
    );
}

/// A watch whose connection alone is dead is found out, too.
#[tokio::test(start_paused = true)]
async fn a_doubt_that_is_answered_brings_what_the_watch_had_missed() {
    let answers = vec![
        list(2, &["a"]),
        Answer::Lasting(vec![]),
        list(9, &["a", "b"]),
        Answer::Lasting(vec![]),
    ];
    let mut mock = Mock::telling(answers, Watched::Services);
    mock.lists(&["a"]).await;
    mock.doubts.raise();
    mock.lists(&["a", "b"]).await;
    mock.is_silent().await;
    let health = timeout(Duration::from_secs(60), mock.events.recv()).await;
    assert!(health.is_err(), "{health:?}");
}

#[test]
fn the_api_server_is_tried_again_within_5_s_however_long_it_was_away() {
    let mut pauses = Pauses::default();
    let taken: Vec<_> = pauses.by_ref().take(100).collect();
    assert!(taken[0] <= SHORTEST_PAUSE, "{taken:?}");
    assert!(taken[99] > SHORTEST_PAUSE, "{taken:?}");
    assert!(taken.iter().all(|pause| *pause <= Duration::from_secs(5)));
    pauses.reset();
    assert!(pauses.next().unwrap() <= SHORTEST_PAUSE);
}

/// With a real client, whose library would also log a failed request.
#[tokio::test]
async fn while_the_server_is_away_only_statlink_says_so() {
    // Nobody listens: the port was free a moment ago and is no longer bound.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let try_it = async || {
        let url = format!("http://{address}").parse().unwrap();
        let client = Client::try_from(kube::Config::new(url)).unwrap();
        let pods: Api<Pod> = Api::namespaced(client, "knative-serving");
        assert!(pods.list(&kube::api::ListParams::default()).await.is_err());
    };
    let said = {
        let everything = Capture::new("kube_client::client=warn");
        try_it().await;
        everything.lines()
    };
    assert!(!said.is_empty(), "the library is silent by itself");
    for filter in ["", "info", "debug", "statlink=debug"] {
        let logged = Capture::new(filter);
        try_it().await;
        assert_eq!(logged.lines(), [] as [Value; 0], "{filter}");
    }
}
