//! What can go wrong while the operator runs.

use std::fmt;

/// What went wrong.
#[derive(Debug)]
pub enum Error {
    /// The API server refused a call, or couldn't be reached. It is tried again with growing pauses.
    Call {
        /// What was tried, on what.
        what: String,
        /// What came of it.
        reason: Box<kube::Error>,
    },
    /// No client can be made of what the surroundings say about the cluster.
    Surroundings(Box<kube::Error>),
    /// Something of the process itself: a runtime, a socket, a signal.
    Process {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        reason: std::io::Error,
    },
    /// Another operator leads, or may lead by now.
    LeadershipLost,
}

impl Error {
    /// For `map_err`: what was tried, on what.
    pub fn call(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |reason| Self::Call { what: what.into(), reason: Box::new(reason) }
    }

    /// For `map_err`: what the process tried.
    pub fn process(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |reason| Self::Process { what, reason }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { what, reason } => write!(f, "could not {what}: {reason}"),
            Self::Surroundings(reason) => {
                write!(f, "could not find the cluster: {reason}; run in a pod, or set KUBECONFIG")
            }
            Self::Process { what, reason } => write!(f, "could not {what}: {reason}"),
            Self::LeadershipLost => {
                f.write_str("the lease could not be renewed in time; start again, and wait for it with the others")
            }
        }
    }
}

impl std::error::Error for Error {}
