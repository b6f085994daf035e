//! The `statlink` binary.

fn main() -> std::process::ExitCode {
    statlink::cli::main()
}
