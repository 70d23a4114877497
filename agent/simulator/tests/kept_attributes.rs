//! Extended attributes are a node's own, and stay with the name when its file is replaced (SYNC 1).
#![allow(clippy::unwrap_used, reason = "a scenario that can't be set up has failed")]

use syncmesh_simulator::mesh::{Mesh, Shape};

#[test]
fn a_file_that_is_replaced_keeps_its_nodes_attributes_and_loses_its_privileges() {
    // One that rides along with its announcement, and one that is fetched.
    for (seed, size) in (1..=20).flat_map(|seed| [(seed, 500), (seed, 300_000)]) {
        let mut mesh = Mesh::new(seed, Shape::default());
        mesh.write(1, b"f", b"old");
        mesh.in_sync();
        let there = mesh.disk(2).clone();
        there.user_set_attribute(b"f", "user.note", b"mine").unwrap();
        there.user_set_attribute(b"f", "security.capability", b"everything").unwrap();
        mesh.in_sync();
        mesh.write(1, b"f", vec![b'n'; size]);
        if seed % 3 == 0 {
            // Killed on the way, the journal finds what was staged with them.
            for _ in 0..mesh.random.between(1, 60) {
                mesh.step();
            }
            mesh.kill(2);
            mesh.start(2);
        }
        mesh.in_sync();
        assert_eq!(there.user_read(b"f").unwrap().len(), size, "seed {seed}");
        assert_eq!(there.user_attribute(b"f", "user.note").unwrap(), b"mine", "seed {seed}");
        assert_eq!(there.user_attribute(b"f", "security.capability"), None, "seed {seed}");
        assert_eq!(mesh.disk(1).user_attribute(b"f", "user.note"), None, "seed {seed}: it was sent");
        assert_eq!(mesh.activity(2).unwrap().0, 0, "seed {seed}: an attribute isn't a version");
    }
}
