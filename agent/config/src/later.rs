//! Fields of the schema whose behaviour comes with a later version, in one table: the change that brings a behaviour
//! deletes its line here and reads the field in `volume.rs`.
//!
//! A field is never accepted and ignored. One that is written with the behaviour that exists today is accepted.

use crate::fields::{Field, Report};
use crate::tree::Value;

/// A field of a volume, dotted, that has one behaviour or none today.
struct Later {
    /// Path below the volume.
    field: &'static str,
    /// The one value that describes what happens today.
    today: Only,
    /// What happens today, completing "today …".
    instead: &'static str,
}

enum Only {
    Text { today: &'static str, later: &'static [&'static str] },
    Number(u64),
}

const LATER: &[Later] = &[
    Later { field: "bandwidth.limit", today: Only::Number(0), instead: "nothing is limited (bandwidth.limit: 0)" },
    Later {
        field: "mode",
        today: Only::Text { today: "ReadWriteMany", later: &["SingleWriter"] },
        instead: "every node may write (mode: ReadWriteMany)",
    },
];

/// Conflict policies that don't work yet; `prefer: NODE` is one too, and a map.
pub(crate) const POLICIES: &[&str] = &["merge", "prefer"];

/// What works today in place of the later conflict policies.
pub(crate) const POLICIES_INSTEAD: &str = "policies are keepBoth, lastWriterWins and manual";

/// Says that `what` comes later, and what happens today.
pub(crate) fn comes_later(what: &str, instead: &str) -> String {
    format!("{what} comes with a later version: remove it; today {instead}")
}

/// Checks a `field` of the table; `below_volume` is its path there.
///
/// Panics where the table has no such line: then the caller reads a field that has a behaviour.
pub(crate) fn check(field: &Field<'_>, below_volume: &str, report: &mut Report) {
    let later = LATER.iter().find(|later| later.field == below_volume).expect("the caller's fields stand in the table");
    let message = match (&later.today, field.value()) {
        (Only::Text { today, .. }, Value::Text(text)) if text == today => return,
        (Only::Number(today), Value::Number(number)) if number == today => return,
        // A word that no version knows is a mistake of spelling, not of version.
        (Only::Text { today, later: names }, Value::Text(text))
            if !names.is_empty() && !names.contains(&text.as_str()) =>
        {
            format!("\"{}\" is not known here: write {today}, which is also the default", text.escape_debug())
        }
        (Only::Text { .. } | Only::Number(_), value) if !matches_kind(&later.today, value) => {
            format!("{} is not a value for this field: remove it; today {}", field.describe(), later.instead)
        }
        (Only::Text { .. }, Value::Text(text)) => {
            comes_later(&format!("{below_volume}: \"{}\"", text.escape_debug()), later.instead)
        }
        _ => comes_later(below_volume, later.instead),
    };
    report.at(field, message);
}

fn matches_kind(only: &Only, value: &Value) -> bool {
    match only {
        Only::Text { .. } => matches!(value, Value::Text(_)),
        Only::Number(_) => matches!(value, Value::Number(_) | Value::Text(_)),
    }
}
