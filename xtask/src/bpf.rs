//! The compiler of statlink's kernel half on this machine: a `rustc` that has `core` for the BPF
//! target, and bpf-linker.
//!
//! `cargo xtask setup` uses this to find what is missing. `agent/build.rs` includes the same file
//! and builds with the result, so this file uses only `std` and prints nothing.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The target of the kernel half; aya-build chooses it by the same rule.
pub(crate) const TARGET: &str = if cfg!(target_endian = "big") {
    "bpfeb-unknown-none"
} else {
    "bpfel-unknown-none"
};

/// The bpf-linker that this workspace is built with. 0.11 and later need LLVM's development files;
/// this one loads the `libLLVM` that comes with `rustc`.
pub(crate) const LINKER_VERSION: &str = "0.10.3";

/// The LLVM version of [`LINKER_VERSION`], which `rustc` must have been built with, too.
const LLVM_MAJOR: u32 = 22;

/// Names the compiler to use instead of looking for one.
pub(crate) const RUSTC_VARIABLE: &str = "STATLINK_BPF_RUSTC";

/// A `rustc` that can build the kernel half.
#[derive(Debug)]
pub(crate) struct Compiler {
    /// The compiler itself, never rustup's proxy.
    pub(crate) rustc: PathBuf,
    /// `1.96.0`, for people.
    pub(crate) release: String,
    /// The source of its `core` for the BPF target.
    pub(crate) core: Core,
    /// The LLVM that it was built with: it reads what this compiler writes.
    pub(crate) libllvm: PathBuf,
}

/// The source of `core` for the BPF target.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Core {
    /// It is installed, compiled. A crate list in `RUSTC_BOOTSTRAP` lets any channel use it.
    Prebuilt,
    /// `-Z build-std` compiles it from rust-src, which needs this rustup toolchain, a nightly.
    Source(String),
}

/// A compiler that does not work.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// Its path.
    pub(crate) rustc: PathBuf,
    /// What it lacks.
    pub(crate) why: String,
}

impl Compiler {
    /// The first compiler of this machine that works. One with a prebuilt `core` is preferred,
    /// because `core` need not be built then.
    pub(crate) fn find() -> Result<Self, Vec<Rejected>> {
        let mut from_source = None;
        let mut rejected = Vec::new();
        for rustc in candidates() {
            match probe(&rustc) {
                Ok(compiler) if compiler.core == Core::Prebuilt => return Ok(compiler),
                Ok(compiler) => {
                    from_source.get_or_insert(compiler);
                }
                Err(why) => rejected.push(Rejected { rustc, why }),
            }
        }
        from_source.ok_or(rejected)
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = match &self.core {
            Core::Prebuilt => "prebuilt core",
            Core::Source(_) => "core from rust-src",
        };
        let (rustc, libllvm) = (self.rustc.display(), self.libllvm.display());
        write!(f, "{rustc} {}, {core}, {libllvm}", self.release)
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rustc.display(), self.why)
    }
}

/// bpf-linker in one of `dirs`, or else on `PATH`; only the version that this workspace is built
/// with.
pub(crate) fn find_linker(dirs: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    dirs.into_iter()
        .chain(env::split_paths(&path))
        .map(|dir| dir.join("bpf-linker"))
        .find(|linker| {
            let version = format!("bpf-linker {LINKER_VERSION}");
            linker.is_file() && capture(linker, &["--version"]).is_ok_and(|v| v.trim() == version)
        })
}

/// All candidates, best first: only the one that the environment names, or else those of the
/// distribution, then those of rustup.
fn candidates() -> Vec<PathBuf> {
    if let Some(rustc) = env::var_os(RUSTC_VARIABLE) {
        return vec![rustc.into()];
    }
    // Debian also installs versioned ones, as /usr/bin/rustc-1.96.
    let distribution = entries(Path::new("/usr/bin")).into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == "rustc" || name.starts_with("rustc-1.")
    });
    let rustup = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(env::home_dir()?.join(".rustup")))
        .map(|home| entries(&home.join("toolchains")))
        .unwrap_or_default()
        .into_iter()
        .map(|toolchain| toolchain.join("bin/rustc"))
        .filter(|rustc| rustc.is_file());
    distribution.chain(rustup).collect()
}

/// Checks one compiler. The error says what it lacks.
fn probe(rustc: &Path) -> Result<Compiler, String> {
    let version = capture(rustc, &["-vV"])?;
    let field = |name: &str| {
        version
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .ok_or_else(|| format!("`rustc -vV` names no {name}"))
    };
    let release = field("release")?;
    let wanted = env!("CARGO_PKG_RUST_VERSION");
    if numbers(release) < numbers(wanted) {
        return Err(format!(
            "{release} is older than the {wanted} statlink needs"
        ));
    }
    let llvm = field("LLVM version")?;
    if numbers(llvm).0 != LLVM_MAJOR {
        return Err(format!(
            "built with LLVM {llvm}; bpf-linker {LINKER_VERSION} needs {LLVM_MAJOR}"
        ));
    }

    let printed = capture(
        rustc,
        &[
            "--target",
            TARGET,
            "--print",
            "sysroot",
            "--print",
            "target-libdir",
        ],
    )?;
    let (sysroot, libdir) = printed
        .trim()
        .split_once('\n')
        .map(|(sysroot, libdir)| (Path::new(sysroot), Path::new(libdir)))
        .ok_or("`rustc --print` does not say where its libraries are")?;
    let core = if entries(libdir).iter().any(|path| is_libcore(path)) {
        Core::Prebuilt
    } else if !sysroot
        .join("lib/rustlib/src/rust/library/Cargo.lock")
        .is_file()
    {
        return Err(format!("has neither a core for {TARGET} nor rust-src"));
    } else if !release.contains("nightly") {
        return Err("has rust-src, but is no nightly: cannot -Z build-std".to_owned());
    } else {
        // A rustup toolchain is the directory's name; `rustup run` also takes the path.
        Core::Source(sysroot.display().to_string())
    };
    let libllvm = find_libllvm(sysroot)
        .ok_or_else(|| format!("no libLLVM.so.{LLVM_MAJOR} below {}/lib", sysroot.display()))?;
    Ok(Compiler {
        rustc: rustc.to_owned(),
        release: release.to_owned(),
        core,
        libllvm,
    })
}

fn is_libcore(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("libcore-") && name.ends_with(".rlib")
}

/// rustup keeps it in `lib`, Debian in `lib/x86_64-linux-gnu`, others in `lib64`. (The
/// `libLLVM-22….so` beside it is a linker script in rustup's case and cannot be loaded.)
fn find_libllvm(sysroot: &Path) -> Option<PathBuf> {
    let lib = sysroot.join("lib");
    let multiarch = entries(&lib)
        .into_iter()
        .filter(|dir| dir.to_string_lossy().ends_with("-linux-gnu"));
    [lib.clone(), sysroot.join("lib64")]
        .into_iter()
        .chain(multiarch)
        .flat_map(|dir| entries(&dir))
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.strip_prefix("libLLVM.so.")
                .is_some_and(|version| numbers(version).0 == LLVM_MAJOR)
        })
}

/// Major and minor of a version; a part that is no number counts as 0.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The entries of a directory, by name; none if it cannot be read.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    entries.sort();
    entries
}

fn capture(program: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .map_err(|error| format!("cannot be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("`{}` fails with {}", args.join(" "), output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("does not print text: {error}"))
}
