//! Other tools on the same data: `cp -a` and rsync's daemon.

use super::report::Measured;
use super::rows::{SLOW_WRITES, Size, count, fill, single_writes, wait_for};
use crate::agents::free_ports;
use crate::demo::Latency;
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::usage::Usage;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A process that ends with us.
pub struct Server(pub Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server in a group of its own, its words in a file; none where the program isn't installed.
pub fn serve(command: &mut Command, log: &Path) -> Outcome<Option<Server>> {
    let out = fs::File::create(log).map_err(Failure::io("create", log))?;
    let err = out.try_clone().map_err(Failure::io("open", log))?;
    let child = command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).spawn();
    match child {
        Ok(child) => Ok(Some(Server(child))),
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(reason) => Err(Failure::new(format!("could not run {command:?}: {reason}"))),
    }
}

/// `cp -a` of the same tree: what the file system alone takes.
pub fn copy(size: Size, home: &Path) -> Outcome<Measured> {
    let from = home.join("from");
    fill(&from, size)?;
    let start = Instant::now();
    let (_, usage) = follow(Command::new("cp").arg("-a").arg(from.join(".")).arg(home.join("to")), None)?;
    Ok(Measured::of(size, start.elapsed().as_secs_f64(), usage))
}

/// A plain daemon on loopback, and the client that pushes to it.
pub fn rsync(size: Size, home: &Path) -> Outcome<Option<Measured>> {
    let from = home.join("from");
    let Some(daemon) = Daemon::start(home)? else {
        return Ok(None);
    };
    fill(&from, size)?;
    let start = Instant::now();
    let (output, client) = daemon.push(&from)?;
    let seconds = start.elapsed().as_secs_f64();
    let there = count(&home.join("to"));
    if there != size.files {
        return Err(Failure::new(format!("rsync brought {there} of {} files", size.files)));
    }
    // The daemon has to wait for its child before that one's CPU time counts.
    interrupt::pause(Duration::from_millis(200))?;
    let server = Usage::of(daemon.server.0.id()).unwrap_or_default();
    Ok(Some(Measured {
        sent: Some(sent_bytes(&String::from_utf8_lossy(&output.stdout))),
        ..Measured::of(size, seconds, client.and(server))
    }))
}

/// One pass for each write, as a script in a loop would.
pub fn rsync_latency(home: &Path) -> Outcome<Option<Measured>> {
    let from = home.join("from");
    let to = home.join("to");
    fs::create_dir(&from).map_err(Failure::io("create", &from))?;
    let Some(daemon) = Daemon::start(home)? else {
        return Ok(None);
    };
    let start = Instant::now();
    let millis = single_writes(&from, &to, SLOW_WRITES, |_| daemon.push(&from).map(drop))?;
    Ok(Some(Measured {
        seconds: start.elapsed().as_secs_f64(),
        files: SLOW_WRITES,
        latency: Latency::of(millis),
        ..Measured::default()
    }))
}

struct Daemon {
    server: Server,
    port: u16,
}

impl Daemon {
    fn start(home: &Path) -> Outcome<Option<Self>> {
        let to = home.join("to");
        fs::create_dir(&to).map_err(Failure::io("create", &to))?;
        let port = free_ports(1)?[0];
        let configuration = home.join("rsyncd.conf");
        // As root it would become nobody, who can't write here nor set owners.
        let identity = if rustix::process::geteuid().is_root() { "uid = root\ngid = root\n" } else { "" };
        let text = format!(
            "port = {port}\naddress = 127.0.0.1\nuse chroot = no\n{identity}[data]\npath = {}\nread only = no\n",
            to.display()
        );
        fs::write(&configuration, text).map_err(Failure::io("write", &configuration))?;
        let server = serve(
            Command::new("rsync").args(["--daemon", "--no-detach", "--config"]).arg(&configuration),
            &home.join("rsyncd.log"),
        )?;
        let Some(server) = server else {
            return Ok(None);
        };
        let limit = Duration::from_secs(10);
        wait_for("rsync's daemon", limit, Duration::from_millis(10), || {
            Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
        })?;
        Ok(Some(Self { server, port }))
    }

    fn push(&self, from: &Path) -> Outcome<(Output, Usage)> {
        follow(
            Command::new("rsync")
                .args(["-a", "--stats"])
                .arg(from.join("."))
                .arg(format!("rsync://127.0.0.1:{}/data/", self.port)),
            Some(self.server.0.id()),
        )
    }
}

/// "Total bytes sent: 1,234" and received, added up: both ends' bytes.
fn sent_bytes(stats: &str) -> u64 {
    stats
        .lines()
        .filter_map(|line| {
            line.strip_prefix("Total bytes sent: ").or_else(|| line.strip_prefix("Total bytes received: "))
        })
        .filter_map(|number| number.replace([',', '.'], "").trim().parse::<u64>().ok())
        .sum()
}

/// Runs a command to its end, which has to be good, and what it used. The memory of `server`'s children counts, too.
fn follow(command: &mut Command, server: Option<u32>) -> Outcome<(Output, Usage)> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|reason| Failure::new(format!("could not run {command:?}: {reason}")))?;
    let id = Pid::from_raw(child.id() as i32).expect("a child's id is positive");
    let (mut peak, mut children, mut rounds) = (0, 0, 0_u32);
    // An ended process that nobody waited for still tells its CPU time, but no memory.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while !matches!(waitid(WaitId::Pid(id), options), Ok(Some(_)) | Err(_)) {
        if rounds.is_multiple_of(20) {
            peak = peak.max(Usage::of(child.id()).map_or(0, |usage| usage.peak));
            children = children.max(server.map_or(0, children_peak));
        }
        rounds += 1;
        if let Err(stop) = interrupt::pause(Duration::from_millis(1)) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(stop);
        }
    }
    let cpu_seconds = Usage::of(child.id()).map_or(0.0, |usage| usage.cpu_seconds);
    let output = child.wait_with_output().map_err(|reason| Failure::new(format!("lost {command:?}: {reason}")))?;
    if !output.status.success() {
        return Err(Failure::new(format!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    let usage = Usage { cpu_seconds, resident: 0, peak: peak + children };
    Ok((output, usage))
}

fn children_peak(parent: u32) -> u64 {
    let path = format!("/proc/{parent}/task/{parent}/children");
    fs::read_to_string(path)
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|id| id.parse().ok())
        .filter_map(Usage::of)
        .map(|usage| usage.peak)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rsyncs_statistics_are_added_up() {
        let text = "Number of files: 3\nTotal bytes sent: 1,234,567\nTotal bytes received: 1,000\n";
        assert_eq!(sent_bytes(text), 1_235_567);
    }

    #[test]
    fn a_command_that_fails_is_told_with_its_words() {
        let told = follow(Command::new("ls").arg("/no such directory"), None);
        assert!(told.unwrap_err().to_string().contains("no such directory"));
    }
}
