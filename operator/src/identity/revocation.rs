//! Whose certificates count no more: a list that the authority signs and agents tell each other. What it looks like, and what agents do
//! with it, stands in the engine's `revoked`.

use super::LEAF_LIFE;
use super::authority::Unusable;
use super::roots::Roots;
use crate::labels::{FORGET_NODE, REVOKE};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use syncmesh_crds::SyncMesh;

const HEAD: &str = "syncmesh revoked 1";
/// Nodes that agents take on one list.
const MOST: usize = 1_024;
/// The longest name of a node.
const NAME_BYTES: usize = 253;

/// What a mesh's Secret remembers of revocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    /// The list, if there ever was one.
    pub list: Option<List>,
    /// Wishes that were carried out and that the mesh's annotations still have: each asks once.
    pub done: BTreeSet<String>,
}

/// A signed list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// As agents read it.
    pub text: String,
    number: i64,
    authority: String,
    nodes: BTreeMap<String, i64>,
}

/// What somebody asks by an annotation of a mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish<'a> {
    /// What tells it from others.
    key: String,
    /// The node whose certificates are to be revoked. None as long as nobody knows which one that is.
    node: Option<&'a str>,
}

/// What becomes of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What was signed for this node so far counts no more.
    Revoked(String),
    /// No node can be called so.
    NoName(String),
    /// There is no room for this node.
    Full(String),
}

impl List {
    /// Reads one that was signed here.
    ///
    /// # Errors
    /// It hasn't the shape of one.
    pub fn read(text: &str) -> Result<Self, Unusable> {
        let odd = || Unusable::new("it is no revocation list");
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return Err(odd());
        }
        let number = lines.next().and_then(|line| line.strip_prefix("number ")?.parse().ok()).ok_or_else(odd)?;
        let authority = lines.next().and_then(|line| line.strip_prefix("authority ")).ok_or_else(odd)?;
        let mut nodes = BTreeMap::new();
        for line in lines.filter(|line| !line.starts_with("signature ")) {
            let (node, moment) = line.strip_prefix("node ").and_then(|rest| rest.split_once(' ')).ok_or_else(odd)?;
            nodes.insert(node.to_owned(), moment.parse().map_err(|_| odd())?);
        }
        Ok(Self { text: text.to_owned(), number, authority: authority.to_owned(), nodes })
    }

    /// The moment before which a node's certificates have to begin to count no more.
    pub fn moment(&self, node: &str) -> Option<Timestamp> {
        Timestamp::from_second(*self.nodes.get(node)?).ok()
    }

    fn sign(roots: &Roots, number: i64, nodes: BTreeMap<String, i64>) -> Result<Self, Unusable> {
        let authority = roots.signing.root.fingerprint.clone();
        let mut text = format!("{HEAD}\nnumber {number}\nauthority {authority}\n");
        for (node, moment) in &nodes {
            text.push_str(&format!("node {node} {moment}\n"));
        }
        let signature = roots.signing.sign_list(text.as_bytes())?;
        text.push_str(&format!("signature {signature}\n"));
        Ok(Self { text, number, authority, nodes })
    }
}

/// What the annotations of a mesh ask for. A machine that is given up is known by the uid that its Node had.
pub fn wishes(mesh: &SyncMesh) -> Vec<Wish<'_>> {
    let items = |annotation: &str| {
        let text = mesh.annotations().get(annotation).map(String::as_str).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty())
    };
    // What stands behind @ makes it another wish.
    let nodes = items(REVOKE).map(|item| Wish { key: item.to_owned(), node: item.split('@').next() });
    let members = mesh.status.as_ref().map(|status| status.members.as_slice()).unwrap_or_default();
    let machines = items(FORGET_NODE).map(|uid| {
        let member = members.iter().find(|member| member.node_uid.as_deref() == Some(uid));
        Wish { key: format!("uid/{uid}"), node: member.map(|member| member.node.as_str()) }
    });
    nodes.chain(machines).collect()
}

/// The roots with a list that has what is asked for, signed by who signs now. Of a node that has been on it as long as its certificates
/// could live nothing is left to be revoked.
///
/// # Errors
/// The key can't be used.
pub fn after(roots: Roots, wishes: &[Wish<'_>], now: Timestamp) -> Result<(Roots, Vec<Answer>), Unusable> {
    let (now, life) = (now.as_second(), LEAF_LIFE.as_secs().cast_signed());
    let Revocations { list, done: before } = roots.revoked.clone();
    let mut nodes = list.as_ref().map(|list| list.nodes.clone()).unwrap_or_default();
    nodes.retain(|_, moment| *moment + life > now);
    let (mut done, mut answers) = (BTreeSet::new(), Vec::new());
    for wish in wishes {
        let is_done = before.contains(&wish.key);
        match wish.node {
            _ if is_done => {}
            None => continue,
            Some(node) if !is_name(node) => answers.push(Answer::NoName(node.to_owned())),
            Some(node) if nodes.len() >= MOST && !nodes.contains_key(node) => {
                answers.push(Answer::Full(node.to_owned()));
            }
            Some(node) => {
                nodes.insert(node.to_owned(), now);
                answers.push(Answer::Revoked(node.to_owned()));
            }
        }
        done.insert(wish.key.clone());
    }
    let list = match list {
        None if nodes.is_empty() => None,
        Some(list) if list.nodes == nodes && list.authority == roots.signing.root.fingerprint => Some(list),
        // Also where a clock was ahead once. A list of another authority under this mesh's name, later, has a higher one, too.
        list => Some(List::sign(&roots, now.max(list.map_or(0, |list| list.number + 1)), nodes)?),
    };
    Ok((Roots { revoked: Revocations { list, done }, ..roots }, answers))
}

/// Nothing that could be taken for another line of the list.
fn is_name(node: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    !node.is_empty() && node.len() <= NAME_BYTES && node.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::super::authority::tests::at;
    use super::super::rotation::{self, Step};
    use super::*;
    use syncmesh_crds::mesh::{MemberState, MeshMember, SyncMeshSpec, SyncMeshStatus};

    const BEGIN: i64 = 1_000_000_000;
    const DAY: i64 = 86_400;

    fn mesh(annotation: &str, value: &str) -> SyncMesh {
        let mut mesh = SyncMesh::new("default", SyncMeshSpec::default());
        mesh.annotations_mut().insert(annotation.into(), value.into());
        mesh
    }

    fn roots() -> Roots {
        Roots::make(None, at(BEGIN)).unwrap()
    }

    fn revoke(roots: Roots, value: &str, seconds: i64) -> (Roots, Vec<Answer>) {
        after(roots, &wishes(&mesh(REVOKE, value)), at(BEGIN + seconds)).unwrap()
    }

    fn listed(roots: &Roots) -> Vec<(String, i64)> {
        let nodes = roots.revoked.list.as_ref().map(|list| list.nodes.clone()).unwrap_or_default();
        nodes.into_iter().map(|(node, moment)| (node, moment - BEGIN)).collect()
    }

    #[test]
    fn each_wish_revokes_once() {
        let (roots, answers) = revoke(roots(), "", 0);
        assert_eq!((&roots.revoked, answers.len()), (&Revocations::default(), 0), "nobody asks, and there is no list");
        let (roots, answers) = revoke(roots, "a, b@1", 5);
        assert_eq!(answers, [Answer::Revoked("a".into()), Answer::Revoked("b".into())]);
        assert_eq!(listed(&roots), [("a".into(), 5), ("b".into(), 5)]);
        let (same, answers) = revoke(roots.clone(), "a,b@1", 9);
        assert_eq!((same, answers.len()), (roots.clone(), 0));
        let (again, answers) = revoke(roots, "a,b@2", 9);
        assert_eq!(answers, [Answer::Revoked("b".into())]);
        assert_eq!(listed(&again), [("a".into(), 5), ("b".into(), 9)]);
        let (gone, _) = revoke(again, "", 10);
        assert_eq!(listed(&gone), [("a".into(), 5), ("b".into(), 9)], "who is on it stays on it");
        let (anew, answers) = revoke(gone, "a", 11);
        assert_eq!((answers.len(), listed(&anew)[0].1), (1, 11), "and may be asked for again");
    }

    #[test]
    fn who_was_on_it_for_the_life_of_a_certificate_is_off_it() {
        let (roots, _) = revoke(roots(), "a", 0);
        let (kept, _) = revoke(roots.clone(), "a", 14 * DAY - 1);
        assert_eq!(kept, roots);
        let (dropped, answers) = revoke(kept, "a", 14 * DAY);
        assert_eq!((listed(&dropped).len(), answers.len()), (0, 0));
        let numbers = [&roots, &dropped].map(|roots| roots.revoked.list.as_ref().unwrap().number);
        assert!(numbers[0] < numbers[1], "agents take it for the newer one");
    }

    #[test]
    fn a_machine_that_is_given_up_is_revoked_once_it_is_known_which_one_it_is() {
        let mut mesh = mesh(FORGET_NODE, "b-uid");
        let (roots, answers) = after(roots(), &wishes(&mesh), at(BEGIN)).unwrap();
        assert_eq!((answers.len(), roots.revoked.done.len()), (0, 0));
        let member = MeshMember {
            node: "b".into(),
            node_uid: Some("b-uid".into()),
            replica_id: None,
            state: MemberState::LostWithData,
            since: None,
            only_copy_files: None,
        };
        mesh.status = Some(SyncMeshStatus { members: vec![member], ..SyncMeshStatus::default() });
        let (roots, answers) = after(roots, &wishes(&mesh), at(BEGIN + 1)).unwrap();
        assert_eq!(answers, [Answer::Revoked("b".into())]);
        mesh.status = None;
        let (same, answers) = after(roots.clone(), &wishes(&mesh), at(BEGIN + 2)).unwrap();
        assert_eq!((same, answers.len()), (roots, 0), "and once only, also when it is a member no more");
    }

    #[test]
    fn what_is_no_name_or_too_much_is_said_once() {
        let (roots, answers) = revoke(roots(), "a b,node\nc,@", 0);
        assert!(answers.iter().all(|answer| matches!(answer, Answer::NoName(_))) && answers.len() == 3);
        assert_eq!((revoke(roots.clone(), "a b,node\nc,@", 1).1.len(), listed(&roots).len()), (0, 0));
        let many: Vec<String> = (0..=MOST).map(|at| format!("n{at:04}")).collect();
        let (roots, answers) = revoke(roots, &many.join(","), 0);
        assert_eq!(listed(&roots).len(), MOST);
        assert_eq!(answers.last(), Some(&Answer::Full("n1024".into())));
        assert!(listed(&roots).len() * (NAME_BYTES + 32) < 1 << 20, "a ConfigMap has room for it");
    }

    #[test]
    fn whoever_signs_certificates_signs_the_list_and_only_a_change_is_signed() {
        let (roots, _) = revoke(roots(), "a", 0);
        let step = |roots, step: &Step, seconds| rotation::after(roots, step, None, at(BEGIN + seconds)).unwrap();
        let introduced = step(roots.clone(), &Step::Introduce, 1);
        let (introduced, _) = revoke(introduced, "a", 2);
        assert_eq!(introduced.revoked, roots.revoked);
        let (switched, _) = revoke(step(introduced, &Step::Switch, 700), "a", 700);
        let list = switched.revoked.list.clone().unwrap();
        assert_eq!((&list.authority, list.number), (&switched.signing.root.fingerprint, BEGIN + 700));
        assert_eq!(listed(&switched), [("a".into(), 0)]);
        assert_eq!(List::read(&list.text), Ok(list));
    }

    #[test]
    fn a_list_looks_as_agents_read_it() {
        let (roots, _) = revoke(roots(), "b.site,a", 7);
        let list = roots.revoked.list.unwrap();
        let authority = &roots.signing.root.fingerprint;
        let moment = BEGIN + 7;
        let signed = format!(
            "syncmesh revoked 1\nnumber {moment}\nauthority {authority}\nnode a {moment}\nnode b.site {moment}\nsignature "
        );
        let signature = list.text.strip_prefix(&signed).unwrap().trim_end();
        assert!(signature.len() > 130 && signature.bytes().all(|byte| byte.is_ascii_hexdigit()), "{signature}");
        assert_eq!(list.moment("a"), Some(at(moment)));
    }
}
