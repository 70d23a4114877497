//! On which nodes the agents of a mesh should run: where its DaemonSet puts them.

use k8s_openapi::api::core::v1::{Node, Taint};
use kube::ResourceExt;
use syncmesh_crds::SyncMesh;
use syncmesh_crds::mesh::{Toleration, TolerationOperator};

/// Taints that the DaemonSet controller tolerates for every DaemonSet's pods (Kubernetes, "Taints and tolerations").
const TOLERATED: &[&str] = &[
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
];
/// The same, for pods that use the node's network.
const TOLERATED_ON_HOST_NETWORK: &str = "node.kubernetes.io/network-unavailable";

/// Whether an agent should run there.
pub fn should_run(mesh: &SyncMesh, node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    is_linux(node) && mesh.spec.nodes.fits(node.labels()) && taints.iter().all(|taint| is_tolerated(mesh, taint))
}

/// A node that hasn't told its system yet is no reason to wait.
fn is_linux(node: &Node) -> bool {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.is_none_or(|info| info.operating_system.is_empty() || info.operating_system == "linux")
}

fn is_tolerated(mesh: &SyncMesh, taint: &Taint) -> bool {
    if taint.effect == "PreferNoSchedule" || TOLERATED.contains(&taint.key.as_str()) {
        return true;
    }
    if mesh.spec.network.host && taint.key == TOLERATED_ON_HOST_NETWORK {
        return true;
    }
    mesh.spec.agent.tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect_fits = toleration.effect.is_none_or(|effect| effect.as_str() == taint.effect);
    let key = toleration.key.as_deref().filter(|key| !key.is_empty());
    let key_fits = match (key, toleration.operator) {
        (None, TolerationOperator::Exists) => true,
        (key, _) => key == Some(taint.key.as_str()),
    };
    let value_fits = match toleration.operator {
        TolerationOperator::Exists => true,
        TolerationOperator::Equal => toleration.value.as_deref().unwrap_or("") == taint.value.as_deref().unwrap_or(""),
    };
    effect_fits && key_fits && value_fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::NodeSpec;
    use kube::core::ObjectMeta;
    use syncmesh_crds::mesh::{SyncMeshSpec, TaintEffect};

    fn node(labels: &[(&str, &str)], taint: Option<(&str, &str)>) -> Node {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let taints = taint.map(|(key, effect)| {
            vec![Taint { key: key.into(), effect: effect.into(), value: Some("x".into()), time_added: None }]
        });
        Node {
            metadata: ObjectMeta { labels: Some(labels), ..ObjectMeta::default() },
            spec: Some(NodeSpec { taints, ..NodeSpec::default() }),
            status: None,
        }
    }

    fn mesh(change: impl FnOnce(&mut SyncMeshSpec)) -> SyncMesh {
        let mut mesh = SyncMesh::new("default", SyncMeshSpec::default());
        change(&mut mesh.spec);
        mesh
    }

    #[test]
    fn the_selector_decides() {
        let selective = mesh(|spec| spec.nodes.match_labels = [("tier".to_owned(), "web".to_owned())].into());
        assert!(should_run(&selective, &node(&[("tier", "web")], None)));
        assert!(!should_run(&selective, &node(&[], None)));
        assert!(should_run(&mesh(|_| ()), &node(&[], None)));
    }

    #[test]
    fn a_control_plane_is_left_out_until_its_taint_is_tolerated() {
        let tainted = node(&[], Some(("node-role.kubernetes.io/control-plane", "NoSchedule")));
        assert!(!should_run(&mesh(|_| ()), &tainted));
        let everywhere = Toleration { key: None, operator: TolerationOperator::Exists, value: None, effect: None };
        assert!(should_run(&mesh(|spec| spec.agent.tolerations.push(everywhere)), &tainted));
    }

    #[test]
    fn a_node_under_pressure_or_cordoned_keeps_its_agent() {
        for key in ["node.kubernetes.io/unschedulable", "node.kubernetes.io/disk-pressure"] {
            assert!(should_run(&mesh(|_| ()), &node(&[], Some((key, "NoSchedule")))), "{key}");
        }
    }

    #[test]
    fn a_toleration_counts_for_its_key_value_and_effect_only() {
        let tainted = node(&[], Some(("dedicated", "NoSchedule")));
        let toleration = |value: &str, effect| Toleration {
            key: Some("dedicated".into()),
            operator: TolerationOperator::Equal,
            value: Some(value.into()),
            effect,
        };
        let runs = |toleration| should_run(&mesh(|spec| spec.agent.tolerations.push(toleration)), &tainted);
        assert!(runs(toleration("x", None)));
        assert!(runs(toleration("x", Some(TaintEffect::NoSchedule))));
        assert!(!runs(toleration("y", None)));
        assert!(!runs(toleration("x", Some(TaintEffect::NoExecute))));
    }
}
