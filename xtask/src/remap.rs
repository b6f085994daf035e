//! Paths of this machine that must not appear in build results: those of sources, cargo and rustup.
//!
//! `cargo xtask image` builds with these; `agent/build.rs` includes the same file for the kernel
//! half. So this file uses only `std`.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Each path, and the name that replaces it in a build of the workspace at `root`.
pub(crate) fn places(root: &Path) -> Vec<(PathBuf, &'static str)> {
    let homes = [
        ("CARGO_HOME", ".cargo", "/cargo"),
        ("RUSTUP_HOME", ".rustup", "/rustup"),
    ];
    let homes = homes.into_iter().filter_map(|(variable, fallback, name)| {
        let set = env::var_os(variable).map(PathBuf::from);
        let place = set.or_else(|| Some(env::home_dir()?.join(fallback)))?;
        Some((place, name))
    });
    [(root.to_owned(), "/statlink")]
        .into_iter()
        .chain(homes)
        .collect()
}
