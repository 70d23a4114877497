//! The operator's binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    syncmesh_operator::cli::main()
}
