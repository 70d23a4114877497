//! What went wrong, as a sentence for the person who ran the command.

use std::fmt;
use std::io;
use std::path::Path;

/// A sentence that says what was tried, on what, and what to do next. Nothing here is handled by kind: every failure
/// ends the command, so it needs no variants.
#[derive(Debug)]
pub struct Failure(String);

/// What commands return.
pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A failure with this sentence.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }

    /// A failure whose report is printed already; only the exit code is left.
    pub fn reported() -> Self {
        Self(String::new())
    }

    /// For `map_err`: "could not WHAT PATH: reason".
    pub fn io<'a>(what: &'a str, path: &'a Path) -> impl Fn(io::Error) -> Self + use<'a> {
        move |reason| Self(format!("could not {what} {}: {reason}", path.display()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
