//! `plan`.

use super::table::{bytes, table};
use super::{Failure, print, read_config};
use std::path::PathBuf;
use syncmesh_engine::plan::{Seed, Start, VolumePlan, plan};

const EXAMPLES: &str = "\
Example:
  syncmesh-agent plan --config agent.yaml

Reads the directories and writes nothing. What can't be read is counted and never taken for deleted.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command.
pub(super) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let config = read_config(&arguments.config)?;
    print(&show(&plan(&config).map_err(Failure::no)?))
}

fn show(plans: &[VolumePlan]) -> String {
    let headline =
        ["VOLUME", "PATH", "FILES", "DIRECTORIES", "LINKS", "SIZE", "EXCLUDED", "SPECIAL", "UNREADABLE", "START"];
    let rows: Vec<Vec<String>> = plans.iter().map(row).collect();
    let mut text = table(&headline, &rows);
    if plans.iter().any(|plan| plan.special > 0) {
        text.push_str("\nSPECIAL: sockets, pipes and devices are never synchronised.\n");
    }
    if plans.iter().any(|plan| plan.unreadable > 0) {
        text.push_str(
            "\nUNREADABLE: directories and names that this user can't look at, or that lie on other file systems. They stay \
             as they are.\n",
        );
    }
    text
}

fn row(plan: &VolumePlan) -> Vec<String> {
    let start = match &plan.start {
        Start::Registry => "goes on from the registry".to_owned(),
        Start::Rebuilt => "rebuilds the registry: what peers deleted meanwhile goes to the version store".into(),
        Start::First(Seed::Nobodys) => "first: reads all, deletes nothing".into(),
        Start::First(Seed::Ours) => "first: reads all, deletes nothing; what differs elsewhere gives way to it".into(),
        Start::First(Seed::Theirs(seed)) => {
            format!("first: reads all, deletes nothing; what differs from {seed} goes to the version store")
        }
    };
    vec![
        plan.name.clone(),
        plan.path.display().to_string(),
        plan.files.to_string(),
        plan.directories.to_string(),
        plan.links.to_string(),
        bytes(plan.bytes),
        plan.excluded.to_string(),
        plan.special.to_string(),
        plan.unreadable.to_string(),
        start,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_shows_counts_and_explains_what_is_left_out() {
        let plan = VolumePlan {
            name: "docs".into(),
            path: "/srv/docs".into(),
            files: 12,
            directories: 3,
            links: 1,
            special: 2,
            bytes: 2048,
            excluded: 4,
            unreadable: 0,
            start: Start::First(Seed::Nobodys),
        };
        let seeded = VolumePlan { start: Start::First(Seed::Theirs("b".into())), ..plan.clone() };
        assert!(show(&[seeded]).contains("what differs from b goes to the version store"));
        let text = show(&[plan]);
        assert!(
            text.contains("docs    /srv/docs  12     3            1      2.00 KiB  4         2        0"),
            "{text}"
        );
        assert!(
            text.contains("first: reads all")
                && text.contains("sockets, pipes")
                && !text.contains("other file systems")
        );
    }
}
