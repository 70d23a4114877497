//! From SyncReplicas and addresses to a configuration.

use super::surroundings::{Places, Surroundings};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;
use syncmesh_config::{
    Address, Config, ConflictPolicy, ConflictRule, Conflicts, DeletionGuard, Durability, Engine, Log, LogFormat,
    LogLevel, NodeName, Peer, Role, Share, Size, Versions, Volume, VolumeName, limits,
};
use syncmesh_core::policy::{Policies, Policy};
use syncmesh_core::select::Selection;
use syncmesh_crds::replica::SyncReplicaSpec;
use syncmesh_crds::{contents, units};

/// A replica's volume.
///
/// # Errors
/// The replica asks for something that this agent can't do: what, and what to do about it.
pub fn volume(spec: &SyncReplicaSpec, places: &Places, filling: bool, role: Role) -> Result<Volume, String> {
    let name = VolumeName::new(&spec.volume_id)?;
    let of_node = |name: &str| NodeName::new(name);
    let others = spec.members.iter().filter(|member| member.node != spec.node);
    let members = others.map(|member| of_node(&member.node)).collect::<Result<BTreeSet<_>, _>>()?;
    let (path, incoming, meta, mounted) = match &spec.directory {
        Some(listed) => (places.directory(listed), None, None, places.directory(listed)),
        None => {
            let below = |name: &str| places.volume(&spec.volume_id).join(name);
            (below("data"), Some(below("incoming")), Some(below("meta")), places.root.clone())
        }
    };
    let reserve = spec.reserve.map_or_else(|| Share::Percent(places.reserve(&mounted)), |reserve| share(reserve.0));
    let volume = Volume {
        incoming,
        meta,
        members: Some(members),
        filling,
        role,
        send_limit: spec.bandwidth.limit.and_then(|limit| NonZeroU64::new(limit.0)),
        conflicts: conflicts(&spec.conflicts),
        exclude: spec.select.exclude.clone(),
        versions: Versions {
            keep: spec.versions.keep,
            max_age: spec.versions.max_age.0,
            budget: share(spec.versions.budget),
        },
        reserve: Some(reserve),
        capacity: spec.capacity.map(|capacity| Size(capacity.0)),
        deletion_guard: DeletionGuard {
            files: spec.deletion_guard.files,
            percent: u64::from(spec.deletion_guard.percent),
        },
        seed: spec.seed.as_deref().map(of_node).transpose()?,
        paused: spec.paused,
        durability: match spec.durability {
            contents::Durability::Epoch => Durability::Epoch,
            contents::Durability::Strict => Durability::Strict,
        },
        ..Volume::new(name, path)
    };
    // What a schema lets pass and a glob doesn't is better said here than when the engine starts.
    Selection::new(&volume.exclude).map_err(|why| format!("select.exclude: {why}"))?;
    let rules: Vec<(String, Policy)> =
        volume.conflicts.rules.iter().map(|rule| (rule.pattern.clone(), Policy::KeepBoth)).collect();
    Policies::new(Policy::KeepBoth, &rules).map_err(|why| format!("conflicts.rules: {why}"))?;
    Ok(volume)
}

/// The configuration of an agent that has these volumes, and whose peers were seen at these addresses.
pub fn config(
    surroundings: &Surroundings,
    volumes: Vec<Volume>,
    addresses: &BTreeMap<String, SocketAddr>,
) -> Result<Config, String> {
    let names: BTreeSet<&NodeName> = volumes.iter().flat_map(|volume| volume.members.iter().flatten()).collect();
    let peer = |node: &NodeName| {
        let address = addresses.get(node.as_str()).map(|address| Address::new(&address.to_string())).transpose()?;
        Ok(Peer { node: node.clone(), address })
    };
    Ok(Config {
        node: surroundings.node.clone(),
        state_dir: surroundings.places.state(),
        listen: SocketAddr::new(surroundings.all, surroundings.port),
        engine: Engine::Auto,
        identity: surroundings.places.identity(),
        peers: names.into_iter().map(peer).collect::<Result<_, String>>()?,
        // Each member calls or is called once; a second connection lasts for a moment.
        connections: u32::try_from(limits::CONNECTIONS.1).unwrap_or(u32::MAX),
        max_clock_skew: Duration::from_secs(300),
        metrics_listen: Some(SocketAddr::new(surroundings.all, surroundings.metrics_port)),
        memory_budget: limits::MEMORY_BUDGET,
        // SYNCMESH_LOG says otherwise: the operator sets it.
        log: Log { level: LogLevel::Info, format: LogFormat::Text },
        volumes,
    })
}

fn conflicts(given: &contents::Conflicts) -> Conflicts {
    let policy = |policy: contents::ConflictPolicy| match policy {
        contents::ConflictPolicy::KeepBoth => ConflictPolicy::KeepBoth,
        contents::ConflictPolicy::LastWriterWins => ConflictPolicy::LastWriterWins,
        contents::ConflictPolicy::Manual => ConflictPolicy::Manual,
    };
    let rule =
        |rule: &contents::ConflictRule| ConflictRule { pattern: rule.r#match.clone(), policy: policy(rule.policy) };
    Conflicts { policy: policy(given.policy), rules: given.rules.iter().map(rule).collect() }
}

fn share(given: units::Share) -> Share {
    match given {
        units::Share::Percent(percent) => Share::Percent(percent),
        units::Share::Size(size) => Share::Size(Size(size.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::status::tests::{replica, surroundings};

    #[test]
    fn a_replica_is_a_volume_under_its_id_that_its_members_keep() {
        let spec = replica(&["a", "b", "c"]).spec;
        let volume = volume(&spec, &Places::default(), false, Role::Writer).unwrap();
        assert_eq!(volume.name.as_str(), "id");
        assert_eq!(volume.path.to_str(), Some("/var/lib/syncmesh/volumes/id/data"));
        let members: Vec<String> = volume.members.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(members, ["b", "c"]);
    }

    #[test]
    fn a_listed_directory_is_mounted_under_its_name() {
        let mut spec = replica(&["a"]).spec;
        spec.directory = Some("media".into());
        let volume = volume(&spec, &Places::default(), false, Role::Writer).unwrap();
        assert_eq!((volume.path.to_str(), volume.meta), (Some("/directories/media"), None));
    }

    #[test]
    fn what_cant_be_done_is_refused() {
        let mut spec = replica(&["a", "10.0.0.1"]).spec;
        assert!(volume(&spec, &Places::default(), false, Role::Writer).unwrap_err().contains("10.0.0.1"));
        spec.members.pop();
        spec.select.exclude = vec!["[z-a]".into()];
        assert!(volume(&spec, &Places::default(), false, Role::Writer).unwrap_err().starts_with("select.exclude"));
    }

    #[test]
    fn peers_are_the_members_of_all_volumes_with_their_addresses_as_far_as_known() {
        let one = volume(&replica(&["a", "b"]).spec, &Places::default(), false, Role::Writer).unwrap();
        let other = volume(&replica(&["a", "c"]).spec, &Places::default(), false, Role::Writer).unwrap();
        let addresses = BTreeMap::from([
            ("b".to_owned(), "10.0.0.2:7400".parse().unwrap()),
            ("d".to_owned(), "10.0.0.4:7400".parse().unwrap()),
        ]);
        let config = config(&surroundings(), vec![one, other], &addresses).unwrap();
        let peers: Vec<_> =
            config.peers.iter().map(|peer| (peer.node.as_str(), peer.address.as_ref().map(Address::as_str))).collect();
        assert_eq!(peers, [("b", Some("10.0.0.2:7400")), ("c", None)]);
    }
}
