//! `simulate`: random stories by seed, as `cargo xtask sim` runs them.
#![allow(clippy::disallowed_types, reason = "limits and reports the real time that the stories take")]

use clap::Parser;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use syncmesh_simulator::{planner, story};

/// Tells random stories of whole meshes, and checks the invariants of each.
#[derive(Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// One seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Print every step.
    #[arg(long)]
    trace: bool,
    /// Go on after a seed has failed.
    #[arg(long)]
    keep_going: bool,
    /// Stop early after so many minutes; the count that was reached is printed.
    #[arg(long)]
    minutes: Option<u64>,
}

/// Histories of the pure rules beside each story.
const HISTORIES: u64 = 16;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        return match tell(seed, arguments.trace) {
            Ok(told) => {
                println!("seed {seed}: {told:?}");
                ExitCode::SUCCESS
            }
            Err(why) => {
                println!("seed {seed}: {why}");
                ExitCode::FAILURE
            }
        };
    }
    let begun = Instant::now();
    let limit = arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from + arguments.seeds;
    let [told, steps, writes, followed, runs] = [0; 5].map(AtomicU64::new);
    let failed = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while (arguments.keep_going || !failed.load(Ordering::Relaxed))
                    && limit.is_none_or(|limit| begun.elapsed() < limit)
                {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    match plan(seed) {
                        Ok(more) => _ = runs.fetch_add(more, Ordering::Relaxed),
                        Err(why) => {
                            println!("seed {seed}: {why}");
                            failed.store(true, Ordering::Relaxed);
                        }
                    }
                    // Every so often the same story again: it must be the same (I16).
                    let again = seed.is_multiple_of(16);
                    match tell(seed, false) {
                        Ok(story) if again && tell(seed, false).as_ref() != Ok(&story) => {
                            println!("seed {seed}: I16: told twice, it went differently");
                            failed.store(true, Ordering::Relaxed);
                        }
                        Ok(story) => {
                            told.fetch_add(1, Ordering::Relaxed);
                            steps.fetch_add(story.steps, Ordering::Relaxed);
                            writes.fetch_add(story.writes, Ordering::Relaxed);
                            followed.fetch_add(story.followed, Ordering::Relaxed);
                        }
                        Err(why) => {
                            println!("seed {seed}: {why}\n  again: cargo xtask sim --seed {seed} --trace");
                            failed.store(true, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    println!(
        "{} seeds, {} steps, {} writes, {} edits that followed renames, {} planner runs in {:.1} s",
        told.load(Ordering::Relaxed),
        steps.load(Ordering::Relaxed),
        writes.load(Ordering::Relaxed),
        followed.load(Ordering::Relaxed),
        runs.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f64()
    );
    if failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Histories of a seed; how often the rules were asked.
fn plan(seed: u64) -> Result<u64, String> {
    (0..HISTORIES).map(|history| planner::play(seed * HISTORIES + history)).sum()
}

/// A panic is a failure of its seed, not the end of the run.
fn tell(seed: u64, trace: bool) -> Result<story::Told, String> {
    catch_unwind(AssertUnwindSafe(|| story::tell(seed, trace))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}
