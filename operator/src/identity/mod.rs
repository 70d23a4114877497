//! Who agents are: the mesh's authority, which certificates it has given away, and to whom it gives them.

pub mod authority;
pub(crate) mod reconcile;
pub mod refusal;
pub mod revocation;
pub mod roots;
pub mod rotation;
pub mod verdict;

use std::time::Duration;

/// The signer that agents ask. Requests to other signers are not ours.
pub const SIGNER: &str = "syncmesh.io/agent";
/// The longest life of an agent's certificate: 14 days, so that a site without an uplink outlives a weekend.
pub const LEAF_LIFE: Duration = Duration::from_secs(14 * DAY_SECONDS);
/// The life of an authority: ten years, as the agent's own command makes one.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3653 * DAY_SECONDS);
/// What is left of an authority's life when the next one is introduced.
const LAST_YEAR: Duration = Duration::from_secs(365 * DAY_SECONDS);
/// What is left of it when the next one signs, whoever may not trust that one yet: the old one's certificates would soon be short.
const LAST_CALL: Duration = Duration::from_secs(2 * 14 * DAY_SECONDS);
/// How long a new root has been in the bundle before certificates come from it. The kubelet takes up to two minutes to show it to an agent.
const INTRODUCTION: Duration = Duration::from_secs(600);
/// Certificates begin this much before they are made, for nodes whose clocks are behind.
const BACKDATE: Duration = Duration::from_secs(600);
/// An authority begins this much before it is made: before all its certificates.
const AUTHORITY_BACKDATE: Duration = Duration::from_secs(3600);

const DAY_SECONDS: u64 = 24 * 3600;

const _: () = assert!(LAST_CALL.as_secs() >= 2 * LEAF_LIFE.as_secs() && LAST_CALL.as_secs() < LAST_YEAR.as_secs());
const _: () = assert!(BACKDATE.as_secs() < AUTHORITY_BACKDATE.as_secs());
