//! End-to-end stories on a real cluster: `cargo xtask e2e`.

// Everything here waits for the real world.
#![allow(clippy::disallowed_types)]

mod agent;
mod cluster;
mod evidence;
mod failure;
mod guide;
mod kind;
mod process;
mod product;
mod program;
mod release;
mod rights;
mod stories;
mod stranger;

use clap::Parser;
use cluster::Cluster;
use failure::{Failure, Outcome};
use std::process::ExitCode;
use stories::{STORIES, Story};

/// Tells stories on the cluster of $KUBECONFIG.
#[derive(Parser)]
#[command(name = "cargo xtask e2e", bin_name = "cargo xtask e2e")]
struct Arguments {
    /// Only this story; can be given several times. `list` names them all.
    #[arg(long, value_name = "NAME")]
    story: Vec<String>,
    /// All stories, not only those that are quick.
    #[arg(long, conflicts_with = "story")]
    all: bool,
    /// Leave in the cluster what a story made, for looking at it.
    #[arg(long)]
    keep: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Outcome<()> {
    if arguments.story == ["list"] {
        STORIES.iter().for_each(|story| println!("{:17} {}", story.name, story.about));
        return Ok(());
    }
    let chosen = chosen(arguments)?;
    let cluster = Cluster::of_kubeconfig(arguments.keep).await?;
    let mut failed = Vec::new();
    for story in chosen {
        println!("== {}: {}", story.name, story.about);
        match story.tell(&cluster).await {
            Ok(()) => println!("passed: {}", story.name),
            Err(failure) => {
                println!("FAILED: {}: {failure}", story.name);
                evidence::gather(&cluster, story.name).await;
                failed.push(story.name);
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(format!("failed: {}", failed.join(", ")))) }
}

fn chosen(arguments: &Arguments) -> Outcome<Vec<&'static Story>> {
    if arguments.story.is_empty() {
        return Ok(STORIES.iter().filter(|story| arguments.all || story.is_quick).collect());
    }
    let find = |name: &String| {
        STORIES
            .iter()
            .find(|story| story.name == name)
            .ok_or_else(|| Failure::new(format!("there is no story {name}: `cargo xtask e2e --story list` names them")))
    };
    arguments.story.iter().map(find).collect()
}
