use super::*;
use crate::control::fake::{Fake, hanging, status};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream as Client;
use syncmesh_engine::node::Status;

/// An admin socket that is served until the test ends.
struct Served {
    dir: tempfile::TempDir,
}

impl Served {
    fn new(agent: Loop) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let (ready, is_ready) = crossbeam_channel::bounded(1);
        syncmesh_engine::threads::spawn("served", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let asked = Asked::new(&agent, &Source::File("agent.yaml".into()));
                let serving = tokio::spawn(serve(path, asked));
                tokio::task::yield_now().await;
                ready.send(()).unwrap();
                serving.await.unwrap().unwrap();
            });
        });
        is_ready.recv().unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    fn client(&self) -> Client {
        let client = Client::connect(self.path()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }
}

fn ask(client: &mut Client, request: &str) -> String {
    client.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    BufReader::new(client).read_line(&mut reply).unwrap();
    reply
}

#[test]
fn requests_have_the_names_that_are_promised() {
    let json = |request: &Request| serde_json::to_string(request).unwrap();
    assert_eq!(json(&Request::Status {}), r#"{"status":{}}"#);
    let wait = Request::Wait { volume: None, timeout_ms: 5 };
    assert_eq!(json(&wait), r#"{"wait":{"volume":null,"timeoutMs":5}}"#);
    assert_eq!(serde_json::from_str::<Request>(r#"{"wait":{"timeoutMs":5}}"#).unwrap(), wait);
}

#[test]
fn an_agent_of_a_file_has_no_orphans() {
    let fake = Fake::start(|| status(true, 7));
    let served = Served::new(fake.agent.clone());
    for request in [r#"{"orphans":{}}"#, r#"{"purgeOrphan":{"volumeId":"x"}}"#] {
        let said = ask(&mut served.client(), &format!("{request}\n"));
        assert!(said.contains("runs from a file"), "{said}");
    }
}

#[test]
fn one_connection_asks_again_and_again() {
    let fake = Fake::start(|| status(true, 7));
    let served = Served::new(fake.agent.clone());
    let mut client = served.client();
    for _ in 0..3 {
        let reply: Status = serde_json::from_str(&ask(&mut client, "{\"status\":{}}\n")).unwrap();
        assert_eq!(reply.node, "a");
        assert!(reply.memory_bytes > 0 && reply.version.contains('('), "{reply:?}");
    }
    assert_eq!(ask(&mut client, "{\"wait\":{\"volume\":null,\"timeoutMs\":9000}}\n"), "{\"ok\":true}\n");
}

#[test]
fn what_cant_be_read_is_refused_and_the_connection_stays() {
    let fake = Fake::start(|| status(true, 7));
    let served = Served::new(fake.agent.clone());
    let mut client = served.client();
    for bad in ["\n", "nonsense\n", "{\"shutdown\":{}}\n", "{\"status\":{\"x\":1}}\n", "\u{0}\n"] {
        let reply: Refused = serde_json::from_str(&ask(&mut client, bad)).unwrap();
        assert!(reply.error.contains("can't be read"), "{}", reply.error);
    }
    assert!(ask(&mut client, "{\"status\":{}}\n").contains("\"node\":\"a\""));
}

#[test]
fn a_line_without_end_is_refused_at_its_limit() {
    let fake = Fake::start(|| status(true, 7));
    let served = Served::new(fake.agent.clone());
    let mut client = served.client();
    client.write_all(&vec![b'x'; LINE_BYTES]).unwrap();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert!(reply.contains("longer than 65536 bytes"), "{reply}");
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let fake = Fake::start(|| status(true, 7));
    let served = Served::new(fake.agent.clone());
    // Each has been served once, so all of them are counted.
    let mut clients: Vec<Client> = (0..ADMIN_CONNECTIONS).map(|_| served.client()).collect();
    for client in &mut clients {
        assert!(ask(client, "{\"status\":{}}\n").contains("\"node\""));
    }
    let mut reply = String::new();
    served.client().read_to_string(&mut reply).unwrap();
    assert!(reply.contains("too many admin connections"), "{reply}");
    drop(clients);
}

#[test]
fn the_socket_is_its_owners_alone() {
    let fake = Fake::start(|| status(true, 7));
    let served = Served::new(fake.agent.clone());
    let mode = std::fs::metadata(served.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let living = bind(&path).unwrap();
    assert!(bind(&path).unwrap_err().contains("another agent answers"));
    drop(living);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert!(bind(&path).unwrap_err().contains("no socket"));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_wait_ends_when_its_client_leaves() {
    let (agent, asks) = hanging();
    let served = Served::new(agent);
    let mut client = served.client();
    client.write_all(b"{\"wait\":{\"volume\":null,\"timeoutMs\":600000}}\n").unwrap();
    let syncmesh_engine::ask::Ask::Status(answer) = asks.recv().unwrap() else { panic!("a wait asks for the status") };
    drop(client);
    // The first answer fills the room; that a second is refused as having no reader says that the wait is over.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let _ = answer.try_send((status(false, 7), Default::default()));
    loop {
        match answer.try_send((status(false, 7), Default::default())) {
            Err(crossbeam_channel::TrySendError::Disconnected(_)) => break,
            _ => assert!(tokio::time::Instant::now() < deadline, "the wait goes on without its client"),
        }
        std::thread::yield_now();
    }
    // Nobody asks again.
    assert!(asks.recv_timeout(Duration::from_millis(300)).is_err());
}
