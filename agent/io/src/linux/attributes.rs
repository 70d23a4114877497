//! Extended attributes, with ACLs and labels among them: what a file's owner has put on it that isn't contents.

use super::metadata::{error, magic_link};
use crate::FsError;
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, CWD, Mode, XattrFlags, chmodat, getxattr, listxattr, listxattr_query, setxattr};
use rustix::io::Errno;

/// What the kernel has at most of an inode's names, and of one value.
const NAMES_BYTES: usize = 64 * 1024;
const VALUE_BYTES: usize = 64 * 1024;

const ACL: &[u8] = b"system.posix_acl_access";

/// Is it the owner's, and not about the contents? `security.capability` would make new contents as privileged as the old ones
/// were; the kernel takes it away when a file is written. `security.ima` and `security.evm` sign the old ones.
fn is_kept(name: &[u8]) -> bool {
    let is_about_contents = matches!(name, b"security.capability" | b"security.ima" | b"security.evm");
    // Overlay's own marks say where a file comes from.
    let is_overlays = name.starts_with(b"trusted.overlay.");
    let prefixes: [&[u8]; 3] = [b"user.", b"security.", b"trusted."];
    let is_ours = name == ACL || prefixes.iter().any(|prefix| name.starts_with(prefix));
    is_ours && !is_about_contents && !is_overlays
}

/// Copies attributes from one pinned (`O_PATH`) file to another, whose mode is `mode` before and after.
pub(super) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, mode: u32) -> Result<(), FsError> {
    let (from, to) = (magic_link(from), magic_link(to));
    // Most files have none.
    match listxattr_query(&from) {
        Ok(0) | Err(Errno::NOTSUP | Errno::ACCESS | Errno::PERM) => return Ok(()),
        Ok(_) => {}
        Err(errno) => return Err(error(errno)),
    }
    let mut names = vec![0; NAMES_BYTES];
    let length = listxattr(&from, &mut names[..]).map_err(error)?;
    let mut acl = false;
    let mut value = Vec::new();
    for name in names[..length].split(|&byte| byte == 0).filter(|name| is_kept(name)) {
        value.resize(VALUE_BYTES, 0);
        match getxattr(&from, name, &mut value[..]) {
            Ok(length) => value.truncate(length),
            // Gone meanwhile, or not ours to read.
            Err(Errno::NODATA | Errno::ACCESS | Errno::PERM) => continue,
            Err(errno) => return Err(error(errno)),
        }
        match setxattr(&to, name, &value, XattrFlags::empty()) {
            Ok(()) => acl |= name == ACL,
            // Not ours to set.
            Err(Errno::ACCESS | Errno::PERM | Errno::NOTSUP) => {}
            Err(errno) => return Err(error(errno)),
        }
    }
    if acl {
        // It came with the old file's mode; what the group bits say now is its mask.
        chmodat(CWD, &to, Mode::from_raw_mode(mode), AtFlags::empty()).map_err(error)?;
    }
    Ok(())
}
