//! When a mesh's roots change, and how far: the next one is trusted everywhere before it signs, and the previous one as long as its
//! certificates hold.

use super::roots::{Phase, Roots};
use super::{INTRODUCTION, LAST_CALL, LAST_YEAR, LEAF_LIFE};
use crate::identity::authority::{Authority, Root, Unusable};
use k8s_openapi::jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use syncmesh_crds::SyncReplica;

/// What to do about a mesh's roots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, but to look again after this time.
    Rest(Duration),
    /// Put a new root into the bundle.
    Introduce,
    /// Let the next one sign.
    Switch,
    /// Take the previous one out of the bundle.
    Drop,
}

/// The next step. `asked` is what the mesh's annotation says, `distrusting` are the nodes that [`distrusting`] names.
pub fn next(roots: &Roots, distrusting: &[&str], asked: Option<&str>, now: Timestamp) -> Step {
    let left = until(now, roots.signing.root.not_after);
    match &roots.phase {
        Phase::Steady => {
            let is_asked = asked.is_some_and(|asked| roots.rotated_for.as_deref() != Some(asked));
            match left.saturating_sub(LAST_YEAR) {
                _ if is_asked => Step::Introduce,
                Duration::ZERO => Step::Introduce,
                rest => Step::Rest(rest),
            }
        }
        Phase::Introducing { since, .. } => {
            let waiting = INTRODUCTION.saturating_sub(until(*since, now));
            match left.saturating_sub(LAST_CALL) {
                Duration::ZERO => Step::Switch,
                _ if waiting.is_zero() && distrusting.is_empty() => Step::Switch,
                // An agent's report rings.
                rest if waiting.is_zero() => Step::Rest(rest),
                rest => Step::Rest(rest.min(waiting)),
            }
        }
        Phase::Retiring { since, .. } => match LEAF_LIFE.saturating_sub(until(*since, now)) {
            Duration::ZERO => Step::Drop,
            rest => Step::Rest(rest),
        },
    }
}

/// The roots after a step.
///
/// # Errors
/// Keys can't be made here.
pub fn after(roots: Roots, step: &Step, asked: Option<&str>, now: Timestamp) -> Result<Roots, Unusable> {
    let after = match (step, roots.phase) {
        (Step::Introduce, Phase::Steady) => Roots {
            phase: Phase::Introducing { next: Box::new(Authority::make(now)?), since: now },
            rotated_for: asked.map(Into::into),
            ..roots
        },
        (Step::Switch, Phase::Introducing { next, .. }) => Roots {
            phase: Phase::Retiring { previous: roots.signing.root, since: now },
            signing: *next,
            rotated_for: roots.rotated_for,
            revoked: roots.revoked,
        },
        (Step::Drop, Phase::Retiring { .. }) => Roots { phase: Phase::Steady, ..roots },
        (_, phase) => Roots { phase, ..roots },
    };
    Ok(after)
}

/// The nodes of a mesh's replicas whose agents haven't told that they trust a root. Agents without a replica tell nothing.
pub fn distrusting<'a>(replicas: impl Iterator<Item = &'a SyncReplica>, root: &Root) -> Vec<&'a str> {
    let mut trusting: BTreeMap<&str, bool> = BTreeMap::new();
    for replica in replicas {
        let trusts = replica.status.as_ref().is_some_and(|status| status.trusts.contains(&root.fingerprint));
        *trusting.entry(&replica.spec.node).or_default() |= trusts;
    }
    let left: BTreeSet<&str> = trusting.into_iter().filter(|(_, trusts)| !trusts).map(|(node, _)| node).collect();
    left.into_iter().collect()
}

/// From one moment to another; nothing if that is past.
fn until(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(to.as_second().saturating_sub(from.as_second())).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::authority::tests::at;
    use super::*;
    use crate::volume::example::Cluster;
    use std::sync::Arc;

    const BEGIN: i64 = 1_000_000_000;
    const DAY: i64 = 86_400;

    fn steady() -> Roots {
        Roots::make(None, at(BEGIN)).unwrap()
    }

    fn step(roots: &Roots, distrusting: &[&str], seconds: i64) -> Step {
        next(roots, distrusting, None, at(BEGIN + seconds))
    }

    fn advance(roots: Roots, step: &Step, seconds: i64) -> Roots {
        after(roots, step, None, at(BEGIN + seconds)).unwrap()
    }

    #[test]
    fn a_root_is_followed_by_another_in_its_last_year() {
        let roots = steady();
        let last_year = 3653 * DAY - 365 * DAY;
        assert_eq!(step(&roots, &[], last_year - 1), Step::Rest(Duration::from_secs(1)));
        assert_eq!(step(&roots, &[], last_year), Step::Introduce);
    }

    #[test]
    fn each_value_of_the_annotation_asks_for_one_change() {
        let roots = Roots::make(Some("first"), at(BEGIN)).unwrap();
        let asked = |roots: &Roots, value| next(roots, &[], Some(value), at(BEGIN + DAY));
        assert!(matches!(asked(&roots, "first"), Step::Rest(_)));
        assert_eq!(asked(&roots, "second"), Step::Introduce);
        let begun = after(roots, &Step::Introduce, Some("second"), at(BEGIN + DAY)).unwrap();
        let retiring = advance(begun, &Step::Switch, 2 * DAY);
        let done = advance(retiring, &Step::Drop, 20 * DAY);
        assert!(matches!(asked(&done, "second"), Step::Rest(_)));
    }

    #[test]
    fn the_next_root_signs_once_every_agent_trusts_it_and_not_before_ten_minutes() {
        let begun = advance(steady(), &Step::Introduce, 0);
        assert_eq!(step(&begun, &[], 599), Step::Rest(Duration::from_secs(1)));
        assert_eq!(step(&begun, &[], 600), Step::Switch);
        assert!(matches!(step(&begun, &["a"], DAY), Step::Rest(_)));
        let Phase::Introducing { next, .. } = begun.phase.clone() else { panic!("it was introduced") };
        let switched = advance(begun.clone(), &Step::Switch, 600);
        assert_eq!(switched.signing, *next);
        assert_eq!(switched.phase, Phase::Retiring { previous: begun.signing.root, since: at(BEGIN + 600) });
    }

    #[test]
    fn a_root_that_is_about_to_end_waits_for_nobody() {
        let begun = advance(steady(), &Step::Introduce, 3300 * DAY);
        let last_call = (3653 - 28) * DAY;
        assert_eq!(step(&begun, &["a"], last_call - 1), Step::Rest(Duration::from_secs(1)));
        assert_eq!(step(&begun, &["a"], last_call), Step::Switch);
        assert_eq!(step(&begun, &["a"], 5000 * DAY), Step::Switch, "and neither does one that has ended");
    }

    #[test]
    fn the_previous_root_is_trusted_as_long_as_its_last_certificate_holds() {
        let retiring = advance(advance(steady(), &Step::Introduce, 0), &Step::Switch, 600);
        assert_eq!(step(&retiring, &["a"], 600 + 14 * DAY - 1), Step::Rest(Duration::from_secs(1)));
        assert_eq!(step(&retiring, &[], 600 + 14 * DAY), Step::Drop);
        assert_eq!(advance(retiring, &Step::Drop, 15 * DAY).phase, Phase::Steady);
    }

    #[test]
    fn an_agent_counts_once_and_one_without_replicas_does_not() {
        let root = steady().signing.root;
        let mut cluster = Cluster::with_nodes(&["a", "b"]);
        assert_eq!(distrusting(cluster.replicas.iter().map(Arc::as_ref), &root), Vec::<&str>::new());
        cluster.reconcile();
        cluster.report("a", |status| status.trusts = vec!["0".repeat(64), root.fingerprint.clone()]);
        assert_eq!(distrusting(cluster.replicas.iter().map(Arc::as_ref), &root), ["b"]);
        let second = SyncReplica { status: None, ..(*cluster.replicas[0]).clone() };
        let all = cluster.replicas.iter().map(Arc::as_ref).chain([&second]);
        assert_eq!(distrusting(all, &root), ["b"], "one of its replicas has told it");
    }
}
