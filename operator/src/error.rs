//! What can go wrong while the operator runs.

use crate::identity::authority::Unusable;
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
    /// A mesh's authority can't be used. Agents go on with the certificates that they have.
    Authority {
        /// The Secret that has it.
        secret: String,
        /// What is wrong.
        why: Unusable,
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
            Self::Call { what, reason } => write!(f, "could not {what}: {}", with_causes(reason)),
            Self::Surroundings(reason) => {
                write!(f, "could not find the cluster: {}; run in a pod, or set KUBECONFIG", with_causes(reason))
            }
            Self::Process { what, reason } => write!(f, "could not {what}: {reason}"),
            Self::Authority { secret, why } => f.write_str(&unusable(secret, why)),
            Self::LeadershipLost => {
                f.write_str("the lease could not be renewed in time; start again, and wait for it with the others")
            }
        }
    }
}

/// An error and what caused it: an API server that can't be reached is just a `client error (Connect)` by its first word.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        // Some errors say what their cause says.
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}

/// What is wrong with the Secret of a mesh's roots, and what to do.
pub fn unusable(secret: &str, why: &Unusable) -> String {
    format!(
        "Secret {secret} can't be used ({why}): restore it from a backup, or delete it, and agents get new certificates of a new root"
    )
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn an_error_is_told_with_its_causes_and_nothing_twice() {
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let outer = kube::Error::Service(Box::new(refused()));
        assert!(with_causes(&outer).ends_with("connection refused"), "{}", with_causes(&outer));
        assert_eq!(with_causes(&outer).matches("connection refused").count(), 1);
        assert_eq!(with_causes(&refused()), "connection refused");
    }
}
