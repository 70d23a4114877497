//! Writes the files that are made from the types of this crate into the folder that it is given. `cargo xtask codegen`
//! runs it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};
use syncmesh_crds::definitions;

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("error: no folder to write to was given: run `cargo xtask codegen`");
        return ExitCode::FAILURE;
    };
    match write(&folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("error: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|reason| format!("could not make {}: {reason}", folder.display()))?;
    for (name, text) in definitions::files()? {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|reason| format!("could not write {}: {reason}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}
