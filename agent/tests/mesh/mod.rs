//! A mesh of real agents on loopback: each with a home of its own below a temporary directory, each killed when the test
//! ends. When a test fails, the ends of their logs are printed.

#![allow(dead_code, reason = "each file of tests uses its part")]

pub mod tree;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fmt::Display;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_syncmesh-agent");

/// The name of every mesh's one volume.
pub const VOLUME: &str = "docs";

/// How long a condition may take to come true. Two cores may be busy with everything else.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// How much of each log a failed test shows.
const LOG_LINES: usize = 60;

/// Agents, and the directory that everything of theirs is in.
pub struct Mesh {
    /// In the order of their names as given.
    pub agents: Vec<Agent>,
    /// The directory of the mesh's CA.
    pub ca: PathBuf,
    home: TempDir,
}

/// One agent: its process, if it runs, and where its things are.
pub struct Agent {
    /// Node name.
    pub name: String,
    /// Identity, configuration, state and volume.
    pub place: PathBuf,
    /// The synchronised directory.
    pub volume: PathBuf,
    /// Its configuration file.
    pub configuration: PathBuf,
    /// Its admin socket.
    pub socket: PathBuf,
    /// Standard error and output of all its runs.
    pub log: PathBuf,
    /// Where it listens.
    pub port: u16,
    child: Option<Child>,
}

impl Mesh {
    /// Agents that all list each other. Nothing runs yet.
    pub fn new<const N: usize>(names: [&str; N]) -> Mesh {
        Mesh::configured(names, "")
    }

    /// The same, with more fields of the volume, each line indented by four blanks.
    pub fn configured<const N: usize>(names: [&str; N], fields: &str) -> Mesh {
        let others = |name: &str| names.iter().copied().filter(|other| *other != name).collect::<Vec<_>>();
        let members: Vec<(&str, Vec<&str>)> = names.iter().map(|name| (*name, others(name))).collect();
        Mesh::with_peers(&members, fields)
    }

    /// Agents with the peers that each lists.
    pub fn with_peers(members: &[(&str, Vec<&str>)], fields: &str) -> Mesh {
        let home = tempfile::tempdir().unwrap();
        let ca = home.path().join("ca");
        create_ca(&ca);
        let ports = free_ports(members.len());
        let port_of = |name: &str| ports[members.iter().position(|(member, _)| *member == name).unwrap()];
        let mut agents = Vec::new();
        for (name, peers) in members {
            let peers: Vec<(&str, u16)> = peers.iter().map(|peer| (*peer, port_of(peer))).collect();
            let agent = Agent::new(home.path(), name, port_of(name));
            issue(&ca, name, &agent.place);
            agent.configure(name, &peers, fields);
            agents.push(agent);
        }
        Mesh { agents, ca, home }
    }

    /// A directory for what a test needs beside the agents.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Starts all that don't run.
    pub fn start(&mut self) {
        self.agents.iter_mut().filter(|agent| agent.child.is_none()).for_each(Agent::start);
    }

    /// The first two agents.
    pub fn pair(&mut self) -> (&mut Agent, &mut Agent) {
        let [a, b] = &mut self.agents[..2] else { panic!("the mesh has fewer than two agents") };
        (a, b)
    }

    /// Waits until every agent says that it is in sync, one after the other and back again, so that what one relays is seen
    /// by the next.
    pub fn in_sync(&mut self) {
        self.agents.iter_mut().for_each(Agent::in_sync);
        self.agents.iter_mut().rev().for_each(Agent::in_sync);
    }

    /// Waits until every agent is in sync, and fails unless all volumes then are equal.
    #[track_caller]
    pub fn converge(&mut self) {
        self.in_sync();
        self.assert_equal();
    }

    /// Fails unless all volumes are equal: names, kinds, contents, modes, owners, times, link targets.
    #[track_caller]
    pub fn assert_equal(&self) {
        let [first, others @ ..] = &self.agents[..] else { panic!("a mesh has agents") };
        let expected = tree::read(&first.volume);
        for other in others {
            tree::assert_same((&first.name, &expected), (&other.name, &tree::read(&other.volume)));
        }
    }

    /// Fails if there is a conflict copy, or if an agent counts a conflict.
    #[track_caller]
    pub fn assert_no_conflicts(&self) {
        for agent in &self.agents {
            let copies: Vec<String> = agent.names().into_iter().filter(|name| name.contains("(conflict ")).collect();
            assert!(copies.is_empty(), "{} has conflict copies: {copies:?}", agent.name);
            let conflicts = agent.volume_status().map(|volume| volume["conflicts"].clone());
            assert_eq!(conflicts, Some(0.into()), "conflicts that {} counts", agent.name);
        }
    }

    /// Waits until no agent has anything in its stage.
    #[track_caller]
    pub fn stages_are_empty(&self) {
        for agent in &self.agents {
            let stage = agent.volume.join(".syncmesh/stage");
            let left = || fs::read_dir(&stage).unwrap().map(|slot| slot.unwrap().file_name()).collect::<Vec<_>>();
            wait_until(&format!("{}'s stage is empty", agent.name), || {
                let left = left();
                if left.is_empty() { Ok(()) } else { Err(format!("it has {left:?}")) }
            });
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.agents.iter_mut().for_each(Agent::kill);
        if std::thread::panicking() {
            for agent in &self.agents {
                println!("--- the end of {}'s log\n{}", agent.name, last_lines(&agent.log_text()));
            }
        }
    }
}

impl Agent {
    /// Makes its home; without identity and configuration.
    pub fn new(home: &Path, name: &str, port: u16) -> Agent {
        let place = home.join(name);
        let agent = Agent {
            name: name.to_owned(),
            volume: place.join(VOLUME),
            configuration: place.join("agent.yaml"),
            socket: place.join("state/admin.sock"),
            log: home.join(format!("{name}.log")),
            place,
            port,
            child: None,
        };
        fs::create_dir_all(&agent.volume).unwrap();
        agent
    }

    /// Writes its configuration. `identity` is the name of its certificate's and key's files.
    pub fn configure(&self, identity: &str, peers: &[(&str, u16)], fields: &str) {
        let peers: Vec<String> = peers
            .iter()
            .map(|(peer, port)| format!("  - {{ node: \"{peer}\", address: \"127.0.0.1:{port}\" }}\n"))
            .collect();
        let peers = if peers.is_empty() { "peers: []\n".to_owned() } else { format!("peers:\n{}", peers.concat()) };
        let text = format!(
            "node: \"{}\"\nstateDir: state\nlisten: \"127.0.0.1:{}\"\n\
             identity: {{ ca: ca.pem, certificate: \"{identity}.pem\", key: \"{identity}.key\" }}\n\
             {peers}volumes:\n  - name: {VOLUME}\n    path: {VOLUME}\n{fields}",
            self.name, self.port
        );
        fs::write(&self.configuration, text).unwrap();
    }

    /// Starts the process.
    #[track_caller]
    pub fn start(&mut self) {
        self.start_by(&[]);
    }

    /// Starts the process by a program that becomes it, such as `unshare` or `setpriv` with their options.
    #[track_caller]
    pub fn start_by(&mut self, program: &[&str]) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = || File::options().create(true).append(true).open(&self.log).unwrap();
        let words: Vec<&str> = program.iter().copied().chain([BINARY, "run", "--config"]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&self.configuration).stdin(Stdio::null()).stdout(log()).stderr(log());
        self.child = Some(command.process_group(0).spawn().unwrap());
    }

    /// Starts the process in a mount namespace of its own, in which its volume is an empty tmpfs of so many KiB; from then on
    /// `volume` leads there, as long as the process lives. False, with a word to the log of tests, where only root may do that.
    #[track_caller]
    pub fn start_on_tmpfs(&mut self, kib: u64) -> bool {
        if !rustix::process::geteuid().is_root() {
            println!("not run: needs root");
            return false;
        }
        let log = || File::options().create(true).append(true).open(&self.log).unwrap();
        let script = "mount -t tmpfs -o \"size=$1k\" tmpfs \"$2\" && exec \"$3\" run --config \"$4\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(kib.to_string()).arg(&self.volume).arg(BINARY);
        command.arg(&self.configuration).stdin(Stdio::null()).stdout(log()).stderr(log());
        let child = command.process_group(0).spawn().unwrap();
        let below = self.volume.strip_prefix("/").unwrap();
        self.volume = Path::new("/proc").join(child.id().to_string()).join("root").join(below);
        self.child = Some(child);
        // Made by the agent, on the file system that it sees.
        wait_until("the agent has its disk", || fs::metadata(self.volume.join(".syncmesh/marker")).map(drop));
        true
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to do.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGKILL and a new start. That an agent gets its port at once is a story of its own: the kernel lets go of a ring, and
    /// of the listener that it accepts on, a moment after the process has gone.
    #[track_caller]
    pub fn restart(&mut self) {
        self.must_run();
        self.kill();
        wait_until("the port is free", || TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).map(drop));
        self.start();
    }

    /// SIGTERM, and waits for the end; says how it ended.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits until it has ended by itself; says how.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let mut status = None;
        let name = self.name.clone();
        let ended = eventually(DEADLINE, || match child.try_wait().unwrap() {
            Some(ended) => {
                status = Some(ended);
                Ok(())
            }
            None => Err("it still runs".to_owned()),
        });
        if ended.is_err() {
            self.child = Some(child);
            panic!("{name} doesn't end");
        }
        status.unwrap()
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid() as i32).unwrap(), signal).unwrap();
    }

    /// Its process.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Fails if it has ended by itself.
    #[track_caller]
    pub fn must_run(&mut self) {
        let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
        assert!(ended.is_none() && self.child.is_some(), "{} has ended by itself: {ended:?}", self.name);
    }

    /// Waits until it says that it is in sync.
    #[track_caller]
    pub fn in_sync(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.must_run();
            let left = deadline.saturating_duration_since(Instant::now()).as_secs().max(1);
            let output = self.ask(&["wait", "--in-sync", "--timeout", &format!("{left}s")]);
            match output.status.code() {
                Some(0) => return,
                Some(2) if Instant::now() < deadline => pause(), // it is starting
                _ => panic!("{} is not in sync: {}", self.name, words(&output)),
            }
        }
    }

    /// Runs a command with `--socket` of this agent.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        Command::new(BINARY).args(arguments).arg("--socket").arg(&self.socket).stdin(Stdio::null()).output().unwrap()
    }

    /// What `status -o json` says; none while it can't be reached.
    pub fn status(&self) -> Option<Value> {
        let output = self.ask(&["status", "-o", "json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Its volume in `status`.
    pub fn volume_status(&self) -> Option<Value> {
        Some(self.status()?["volumes"][0].clone())
    }

    /// A peer in `status`.
    pub fn peer_status(&self, peer: &str) -> Option<Value> {
        self.status()?["peers"].as_array()?.iter().find(|status| status["node"] == peer).cloned()
    }

    /// Waits until a peer is `connected`.
    #[track_caller]
    pub fn connected(&self, peer: &str) {
        wait_until(&format!("{} is connected with {peer}", self.name), || {
            let status = self.peer_status(peer);
            match &status {
                Some(peer) if peer["state"] == "connected" => Ok(()),
                _ => Err(format!("{status:?}")),
            }
        });
    }

    /// Waits until a peer's `lastError` in `status` has all of these words in it.
    #[track_caller]
    pub fn says_of(&self, peer: &str, parts: &[&str]) {
        wait_until(&format!("{} says of {peer} {parts:?}", self.name), || {
            let status = self.peer_status(peer).ok_or("it can't be reached")?;
            let error = status["lastError"].as_str().unwrap_or_default();
            let all = parts.iter().all(|part| error.contains(part));
            if all { Ok(()) } else { Err(format!("{status}")) }
        });
    }

    /// Waits until its log has these words in one line.
    #[track_caller]
    pub fn logs(&self, parts: &[&str]) {
        wait_until(&format!("{} logs {parts:?}", self.name), || {
            let found = self.log_text().lines().any(|line| parts.iter().all(|part| line.contains(part)));
            if found { Ok(()) } else { Err("no such line") }
        });
    }

    /// Everything it wrote to standard error and output.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until a file of the volume has these contents.
    #[track_caller]
    pub fn shows(&self, name: &str, contents: &[u8]) {
        wait_until(&format!("{} shows {name} as written", self.name), || match fs::read(self.volume.join(name)) {
            Ok(found) if found == contents => Ok(()),
            Ok(found) => Err(format!("it has {} other bytes", found.len())),
            Err(error) => Err(error.to_string()),
        });
    }

    /// Waits until the volume has nothing of this name.
    #[track_caller]
    pub fn lacks(&self, name: &str) {
        wait_until(&format!("{} has no {name}", self.name), || {
            if fs::symlink_metadata(self.volume.join(name)).is_err() { Ok(()) } else { Err("it is there") }
        });
    }

    /// The paths of everything in the volume.
    pub fn names(&self) -> Vec<String> {
        let paths = tree::names(&self.volume);
        paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    }

    /// The contents of what is in the version store.
    pub fn stored(&self) -> Vec<Vec<u8>> {
        let store = fs::read_dir(self.volume.join(".syncmesh/store")).unwrap();
        store
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| fs::read(path).unwrap())
            .collect()
    }

    /// The most memory that was ever resident (`VmHWM`, proc_pid_status(5)), in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    }
}

/// Waits until a condition holds; fails after [`DEADLINE`] with what it last said.
#[track_caller]
pub fn wait_until<E: Display>(what: &str, holds: impl FnMut() -> Result<(), E>) {
    if let Err(why) = eventually(DEADLINE, holds) {
        panic!("waited {} s for this: {what}; but {why}", DEADLINE.as_secs());
    }
}

/// Looks at a condition again and again until it holds or the time is over.
pub fn eventually<E>(limit: Duration, mut holds: impl FnMut() -> Result<(), E>) -> Result<(), E> {
    let deadline = Instant::now() + limit;
    loop {
        match holds() {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() >= deadline => return Err(why),
            Err(_) => pause(),
        }
    }
}

/// Between two looks at a condition.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Everything a command printed.
pub fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Makes a CA.
pub fn create_ca(directory: &Path) {
    let output = Command::new(BINARY).args(["ca", "create", "--out"]).arg(directory).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
}

/// Issues an identity.
pub fn issue(ca: &Path, name: &str, out: &Path) {
    let mut command = Command::new(BINARY);
    let output = command.args(["ca", "issue", "--node", name, "--ca"]).arg(ca).arg("--out").arg(out).output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
}

/// Ports of loopback that nobody uses at the moment, below those that the system gives to outgoing connections: an agent
/// that is down for a moment finds its port free again. Each process begins elsewhere, and takes no port twice.
pub fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(61);
    let candidates = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed))
        .map(|next| 12_000 + (begin.wrapping_add(next) % 20_000) as u16)
        .take(20_000);
    let free = candidates.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let ports: Vec<u16> = free.take(count).collect();
    assert_eq!(ports.len(), count, "no free port on loopback");
    ports
}

/// Writes a file whole: to a name of its own, then renamed.
pub fn replace(path: &Path, contents: &[u8]) {
    let name = path.file_name().unwrap().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    fs::write(&new, contents).unwrap();
    fs::rename(&new, path).unwrap();
}

/// Bytes that look random and are the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Numbers that look random and are the same for the same seed (xorshift64, Marsaglia 2003).
pub struct Dice(u64);

impl Dice {
    /// With a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number below a bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
