//! Why an agent doesn't get the certificate that it asks for.

use super::LEAF_LIFE;
use crate::mesh::desired::ACCOUNT;
use std::fmt;

/// What every request says that it is for: agents open and accept connections.
pub(super) const USAGES: [&str; 3] = ["client auth", "digital signature", "server auth"];

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody else than an agent asks.
    Account {
        /// Who.
        found: String,
        /// Who should.
        home: String,
    },
    /// The token isn't bound to a pod, or the API server doesn't say to which.
    Unbound {
        /// What is missing.
        missing: &'static str,
    },
    /// It is to be used for something else.
    Usages {
        /// For what.
        found: Vec<String>,
    },
    /// It is to hold too long.
    Life {
        /// For how long, in seconds.
        found: i64,
    },
    /// It can't be read, its signature is wrong, or it asks for what agents have no use for.
    Unreadable {
        /// What is wrong.
        why: String,
    },
    /// It has other names than the one of its node.
    Names {
        /// The names.
        found: Vec<String>,
        /// The node.
        node: String,
    },
    /// The pod isn't there.
    NoPod {
        /// The pod.
        pod: String,
    },
    /// Another pod has its name now.
    AnotherPod {
        /// The pod.
        pod: String,
    },
    /// The pod has ended or is being deleted.
    DeadPod {
        /// The pod.
        pod: String,
    },
    /// The pod runs on another node than the token says.
    AnotherNode {
        /// The pod.
        pod: String,
        /// Where it runs.
        found: String,
    },
    /// The pod belongs to no mesh's agents.
    NoAgent {
        /// The pod.
        pod: String,
    },
}

impl Refusal {
    /// A condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Account { .. } => "NotAnAgent",
            Self::Unbound { .. } => "TokenNotBound",
            Self::Usages { .. } => "OtherUsages",
            Self::Life { .. } => "TooLong",
            Self::Unreadable { .. } => "Unreadable",
            Self::Names { .. } => "OtherNames",
            Self::NoPod { .. } => "PodMissing",
            Self::AnotherPod { .. } => "AnotherPod",
            Self::DeadPod { .. } => "PodEnded",
            Self::AnotherNode { .. } => "AnotherNode",
            Self::NoAgent { .. } => "NoMesh",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account { found, home } => {
                write!(f, "{found} asks, and only {} is given certificates: ask as that", account(home))
            }
            Self::Unbound { missing } => write!(
                f,
                "the token that was used says no {missing}: use the one that the kubelet mounts into an agent's pod"
            ),
            Self::Usages { found } => {
                write!(f, "usages are {found:?}: ask for {USAGES:?}")
            }
            Self::Life { found } => {
                write!(f, "it is to hold for {found} s: set expirationSeconds to {} at most", LEAF_LIFE.as_secs())
            }
            Self::Unreadable { why } => {
                write!(
                    f,
                    "the request can't be read ({why}): send a PKCS #10 request in PEM with one DNS name and no other extensions"
                )
            }
            Self::Names { found, node } => {
                write!(f, "names in the request are {found:?}: ask for the DNS name {node} alone")
            }
            Self::NoPod { pod } => write!(f, "there is no pod {pod}: a pod that is there asks for itself"),
            Self::AnotherPod { pod } => {
                write!(f, "pod {pod} has another uid than the token that was used: a pod that is there asks for itself")
            }
            Self::DeadPod { pod } => {
                write!(f, "pod {pod} has ended or is ending: the one that follows asks for itself")
            }
            Self::AnotherNode { pod, found } => {
                write!(f, "pod {pod} runs on {found}, and the token that was used is for another node")
            }
            Self::NoAgent { pod } => {
                write!(
                    f,
                    "pod {pod} is controlled by no DaemonSet of a SyncMesh that is there: only agents are given certificates"
                )
            }
        }
    }
}

/// Who asks, if it is an agent.
pub(super) fn account(home: &str) -> String {
    format!("system:serviceaccount:{home}:{ACCOUNT}")
}
