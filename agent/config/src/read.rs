//! From the tree to the configuration: one function for each group of fields outside of volumes.

use crate::config::{Config, Engine, IdentityFiles, Log, LogFormat, LogLevel, Peer, Role, Volume};
use crate::fields::{Field, Fields, Report};
use crate::later::comes_later;
use crate::limits;
use crate::names::{Address, NodeName};
use crate::overlap::{self, Directory, Paths};
use crate::problem::Problems;
use crate::tree::{self, At};
use crate::units::{self, Size};
use crate::volume;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A value and where it was written, for checks of one field against another.
pub(crate) struct Placed<T> {
    pub value: T,
    pub at: At,
    pub path: String,
}

impl<T> Placed<T> {
    pub fn new(field: &Field<'_>, value: Option<T>) -> Option<Self> {
        Some(Self { value: value?, at: field.at, path: field.path.clone() })
    }
}

pub(crate) fn config(text: &str, base: &Path) -> Result<Config, Problems> {
    let root = tree::parse(text).map_err(|problem| Problems::new(vec![problem]))?;
    let mut report = Report::default();
    let config = read(&Field::root(&root), base, &mut report);
    match config {
        Some(config) if report.problems.is_empty() => Ok(config),
        _ => Err(Problems::new(report.problems)),
    }
}

/// Gives none only after it has noted a problem.
fn read(root: &Field<'_>, base: &Path, report: &mut Report) -> Option<Config> {
    let mut fields = root.fields(report)?;
    let node = fields
        .require("node", "node: a", report)
        .and_then(|field| Placed::new(&field, field.text(report, NodeName::new)));
    let state_dir = fields
        .require("stateDir", "stateDir: state", report)
        .and_then(|field| Placed::new(&field, path(&field, base, report)));
    let listen = match fields.take("listen") {
        Some(field) => field.text(report, socket_address),
        None => Some(SocketAddr::from(([0, 0, 0, 0], 7400))),
    };
    let engine = match fields.take("engine") {
        Some(field) => field.text(report, |text| match text {
            "auto" => Ok(Engine::Auto),
            "io_uring" => Ok(Engine::IoUring),
            "epoll" => Ok(Engine::Epoll),
            _ => Err(unknown_word(text, &["auto", "io_uring", "epoll"])),
        }),
        None => Some(Engine::Auto),
    };
    let identity = fields
        .require("identity", "identity: { ca: ca.pem, certificate: a.pem, key: a.key }", report)
        .and_then(|field| identity(&field, base, report));
    let peers = match fields.take("peers") {
        Some(field) => peers(&field, node.as_ref(), report),
        None => Some(Vec::new()),
    };
    let connections = match fields.take("connections") {
        Some(field) => field.number(report, limits::CONNECTIONS),
        None => Some(64),
    };
    let max_clock_skew = duration(&mut fields, "maxClockSkew", limits::CLOCK_SKEW, Duration::from_secs(300), report);
    let metrics_listen = match fields.take("metrics") {
        Some(field) => metrics(&field, report).map(Some),
        None => Some(None),
    };
    let memory_budget = match fields.take("memory") {
        Some(field) => memory(&field, report),
        None => Some(limits::MEMORY_BUDGET),
    };
    let log = match fields.take("log") {
        Some(field) => log(&field, report),
        None => Some(Log { level: LogLevel::Info, format: LogFormat::Text }),
    };
    let drafts = fields
        .require("volumes", "volumes: [ { name: docs, path: docs } ]", report)
        .and_then(|field| volume::list(&field, base, report));
    fields.finish(report);

    let directories: Vec<Directory<'_>> = drafts.iter().flatten().filter_map(volume::Draft::directory).collect();
    overlap::check(
        &Paths {
            state_dir: state_dir.as_ref(),
            key: identity.as_ref().and_then(|(_, key)| key.as_ref()),
            volumes: &directories,
        },
        report,
    );

    for named in drafts.iter().flatten().flat_map(|draft| draft.seed.iter().chain(&draft.writer)) {
        let (Some(node), Some(peers)) = (&node, &peers) else { break };
        if node.value != named.value && !peers.iter().any(|peer| peer.node == named.value) {
            let message = format!(
                "\"{}\" is neither this node nor among `peers`: write a member's name, or remove it",
                named.value
            );
            report.place(named.at, named.path.clone(), message);
        }
    }

    let (files, _) = identity?;
    let node = node?;
    let volume = |draft: volume::Draft| {
        let reads = draft.writer.is_some_and(|writer| writer.value != node.value);
        draft.volume.map(|volume| if reads { Volume { role: Role::Reader, ..volume } } else { volume })
    };
    let volumes = drafts?.into_iter().map(volume).collect::<Option<_>>()?;
    Some(Config {
        node: node.value,
        state_dir: state_dir?.value,
        listen: listen?,
        engine: engine?,
        identity: files?,
        peers: peers?,
        connections: u32::try_from(connections?).expect("the limit fits"),
        max_clock_skew: max_clock_skew?,
        metrics_listen: metrics_listen?,
        memory_budget: memory_budget?,
        log: log?,
        volumes,
    })
}

type KeyPath = Option<Placed<PathBuf>>;

fn identity(field: &Field<'_>, base: &Path, report: &mut Report) -> Option<(Option<IdentityFiles>, KeyPath)> {
    let mut fields = field.fields(report)?;
    let mut file = |name, example, report: &mut Report| {
        let field = fields.require(name, example, report)?;
        Placed::new(&field, path(&field, base, report))
    };
    let ca = file("ca", "ca: ca.pem", report);
    let certificate = file("certificate", "certificate: a.pem", report);
    let key = file("key", "key: a.key", report);
    let revoked = match fields.take("revoked") {
        Some(field) => path(&field, base, report).map(Some),
        None => Some(None),
    };
    fields.finish(report);
    let files = match (ca, certificate, &key, revoked) {
        (Some(ca), Some(certificate), Some(key), Some(revoked)) => {
            Some(IdentityFiles { ca: ca.value, certificate: certificate.value, key: key.value.clone(), revoked })
        }
        _ => None,
    };
    Some((files, key))
}

fn peers(field: &Field<'_>, own: Option<&Placed<NodeName>>, report: &mut Report) -> Option<Vec<Peer>> {
    let mut seen: Vec<Placed<NodeName>> = Vec::new();
    let mut peers = Some(Vec::new());
    for item in field.list(report, limits::PEERS)? {
        let peer = peer(&item, own, &mut seen, report);
        peers = peers.zip(peer).map(|(mut peers, peer)| {
            peers.push(peer);
            peers
        });
    }
    peers
}

fn peer(
    item: &Field<'_>,
    own: Option<&Placed<NodeName>>,
    seen: &mut Vec<Placed<NodeName>>,
    report: &mut Report,
) -> Option<Peer> {
    let mut fields = item.fields(report)?;
    let node = fields
        .require("node", "node: b", report)
        .and_then(|field| Placed::new(&field, field.text(report, NodeName::new)));
    let address = fields
        .require("address", "address: \"b.example:7400\"", report)
        .and_then(|field| field.text(report, Address::new));
    fields.finish(report);
    let node = node?;
    if let Some(own) = own.filter(|own| own.value == node.value) {
        let message = format!(
            "\"{}\" is this node itself (line {}): remove this peer, or correct one of the names",
            node.value, own.at.line
        );
        report.place(node.at, node.path.clone(), message);
    }
    if let Some(first) = seen.iter().find(|first| first.value == node.value) {
        let message = format!(
            "the peer \"{}\" stands twice, in lines {} and {}: remove one of them",
            node.value, first.at.line, node.at.line
        );
        report.place(node.at, node.path.clone(), message);
    }
    let name = node.value.clone();
    seen.push(node);
    Some(Peer { node: name, address: Some(address?) })
}

fn metrics(field: &Field<'_>, report: &mut Report) -> Option<SocketAddr> {
    let mut fields = field.fields(report)?;
    let listen = fields
        .require("listen", "listen: \"127.0.0.1:9400\"", report)
        .and_then(|field| field.text(report, socket_address));
    fields.finish(report);
    listen
}

fn memory(field: &Field<'_>, report: &mut Report) -> Option<Size> {
    let mut fields = field.fields(report)?;
    let budget = match fields.take("budget") {
        Some(field) => field.quantity(report, |text| match Size::parse(text)? {
            limits::MEMORY_BUDGET => Ok(limits::MEMORY_BUDGET),
            size => Err(comes_later(&format!("a budget of {size}"), "an agent's budget is 64Mi")),
        }),
        None => Some(limits::MEMORY_BUDGET),
    };
    fields.finish(report);
    budget
}

fn log(field: &Field<'_>, report: &mut Report) -> Option<Log> {
    let mut fields = field.fields(report)?;
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let level = match fields.take("level") {
        Some(field) => field.text(report, |text| {
            let level = levels.into_iter().find(|level| level.as_str() == text);
            level.ok_or_else(|| unknown_word(text, &levels.map(LogLevel::as_str)))
        }),
        None => Some(LogLevel::Info),
    };
    let format = match fields.take("format") {
        Some(field) => field.text(report, |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(unknown_word(text, &["text", "json"])),
        }),
        None => Some(LogFormat::Text),
    };
    fields.finish(report);
    Some(Log { level: level?, format: format? })
}

/// Says that `text` is none of the words that the field takes.
pub(crate) fn unknown_word(text: &str, known: &[&str]) -> String {
    format!("\"{}\" is not known here: write one of {}", crate::fields::shorten(text), known.join(", "))
}

/// A duration field with its bounds, both included, and its default.
pub(crate) fn duration(
    fields: &mut Fields<'_>,
    name: &'static str,
    (least, most): (Duration, Duration),
    default: Duration,
    report: &mut Report,
) -> Option<Duration> {
    let Some(field) = fields.take(name) else { return Some(default) };
    field.quantity(report, |text| match units::parse_duration(text)? {
        duration if (least..=most).contains(&duration) => Ok(duration),
        _ => Err(format!(
            "\"{text}\" doesn't fit: write a duration from {} to {}",
            units::show_duration(least),
            units::show_duration(most)
        )),
    })
}

/// A path of a file or directory, taken relative to `base`.
pub(crate) fn path(field: &Field<'_>, base: &Path, report: &mut Report) -> Option<PathBuf> {
    field.text(report, |text| {
        if text.is_empty() {
            return Err(
                "an empty path leads nowhere: write one, relative to the configuration's directory or from /".into()
            );
        }
        if text.contains('\0') {
            return Err("a path can't have a NUL character in it: remove it".into());
        }
        if text.starts_with("~/") || text == "~" {
            return Err("\"~\" is a shell's word for the home directory: write the whole path".into());
        }
        let path = base.join(text);
        let length = path.as_os_str().len();
        if length > limits::PATH_BYTES {
            return Err(format!("the path has {length} bytes, at most {} are allowed: shorten it", limits::PATH_BYTES));
        }
        Ok(path)
    })
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "\"{}\" is no address to listen on: write IP:port, like \"0.0.0.0:7400\", \"127.0.0.1:7400\" or \"[::]:7400\"",
            crate::fields::shorten(text)
        )
    })
}
