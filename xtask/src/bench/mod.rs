//! `cargo xtask bench`: SyncMesh beside other tools, side by side in one run on one machine.

mod peers;
mod report;
mod rows;
mod syncthing;

use crate::agents::AGENT;
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::repository;
use clap::Args;
use report::{Cell, Line};
use rows::{Ours, Place, Row};
use std::fs;

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// Rows to measure; all of them if none is named.
    #[arg(value_enum)]
    rows: Vec<Row>,
    /// A tenth of the data or less: minutes instead of an hour.
    #[arg(long)]
    quick: bool,
    /// Print nothing but one line of JSON per row; the table goes to stderr.
    #[arg(long)]
    json: bool,
    /// Measure each cell so often, and give the median and the spread.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=20))]
    runs: u8,
    /// What our agents' loops run on.
    #[arg(long, default_value = "auto", value_parser = ["auto", "io_uring", "epoll"])]
    engine: String,
}

/// Measures row by row; a line of JSON follows each, a table the last. Fails when one of our own cells failed.
pub fn run(options: &Options) -> Outcome<()> {
    interrupt::listen()?;
    eprintln!("building the release agent");
    let ours = Ours { binary: repository::build(&[AGENT], || {})?.join(AGENT), engine: options.engine.clone() };
    let rows = match options.rows.as_slice() {
        [] => Row::ALL,
        some => some,
    };
    let mut lines = Vec::new();
    for row in rows {
        for place in Place::all_for(*row, options.quick)? {
            eprintln!("{} on {}", row.name(), place.name);
            let line = measure(*row, &place, &ours, options);
            // Whatever a killed tool left behind.
            let _ = fs::remove_dir_all(&place.home);
            let line = line?;
            println!("{}", line.json());
            lines.push(line);
        }
    }
    let table = report::table(&lines);
    if options.json {
        eprint!("{table}");
    } else {
        print!("{table}");
    }
    if lines.iter().all(Line::ours_is_fine) {
        Ok(())
    } else {
        Err(Failure::new("some of our own cells have no figure; the reasons stand above"))
    }
}

/// All tools of one row at one place, each in fresh directories.
fn measure(row: Row, place: &Place, ours: &Ours, options: &Options) -> Outcome<Line> {
    let size = row.size(options.quick);
    let mut line = Line::new(row, place, size, options.quick);
    for tool in rows::TOOLS {
        interrupt::check()?;
        // Syncthing takes minutes where others take seconds: one run, and fewer files.
        let (runs, size) = match tool {
            rows::Tool::Syncthing => (1, row.syncthing_size(options.quick)),
            _ => (options.runs, size),
        };
        let mut cell = Cell::default();
        for number in 0..runs {
            let home = place.home.join(format!("{}-{}-{number}", row.name(), tool.name()));
            fs::create_dir_all(&home).map_err(Failure::io("create", &home))?;
            let home = home.canonicalize().map_err(Failure::io("find", &home))?;
            let measured = rows::measure(row, *tool, size, &home, ours);
            let removed = fs::remove_dir_all(&home).map_err(Failure::io("remove", &home));
            interrupt::check()?;
            match measured {
                Ok(Some(measured)) => cell.runs.push(measured),
                Ok(None) => {
                    cell.why = Some(tool.absence(row).to_owned());
                    break;
                }
                Err(failure) => {
                    eprintln!("{} failed: {failure}", tool.name());
                    cell.why = Some(format!("failed: {failure}"));
                    break;
                }
            }
            removed?;
        }
        line.cells.push((*tool, cell));
    }
    Ok(line)
}
