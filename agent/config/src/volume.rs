//! The fields of a volume.

use crate::config::{ConflictPolicy, ConflictRule, Conflicts, DeletionGuard, Durability, Role, Versions, Volume};
use crate::fields::{Field, Fields, Report};
use crate::later;
use crate::limits;
use crate::names::{NodeName, VolumeName};
use crate::overlap::Directory;
use crate::pattern;
use crate::read::{self, Placed};
use crate::tree::Value;
use crate::units::{Share, Size};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// A volume as far as it could be read; name and path are compared with others even where the rest is wrong.
pub(crate) struct Draft {
    pub name: Option<Placed<VolumeName>>,
    pub path: Option<Placed<PathBuf>>,
    /// Its seed, which must be a member.
    pub seed: Option<Placed<NodeName>>,
    /// The node that writes, which must be a member; none where all may.
    pub writer: Option<Placed<NodeName>>,
    /// The whole, or none after a problem was noted.
    pub volume: Option<Volume>,
}

impl Draft {
    /// The volume's directory, for comparison.
    pub fn directory(&self) -> Option<Directory<'_>> {
        Some(Directory { name: self.name.as_ref().map(|name| name.value.as_str()), path: self.path.as_ref()? })
    }
}

/// Reads the list of volumes.
pub(crate) fn list(field: &Field<'_>, base: &Path, report: &mut Report) -> Option<Vec<Draft>> {
    let items = field.list(report, limits::VOLUMES)?;
    if items.is_empty() {
        report.at(field, "the list is empty: write at least one volume, like \"- { name: docs, path: docs }\"".into());
    }
    let mut drafts: Vec<Draft> = Vec::new();
    for item in &items {
        let draft = volume(item, base, report);
        if let Some(name) = &draft.name
            && let Some(first) =
                drafts.iter().filter_map(|draft| draft.name.as_ref()).find(|first| first.value == name.value)
        {
            let message = format!(
                "the volume name \"{}\" stands twice, in lines {} and {}: give each volume a name of its own",
                name.value, first.at.line, name.at.line
            );
            report.place(name.at, name.path.clone(), message);
        }
        drafts.push(draft);
    }
    Some(drafts)
}

fn volume(item: &Field<'_>, base: &Path, report: &mut Report) -> Draft {
    let Some(mut fields) = item.fields(report) else {
        return Draft { name: None, path: None, seed: None, writer: None, volume: None };
    };
    let name = fields
        .require("name", "name: docs", report)
        .and_then(|field| Placed::new(&field, field.text(report, VolumeName::new)));
    let path = fields
        .require("path", "path: docs", report)
        .and_then(|field| Placed::new(&field, read::path(&field, base, report)));
    let conflicts = match fields.take("conflicts") {
        Some(field) => conflicts(&field, report),
        None => Some(Conflicts { policy: ConflictPolicy::KeepBoth, rules: Vec::new() }),
    };
    let exclude = match fields.take("select") {
        Some(field) => select(&field, report),
        None => Some(Vec::new()),
    };
    let versions = match fields.take("versions") {
        Some(field) => versions(&field, report),
        None => Some(Versions::default()),
    };
    let reserve = match fields.take("reserve") {
        Some(field) => field.quantity(report, |text| Share::parse(text, limits::RESERVE_PERCENT)).map(Some),
        None => Some(None),
    };
    let capacity = match fields.take("capacity") {
        Some(field) => field.quantity(report, capacity).map(Some),
        None => Some(None),
    };
    let paused = match fields.take("paused") {
        Some(field) => field.flag(report),
        None => Some(false),
    };
    let durability = match fields.take("durability") {
        Some(field) => field.text(report, |text| match text {
            "epoch" => Ok(Durability::Epoch),
            "strict" => Ok(Durability::Strict),
            _ => Err(read::unknown_word(text, &["epoch", "strict"])),
        }),
        None => Some(Durability::Epoch),
    };
    let settle = read::duration(&mut fields, "settle", limits::SETTLE, Volume::SETTLE, report);
    let open_wait = read::duration(&mut fields, "openWait", limits::OPEN_WAIT, Volume::OPEN_WAIT, report);
    let send_limit = match fields.take("bandwidth") {
        Some(field) => bandwidth(&field, report),
        None => Some(None),
    };
    let deletion_guard = match fields.take("deletionGuard") {
        Some(field) => guard(&field, report),
        None => Some(DeletionGuard::default()),
    };
    let seed = match fields.take("seed") {
        Some(field) => seed(&field, report),
        None => Some(None),
    };
    let writer = writer(&mut fields, report);
    fields.finish(report);

    let whole = || {
        Some(Volume {
            conflicts: conflicts?,
            exclude: exclude?,
            versions: versions?,
            reserve: reserve?,
            capacity: capacity?,
            settle: settle?,
            open_wait: open_wait?,
            deletion_guard: deletion_guard?,
            seed: seed.as_ref()?.as_ref().map(|seed| seed.value.clone()),
            paused: paused?,
            role: writer.as_ref().map(|_| Role::Writer)?,
            send_limit: send_limit?,
            durability: durability?,
            ..Volume::new(name.as_ref()?.value.clone(), path.as_ref()?.value.clone())
        })
    };
    let volume = whole();
    Draft { name, path, seed: seed.flatten(), writer: writer.flatten(), volume }
}

/// At least a mebibyte: less is a slip of the pen.
fn capacity(text: &str) -> Result<Size, String> {
    let size = Size::parse(text)?;
    if size < limits::CAPACITY {
        return Err(format!("write at least {}, or leave `capacity` out for no limit", limits::CAPACITY));
    }
    Ok(size)
}

/// Bytes in a second; 0 means any number.
fn bandwidth(field: &Field<'_>, report: &mut Report) -> Option<Option<NonZeroU64>> {
    let mut fields = field.fields(report)?;
    let limit = match fields.take("limit") {
        Some(field) => field.quantity(report, Size::parse).map(|limit| NonZeroU64::new(limit.0)),
        None => Some(None),
    };
    fields.finish(report);
    limit
}

/// The one node that writes; none where all may.
fn writer(fields: &mut Fields<'_>, report: &mut Report) -> Option<Option<Placed<NodeName>>> {
    let is_single = match fields.take("mode") {
        Some(field) => field.text(report, |text| match text {
            "ReadWriteMany" => Ok(false),
            "SingleWriter" => Ok(true),
            _ => Err(read::unknown_word(text, &["ReadWriteMany", "SingleWriter"])),
        })?,
        None => false,
    };
    if is_single {
        let field = fields.require("writer", "writer: a", report)?;
        return Placed::new(&field, field.text(report, NodeName::new)).map(Some);
    }
    if let Some(field) = fields.take("writer") {
        report.at(&field, "only a SingleWriter volume has a writer: remove it, or write mode: SingleWriter".into());
        return None;
    }
    Some(None)
}

/// An empty text names nobody.
fn seed(field: &Field<'_>, report: &mut Report) -> Option<Option<Placed<NodeName>>> {
    let name = field.text(report, |text| (!text.is_empty()).then(|| NodeName::new(text)).transpose())?;
    Some(name.and_then(|name| Placed::new(field, Some(name))))
}

fn conflicts(field: &Field<'_>, report: &mut Report) -> Option<Conflicts> {
    let mut fields = field.fields(report)?;
    let default = match fields.take("policy") {
        Some(field) => policy(&field, report),
        None => Some(ConflictPolicy::KeepBoth),
    };
    let rules = match fields.take("rules") {
        Some(field) => rules(&field, report),
        None => Some(Vec::new()),
    };
    fields.finish(report);
    Some(Conflicts { policy: default?, rules: rules? })
}

fn rules(field: &Field<'_>, report: &mut Report) -> Option<Vec<ConflictRule>> {
    let read: Vec<Option<ConflictRule>> =
        field.list(report, limits::RULES)?.iter().map(|item| rule(item, report)).collect();
    read.into_iter().collect()
}

fn rule(item: &Field<'_>, report: &mut Report) -> Option<ConflictRule> {
    let mut fields = item.fields(report)?;
    let glob = fields
        .require("match", "match: \"*.log\"", report)
        .and_then(|field| field.text(report, |text| pattern::glob(text).map(|_| text.to_owned())));
    let policy = fields.require("policy", "policy: lastWriterWins", report).and_then(|field| policy(&field, report));
    fields.finish(report);
    Some(ConflictRule { pattern: glob?, policy: policy? })
}

fn policy(field: &Field<'_>, report: &mut Report) -> Option<ConflictPolicy> {
    if let Value::Map(entries) = field.value()
        && let [(key, _)] = &entries[..]
        && later::POLICIES.contains(&key.name.as_str())
    {
        report.at(field, later::comes_later(&format!("the policy {}", key.name), later::POLICIES_INSTEAD));
        return None;
    }
    field.text(report, |text| match text {
        "keepBoth" => Ok(ConflictPolicy::KeepBoth),
        "lastWriterWins" => Ok(ConflictPolicy::LastWriterWins),
        "manual" => Ok(ConflictPolicy::Manual),
        _ if later::POLICIES.iter().any(|later| text == *later || text.starts_with("prefer:")) => {
            Err(later::comes_later(&format!("the policy {}", crate::fields::shorten(text)), later::POLICIES_INSTEAD))
        }
        _ => Err(read::unknown_word(text, &["keepBoth", "lastWriterWins", "manual"])),
    })
}

fn select(field: &Field<'_>, report: &mut Report) -> Option<Vec<String>> {
    let mut fields = field.fields(report)?;
    let exclude = match fields.take("exclude") {
        Some(field) => patterns(&field, report),
        None => Some(Vec::new()),
    };
    fields.finish(report);
    exclude
}

fn patterns(field: &Field<'_>, report: &mut Report) -> Option<Vec<String>> {
    let items = field.list(report, limits::PATTERNS)?;
    let mut read = Vec::new();
    for item in &items {
        read.push(item.text(report, |text| pattern::check_exclusion(text).map(|()| text.to_owned())));
    }
    read.into_iter().collect()
}

fn guard(field: &Field<'_>, report: &mut Report) -> Option<DeletionGuard> {
    let mut fields = field.fields(report)?;
    let default = DeletionGuard::default();
    let files = match fields.take("files") {
        Some(field) => field.number(report, limits::GUARD_FILES),
        None => Some(default.files),
    };
    let percent = match fields.take("percent") {
        Some(field) => field.number(report, limits::GUARD_PERCENT),
        None => Some(default.percent),
    };
    fields.finish(report);
    Some(DeletionGuard { files: files?, percent: percent? })
}

fn versions(field: &Field<'_>, report: &mut Report) -> Option<Versions> {
    let mut fields = field.fields(report)?;
    let default = Versions::default();
    let keep = match fields.take("keep") {
        Some(field) => field.number(report, limits::VERSIONS_KEPT),
        None => Some(u64::from(default.keep)),
    };
    let max_age = read::duration(&mut fields, "maxAge", limits::VERSIONS_AGE, default.max_age, report);
    let budget = match fields.take("budget") {
        Some(field) => field.quantity(report, |text| Share::parse(text, limits::VERSIONS_BUDGET_PERCENT)),
        None => Some(default.budget),
    };
    fields.finish(report);
    let keep = u32::try_from(keep?).expect("the limit fits");
    Some(Versions { keep, max_age: max_age?, budget: budget? })
}
