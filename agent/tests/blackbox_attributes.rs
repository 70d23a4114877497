//! Extended attributes and ACLs stay where somebody set them when another node's version takes a file's name.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Mesh, noise, replace};
use rustix::fs::{XattrFlags, getxattr, setxattr};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const ACL: &str = "system.posix_acl_access";
const CAPABILITY: &str = "security.capability";

/// An ACL as the kernel stores it: version 2, then tag, permissions and id of each entry.
fn acl(mask: u16) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let (owner, user, group, others) = ((1, 6, NOBODY), (2, 6, 4_242), (4, 4, NOBODY), (0x20, 4, NOBODY));
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [owner, user, group, (0x10, mask, NOBODY), others] {
        bytes.extend_from_slice(&u16::to_le_bytes(tag));
        bytes.extend_from_slice(&u16::to_le_bytes(permissions));
        bytes.extend_from_slice(&u32::to_le_bytes(id));
    }
    bytes
}

/// `cap_net_raw+ep`.
const NET_RAW: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn set(path: &Path, name: &str, value: &[u8]) -> bool {
    setxattr(path, name, value, XattrFlags::empty()).is_ok()
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1_024];
    let length = getxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn attributes_and_acls_stay_with_the_name_when_another_node_replaces_the_file() {
    let mut mesh = Mesh::new(["a", "b"]);
    for name in ["small", "large"] {
        fs::write(mesh.agents[0].volume.join(name), "old").unwrap();
    }
    mesh.start();
    mesh.converge();
    let there = mesh.agents[1].volume.clone();
    if !set(&there.join("small"), "user.note", b"mine") || !set(&there.join("small"), ACL, &acl(6)) {
        println!("not run: the file system has no attributes, or no ACLs");
        return;
    }
    assert!(set(&there.join("large"), "user.note", b"mine") && set(&there.join("large"), ACL, &acl(6)));
    let privileged = set(&there.join("small"), CAPABILITY, NET_RAW);
    // An ACL's mask shows as the group's bits of the mode, and that is synchronised.
    mesh.converge();
    let (a, b) = mesh.pair();
    replace(&a.volume.join("small"), b"new");
    replace(&a.volume.join("large"), &noise(1, 3 << 20));
    fs::set_permissions(a.volume.join("large"), fs::Permissions::from_mode(0o664)).unwrap();
    fs::set_permissions(a.volume.join("small"), fs::Permissions::from_mode(0o644)).unwrap();
    b.shows("small", b"new");
    mesh.converge();
    for (name, mask) in [("small", 4), ("large", 6)] {
        let path = there.join(name);
        assert_eq!(attribute(&path, "user.note").unwrap(), b"mine", "{name}");
        assert_eq!(attribute(&path, ACL).unwrap(), acl(mask), "{name}: its mask is what the version's mode says");
        assert_eq!(attribute(&mesh.agents[0].volume.join(name), "user.note"), None, "{name}: it was sent");
    }
    if privileged {
        assert_eq!(attribute(&there.join("small"), CAPABILITY), None, "new contents aren't privileged");
    }
    mesh.assert_no_conflicts();
}
