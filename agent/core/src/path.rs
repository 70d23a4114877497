//! Names and paths below a volume's root, as bytes. The constructors here are the only way to make one, so whoever
//! holds a [`RelativePath`] knows that it can't leave the volume.

use crate::limits::{NAME_BYTES, PATH_BYTES};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The directory at a volume's root in which stage, store and marker live. Never synchronised.
pub const RESERVED: &[u8] = b".syncmesh";

/// Why bytes are no name or path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathError {
    /// A component has no bytes (an empty path, `//`, a leading or trailing `/`).
    EmptyComponent,
    /// `.` or `..`.
    Dots,
    /// A NUL byte, or a `/` inside a name.
    ForbiddenByte,
    /// A component is longer than 255 bytes, or the path longer than 4,095.
    TooLong,
    /// The first component is `.syncmesh`, which is ours.
    Reserved,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyComponent => "a path component is empty",
            Self::Dots => "a path component is `.` or `..`",
            Self::ForbiddenByte => "a name contains a NUL byte or a slash",
            Self::TooLong => "a name is longer than 255 bytes or a path longer than 4095",
            Self::Reserved => "the name .syncmesh is reserved at the root of a volume",
        })
    }
}

impl std::error::Error for PathError {}

/// One component of a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Takes the bytes of one component: 1 to 255 of them, neither `/` nor NUL, not `.` and `..`.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        check_component(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn check_component(bytes: &[u8]) -> Result<(), PathError> {
    if bytes.is_empty() {
        Err(PathError::EmptyComponent)
    } else if bytes == b"." || bytes == b".." {
        Err(PathError::Dots)
    } else if bytes.len() > NAME_BYTES {
        Err(PathError::TooLong)
    } else if bytes.iter().any(|&b| b == 0 || b == b'/') {
        Err(PathError::ForbiddenByte)
    } else {
        Ok(())
    }
}

impl TryFrom<Vec<u8>> for Name {
    type Error = PathError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, PathError> {
        Self::new(&bytes)
    }
}

impl From<Name> for Vec<u8> {
    fn from(name: Name) -> Self {
        name.0.to_vec()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

/// A path below a volume's root, or the root itself. Components are separated by one `/`; none leads or trails.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct RelativePath(Arc<[u8]>);

impl RelativePath {
    /// The volume's root.
    pub fn root() -> Self {
        Self(Arc::from([]))
    }

    /// Takes a path's bytes; no bytes mean the root.
    pub fn new(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        if bytes.len() > PATH_BYTES {
            return Err(PathError::TooLong);
        }
        for component in bytes.split(|&b| b == b'/') {
            check_component(component)?;
        }
        if bytes.split(|&b| b == b'/').next() == Some(RESERVED) {
            return Err(PathError::Reserved);
        }
        Ok(Self(bytes.into()))
    }

    /// The bytes; none for the root.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Is it the volume's root?
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Its components, outermost first; none for the root.
    pub fn components(&self) -> Vec<&[u8]> {
        if self.is_root() { Vec::new() } else { self.0.split(|&b| b == b'/').collect() }
    }

    /// The path of a name in this directory. Fails where the path would be too long, or the name reserved at the root.
    pub fn join(&self, name: &Name) -> Result<Self, PathError> {
        if self.is_root() {
            return Self::new(name.as_bytes());
        }
        if self.0.len() + 1 + name.0.len() > PATH_BYTES {
            return Err(PathError::TooLong);
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.0.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(&name.0);
        Ok(Self(bytes.into()))
    }

    /// The directory and the name in it; `None` for the root.
    pub fn split(&self) -> Option<(Self, Name)> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|&b| b == b'/') {
            Some(at) => (Self(self.0[..at].into()), Name(self.0[at + 1..].into())),
            None => (Self::root(), Name(self.0.clone())),
        })
    }

    /// Is this path `ancestor` or below it?
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        ancestor.is_root() || self.0.strip_prefix(&*ancestor.0).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

impl TryFrom<Vec<u8>> for RelativePath {
    type Error = PathError;
    fn try_from(bytes: Vec<u8>) -> Result<Self, PathError> {
        Self::new(&bytes)
    }
}

impl From<RelativePath> for Vec<u8> {
    fn from(path: RelativePath) -> Self {
        path.0.to_vec()
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { f.write_str(&escape(&self.0)) }
    }
}

/// Bytes as text that can stand in a log line: control characters and what isn't UTF-8 are escaped.
pub fn escape(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.escape_ascii().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_leave_the_volume_is_refused() {
        for (bytes, error) in [
            (&b"a//b"[..], PathError::EmptyComponent),
            (b"/a", PathError::EmptyComponent),
            (b"a/", PathError::EmptyComponent),
            (b"../a", PathError::Dots),
            (b"a/./b", PathError::Dots),
            (b"a\0b", PathError::ForbiddenByte),
            (b".syncmesh/stage", PathError::Reserved),
            (b".syncmesh", PathError::Reserved),
            (&[b'x'; 256], PathError::TooLong),
        ] {
            assert_eq!(RelativePath::new(bytes), Err(error), "{}", escape(bytes));
        }
        assert!(RelativePath::new(b"a/.syncmesh").is_ok(), "reserved at the root only");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_what_passes_is_contained(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(path) = RelativePath::new(&bytes) {
                prop_assert_eq!(path.as_bytes(), &bytes[..]);
                for component in path.components() {
                    prop_assert!(!component.is_empty() && component != b"." && component != b"..");
                }
                if let Some((directory, name)) = path.split() {
                    prop_assert_eq!(directory.join(&name).unwrap(), path.clone());
                    prop_assert!(path.starts_with(&directory));
                }
            }
        }
    }
}
