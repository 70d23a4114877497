//! Fields that the agent's configuration has, too, mean the same in both, and have the same limits.

#![allow(clippy::unwrap_used, reason = "tests: a failure is a failure")]

use serde_json::{Value, json};
use std::path::Path;
use syncmesh_config::{Config, limits as agent};
use syncmesh_crds::examples::{self, Verdict};
use syncmesh_crds::volume::SyncVolumeSpec;
use syncmesh_crds::{contents, limits, units};

/// The groups that both have under one name.
const SHARED: &[&str] = &["conflicts", "select", "versions", "deletionGuard", "durability", "paused"];

/// What the agent makes of a volume with these fields. JSON is YAML.
fn as_the_agent_reads(spec: &Value) -> Result<syncmesh_config::Volume, String> {
    let mut volume = json!({ "name": "docs", "path": "/docs" });
    for group in SHARED.iter().filter(|group| !spec[**group].is_null()) {
        volume[*group] = spec[*group].clone();
    }
    let config = json!({
        "node": "a",
        "stateDir": "/state",
        "identity": { "ca": "ca.pem", "certificate": "a.pem", "key": "a.key" },
        "volumes": [volume],
    });
    let read = Config::parse(&config.to_string(), Path::new("/")).map_err(|problems| format!("{problems:?}"))?;
    Ok(read.volumes.into_iter().next().unwrap())
}

fn volumes() -> Vec<(String, Verdict, Value)> {
    let all = examples::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap();
    let volumes = all.into_iter().filter(|example| example.kind == "SyncVolume");
    volumes.map(|example| (example.name, example.verdict, example.documents.last().unwrap()["spec"].clone())).collect()
}

#[test]
fn what_the_schema_accepts_the_agent_reads_with_the_same_meaning() {
    for (name, verdict, spec) in volumes() {
        if verdict != Verdict::Accepted {
            continue;
        }
        let theirs = as_the_agent_reads(&spec).unwrap_or_else(|problems| panic!("{name}: {problems}"));
        let spec = if spec.is_null() { json!({}) } else { spec };
        let ours: SyncVolumeSpec = serde_json::from_value(spec).unwrap();

        let versions = ours.versions.unwrap_or_default();
        assert_eq!(versions.keep, theirs.versions.keep, "{name}");
        assert_eq!(versions.max_age.0, theirs.versions.max_age, "{name}");
        assert_eq!(share(versions.budget), theirs.versions.budget, "{name}");
        let guard = ours.deletion_guard.unwrap_or_default();
        assert_eq!(
            (u64::from(guard.percent), guard.files),
            (theirs.deletion_guard.percent, theirs.deletion_guard.files)
        );
        let conflicts = ours.conflicts.unwrap_or_default();
        assert_eq!(policy(conflicts.policy), theirs.conflicts.policy, "{name}");
        let rules = conflicts.rules.into_iter().map(|rule| (rule.r#match, policy(rule.policy))).collect::<Vec<_>>();
        let their_rules =
            theirs.conflicts.rules.into_iter().map(|rule| (rule.pattern, rule.policy)).collect::<Vec<_>>();
        assert_eq!(rules, their_rules, "{name}");
        assert_eq!(ours.select.unwrap_or_default().exclude, theirs.exclude, "{name}");
        assert_eq!(ours.paused, theirs.paused, "{name}");
        let durability = match ours.durability {
            contents::Durability::Epoch => syncmesh_config::Durability::Epoch,
            contents::Durability::Strict => syncmesh_config::Durability::Strict,
        };
        assert_eq!(durability, theirs.durability, "{name}");
    }
}

#[test]
fn what_the_schema_refuses_in_a_shared_field_the_agent_refuses_too() {
    let mut seen = 0;
    for (name, verdict, spec) in volumes() {
        if verdict != Verdict::Accepted && SHARED.iter().any(|group| !spec[*group].is_null()) {
            assert!(as_the_agent_reads(&spec).is_err(), "the agent takes {name}");
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} examples have a shared field");
}

#[test]
fn limits_that_both_have_are_equal() {
    assert_eq!(limits::RULES as usize, agent::RULES);
    assert_eq!(limits::PATTERNS as usize, agent::PATTERNS);
    assert_eq!(limits::PATTERN as usize, agent::PATTERN_BYTES);
    assert_eq!(limits::NAME as usize, agent::VOLUME_NAME_BYTES);
    assert_eq!(limits::SUBDOMAIN as usize, agent::NODE_NAME_BYTES);
    assert_eq!(u64::from(limits::VERSIONS_KEPT), agent::VERSIONS_KEPT.1);
    assert_eq!(limits::GUARD_FILES, agent::GUARD_FILES.1);
    assert_eq!(limits::RESERVE_PERCENT, agent::RESERVE_PERCENT);
    assert_eq!(limits::MEMBERS as usize, agent::PEERS, "a member's peers and itself");
}

#[test]
fn a_size_and_a_duration_read_the_same_in_both() {
    for text in ["0", "1", "9999999999999999999", "64Mi", "9999999Ti", "1Ki", "3Gi"] {
        let ours = units::Size::try_from(text.to_owned()).unwrap();
        assert_eq!(syncmesh_config::Size::parse(text), Ok(syncmesh_config::Size(ours.0)), "{text}");
    }
    for text in ["0s", "1ms", "59s", "60m", "87600h"] {
        let ours = units::Duration::try_from(text.to_owned()).unwrap();
        assert_eq!(syncmesh_config::parse_duration(text), Ok(ours.0), "{text}");
    }
}

fn share(ours: units::Share) -> syncmesh_config::Share {
    match ours {
        units::Share::Percent(percent) => syncmesh_config::Share::Percent(percent),
        units::Share::Size(size) => syncmesh_config::Share::Size(syncmesh_config::Size(size.0)),
    }
}

fn policy(ours: contents::ConflictPolicy) -> syncmesh_config::ConflictPolicy {
    match ours {
        contents::ConflictPolicy::KeepBoth => syncmesh_config::ConflictPolicy::KeepBoth,
        contents::ConflictPolicy::LastWriterWins => syncmesh_config::ConflictPolicy::LastWriterWins,
        contents::ConflictPolicy::Manual => syncmesh_config::ConflictPolicy::Manual,
    }
}
