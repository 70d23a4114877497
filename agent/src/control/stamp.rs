//! Whether files have changed. They are looked at every few seconds: a directory of a Kubernetes secret swaps links, editors
//! rename, and a look at a few files costs less than watching for all of that.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What files looked like at one moment: device, inode, size, and times of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp(Vec<Option<[i64; 6]>>);

/// What an agent's files looked like before they were read.
#[derive(Clone, Debug)]
pub struct Stamps {
    /// The configuration.
    pub configuration: Stamp,
    /// CA, certificate and key.
    pub identity: Stamp,
}

impl Stamp {
    /// Looks at files now.
    pub fn of(paths: &[&Path]) -> Self {
        let look = |path: &&Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some([
                metadata.dev().cast_signed(),
                metadata.ino().cast_signed(),
                metadata.size().cast_signed(),
                metadata.mtime(),
                metadata.mtime_nsec(),
                // An mtime can be set back, this can't.
                metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec(),
            ])
        };
        Self(paths.iter().map(look).collect())
    }
}
