//! The layers of each crate, the upper ones first. A module may import from layers below its own;
//! modules of one layer do not import each other.

/// A crate whose modules are layered.
pub(super) struct Crate {
    /// The name of its package.
    pub(super) name: &'static str,
    /// The path of its root.
    pub(super) lib: &'static str,
    /// The modules directly below its root.
    pub(super) layers: &'static [&'static [&'static str]],
}

impl Crate {
    /// The layer of a module, counted from above.
    pub(super) fn layer(&self, module: &str) -> Option<usize> {
        self.layers.iter().position(|layer| layer.contains(&module))
    }
}

pub(super) const CRATES: &[Crate] = &[
    Crate {
        name: "statlink",
        lib: "agent/src/lib.rs",
        layers: &[
            &["cli"],
            // The running agent, and checks before it runs.
            &["run", "preflight"],
            &["options"],
            // Serves telemetry's pages.
            &["scrape"],
            // Shows the state of links.
            &["control", "telemetry"],
            // Brings inputs, and provides what a process needs on a node.
            &["discovery", "health", "kernel", "link_event", "memory"],
            // The rights of threads.
            &["privileges"],
            // Shared types and helpers.
            &[
                "chain",
                "clock",
                "link_kind",
                "runbook",
                "snapshot",
                "terminal",
                "warn_once",
            ],
        ],
    },
    Crate {
        name: "statlink-link",
        lib: "agent/link/src/lib.rs",
        layers: &[
            // The machine of a kind of link: one target or several.
            &["shape"],
            &["fanout"],
            &["link"],
            // Turns findings about connections into the link's state.
            &["assessment", "resync"],
            &["blame", "connections", "machine", "reachability"],
            &["table"],
            &["outage_history", "output", "proxies", "races"],
            &["finding"],
            &["connection", "counts", "state", "tombstones", "unaccounted"],
            &["address_check", "input", "lookups", "target"],
            &["legacy"],
            &["event"],
            &["cause", "unknown"],
            &["check", "limits", "time", "timings"],
            &["closed_list"],
        ],
    },
];
