//! Words of the schema whose behaviour comes with a later version: the change that brings a behaviour deletes its word here and
//! reads it in `volume.rs`. None is ever accepted and ignored.

/// Conflict policies that don't work yet; `prefer: NODE` is one too, and a map.
pub(crate) const POLICIES: &[&str] = &["merge", "prefer"];

/// What works today in place of the later conflict policies.
pub(crate) const POLICIES_INSTEAD: &str = "policies are keepBoth, lastWriterWins and manual";

/// Says that `what` comes later, and what happens today.
pub(crate) fn comes_later(what: &str, instead: &str) -> String {
    format!("{what} comes with a later version: remove it; today {instead}")
}
