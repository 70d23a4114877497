//! Round trips, and bytes that no correct peer sends.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use proptest::prelude::*;
use syncmesh_core::clock::Hlc;
use syncmesh_core::entry::{Attributes, Body, Content, ContentHash, Entry, Origin, Stamp};
use syncmesh_core::path::RelativePath;
use syncmesh_core::summary::Sum;
use syncmesh_core::version::{Dot, Knowledge, ReplicaId, Vector};
use syncmesh_protocol::frame::{self, FrameError, HEADER_BYTES};
use syncmesh_protocol::limits::{BODY_BYTES, REVOKED_BYTES};
use syncmesh_protocol::message::*;

fn entry(size: u64) -> Entry {
    let dot = Dot { replica: ReplicaId(7), counter: 3 };
    let stamp = Stamp { hlc: Hlc::from_millis(1_000), dot };
    let mut vector = Vector::default();
    vector.add(dot);
    let body =
        Body::File { size, mtime: -1, algorithm: 0, hash: ContentHash::of(b"x"), sparse: false, moved_from: None };
    let attributes = Attributes { stamp, mode: 0o644, owner: None };
    Entry { vector, content: Content { stamp, body, origin: Origin::Written }, losers: vec![], attributes }
}

fn announced(contents: &[u8]) -> Message<'_> {
    let row = Announced {
        sequence: 9,
        path: RelativePath::new(b"a/b").unwrap(),
        entry: entry(contents.len() as u64),
        contents: Some(contents),
    };
    Message::Entries(Entries { rows: vec![row] })
}

proptest! {
    #[test]
    fn messages_survive_the_wire(contents in proptest::collection::vec(any::<u8>(), 0..2_000), id: u64, volume: u16) {
        let path = RelativePath::new(b"a/b").unwrap();
        let mut knowledge = Knowledge::default();
        knowledge.add(Dot { replica: ReplicaId(id), counter: 5 });
        let messages = [
            announced(&contents),
            Message::Covers(Covers { sequence: id, knowledge, left_out: vec![ReplicaId(id)], sum: Sum::of_entry(&path, &entry(1)) }),
            Message::Compare(Compare { knowledge: id, after: None, parts: vec![Part { upto: Some(path.clone()), sum: Sum::default() }] }),
            Message::Rows(Rows { knowledge: id, after: Some(path.clone()), upto: None, rows: vec![(path.clone(), entry(2))] }),
            Message::Repair(Repair { rows: vec![(path.clone(), entry(2))] }),
            Message::Block(Block { id, offset: id, bytes: &contents, proof: &[] }),
            Message::Refused(id, Refusal::Changed),
            Message::Sessions(vec![ReplicaId(7)]),
            Message::Replicas(vec![(ReplicaId(id), "a".into())]),
            Message::Goodbye(Farewell::Stopping),
            Message::Paused(true),
            Message::Filling(false),
            Message::Revoked("list"),
        ];
        let mut wire = Vec::new();
        for message in &messages {
            frame::encode(message, volume, &mut wire);
        }
        let mut rest = &wire[..];
        for message in &messages {
            for short in [0, HEADER_BYTES.min(rest.len()) - 1] {
                prop_assert!(frame::decode(&rest[..short]).unwrap().is_none());
            }
            let frame = frame::decode(rest).unwrap().unwrap();
            prop_assert_eq!(&frame.message, message);
            prop_assert_eq!(frame.volume, volume);
            rest = &rest[frame.bytes..];
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn arbitrary_bodies_never_panic(kind in 0u8..21, body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut wire = (body.len() as u32).to_le_bytes().to_vec();
        wire.extend([kind, 0, 0, 0]);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&wire);
        crc.update(&body);
        wire.extend(crc.finalize().to_le_bytes());
        wire.extend(&body);
        let _ = frame::decode(&wire);
    }

    #[test]
    fn a_flipped_bit_is_noticed(at in 0usize..80, bit in 0u8..8) {
        let mut wire = Vec::new();
        frame::encode(&announced(b"contents"), 1, &mut wire);
        let at = at % wire.len();
        wire[at] ^= 1 << bit;
        if let Ok(Some(_)) = frame::decode(&wire) {
            prop_assert!(false, "decoded");
        }
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_from_the_header_alone() {
    let mut wire = (BODY_BYTES as u32 + 1).to_le_bytes().to_vec();
    wire.extend([3, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(frame::decode(&wire), Err(FrameError::TooLong { bytes: BODY_BYTES + 1 }));
}

#[test]
fn a_revocation_list_that_is_too_long_is_refused() {
    let list = "x".repeat(REVOKED_BYTES + 1);
    let mut wire = Vec::new();
    frame::encode(&Message::Revoked(&list), 0, &mut wire);
    assert!(matches!(frame::decode(&wire), Err(FrameError::Message(MessageError::Limit { .. }))));
}

#[test]
fn contents_must_have_the_declared_size() {
    let mut message = announced(b"four");
    if let Message::Entries(entries) = &mut message {
        entries.rows[0].contents = Some(b"five!");
    }
    let mut wire = Vec::new();
    frame::encode(&message, 1, &mut wire);
    assert!(matches!(frame::decode(&wire), Err(FrameError::Message(MessageError::Limit { .. }))));
}
