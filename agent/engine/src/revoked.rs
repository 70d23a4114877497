//! Revocation lists: nodes whose certificates count no more unless they begin later, as an authority of the mesh has signed it.
//!
//! ```text
//! syncmesh revoked 1
//! number 1764300000
//! authority 5f0c…
//! node worker-2 1764300000
//! signature 3045…
//! ```
//! `authority` is the SHA-256 of the CA's certificate, moments are seconds since 1970. The signature, in hexadecimal, is over all that
//! stands before its line: ECDSA P-256 with SHA-256, as ASN.1. It begins as no certificate does, so that neither is ever taken for the
//! other. The operator writes the same (`identity::revocation`).

use std::collections::BTreeMap;
use std::fmt;
use syncmesh_protocol::limits::REVOKED_NODES;

pub use syncmesh_protocol::limits::REVOKED_BYTES;

const HEAD: &str = "syncmesh revoked 1";
/// The longest name of a node.
const NAME_BYTES: usize = 253;

/// A list that was read. Whether an authority that anybody trusts has signed it is another question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revoked {
    text: String,
    number: u64,
    authority: String,
    nodes: BTreeMap<String, u64>,
    /// How many bytes of the text are signed.
    signed: usize,
    signature: Vec<u8>,
}

/// Why a text is no list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoList(String);

impl fmt::Display for NoList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is no revocation list: {}", self.0)
    }
}

impl std::error::Error for NoList {}

impl Revoked {
    /// Reads one.
    ///
    /// # Errors
    /// It is too long, or has not the shape of one.
    pub fn read(text: &str) -> Result<Self, NoList> {
        let no = |why: &str| NoList(why.to_owned());
        if text.len() > REVOKED_BYTES {
            return Err(NoList(format!("it is longer than {REVOKED_BYTES} bytes")));
        }
        let end = text.rfind("\nsignature ").ok_or_else(|| no("it has no signature"))?;
        let (signed, rest) = text.split_at(end + 1);
        let signature = rest.strip_prefix("signature ").and_then(|digits| bytes_of(digits.trim_end()));
        let signature = signature.ok_or_else(|| no("its signature can't be read"))?;
        let mut lines = signed.lines();
        if lines.next() != Some(HEAD) {
            return Err(NoList(format!("it doesn't begin with \"{HEAD}\"")));
        }
        let number = lines.next().and_then(|line| line.strip_prefix("number ")?.parse().ok());
        let number = number.ok_or_else(|| no("its number can't be read"))?;
        let authority = lines.next().and_then(|line| line.strip_prefix("authority "));
        let authority = authority.ok_or_else(|| no("it names no authority"))?.to_owned();
        let mut nodes = BTreeMap::new();
        for (at, line) in lines.enumerate() {
            let node = node(line).ok_or_else(|| NoList(format!("its line {} can't be read", at + 4)))?;
            nodes.insert(node.0.to_owned(), node.1);
        }
        if nodes.len() > REVOKED_NODES {
            return Err(NoList(format!("it has more than {REVOKED_NODES} nodes")));
        }
        let signed = signed.len();
        Ok(Self { text: text.to_owned(), number, authority, nodes, signed, signature })
    }

    /// Writes one: of each node certificates that begin before its moment, in seconds since 1970, count no more. `authority` is the CA
    /// whose key `sign` uses.
    ///
    /// # Errors
    /// Those of `sign`.
    pub fn write<E>(
        number: u64,
        authority: &str,
        nodes: &BTreeMap<String, u64>,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        let mut text = format!("{HEAD}\nnumber {number}\nauthority {authority}\n");
        for (node, moment) in nodes {
            text.push_str(&format!("node {node} {moment}\n"));
        }
        let signed = text.len();
        let signature = sign(text.as_bytes())?;
        let digits: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!("signature {digits}\n"));
        let (authority, nodes) = (authority.to_owned(), nodes.clone());
        Ok(Self { text, number, authority, nodes, signed, signature })
    }

    /// As it is sent and kept.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Of two lists the one with the higher number counts.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The CA that it says has signed it: SHA-256 of its certificate.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What is signed, and the signature.
    pub fn signed(&self) -> (&[u8], &[u8]) {
        (&self.text.as_bytes()[..self.signed], &self.signature)
    }

    /// Nodes with the moments before which certificates have to begin to count no more, in seconds since 1970.
    pub fn nodes(&self) -> &BTreeMap<String, u64> {
        &self.nodes
    }

    /// Does a node's certificate count no more that begins at this time, in seconds since 1970?
    pub fn revokes(&self, node: &str, valid_from: u64) -> bool {
        self.nodes.get(node).is_some_and(|moment| valid_from < *moment)
    }
}

fn node(line: &str) -> Option<(&str, u64)> {
    let (name, moment) = line.strip_prefix("node ")?.split_once(' ')?;
    let is_name = !name.is_empty() && name.len() <= NAME_BYTES;
    is_name.then_some((name, moment.parse().ok()?))
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    /// More than any signature has.
    const MOST: usize = 512;
    if digits.len() > 2 * MOST || !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(nodes: &[(&str, u64)]) -> Revoked {
        let nodes = nodes.iter().map(|(node, moment)| ((*node).to_owned(), *moment)).collect();
        Revoked::write::<()>(7, "ab12", &nodes, |_| Ok(vec![1, 2, 255])).unwrap()
    }

    #[test]
    fn what_was_written_is_read() {
        let list = list(&[("a", 5), ("b.site", 9)]);
        assert_eq!(Revoked::read(list.text()), Ok(list.clone()));
        assert_eq!((list.number(), list.authority()), (7, "ab12"));
        assert_eq!(list.signed().1, [1, 2, 255]);
        assert!(list.signed().0.ends_with(b"node b.site 9\n"));
        assert!(Revoked::read(self::list(&[]).text()).unwrap().nodes().is_empty());
    }

    #[test]
    fn a_certificate_counts_that_begins_at_the_moment_or_later() {
        let list = list(&[("a", 5)]);
        assert!(list.revokes("a", 4) && !list.revokes("a", 5) && !list.revokes("b", 0));
    }

    #[test]
    fn what_is_no_list_says_why() {
        let good = list(&[("a", 5)]).text().to_owned();
        let long = format!("{good}{}", " ".repeat(REVOKED_BYTES));
        let many: BTreeMap<String, u64> = (0..=REVOKED_NODES as u64).map(|at| (at.to_string(), at)).collect();
        let many = Revoked::write::<()>(1, "a", &many, |_| Ok(vec![1])).unwrap().text().to_owned();
        for (text, part) in [
            (String::new(), "no signature"),
            (long, "longer than"),
            (many, "more than 1024 nodes"),
            (good.replace("revoked 1", "revoked 2"), "doesn't begin"),
            (good.replace("number 7", "number x"), "number"),
            (good.replace("authority", "author"), "no authority"),
            (good.replace("node a 5", "node a"), "line 4"),
            (good.replace("node a 5", "odd"), "line 4"),
            (good.replace("0102ff", "0102f"), "its signature"),
        ] {
            let why = Revoked::read(&text).unwrap_err().to_string();
            assert!(why.contains(part), "{why}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,400}", lines in "(node [a-z]{0,3} [0-9]{0,30}\n){0,5}", tail in "[0-9a-fé]{0,20}") {
            let _ = Revoked::read(&text);
            let _ = Revoked::read(&format!("{HEAD}\nnumber 1\nauthority a\n{lines}signature {tail}"));
        }
    }
}
