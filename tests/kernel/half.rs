//! The kernel half through its library, and sockets for it to see.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    thread,
};

use statlink::{
    clock,
    kernel::{
        ConnectHook, Inventory, Kernel, LISTING_SETTLES, LossReason, Record, RecordKind, Source,
        Watch, tracefs,
    },
};
use statlink_ebpf::{ENDS, PHASES};
use statlink_tests::{netns::Namespace, peer::PORT, wait};
use tokio::runtime::Runtime;

use crate::PATIENCE;

/// The kernel half on the watched port, and the runtime that it needs.
pub(crate) struct Half {
    pub(crate) kernel: Kernel,
    pub(crate) runtime: Runtime,
}

impl Half {
    pub(crate) fn load() -> Self {
        let runtime = Self::runtime();
        let _entered = runtime.enter();
        // In a mount namespace of this test's own thread.
        let kernel = Kernel::load(&watch(PORT), &tracefs::show()).unwrap();
        drop(_entered);
        Self { kernel, runtime }
    }

    pub(crate) fn runtime() -> Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    /// The records of `source` that are in the ring.
    pub(crate) fn drain(&mut self, source: Source) -> Vec<Record> {
        let _entered = self.runtime.enter();
        let mut records = Vec::new();
        self.kernel.drain(|record| records.extend(record));
        records.retain(|record| record.netns == source.netns && record.tgid == source.tgid);
        records
    }

    /// What the kernel holds about `source`, of which nothing changes.
    pub(crate) fn inventory(&mut self, source: Source) -> Inventory {
        let listing = self.kernel.list([source], clock::now()).unwrap().unwrap();
        thread::sleep(LISTING_SETTLES);
        let mut settled = self.kernel.settle(listing).unwrap();
        settled.remove(&source).unwrap()
    }

    /// Waits for the end of a connection of `source`; there must be one only.
    #[track_caller]
    pub(crate) fn end(&mut self, source: Source) -> Record {
        let ended = wait::until("record of an end", PATIENCE, || {
            let mut records = self.drain(source);
            records.retain(|record| record.kind == RecordKind::Ended as u8);
            Ok(Some(records).filter(|ended| !ended.is_empty()))
        });
        let ended = ended.unwrap();
        let [ended] = ended[..] else {
            panic!("{ended:#?}");
        };
        ended
    }
}

/// What is watched on `port`.
pub(crate) fn watch(port: u16) -> Watch {
    Watch {
        port,
        process_names: vec!["activator".to_owned()],
        connect_hook: ConnectHook::default(),
    }
}

/// This process in `namespace`.
pub(crate) fn this_process(namespace: &Namespace) -> Source {
    source(namespace, std::process::id())
}

pub(crate) fn source(namespace: &Namespace, tgid: u32) -> Source {
    let inode = || fs::metadata("/proc/thread-self/ns/net").map(|namespace| namespace.ino());
    let inode = namespace.run(inode).unwrap().unwrap();
    Source {
        netns: inode.try_into().unwrap(),
        tgid,
    }
}

/// A connection on the watched port within `namespace`: the client's and the server's end.
pub(crate) fn connected(namespace: &Namespace, at: &str) -> (TcpStream, TcpStream) {
    let connect = || {
        let listener = TcpListener::bind((at, PORT))?;
        let client = TcpStream::connect((at, PORT))?;
        let (server, _) = listener.accept()?;
        Ok::<_, std::io::Error>((client, server))
    };
    namespace.run(connect).unwrap().unwrap()
}

pub(crate) fn sum(ends: &[[u32; ENDS]; PHASES]) -> u32 {
    ends.iter().flatten().sum()
}

/// How much was lost for this reason.
pub(crate) fn lost(half: &Half, reason: LossReason) -> u64 {
    let losses = half.kernel.losses().unwrap();
    let of_reason = losses.iter().find(|(other, _)| *other == reason);
    of_reason.unwrap().1
}
