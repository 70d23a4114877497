//! Sessions between identities that `ca` issues, over no network at all.

use super::*;
use crate::ca;
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use syncmesh_config::IdentityFiles;

const DAY: u64 = 24 * 3600;
/// 2025-01-01.
const NOW: u64 = 1_735_689_600;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn files(dir: &Path, node: &str) -> IdentityFiles {
    IdentityFiles {
        revoked: None,
        ca: dir.join("ca.pem"),
        certificate: dir.join(format!("{node}.pem")),
        key: dir.join(format!("{node}.key")),
    }
}

struct Mesh(tempfile::TempDir);

impl Mesh {
    fn new() -> Self {
        let mesh = Self(tempfile::tempdir().unwrap());
        ca::create(&mesh.ca(), NOW).unwrap();
        mesh
    }

    fn ca(&self) -> PathBuf {
        self.0.path().join("ca")
    }

    fn identity(&self, node: &str) -> Identity {
        let out = self.0.path().join("out");
        ca::issue(&self.ca(), &name(node), &out, 30, NOW).unwrap();
        Identity::load(&files(&out, node), &name(node), NOW).unwrap()
    }
}

/// Two identities for all cases that only need a pair.
static PAIR: LazyLock<(Identity, Identity)> = LazyLock::new(|| {
    let mesh = Mesh::new();
    (mesh.identity("a"), mesh.identity("b"))
});

fn pair(now: u64) -> (TlsSession, TlsSession) {
    (TlsSession::client(&PAIR.0, &name("b"), now).unwrap(), TlsSession::server(&PAIR.1, now).unwrap())
}

/// Carries the handshake's bytes until neither side has any; gives each side's first error.
fn shake(client: &mut TlsSession, server: &mut TlsSession) -> [Option<SessionError>; 2] {
    let mut errors = [None, None];
    loop {
        let mut moved = false;
        for (from_client, index) in [(true, 1), (false, 0)] {
            let (from, to): (&mut TlsSession, &mut TlsSession) =
                if from_client { (client, server) } else { (server, client) };
            let mut wire = Vec::new();
            from.output(&mut wire);
            if wire.is_empty() {
                continue;
            }
            moved = true;
            let mut plain = Vec::new();
            if let Err(error) = to.receive(&wire, &mut plain) {
                errors[index].get_or_insert(error);
            }
            assert!(plain.is_empty(), "a handshake carries no data");
        }
        if !moved {
            return errors;
        }
    }
}

fn open_pair() -> (TlsSession, TlsSession) {
    let (mut client, mut server) = pair(NOW);
    assert_eq!(shake(&mut client, &mut server), [None, None]);
    (client, server)
}

#[test]
fn both_sides_see_each_others_name() {
    let (mut client, mut server) = pair(NOW);
    assert_eq!((client.peer(), server.peer()), (None, None));
    assert_eq!(shake(&mut client, &mut server), [None, None]);
    assert_eq!((client.peer(), server.peer()), (Some("b"), Some("a")));
}

#[test]
fn a_handshake_may_arrive_byte_by_byte() {
    let (mut client, mut server) = pair(NOW);
    for _ in 0..4 {
        let mut wire = Vec::new();
        client.output(&mut wire);
        wire.iter().for_each(|byte| server.receive(&[*byte], &mut Vec::new()).unwrap());
        wire.clear();
        server.output(&mut wire);
        wire.iter().for_each(|byte| client.receive(&[*byte], &mut Vec::new()).unwrap());
    }
    assert_eq!((client.peer(), server.peer()), (Some("b"), Some("a")));
}

#[test]
fn data_before_the_handshake_is_our_mistake() {
    let (mut client, _) = pair(NOW);
    assert!(matches!(client.send(b"x", &mut Vec::new()), Err(SessionError::Ours(_))));
}

#[test]
fn goodbye_is_told_after_all_data_and_nothing_can_be_sent_after_it() {
    let (mut client, mut server) = open_pair();
    let mut wire = Vec::new();
    client.send(b"last words", &mut wire).unwrap();
    client.close(&mut wire);
    assert_eq!(client.send(b"x", &mut wire), Err(SessionError::Closed));
    let mut plain = Vec::new();
    assert_eq!(server.receive(&wire, &mut plain), Err(SessionError::Closed));
    assert_eq!(plain, b"last words");
    assert_eq!(server.send(b"x", &mut Vec::new()), Err(SessionError::Closed));
    let mut answer = Vec::new();
    server.close(&mut answer);
    assert!(!answer.is_empty(), "goodbye is answered");
}

#[test]
fn a_stream_that_ends_within_a_record_gives_no_part_of_it_and_no_goodbye() {
    let (mut client, mut server) = open_pair();
    let (mut wire, mut plain) = (Vec::new(), Vec::new());
    client.send(&[7; 1000], &mut wire).unwrap();
    wire.pop();
    assert_eq!(server.receive(&wire, &mut plain), Ok(()));
    assert!(plain.is_empty());
}

#[test]
fn sending_goes_on_while_a_record_is_half_received() {
    let (mut client, mut server) = open_pair();
    let (mut wire, mut plain) = (Vec::new(), Vec::new());
    client.send(&[7; 1000], &mut wire).unwrap();
    for byte in wire {
        server.receive(&[byte], &mut plain).unwrap();
        let (mut answer, mut read) = (Vec::new(), Vec::new());
        server.send(&[byte], &mut answer).unwrap();
        client.receive(&answer, &mut read).unwrap();
        assert_eq!(read, [byte]);
    }
    assert_eq!(plain, [7; 1000]);
}

#[test]
fn a_changed_bit_ends_the_session() {
    let (mut client, mut server) = open_pair();
    let (mut wire, mut plain) = (Vec::new(), Vec::new());
    client.send(&[7; 1000], &mut wire).unwrap();
    wire[500] ^= 1;
    assert!(matches!(server.receive(&wire, &mut plain), Err(SessionError::Protocol(_))));
    assert!(plain.is_empty());
    assert!(matches!(server.receive(b"", &mut plain), Err(SessionError::Protocol(_))), "it stays ended");
    let mut alert = Vec::new();
    server.output(&mut alert);
    assert!(matches!(client.receive(&alert, &mut plain), Err(SessionError::RefusedByPeer(_))));
}

#[test]
fn a_node_of_another_mesh_is_refused_by_both() {
    let stranger = Mesh::new().identity("b");
    let mut client = TlsSession::client(&PAIR.0, &name("b"), NOW).unwrap();
    let mut server = TlsSession::server(&stranger, NOW).unwrap();
    let [at_client, at_server] = shake(&mut client, &mut server);
    assert!(matches!(at_client, Some(SessionError::PeerCertificate(_))), "{at_client:?}");
    assert!(matches!(at_server, Some(SessionError::RefusedByPeer(_))), "{at_server:?}");
    assert_eq!((client.peer(), server.peer()), (None, None));

    // And where only the side that accepts knows better: it is the one that refuses.
    let mut client = credulous(&stranger);
    let mut server = TlsSession::server(&PAIR.1, NOW).unwrap();
    let [at_client, at_server] = shake(&mut client, &mut server);
    assert!(matches!(at_server, Some(SessionError::PeerCertificate(_))), "{at_server:?}");
    assert!(matches!(at_client, Some(SessionError::RefusedByPeer(_))), "{at_client:?}");
    assert_eq!(server.peer(), None);
}

/// A client that shows this identity and believes everybody.
fn credulous(identity: &Identity) -> TlsSession {
    let mut config = (*identity.client_config).clone();
    config.dangerous().set_certificate_verifier(std::sync::Arc::new(trust::All));
    let connection =
        UnbufferedClientConnection::new(std::sync::Arc::new(config), identity::server_name(&name("b"))).unwrap();
    TlsSession::new(Connection::Client(connection), None).unwrap()
}

#[test]
fn a_server_with_another_name_is_refused() {
    let mut client = TlsSession::client(&PAIR.0, &name("c"), NOW).unwrap();
    let mut server = TlsSession::server(&PAIR.1, NOW).unwrap();
    let [at_client, _] = shake(&mut client, &mut server);
    assert!(matches!(at_client, Some(SessionError::PeerCertificate(_))), "{at_client:?}");
    assert_eq!((client.peer(), server.peer()), (None, None));
}

#[test]
fn an_expired_certificate_is_refused_by_either_side() {
    let late = NOW + 31 * DAY;
    let (mut client, mut server) =
        (TlsSession::client(&PAIR_LATE.0, &name("b"), late).unwrap(), TlsSession::server(&PAIR_LATE.1, late).unwrap());
    let [at_client, _] = shake(&mut client, &mut server);
    assert!(matches!(at_client, Some(SessionError::PeerCertificate(_))), "{at_client:?}");

    let mut client = credulous(&PAIR_LATE.0);
    let mut server = TlsSession::server(&PAIR_LATE.1, late).unwrap();
    let [_, at_server] = shake(&mut client, &mut server);
    assert!(matches!(at_server, Some(SessionError::PeerCertificate(_))), "{at_server:?}");
}

/// A pair of its own, because a session sets its identity's clock.
static PAIR_LATE: LazyLock<(Identity, Identity)> = LazyLock::new(|| {
    let mesh = Mesh::new();
    (mesh.identity("a"), mesh.identity("b"))
});

#[test]
fn a_client_without_certificate_is_refused() {
    let mut anonymous =
        rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(std::sync::Arc::new(trust::All))
            .with_no_client_auth();
    anonymous.alpn_protocols = vec![ALPN.to_vec()];
    let connection =
        UnbufferedClientConnection::new(std::sync::Arc::new(anonymous), identity::server_name(&name("b"))).unwrap();
    let mut client = TlsSession::new(Connection::Client(connection), None).unwrap();
    let mut server = TlsSession::server(&PAIR.1, NOW).unwrap();
    let [_, at_server] = shake(&mut client, &mut server);
    assert_eq!(at_server, Some(SessionError::PeerCertificate("it showed none".into())));
    assert_eq!(server.peer(), None);
}

#[test]
fn a_client_without_our_protocol_is_refused() {
    let mut config = (*PAIR.0.client_config).clone();
    config.alpn_protocols.clear();
    let connection =
        UnbufferedClientConnection::new(std::sync::Arc::new(config), identity::server_name(&name("b"))).unwrap();
    // A session would refuse itself; the bare connection plays the stranger.
    let mut client = TlsSession {
        connection: Connection::Client(connection),
        expected: None,
        incoming: Vec::new(),
        outgoing: Vec::new(),
        state: State::Handshake,
        left: false,
    };
    client.pass(&mut Purpose::Receive(&mut Vec::new())).unwrap();
    let mut server = TlsSession::server(&PAIR.1, NOW).unwrap();
    let (mut wire, mut plain) = (Vec::new(), Vec::new());
    client.output(&mut wire);
    server.receive(&wire, &mut plain).unwrap();
    wire.clear();
    server.output(&mut wire);
    client.incoming = wire;
    client.pass(&mut Purpose::Receive(&mut plain)).unwrap();
    client.pass(&mut Purpose::Send(b"early words")).unwrap();
    let mut wire = Vec::new();
    client.output(&mut wire);
    assert!(matches!(server.receive(&wire, &mut plain), Err(SessionError::Protocol(_))));
    assert_eq!(server.peer(), None);
    assert!(plain.is_empty(), "what a stranger says is not handed out");
}

#[test]
fn other_protocols_are_refused_at_once() {
    for garbage in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"SSH-2.0-x\r\n", &[0; 64], &[0x16, 3, 1, 0xff, 0xff, 1]]
    {
        let mut server = TlsSession::server(&PAIR.1, NOW).unwrap();
        let result = server.receive(garbage, &mut Vec::new());
        assert!(matches!(result, Err(SessionError::Protocol(_))), "{garbage:?}: {result:?}");
    }
}

#[test]
fn an_endless_handshake_message_is_cut_off() {
    let mut server = TlsSession::server(&PAIR.1, NOW).unwrap();
    // A client hello of 65,000 bytes in records of one byte each.
    let mut ended = false;
    for byte in [1, 0, 0xfd, 0xe8].into_iter().chain(std::iter::repeat(0)).take(65_004) {
        if server.receive(&[0x16, 3, 1, 0, 1, byte], &mut Vec::new()).is_err() {
            ended = true;
            break;
        }
        assert!(server.incoming.capacity() <= 2 * INCOMING_BYTES);
    }
    assert!(ended);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_mebibyte_in_any_pieces_arrives_as_it_was(
        seed: u8,
        writes in proptest::collection::vec(1usize..70_000, 1..8),
        reads in proptest::collection::vec(1usize..70_000, 1..8),
    ) {
        let data: Vec<u8> = (0..1usize << 20).map(|at| (at / 251 + at) as u8 ^ seed).collect();
        let (mut client, mut server) = open_pair();
        for client_sends in [true, false] {
            let (from, to) = if client_sends { (&mut client, &mut server) } else { (&mut server, &mut client) };
            let (mut wire, mut plain) = (Vec::new(), Vec::new());
            let (mut rest, mut sizes) = (&data[..], writes.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                from.send(piece, &mut wire).unwrap();
                rest = after;
            }
            let (mut rest, mut sizes) = (&wire[..], reads.iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                to.receive(piece, &mut plain).unwrap();
                prop_assert!(to.incoming.len() < RECORD_BYTES + 300);
                rest = after;
            }
            prop_assert!(plain == data);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), record: bool) {
        let mut server = TlsSession::server(&PAIR.1, NOW).unwrap();
        if record {
            let head = [0x16, 3, 1, (bytes.len() >> 8) as u8, bytes.len() as u8, 1, 0];
            let _ = server.receive(&head, &mut Vec::new());
        }
        let _ = server.receive(&bytes, &mut Vec::new());
        prop_assert_eq!(server.peer(), None);
    }

    #[test]
    fn a_damaged_handshake_is_an_error_or_stalls(at in 0usize..5000, bit in 0u32..8, from_client: bool) {
        let (mut client, mut server) = pair(NOW);
        let mut sent = 0;
        let mut failed = false;
        for _ in 0..3 {
            for client_sends in [true, false] {
                let (from, to) = if client_sends { (&mut client, &mut server) } else { (&mut server, &mut client) };
                let mut wire = Vec::new();
                from.output(&mut wire);
                if client_sends == from_client && (sent..sent + wire.len()).contains(&at) {
                    wire[at - sent] ^= 1 << bit;
                }
                if client_sends == from_client {
                    sent += wire.len();
                }
                failed |= to.receive(&wire, &mut Vec::new()).is_err();
            }
        }
        // Record headers carry a version that is not looked at; all else is authenticated.
        if at >= sent {
            prop_assert!(!failed);
        }
    }
}

/// A client that trusts everybody, to play strangers.
mod trust {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub struct All;

    impl ServerCertVerifier for All {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }
}
