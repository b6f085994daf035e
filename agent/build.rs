//! Builds the kernel half, which the agent embeds from `OUT_DIR/statlink-programs`.
//!
//! Runs twice: first to find a compiler and a linker that can, then, as a process with the
//! environment these need, to build. A second process, because changing the environment of this
//! one is unsafe, and aya-build offers no other way to name a compiler.

#[path = "../xtask/src/bpf.rs"]
mod bpf;
#[path = "../xtask/src/remap.rs"]
mod remap;

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, anyhow};
use aya_build::{Package, Toolchain};
use bpf::{Compiler, Core, Rejected};

fn main() -> ExitCode {
    let result = match env::args().nth(1) {
        None => prepare(),
        Some(toolchain) => build(&toolchain),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in format!("{error:#}").lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Finds what builds the kernel half, and runs this program again in its environment.
fn prepare() -> Result<()> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    let compiler = Compiler::find().map_err(|rejected| no_compiler(&rejected))?;
    // OUT_DIR lies in the target directory, wherever that is: `cargo xtask setup` installs there.
    let tools = out_dir.ancestors().map(|dir| dir.join("tools/bin"));
    let linker = bpf::find_linker(tools).ok_or_else(no_linker)?;

    println!("cargo:rerun-if-env-changed={}", bpf::RUSTC_VARIABLE);
    for input in [&compiler.rustc, &compiler.libllvm, &linker] {
        println!("cargo:rerun-if-changed={}", input.display());
    }
    // Holds the versions of what the kernel half is made from. aya-build adds its sources.
    println!("cargo:rerun-if-changed=../Cargo.lock");

    let mut again = Command::new(env::current_exe().context("find the build script")?);
    again
        .env("PATH", linker_path(&out_dir, &linker, &compiler.libllvm)?)
        .env("RUSTC_WRAPPER", remapper(&out_dir)?)
        // Without it each "Compiling" line becomes a warning, repeated on every later build.
        .env("CARGO_TERM_QUIET", "true");
    match &compiler.core {
        Core::Prebuilt => again
            .arg(cargo_toolchain(&compiler.rustc))
            .env("CARGO_BUILD_RUSTC", &compiler.rustc)
            // The two crates with unstable features (assembly on BPF). As a list of crates it
            // opens them to no other, and does not make aya-build ask for rust-src.
            .env("RUSTC_BOOTSTRAP", UNSTABLE),
        Core::Source(toolchain) => again.arg(toolchain).env_remove("RUSTC_BOOTSTRAP"),
    };
    Err(again.exec()).context("run the build script again")
}

fn build(toolchain: &str) -> Result<()> {
    let kernel_half = Package {
        name: "statlink-ebpf",
        root_dir: "../agent-ebpf",
        features: &["programs"],
        ..Package::default()
    };
    aya_build::build_ebpf([kernel_half], Toolchain::Custom(toolchain))
}

/// The toolchain whose cargo drives the build. aya-build wants `core` from source of any
/// nightly; where the active one is, the compiler's own prefix makes rustup choose a cargo.
fn cargo_toolchain(rustc: &Path) -> OsString {
    let active = env::var_os("RUSTUP_TOOLCHAIN").unwrap_or_else(|| "stable".into());
    if !active.to_string_lossy().contains("nightly") {
        return active;
    }
    let prefix = rustc.ancestors().nth(2);
    prefix.unwrap_or(Path::new("/usr")).as_os_str().to_owned()
}

/// `PATH` with a bpf-linker in front that loads the compiler's own LLVM.
///
/// The linker takes the first libLLVM it meets, in `LD_LIBRARY_PATH` and then beside `PATH`:
/// another version where a system has several, none outside rustup's cargo, and rustup changes
/// `LD_LIBRARY_PATH` once more. A wrapper that sets it last leaves nothing to chance.
fn linker_path(out_dir: &Path, linker: &Path, libllvm: &Path) -> Result<OsString> {
    let dir = out_dir.join("linker");
    let llvm = dir.join("llvm");
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    fs::create_dir_all(&llvm).with_context(|| format!("create {}", llvm.display()))?;
    symlink(libllvm, llvm.join("libLLVM.so"))
        .with_context(|| format!("link {} into {}", libllvm.display(), llvm.display()))?;

    let wrapper = dir.join("bpf-linker");
    let script = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n",
        llvm.display(),
        linker.display()
    );
    fs::write(&wrapper, script)
        .and_then(|()| fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("write {}", wrapper.display()))?;

    let path = env::var_os("PATH").unwrap_or_default();
    env::join_paths([dir].into_iter().chain(env::split_paths(&path)))
        .context("put the linker on PATH")
}

/// A wrapper of the compiler that leaves no path of this machine in the kernel half, so that the
/// same sources give the same object wherever they lie. aya-build sets the flags of its own cargo
/// and takes no others.
fn remapper(out_dir: &Path) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the package has no parent directory")?;
    let flags: String = [(out_dir.to_owned(), "/out")]
        .into_iter()
        .chain(remap::places(root))
        .map(|(place, name)| format!(" '--remap-path-prefix={}={name}'", place.display()))
        .collect();
    let wrapper = out_dir.join("remapped-rustc");
    fs::write(&wrapper, format!("#!/bin/sh\nexec \"$@\"{flags}\n"))
        .and_then(|()| fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("write {}", wrapper.display()))?;
    Ok(wrapper)
}

fn no_compiler(rejected: &[Rejected]) -> anyhow::Error {
    let seen: String = rejected
        .iter()
        .map(|rustc| format!("\n  {rustc}"))
        .collect();
    let seen = if seen.is_empty() { "\n  none" } else { &seen };
    anyhow!(
        "no compiler for the kernel half (target {}). Looked at:{seen}\n\
         Run `cargo xtask setup`, or name one in {}.",
        bpf::TARGET,
        bpf::RUSTC_VARIABLE,
    )
}

fn no_linker() -> anyhow::Error {
    anyhow!(
        "bpf-linker {} is neither in the target directory's tools/bin nor on PATH.\n\
         Run `cargo xtask setup`.",
        bpf::LINKER_VERSION
    )
}

/// The crates that use unstable features: `RUSTC_BOOTSTRAP` for a compiler that is no nightly. The
/// kernel half's own is inline assembly for BPF.
const UNSTABLE: &str = "aya_ebpf,statlink_programs";
