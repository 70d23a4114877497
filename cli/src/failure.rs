//! What went wrong, as a sentence for the person who typed the command.

use std::fmt;

/// A sentence that says what was tried, on what, and what to do. Every failure ends its command, so it needs no variants.
#[derive(Debug)]
pub struct Failure(String);

/// What commands return.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A failure with this sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    /// For `map_err`: "could not WHAT: reason".
    pub fn to<E: fmt::Display>(what: impl fmt::Display) -> impl FnOnce(E) -> Self {
        move |reason| Self(format!("could not {what}: {reason}"))
    }

    /// The same for a call of the API server, which has a sentence of its own for people.
    pub fn call(what: impl fmt::Display) -> impl FnOnce(kube::Error) -> Self {
        move |reason| match reason {
            kube::Error::Api(refusal) => Self(format!("could not {what}: {}", refusal.message)),
            reason => Self(format!("could not {what}: {reason}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
