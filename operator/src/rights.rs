//! What operator and agents call, as rules of RBAC, and nothing more. The chart gives them these rights, and stories run with them.

use k8s_openapi::api::rbac::v1::PolicyRule;

/// One line of a table: group, resources, verbs.
type Line = (&'static str, &'static [&'static str], &'static [&'static str]);

/// A server-side apply of what isn't there yet takes `create`, too.
const MAKE: &[&str] = &["create", "delete", "list", "patch", "watch"];
const READ: &[&str] = &["list", "watch"];

/// In all namespaces, and of what has none.
const OPERATOR: &[Line] = &[
    // `create` is for the first mesh.
    ("syncmesh.io", &["syncmeshes"], &["create", "list", "patch", "watch"]),
    ("syncmesh.io", &["syncvolumes"], &["create", "get", "list", "patch", "watch"]),
    ("syncmesh.io", &["syncreplicas", "syncconflicts"], MAKE),
    ("syncmesh.io", &["syncmeshes/status", "syncvolumes/status", "syncconflicts/status"], &["patch"]),
    ("", &["namespaces", "nodes"], READ),
    // Pods of namespaces in which a volume has one writer, or is being deleted.
    ("", &["pods"], READ),
    ("", &["persistentvolumeclaims"], &["create", "delete", "get", "list", "patch", "watch"]),
    ("", &["persistentvolumeclaims/status"], &["patch"]),
    ("", &["persistentvolumes"], MAKE),
    ("storage.k8s.io", &["storageclasses"], READ),
    ("certificates.k8s.io", &["certificatesigningrequests"], READ),
    ("certificates.k8s.io", &["certificatesigningrequests/approval", "certificatesigningrequests/status"], &["patch"]),
    ("events.k8s.io", &["events"], &["create", "patch"]),
];

/// In its own namespace.
const OPERATOR_AT_HOME: &[Line] = &[
    ("apps", &["daemonsets"], &["create", "delete", "get", "list", "patch", "watch"]),
    ("", &["services", "configmaps"], MAKE),
    ("", &["serviceaccounts"], &["create", "list", "patch", "watch"]),
    ("", &["secrets"], &["create", "delete", "list", "update", "watch"]),
    ("", &["pods"], &["get", "list", "watch"]),
    ("", &["events"], READ),
    ("coordination.k8s.io", &["leases"], &["create"]),
];

/// The same, of objects with this name.
const OPERATORS_OWN: &[Line] =
    &[("coordination.k8s.io", &["leases"], &["get", "update"]), ("", &["configmaps"], &["get"])];
const NAME: &str = "syncmesh-operator";

/// In all namespaces, and of what has none.
const AGENT: &[Line] = &[
    ("syncmesh.io", &["syncreplicas"], &["get", "list", "watch"]),
    ("syncmesh.io", &["syncreplicas/status"], &["patch"]),
    ("certificates.k8s.io", &["certificatesigningrequests"], &["create", "get"]),
];

/// In the operator's namespace.
const AGENT_AT_HOME: &[Line] = &[
    ("discovery.k8s.io", &["endpointslices"], READ),
    // The revocation list, before the kubelet shows it. ConfigMaps have no secrets, and their names aren't known to the chart.
    ("", &["configmaps"], READ),
];

/// What the operator may do everywhere: a ClusterRole's rules.
pub fn of_operator() -> Vec<PolicyRule> {
    let signs = PolicyRule {
        api_groups: Some(vec!["certificates.k8s.io".into()]),
        resources: Some(vec!["signers".into()]),
        resource_names: Some(vec![crate::identity::SIGNER.into()]),
        verbs: vec!["approve".into(), "sign".into()],
        ..PolicyRule::default()
    };
    rules(OPERATOR).into_iter().chain([signs]).collect()
}

/// What the operator may do in its own namespace: a Role's rules.
pub fn of_operator_at_home() -> Vec<PolicyRule> {
    let own = rules(OPERATORS_OWN).into_iter();
    let own = own.map(|rule| PolicyRule { resource_names: Some(vec![NAME.into()]), ..rule });
    rules(OPERATOR_AT_HOME).into_iter().chain(own).collect()
}

/// What agents may do everywhere: a ClusterRole's rules.
pub fn of_agent() -> Vec<PolicyRule> {
    rules(AGENT)
}

/// What agents may do in the operator's namespace: a Role's rules.
pub fn of_agent_at_home() -> Vec<PolicyRule> {
    rules(AGENT_AT_HOME)
}

fn rules(table: &[Line]) -> Vec<PolicyRule> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let rule = |(group, resources, verbs): &Line| PolicyRule {
        api_groups: Some(vec![(*group).to_owned()]),
        resources: Some(texts(resources)),
        verbs: texts(verbs),
        ..PolicyRule::default()
    };
    table.iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn allows(rules: &[PolicyRule], resource: &str, verb: &str) -> bool {
        let has = |list: &Option<Vec<String>>, one: &str| list.iter().flatten().any(|each| each == one);
        rules.iter().any(|rule| has(&rule.resources, resource) && rule.verbs.iter().any(|each| each == verb))
    }

    #[test]
    fn nobody_writes_nodes_or_reads_secrets_elsewhere_and_nothing_is_allowed_by_a_star() {
        let (operator, agent) = (of_operator(), of_agent());
        for verb in ["create", "patch", "update", "delete"] {
            assert!(!allows(&operator, "nodes", verb));
        }
        assert!(!allows(&operator, "secrets", "list"));
        for resource in ["pods", "nodes", "secrets"] {
            assert!(!allows(&agent, resource, "list") && !allows(&of_agent_at_home(), resource, "list"));
        }
        let all = [operator, of_operator_at_home(), agent, of_agent_at_home()].concat();
        let is_star = |list: &Option<Vec<String>>| list.iter().flatten().any(|one| one == "*");
        assert!(all.iter().all(|rule| !is_star(&rule.resources) && !rule.verbs.iter().any(|verb| verb == "*")));
    }

    #[test]
    fn the_chart_gives_these_rights_and_no_others() {
        let manifests = include_str!("../../deploy/kubernetes.yaml");
        let of = |kind: &str, name: &str| {
            let head = format!("kind: {kind}\nmetadata:\n  name: {name}\n");
            let document = manifests.split("\n---\n").find(|one| one.contains(&head)).unwrap();
            let role: serde_json::Value = serde_saphyr::from_str(document).unwrap();
            each(&serde_json::from_value::<Vec<PolicyRule>>(role["rules"].clone()).unwrap())
        };
        assert_eq!(of("ClusterRole", "syncmesh-operator"), each(&of_operator()));
        assert_eq!(of("Role", "syncmesh-operator"), each(&of_operator_at_home()));
        assert_eq!(of("ClusterRole", "syncmesh-agent"), each(&of_agent()));
        assert_eq!(of("Role", "syncmesh-agent"), each(&of_agent_at_home()));
    }

    /// Each right alone: which lines of a table they stand in doesn't matter.
    fn each(rules: &[PolicyRule]) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for rule in rules {
            let names = rule.resource_names.clone().unwrap_or_default().join(",");
            for group in rule.api_groups.iter().flatten() {
                for resource in rule.resources.iter().flatten() {
                    all.extend(rule.verbs.iter().map(|verb| format!("{verb} {group}/{resource} {names}")));
                }
            }
        }
        all
    }

    #[test]
    fn an_agent_reads_its_work_and_writes_no_object() {
        let agent = [of_agent(), of_agent_at_home()].concat();
        let writes = ["create", "patch", "update", "delete"];
        let written: Vec<_> =
            agent.iter().filter(|rule| rule.verbs.iter().any(|verb| writes.contains(&&**verb))).collect();
        let resources: Vec<_> = written.iter().flat_map(|rule| rule.resources.clone().unwrap()).collect();
        assert_eq!(resources, ["syncreplicas/status", "certificatesigningrequests"]);
    }
}
