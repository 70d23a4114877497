//! Starts and stops agents of one mesh on loopback, each with a home of its own: identity, configuration, state, log
//! and a volume's directory.

use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::usage::Usage;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The agent's binary.
pub const AGENT: &str = "syncmesh-agent";

/// A Unix socket's path has to fit into sockaddr_un (unix(7)), with its terminating zero.
const SOCKET_PATH_LIMIT: usize = 107;

/// How long SIGTERM may take; the agent promises 10 s.
const GOODBYE: Duration = Duration::from_secs(12);

/// How much of a log an error shows.
const LOG_LINES: usize = 15;

/// One agent's process and where its things are.
pub struct Agent {
    /// Node name.
    pub name: String,
    /// The synchronised directory.
    pub volume: PathBuf,
    /// Standard error and output of all its runs.
    pub log: PathBuf,
    /// Its configuration file.
    pub configuration: PathBuf,
    /// Its admin socket.
    pub socket: PathBuf,
    binary: PathBuf,
    volume_name: String,
    child: Option<Child>,
}

/// The parts of `status -o json` that we use.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// What the agent believes it uses.
    pub memory_bytes: u64,
    /// One for each peer.
    pub peers: Vec<PeerStatus>,
    /// One for each volume.
    pub volumes: Vec<VolumeStatus>,
}

/// Of one peer.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerStatus {
    /// To it, on the wire.
    pub sent_bytes: u64,
}

/// Of one volume.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeStatus {
    /// As configured.
    pub name: String,
    /// The first that holds of its states.
    pub state: String,
    /// Whether nothing is missing here that a peer is known to have.
    pub in_sync: bool,
    /// How many files it knows.
    pub files: u64,
    /// 0 to 100, where known.
    pub synced_percent: Option<f64>,
}

impl Status {
    /// To all peers.
    pub fn sent_bytes(&self) -> u64 {
        self.peers.iter().map(|peer| peer.sent_bytes).sum()
    }
}

/// Makes a CA, identities, configurations and empty directories for `names` below `home`, each knowing all others.
/// Nothing runs yet.
pub fn mesh(binary: &Path, home: &Path, names: &[String], volume: &str) -> Outcome<Vec<Agent>> {
    let ca = home.join("ca");
    let logs = home.join("logs");
    fs::create_dir_all(&logs).map_err(Failure::io("create", &logs))?;
    succeed(Command::new(binary).args(["ca", "create", "--out"]).arg(&ca))?;
    let ports = free_ports(names.len())?;
    let members: Vec<(&str, u16)> = names.iter().map(String::as_str).zip(ports).collect();
    let mut agents = Vec::new();
    for (name, port) in &members {
        let place = home.join(name);
        let agent = Agent {
            name: (*name).to_owned(),
            volume: place.join(volume),
            log: logs.join(format!("{name}.log")),
            configuration: place.join("agent.yaml"),
            socket: place.join("state").join("admin.sock"),
            binary: binary.to_path_buf(),
            volume_name: volume.to_owned(),
            child: None,
        };
        let length = agent.socket.as_os_str().len();
        if length > SOCKET_PATH_LIMIT {
            return Err(Failure::new(format!(
                "{} has {length} bytes, and a Unix socket's path may have {SOCKET_PATH_LIMIT}: move the repository to a shorter path",
                agent.socket.display()
            )));
        }
        fs::create_dir_all(&agent.volume).map_err(Failure::io("create", &agent.volume))?;
        succeed(
            Command::new(binary).args(["ca", "issue", "--ca"]).arg(&ca).args(["--node", name, "--out"]).arg(&place),
        )?;
        fs::write(&agent.configuration, configuration(name, *port, &members, volume))
            .map_err(Failure::io("write", &agent.configuration))?;
        agents.push(agent);
    }
    Ok(agents)
}

/// An agent's YAML. Node names are DNS-1123 and volume names ours, so nothing needs escaping.
fn configuration(name: &str, port: u16, members: &[(&str, u16)], volume: &str) -> String {
    let peers: Vec<String> = members
        .iter()
        .filter(|(peer, _)| *peer != name)
        .map(|(peer, port)| format!("  - {{ node: \"{peer}\", address: \"127.0.0.1:{port}\" }}\n"))
        .collect();
    let peers = if peers.is_empty() { "peers: []\n".to_owned() } else { format!("peers:\n{}", peers.concat()) };
    format!(
        "node: \"{name}\"\n\
         stateDir: state\n\
         listen: \"127.0.0.1:{port}\"\n\
         identity: {{ ca: ca.pem, certificate: \"{name}.pem\", key: \"{name}.key\" }}\n\
         {peers}\
         volumes:\n\
         \x20 - name: \"{volume}\"\n\
         \x20   path: \"{volume}\"\n"
    )
}

/// Ports of loopback that nobody uses at the moment. All are held while they are collected, so they differ.
pub fn free_ports(count: usize) -> Outcome<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()
        .map_err(|reason| Failure::new(format!("no free port on loopback: {reason}")))?;
    listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<Result<_, _>>()
        .map_err(|reason| Failure::new(format!("no free port on loopback: {reason}")))
}

/// Runs a short command; its words become the failure.
fn succeed(command: &mut Command) -> Outcome<Output> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|reason| Failure::new(format!("could not run {command:?}: {reason}")))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(Failure::new(format!(
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )))
}

impl Agent {
    /// Starts the process, in a group of its own: Ctrl-C on our terminal is ours to handle.
    pub fn start(&mut self) -> Outcome<()> {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let open = || File::options().create(true).append(true).open(&self.log);
        let out = open().map_err(Failure::io("open", &self.log))?;
        let err = open().map_err(Failure::io("open", &self.log))?;
        let child = Command::new(&self.binary)
            .arg("run")
            .arg("--config")
            .arg(&self.configuration)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(Failure::io("run", &self.binary))?;
        self.child = Some(child);
        Ok(())
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; then there is nothing to do.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM to all, then waits; what doesn't end in time is killed, and named in the error.
    pub fn stop_all(agents: &mut [Self]) -> Outcome<()> {
        for agent in agents.iter() {
            let pid = agent.pid().and_then(|pid| Pid::from_raw(pid as i32));
            if let Some(pid) = pid {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let deadline = Instant::now() + GOODBYE;
        let mut late = Vec::new();
        for agent in agents.iter_mut() {
            while agent.is_running() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            if agent.is_running() {
                late.push(agent.name.clone());
            }
            agent.kill();
        }
        if late.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("{} did not end within {} s of SIGTERM", late.join(", "), GOODBYE.as_secs())))
    }

    /// Lets the process live on when we end.
    pub fn release(&mut self) {
        // Dropping a Child leaves its process alone.
        drop(self.child.take());
    }

    /// What people type to ask it.
    pub fn status_command(&self) -> String {
        format!("{} status --socket {}", self.binary.display(), self.socket.display())
    }

    /// What it used so far.
    pub fn usage(&self) -> Usage {
        self.pid().and_then(Usage::of).unwrap_or_default()
    }

    /// An error with the end of the log when the process isn't there anymore.
    pub fn must_run(&mut self) -> Outcome<()> {
        if self.is_running() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "agent {} ended by itself; the end of {}:\n{}",
            self.name,
            self.log.display(),
            self.log_end()
        )))
    }

    /// What `status -o json` says; none while the agent can't be reached.
    pub fn status(&self) -> Option<Status> {
        let output = Command::new(&self.binary)
            .args(["status", "-o", "json", "--socket"])
            .arg(&self.socket)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Its volume's status; none while the agent can't be reached.
    pub fn volume_status(&self) -> Option<VolumeStatus> {
        let status = self.status()?;
        let at = status.volumes.iter().position(|volume| volume.name == self.volume_name)?;
        status.volumes.into_iter().nth(at)
    }

    /// Waits until the agent says that its volume is in sync. `tick` is called with it now and then meanwhile.
    pub fn wait_in_sync(&mut self, deadline: Instant, tick: &dyn Fn(&Self)) -> Outcome<()> {
        loop {
            self.must_run()?;
            let left = deadline.saturating_duration_since(Instant::now());
            let child = Command::new(&self.binary)
                .args(["wait", "--in-sync", "--volume", &self.volume_name])
                .args(["--timeout", &format!("{}s", left.as_secs().max(1))])
                .arg("--socket")
                .arg(&self.socket)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(Failure::io("run", &self.binary))?;
            let output = self.follow(child, tick)?;
            let words =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            match output.status.code() {
                Some(0) => return Ok(()),
                // Not reachable: it may still be starting.
                Some(2) if Instant::now() < deadline => {
                    interrupt::pause(Duration::from_millis(20))?;
                }
                _ => {
                    return Err(Failure::new(format!(
                        "agent {} is not in sync ({}): {}\nits log: {}",
                        self.name,
                        output.status,
                        words.trim(),
                        self.log.display()
                    )));
                }
            }
        }
    }

    /// Runs a command of the agent's binary, told where the agent is.
    pub fn command(&self, arguments: &[&str]) -> Outcome<()> {
        succeed(Command::new(&self.binary).args(arguments).arg("--socket").arg(&self.socket)).map(drop)
    }

    fn follow(&mut self, mut child: Child, tick: &dyn Fn(&Self)) -> Outcome<Output> {
        let mut rounds = 0_u32;
        loop {
            // A hundred lines of output at most: the pipe can't fill up.
            match child.try_wait() {
                Ok(Some(_)) => {
                    return child
                        .wait_with_output()
                        .map_err(|reason| Failure::new(format!("lost the output of `wait`: {reason}")));
                }
                Ok(None) => {}
                Err(reason) => return Err(Failure::new(format!("lost `wait`: {reason}"))),
            }
            rounds += 1;
            if rounds.is_multiple_of(100) {
                tick(self);
            }
            let next = interrupt::pause(Duration::from_millis(2)).and_then(|()| self.must_run());
            if let Err(stop) = next {
                let _ = child.kill();
                let _ = child.wait();
                return Err(stop);
            }
        }
    }

    fn is_running(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => false,
        }
    }

    fn log_end(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_all_others_as_peers() {
        let members = [("a", 1), ("b", 2), ("c", 3)];
        assert_eq!(
            configuration("b", 2, &members, "demo"),
            "node: \"b\"\nstateDir: state\nlisten: \"127.0.0.1:2\"\n\
             identity: { ca: ca.pem, certificate: \"b.pem\", key: \"b.key\" }\n\
             peers:\n  - { node: \"a\", address: \"127.0.0.1:1\" }\n  - { node: \"c\", address: \"127.0.0.1:3\" }\n\
             volumes:\n  - name: \"demo\"\n    path: \"demo\"\n"
        );
        assert!(configuration("a", 1, &[("a", 1)], "demo").contains("peers: []\n"));
    }

    #[test]
    fn free_ports_differ() {
        let mut ports = free_ports(20).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }

    #[test]
    fn status_is_read_from_the_contracts_json() {
        let status: Status = serde_json::from_str(
            r#"{"node":"a","engine":"io_uring","version":"0.1.0","uptimeSeconds":3,"memoryBytes":7,
            "peers":[{"node":"b","state":"connected","rttMicros":80,"sentBytes":5,"receivedBytes":6,"lastError":null},
                     {"node":"c","state":"backoff","sentBytes":6}],
            "volumes":[{"name":"demo","state":"Ready","inSync":true,"syncedPercent":99.5,"files":12,"bytes":3,
            "pendingFiles":0,"message":""}]}"#,
        )
        .unwrap();
        assert_eq!(status.sent_bytes(), 11);
        let volume = &status.volumes[0];
        assert!(volume.in_sync && volume.files == 12 && volume.name == "demo");
    }

    #[test]
    fn an_agent_that_ends_is_told_with_its_log() {
        let home = tempfile::tempdir().unwrap();
        let mut agent = Agent {
            name: "a".into(),
            volume: home.path().join("v"),
            log: home.path().join("log"),
            configuration: home.path().join("agent.yaml"),
            socket: home.path().join("s"),
            // Prints an error and ends: it knows no command `run`.
            binary: "/bin/ls".into(),
            volume_name: "v".into(),
            child: None,
        };
        agent.start().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while agent.is_running() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let told = agent.must_run().unwrap_err().to_string();
        assert!(told.contains("ended by itself"), "{told}");
    }
}
