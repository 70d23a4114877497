//! Whoever isn't a member: wrong and foreign certificates, and whatever else may come to an open port.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, BINARY, Mesh, create_ca, free_ports, issue, noise, tree, wait_until, words};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What an agent that syncs small trees may have resident, in bytes.
const MEMORY: u64 = 100 << 20;

#[track_caller]
fn refused(configuration: &Path) -> String {
    let mut command = Command::new(BINARY);
    let output = command.args(["run", "--config"]).arg(configuration).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    assert!(!words(&output).contains("panicked"), "{}", words(&output));
    words(&output)
}

/// Replaces an agent's identity by one that this CA issues to this name.
fn reissue(agent: &Agent, ca: &Path, name: &str) {
    for file in ["ca.pem", &format!("{}.pem", agent.name), &format!("{}.key", agent.name)] {
        fs::remove_file(agent.place.join(file)).unwrap();
    }
    issue(ca, name, &agent.place);
}

#[test]
fn a_node_of_another_mesh_gets_nothing_and_both_sides_say_why() {
    let mut mesh = Mesh::new(["a", "b"]);
    let other = mesh.home().join("other-ca");
    create_ca(&other);
    reissue(&mesh.agents[1], &other, "b");
    fs::write(mesh.agents[0].volume.join("secret"), "a's").unwrap();
    fs::write(mesh.agents[1].volume.join("foreign"), "b's").unwrap();
    mesh.start();
    let (a, b) = mesh.pair();
    // a calls first, and b later: each has been on both ends.
    a.says_of("b", &["certificate", "CA"]);
    b.says_of("a", &["certificate", "CA"]);
    assert_eq!(a.names(), ["secret"]);
    assert_eq!(b.names(), ["foreign"]);
    for agent in &mut mesh.agents {
        agent.must_run();
        let output = agent.ask(&["wait", "--in-sync", "--timeout", "1s"]);
        assert_eq!(output.status.code(), Some(1), "{}", words(&output));
        assert!(words(&output).contains("certificate"), "{}", words(&output));
    }
}

#[test]
fn a_node_with_the_right_ca_that_is_no_member_is_turned_away() {
    let mut mesh = Mesh::with_peers(&[("a", vec!["b"]), ("b", vec!["a"]), ("c", vec!["a", "b"])], "");
    fs::write(mesh.agents[0].volume.join("secret"), "a's").unwrap();
    fs::write(mesh.agents[2].volume.join("foreign"), "c's").unwrap();
    mesh.start();
    mesh.agents[2].says_of("a", &["doesn't list this node among its peers", "add it to `peers`"]);
    mesh.agents[2].says_of("b", &["doesn't list this node among its peers", "add it to `peers`"]);
    mesh.agents[0].logs(&["turned away", "peer=c", "peers"]);
    mesh.agents[0].in_sync();
    mesh.agents[1].in_sync();
    assert_eq!(mesh.agents[0].names(), ["secret"]);
    assert_eq!(mesh.agents[1].names(), ["secret"]);
    assert_eq!(mesh.agents[2].names(), ["foreign"]);
}

#[test]
fn a_node_that_turns_a_stranger_away_says_that_it_is_itself_who_lacks_it() {
    let mut mesh = Mesh::with_peers(&[("a", vec!["c"]), ("b", vec!["a"]), ("c", vec!["a"])], "");
    mesh.agents[0].start();
    mesh.agents[1].start();
    let line = |log: &str| log.lines().find(|line| line.contains("turned away")).map(str::to_owned);
    let a = &mesh.agents[0];
    wait_until("a turns b away", || line(&a.log_text()).map(drop).ok_or("it hasn't yet"));
    let line = line(&a.log_text()).unwrap();
    // b does list a.
    assert!(line.contains("peer=b") && !line.contains("it doesn't list this node"), "{line}");
}

#[test]
fn a_member_that_shows_another_members_name_is_refused() {
    let mut mesh = Mesh::new(["a", "b"]);
    // At b's address there is c, of the right CA, which also takes a for a peer.
    let port = mesh.agents[1].port;
    let mut c = Agent::new(mesh.home(), "c", port);
    issue(&mesh.ca, "c", &c.place);
    c.configure("c", &[("a", mesh.agents[0].port)], "");
    fs::write(c.volume.join("foreign"), "c's").unwrap();
    fs::write(mesh.agents[0].volume.join("secret"), "a's").unwrap();
    c.start();
    let (a, _) = mesh.pair();
    a.start();
    a.says_of("b", &["certificate", "\"c\""]);
    c.says_of("a", &["list this node among its peers"]);
    assert_eq!(a.names(), ["secret"]);
    assert_eq!(c.names(), ["foreign"]);
    c.kill();
}

#[test]
fn an_identity_for_another_node_is_refused_at_the_start() {
    let mesh = Mesh::new(["a", "b"]);
    let b = &mesh.agents[1];
    issue(&mesh.ca, "x", &mesh.home().join("x"));
    b.configure("../x/x", &[("a", mesh.agents[0].port)], "");
    let why = refused(&b.configuration);
    assert!(why.contains("can't start as node b") && why.contains("it is for \"x\", this node is \"b\""), "{why}");
}

#[test]
fn an_identity_of_another_ca_is_refused_at_the_start() {
    let mesh = Mesh::new(["a", "b"]);
    let b = &mesh.agents[1];
    let other = mesh.home().join("other-ca");
    create_ca(&other);
    fs::copy(other.join("ca.pem"), b.place.join("ca.pem")).unwrap();
    let why = refused(&b.configuration);
    assert!(why.contains("b.pem") && why.contains("wasn't issued by the CA"), "{why}");
}

#[test]
fn an_expired_certificate_is_refused_at_the_start() {
    let mesh = Mesh::new(["a", "b"]);
    let b = &mesh.agents[1];
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&read(&mesh.ca.join("ca.key"))).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read(&mesh.ca.join("ca.pem")), ca_key).unwrap();
    let key = rcgen::KeyPair::from_pem(&read(&b.place.join("b.key"))).unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["b".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
    fs::write(b.place.join("b.pem"), parameters.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    let why = refused(&b.configuration);
    assert!(why.contains("b.pem") && why.contains("ended") && why.contains("days ago"), "{why}");
}

#[test]
fn a_key_that_others_may_read_is_refused_at_the_start() {
    let mesh = Mesh::new(["a", "b"]);
    let key = mesh.agents[1].place.join("b.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let why = refused(&mesh.agents[1].configuration);
    assert!(why.contains("b.key") && why.contains("0644") && why.contains("chmod 600"), "{why}");
}

#[test]
fn a_key_of_another_certificate_or_none_is_refused_at_the_start() {
    let mesh = Mesh::new(["a", "b"]);
    let b = &mesh.agents[1];
    fs::copy(mesh.agents[0].place.join("a.key"), b.place.join("b.key")).unwrap();
    let why = refused(&b.configuration);
    assert!(why.contains("b.key") && why.contains("doesn't belong to the certificate"), "{why}");
    fs::remove_file(b.place.join("b.key")).unwrap();
    let why = refused(&b.configuration);
    assert!(why.contains("b.key") && why.contains("can't read"), "{why}");
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Bytes that are no handshake, or begin like one.
fn openings() -> Vec<Vec<u8>> {
    let mut openings = vec![
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
        vec![0; 100_000],
        vec![0xff; 100_000],
        b"\n".to_vec(),
        // A record of handshake, announced with 16 KiB, that never comes whole; one with a length that isn't allowed.
        vec![0x16, 0x03, 0x01, 0x40, 0x00, 0x01],
        vec![0x16, 0x03, 0x01, 0xff, 0xff, 0x01],
        // A hello of 16 MiB less one byte, as much of it as goes through.
        [&[0x16, 0x03, 0x01, 0x40, 0x00, 0x01, 0xff, 0xff, 0xff][..], &vec![0; 16_380][..]].concat(),
        // An alert, application data, and what was never a type.
        vec![0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x28],
        vec![0x17, 0x03, 0x03, 0x00, 0x05, 1, 2, 3, 4, 5],
        vec![0x99, 0x03, 0x03, 0x00, 0x00],
    ];
    openings.extend((0..40).map(|seed| noise(seed, 1 + (seed as usize * 977) % 50_000)));
    // Noise in the form of handshake records.
    openings.extend((0..40).map(|seed| {
        let body = noise(1000 + seed, 1 + (seed as usize * 409) % 16_000);
        let mut record = vec![0x16, 0x03, 0x01];
        record.extend_from_slice(&(body.len() as u16).to_be_bytes());
        record.extend_from_slice(&body);
        record
    }));
    openings
}

/// Writes on a and on b; fails unless it arrives and memory stays bounded.
#[track_caller]
fn still_syncs(mesh: &mut Mesh, round: u64) {
    let (a, b) = mesh.pair();
    let (ours, theirs) = (noise(round, 50_000), noise(round + 1, 500));
    fs::write(a.volume.join(format!("a{round}")), &ours).unwrap();
    fs::write(b.volume.join(format!("b{round}")), &theirs).unwrap();
    b.shows(&format!("a{round}"), &ours);
    a.shows(&format!("b{round}"), &theirs);
    for agent in [a, b] {
        agent.must_run();
        let peak = agent.peak_memory();
        assert!(peak < MEMORY, "{} had {peak} bytes resident", agent.name);
        assert!(!agent.log_text().contains("panicked"), "{}", agent.name);
    }
}

#[test]
fn garbage_on_the_port_disturbs_nobody() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.in_sync();
    let ports = [mesh.agents[0].port, mesh.agents[1].port];
    for (round, opening) in openings().iter().enumerate() {
        let mut stream = connect(ports[round % 2]);
        // It may close before it has read everything.
        let _ = stream.write_all(opening);
        match round % 3 {
            // Half open: we are done, and wait for the other side's end.
            0 => {
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read_to_end(&mut Vec::new());
            }
            1 => drop(stream),
            _ => {
                let _ = stream.shutdown(Shutdown::Read);
            }
        }
        if round % 20 == 0 {
            still_syncs(&mut mesh, round as u64);
        }
    }
    still_syncs(&mut mesh, 1_000);
    mesh.converge();
}

#[test]
fn two_hundred_silent_connections_at_once_disturb_nobody() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.in_sync();
    let ports = [mesh.agents[0].port, mesh.agents[1].port];
    let silent: Vec<TcpStream> = (0..400).map(|number| connect(ports[number % 2])).collect();
    still_syncs(&mut mesh, 0);
    // Some begin to talk.
    for (mut stream, opening) in silent.iter().zip(openings().iter().cycle()).step_by(3) {
        let _ = stream.write_all(opening);
    }
    still_syncs(&mut mesh, 10);
    // Each is closed by the agent in the end.
    for mut stream in silent {
        match stream.read(&mut [0; 4096]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it is still open after 60 s"),
            _ => {}
        }
    }
    still_syncs(&mut mesh, 20);
    mesh.converge();
}

#[test]
fn a_member_gets_through_while_strangers_hold_their_connections() {
    let mut mesh = Mesh::new(["a", "b"]);
    mesh.start();
    mesh.in_sync();
    let ports = [mesh.agents[0].port, mesh.agents[1].port];
    let silent: Vec<TcpStream> = (0..200).map(|_| connect(ports[0])).collect();
    let (_, b) = mesh.pair();
    b.restart();
    wait_until("b listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, ports[1])).map(drop));
    let more: Vec<TcpStream> = (0..200).map(|_| connect(ports[1])).collect();
    mesh.in_sync();
    still_syncs(&mut mesh, 0);
    drop((silent, more));
    mesh.converge();
}

#[test]
fn a_port_that_is_no_agents_is_explained() {
    let mesh = Mesh::new(["a", "b"]);
    let [port] = free_ports(1)[..] else { unreachable!() };
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut a = Agent::new(mesh.home(), "x", free_ports(1)[0]);
    issue(&mesh.ca, "x", &a.place);
    a.configure("x", &[("a", port)], "");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
            let _ = stream.read(&mut [0; 1024]);
        });
        a.start();
        a.says_of("a", &["doesn't speak SyncMesh"]);
    });
    a.kill();
    assert_eq!(tree::names(&a.volume).len(), 0);
}
