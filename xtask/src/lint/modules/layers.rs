//! The layers of each crate, the upper ones first. A module may import from layers below its own;
//! two modules in one layer know nothing of each other.

/// A crate whose modules are layered.
pub(super) struct Crate {
    /// The name of its package.
    pub(super) name: &'static str,
    /// Where it begins.
    pub(super) lib: &'static str,
    /// The modules right below its root.
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
            // The running agent, and what can be said before it runs.
            &["run", "preflight"],
            &["options"],
            // What makes pages of what telemetry shows.
            &["scrape"],
            // What shows the state of links.
            &["control", "telemetry"],
            // What brings inputs, and what a process needs to live on a node.
            &["discovery", "health", "kernel", "link_event", "memory"],
            // What a thread may do.
            &["privileges"],
            // Words and helpers of all.
            &[
                "chain",
                "clock",
                "link_kind",
                "runbook",
                "snapshot",
                "warn_once",
            ],
        ],
    },
    Crate {
        name: "statlink-link",
        lib: "agent/link/src/lib.rs",
        layers: &[
            // Which kind of machine a link is: one target or several.
            &["shape"],
            &["fanout"],
            &["link"],
            // What a link makes of what its connections found.
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
