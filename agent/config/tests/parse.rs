//! What configurations are read, and what is said about those that are not.

use proptest::prelude::*;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use syncmesh_config::{
    Config, ConflictPolicy, Durability, Engine, LogFormat, LogLevel, Problems, Role, Share, Size, Versions,
};

/// The README's example, less the fields that come later.
const FULL: &str = r#"node: a
stateDir: state            # registry, journal, admin.sock, lock
listen: 127.0.0.1:7400
identity: { ca: ca.pem, certificate: a.pem, key: a.key }
peers: [ { node: b, address: "127.0.0.1:7401" } ]     # the member list
connections: 64
maxClockSkew: 5m
metrics: { listen: "127.0.0.1:9400" }      # /metrics /livez /readyz
memory: { budget: 64Mi }
log: { level: info, format: text }          # or json
volumes:
  - name: docs
    path: docs
    conflicts: { policy: keepBoth, rules: [ { match: "*.log", policy: lastWriterWins } ] }
    select: { exclude: [ "*.swp", "cache/" ] }
    versions: { keep: 10, maxAge: 720h, budget: "10%" }
    durability: epoch
    settle: 50ms
    bandwidth: { limit: 0 }
    mode: ReadWriteMany
    seed: ""
    paused: false
engine: auto                                # or io_uring, epoll
"#;

const SMALL: &str = "node: a
stateDir: state
identity: { ca: ca.pem, certificate: a.pem, key: a.key }
volumes:
  - name: docs
    path: docs
";

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, Path::new("/etc/syncmesh"))
}

#[test]
fn the_example_is_read_as_it_says() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.node.as_str(), "a");
    assert_eq!(config.state_dir, PathBuf::from("/etc/syncmesh/state"));
    assert_eq!(config.listen, "127.0.0.1:7400".parse::<SocketAddr>().unwrap());
    assert_eq!(config.engine, Engine::Auto);
    assert_eq!(config.identity.key, PathBuf::from("/etc/syncmesh/a.key"));
    assert_eq!(config.peers[0].node.as_str(), "b");
    assert_eq!(config.peers[0].address.as_ref().unwrap().as_str(), "127.0.0.1:7401");
    assert_eq!(config.connections, 64);
    assert_eq!(config.max_clock_skew, Duration::from_secs(300));
    assert_eq!(config.metrics_listen, Some("127.0.0.1:9400".parse().unwrap()));
    assert_eq!(config.memory_budget, Size(64 << 20));
    assert_eq!((config.log.level, config.log.format), (LogLevel::Info, LogFormat::Text));
    let volume = &config.volumes[0];
    assert_eq!(volume.name.as_str(), "docs");
    assert_eq!(volume.path, PathBuf::from("/etc/syncmesh/docs"));
    assert_eq!(volume.conflicts.policy, ConflictPolicy::KeepBoth);
    assert_eq!(volume.conflicts.rules[0].pattern, "*.log");
    assert_eq!(volume.conflicts.rules[0].policy, ConflictPolicy::LastWriterWins);
    assert_eq!(volume.exclude, ["*.swp", "cache/"]);
    let (keep, max_age, budget) = (10, Duration::from_secs(720 * 3600), Share::Percent(10));
    assert_eq!(volume.versions, Versions { keep, max_age, budget });
    assert_eq!((volume.reserve, volume.settle), (None, Duration::from_millis(50)));
}

#[test]
fn what_is_not_written_has_the_default_that_the_example_writes() {
    let mut written = parse(FULL).unwrap();
    let default = parse(SMALL).unwrap();
    assert_eq!(default.listen, "0.0.0.0:7400".parse::<SocketAddr>().unwrap());
    written.listen = default.listen;
    written.peers.clear();
    written.metrics_listen = None;
    written.volumes[0].conflicts.rules.clear();
    written.volumes[0].exclude.clear();
    assert_eq!(written, default);
}

#[test]
fn a_rule_may_let_a_person_decide() {
    let config = parse(&FULL.replace("policy: lastWriterWins", "policy: manual")).unwrap();
    assert_eq!(config.volumes[0].conflicts.rules[0].policy, ConflictPolicy::Manual);
}

#[test]
fn a_seed_is_a_member_or_this_node() {
    for seed in ["a", "b"] {
        let config = parse(&FULL.replace("seed: \"\"", &format!("seed: {seed}"))).unwrap();
        assert_eq!(config.volumes[0].seed.as_ref().unwrap().as_str(), seed);
    }
    assert_eq!(parse(FULL).unwrap().volumes[0].seed, None);
}

#[test]
fn the_writer_of_a_volume_writes_and_all_others_read() {
    let role = |writer: &str| {
        let mode = format!("mode: SingleWriter\n    writer: {writer}");
        parse(&FULL.replace("mode: ReadWriteMany", &mode)).unwrap().volumes[0].role
    };
    assert_eq!((role("a"), role("b")), (Role::Writer, Role::Reader));
    assert_eq!(parse(FULL).unwrap().volumes[0].role, Role::Writer);
}

#[test]
fn a_limit_of_bandwidth_is_bytes_in_a_second() {
    let limit = |text: &str| {
        let config = parse(&FULL.replace("limit: 0", &format!("limit: {text}"))).unwrap();
        config.volumes[0].send_limit.map(std::num::NonZeroU64::get)
    };
    assert_eq!((limit("0"), limit("1000"), limit("2Mi")), (None, Some(1_000), Some(2 << 20)));
}

#[test]
fn a_capacity_is_a_size_or_none() {
    assert_eq!(parse(SMALL).unwrap().volumes[0].capacity, None);
    let capacity = |value: &str| parse(&format!("{SMALL}    capacity: {value}\n"));
    assert_eq!(capacity("20Gi").unwrap().volumes[0].capacity, Some(Size(20 << 30)));
    let problems = capacity("20").unwrap_err();
    assert!(problems.iter().any(|problem| problem.to_string().contains("at least 1Mi")), "{problems:?}");
}

#[test]
fn a_reserve_is_a_percentage_or_a_size() {
    let reserve = |value: &str| parse(&format!("{SMALL}    reserve: {value}\n")).unwrap().volumes[0].reserve;
    assert_eq!(reserve("\"3%\""), Some(Share::Percent(3)));
    assert_eq!(reserve("2Gi"), Some(Share::Size(Size(2 << 30))));
    assert_eq!(reserve("0"), Some(Share::Size(Size(0))));
}

#[test]
fn an_engine_can_be_named() {
    let engine = |word: &str| parse(&FULL.replace("engine: auto", &format!("engine: {word}"))).unwrap().engine;
    assert_eq!((engine("io_uring"), engine("epoll")), (Engine::IoUring, Engine::Epoll));
}

#[test]
fn durability_is_an_epochs_or_strict() {
    assert_eq!(parse(FULL).unwrap().volumes[0].durability, Durability::Epoch);
    let strict = parse(&FULL.replace("durability: epoch", "durability: strict")).unwrap();
    assert_eq!(strict.volumes[0].durability, Durability::Strict);
}

#[test]
fn a_volume_may_be_paused() {
    assert!(parse(&FULL.replace("paused: false", "paused: true")).unwrap().volumes[0].paused);
}

#[test]
fn absolute_paths_stay_as_they_are() {
    let config = parse(&SMALL.replace("path: docs", "path: /srv/docs")).unwrap();
    assert_eq!(config.volumes[0].path, PathBuf::from("/srv/docs"));
}

/// Each line: what is replaced in `FULL`, by what, then the line, field and a part of the message that must be told.
const BAD: &[(&str, &str, u32, &str, &str)] = &[
    // Required and unknown fields.
    ("node: a\n", "", 1, "node", "is missing"),
    ("stateDir: state ", "stateDirs: x ", 2, "stateDirs", "known are stateDir, "),
    ("identity: { ca: ca.pem, ", "identity: { ", 4, "identity.ca", "is missing"),
    ("identity: { ca: ca.pem, certificate: a.pem, key: a.key }", "identity: ca.pem", 4, "identity", "group of fields"),
    ("    settle: 50ms", "    setle: 50ms", 18, "volumes[0].setle", "known are settle, "),
    ("connections: 64", "connections: 64\nconnections: 65", 7, "connections", "stands twice, first in line 6"),
    ("connections: 64", "? [a]\n: 64", 6, "", "YAML"),
    ("  - name: docs\n", "  - a: 1\n", 12, "volumes[0].name", "is missing"),
    // Values.
    ("node: a\n", "node: A_b\n", 1, "node", "'A' is not allowed"),
    ("node: a\n", "node: 1.10\n", 1, "node", "put quotes around it"),
    ("node: a\n", "node: true\n", 1, "node", "put quotes around it"),
    ("node: a\n", "node:\n", 1, "node", "has no value"),
    ("127.0.0.1:7400", "localhost:7400", 3, "listen", "write IP:port"),
    ("127.0.0.1:7401", "b", 5, "peers[0].address", "the port is missing"),
    ("connections: 64", "connections: 0", 6, "connections", "from 1 to 1024"),
    ("connections: 64", "connections: -1", 6, "connections", "the number -1 doesn't fit"),
    ("connections: 64", "connections: many", 6, "connections", "\"many\" doesn't fit"),
    ("maxClockSkew: 5m", "maxClockSkew: 5", 7, "maxClockSkew", "is no duration"),
    ("maxClockSkew: 5m", "maxClockSkew: 25h", 7, "maxClockSkew", "from 1s to 24h"),
    ("budget: 64Mi", "budget: 64M", 9, "memory.budget", "is no size"),
    ("budget: 64Mi", "budget: 1000", 9, "memory.budget", "comes with a later version"),
    ("engine: auto", "engine: kqueue", 23, "engine", "write one of auto, io_uring, epoll"),
    ("level: info", "level: loud", 10, "log.level", "write one of error, warn, info"),
    ("format: text", "format: xml", 10, "log.format", "write one of text, json"),
    ("name: docs", "name: a.b", 12, "volumes[0].name", "is no volume's name"),
    ("path: docs", "path: \"\"", 13, "volumes[0].path", "empty path"),
    ("path: docs", "path: ~/docs", 13, "volumes[0].path", "home directory"),
    ("path: docs", r#"path: "a\0b""#, 13, "volumes[0].path", "NUL"),
    ("policy: keepBoth", "policy: newest", 14, "volumes[0].conflicts.policy", "write one of keepBoth"),
    ("match: \"*.log\"", "match: \"[a\"", 14, "volumes[0].conflicts.rules[0].match", "is no glob"),
    ("match: \"*.log\", ", "", 14, "volumes[0].conflicts.rules[0].match", "is missing"),
    ("\"cache/\"", "\"[z-a]\"", 15, "volumes[0].select.exclude[1]", "gitignore"),
    ("\"cache/\"", "[ ]", 15, "volumes[0].select.exclude[1]", "a list where one value"),
    (
        "exclude: [ \"*.swp\", \"cache/\" ]",
        "exclude: \"*.swp\"",
        15,
        "volumes[0].select.exclude",
        "where a list is wanted",
    ),
    ("keep: 10", "keep: 1001", 16, "volumes[0].versions.keep", "from 0 to 1000"),
    ("maxAge: 720h", "maxAge: 1s", 16, "volumes[0].versions.maxAge", "from 1m to 87600h"),
    ("\"10%\"", "\"101%\"", 16, "volumes[0].versions.budget", "from 0% to 100%"),
    ("\"10%\"", "10G", 16, "volumes[0].versions.budget", "or a percentage"),
    ("settle: 50ms", "reserve: \"91%\"", 18, "volumes[0].reserve", "from 0% to 90%"),
    ("settle: 50ms", "settle: 0s", 18, "volumes[0].settle", "from 1ms to 1m"),
    ("settle: 50ms", "openWait: 2h", 18, "volumes[0].openWait", "from 0ms to 1h"),
    // Fields that come later.
    (
        "policy: keepBoth",
        "policy: merge",
        14,
        "volumes[0].conflicts.policy",
        "comes with a later version: remove it; today",
    ),
    ("policy: keepBoth", "policy: { prefer: b }", 14, "volumes[0].conflicts.policy", "comes with a later version"),
    ("policy: keepBoth", "policy: \"prefer: b\"", 14, "volumes[0].conflicts.policy", "comes with a later version"),
    (
        "policy: lastWriterWins",
        "policy: merge",
        14,
        "volumes[0].conflicts.rules[0].policy",
        "comes with a later version",
    ),
    ("durability: epoch", "durability: none", 17, "volumes[0].durability", "epoch"),
    ("durability: epoch", "durability: [strict]", 17, "volumes[0].durability", "text"),
    ("settle: 50ms", "deletionGuard: { percent: 0 }", 18, "volumes[0].deletionGuard.percent", "from 1 to 100"),
    ("limit: 0", "limit: 1M", 19, "volumes[0].bandwidth.limit", "1M"),
    ("mode: ReadWriteMany", "mode: OneWriter", 20, "volumes[0].mode", "SingleWriter"),
    ("mode: ReadWriteMany", "mode: SingleWriter", 12, "volumes[0].writer", "writer: a"),
    ("mode: ReadWriteMany", "writer: b", 20, "volumes[0].writer", "only a SingleWriter volume has a writer"),
    (
        "mode: ReadWriteMany",
        "mode: SingleWriter\n    writer: c",
        21,
        "volumes[0].writer",
        "neither this node nor among `peers`",
    ),
    ("seed: \"\"", "seed: c", 21, "volumes[0].seed", "neither this node nor among `peers`"),
    ("seed: \"\"", "seed: [ b ]", 21, "volumes[0].seed", "a list where one value"),
    ("paused: false", "paused: maybe", 22, "volumes[0].paused", "write true or false"),
    // One field against another.
    ("{ node: b,", "{ node: a,", 5, "peers[0].node", "this node itself (line 1)"),
    (
        "{ node: b, address: \"127.0.0.1:7401\" }",
        "{ node: b, address: \"h:1\" }, { node: b, address: \"h:2\" }",
        5,
        "peers[1].node",
        "in lines 5 and 5",
    ),
    ("    paused: false\n", "  - { name: docs, path: other }\n", 22, "volumes[1].name", "in lines 12 and 22"),
    (
        "    paused: false\n",
        "  - { name: v, path: ./docs/ }\n",
        22,
        "volumes[1].path",
        "(line 22) is also the directory of the volume \"docs\" (line 13)",
    ),
    ("    paused: false\n", "  - { name: v, path: docs/x }\n", 22, "volumes[1].path", "lies inside the directory of"),
    ("    paused: false\n", "  - { name: v, path: x/.. }\n", 22, "volumes[1].path", "has inside it"),
    (
        "stateDir: state",
        "stateDir: docs/state",
        2,
        "stateDir",
        "(line 2) lies inside the directory of the volume \"docs\" (line 13)",
    ),
    ("path: docs", "path: state/docs", 13, "volumes[0].path", "lies inside stateDir (line 2)"),
    ("path: docs", "path: state", 2, "stateDir", "lies inside the directory of"),
    ("key: a.key", "key: docs/a.key", 4, "identity.key", "copied to every peer"),
    // The text as a whole.
    ("connections: 64", "connections: [64", 7, "", "YAML"),
    ("log: {", "<<: {", 10, "<<", "merging"),
];

#[test]
fn each_mistake_is_told_with_its_line_and_field() {
    let mut failures = Vec::new();
    for &(from, to, line, field, part) in BAD {
        assert!(FULL.contains(from), "the table's {from:?} is not in the example");
        match parse(&FULL.replacen(from, to, 1)) {
            Ok(_) => failures.push(format!("{to:?} was accepted")),
            Err(problems) => {
                let told = |line_matters: bool| {
                    problems.iter().any(|problem| {
                        (!line_matters || problem.line == Some(line))
                            && problem.field == field
                            && problem.message.contains(part)
                    })
                };
                if !told(!field.is_empty()) {
                    failures.push(format!("{to:?}: wanted line {line} {field:?} {part:?}, told:\n{problems}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn every_problem_is_told_at_once_in_the_order_of_the_text() {
    let text = "node: A\nlisten: x\nsurprise: 1\nidentity: { ca: \"\" }\nconnections: 0\nvolumes:\n  - name: B\n    path: p\n    settle: 5\n  - 7\n";
    let problems = parse(text).unwrap_err();
    let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            // What is missing is told at its group's beginning.
            "stateDir",
            "node",
            "listen",
            "surprise",
            "identity.certificate",
            "identity.key",
            "identity.ca",
            "connections",
            "volumes[0].name",
            "volumes[0].settle",
            "volumes[1]"
        ]
    );
    assert!(problems.to_string().contains("\nline 1, column 7: node: "), "{problems}");
}

#[test]
fn nothing_and_too_much_are_told() {
    for (text, part) in [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n", "group of fields"),
        ("volumes: []\n", "at least one volume"),
        ("node: a\n---\nnode: b\n", "write one document"),
        (&"#".repeat((1 << 20) + 1)[..], "at most 1048576"),
    ] {
        let problems = parse(text).unwrap_err();
        assert!(problems.to_string().contains(part), "{problems}");
    }
    let many = |count: usize| {
        let volumes: String = (0..count).map(|i| format!("  - {{ name: v{i}, path: v/{i} }}\n")).collect();
        parse(&SMALL.replace("  - name: docs\n    path: docs\n", &volumes))
    };
    assert_eq!(many(64).unwrap().volumes.len(), 64);
    assert!(many(65).unwrap_err().to_string().contains("at most 64"));
}

#[test]
fn an_anchor_may_be_used_again() {
    let text = format!(
        "{SMALL}    select: {{ exclude: &e [ \"*.swp\" ] }}\n  - {{ name: v, path: v, select: {{ exclude: *e }} }}\n"
    );
    assert_eq!(parse(&text).unwrap().volumes[1].exclude, ["*.swp"]);
}

#[test]
fn bombs_and_deep_nesting_are_refused_quickly() {
    let mut laughs = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let before = format!("*a{},", level - 1).repeat(10);
        laughs += &format!("a{level}: &a{level} [{before}]\n");
    }
    let deep_flow = "[".repeat(100_000);
    let deep_block: String = (0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth % 500))).collect();
    let many_nodes = format!("a: [{}]", "x,".repeat(400_000));
    let anchors: String = (0..60_000).map(|i| format!("a{i}: &b{i} 1\n")).collect();
    for bomb in [&laughs, &deep_flow, &deep_block, &many_nodes, &anchors] {
        parse(bomb).unwrap_err();
    }
}

#[test]
fn names_of_others_are_escaped_in_messages() {
    let problems = parse("\"a\\e[31m\\nb\": 1\n").unwrap_err();
    let shown = problems.iter().map(ToString::to_string).collect::<String>();
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in ".*") {
        let _ = parse(&text);
    }

    #[test]
    fn arbitrary_yaml_like_text_never_panics(text in "([a-z]{0,3}[-:,{}\\[\\]\"'&*!|>%#? \n]{1,3}){0,80}") {
        let _ = parse(&text);
    }

    #[test]
    fn a_damaged_example_never_panics(at in 0..FULL.len(), len in 0usize..8, with in "[-:,{}\\[\\]\"&*!|> \na0\u{e9}]{0,4}") {
        let end = (at + len).min(FULL.len());
        let _ = parse(&format!("{}{with}{}", &FULL[..at], &FULL[end..]));
    }
}
