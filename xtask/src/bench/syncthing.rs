//! Two Syncthing processes on loopback, without discovery, relays or reports.

use super::peers::{Server, serve};
use super::report::Measured;
use super::rows::{LIMIT, SLOW_WRITES, Size, fill, single_writes, wait_for};
use crate::agents::free_ports;
use crate::demo::Latency;
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::usage::Usage;
use serde_json::Value;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Of its REST interface; it listens on loopback for the length of a run.
const KEY: &str = "syncmesh-bench";
const POLL: Duration = Duration::from_millis(200);

struct Node {
    folder: PathBuf,
    home: PathBuf,
    device: String,
    data_port: u16,
    rest_port: u16,
    server: Option<Server>,
}

/// Like ours: the empty one first, time from the start of the full one.
pub fn transfer(size: Size, home: &Path) -> Outcome<Option<Measured>> {
    let Some(mut nodes) = nodes(home, &["a", "b"], 10.0)? else {
        return Ok(None);
    };
    fill(&nodes[0].folder, size)?;
    nodes[1].start()?;
    let start = Instant::now();
    nodes[0].start()?;
    wait_for("Syncthing's transfer", LIMIT, POLL, || Ok(nodes[1].files("inSyncFiles") >= size.files as u64))?;
    let seconds = start.elapsed().as_secs_f64();
    let usage = usage(&nodes);
    let sent = nodes.iter().map(Node::sent_bytes).sum();
    Ok(Some(Measured { sent: Some(sent), ..Measured::of(size, seconds, usage) }))
}

/// With the shortest delay of its watcher that it takes; the default of 10 s would measure only the default.
pub fn latency(home: &Path) -> Outcome<Option<Measured>> {
    // Older versions know whole seconds only, and end at once when they read a fraction.
    let mut started = None;
    for (attempt, delay) in [("fraction", 0.01), ("whole", 1.0)] {
        let Some(mut nodes) = nodes(&home.join(attempt), &["a", "b"], delay)? else {
            return Ok(None);
        };
        if nodes.iter_mut().try_for_each(Node::start).is_ok() {
            eprintln!("syncthing's watcher delay: {delay} s");
            started = Some(nodes);
            break;
        }
    }
    let nodes =
        started.ok_or_else(|| Failure::new("syncthing doesn't start; `syncthing serve` in a terminal says why"))?;
    wait_for("Syncthing's connection", LIMIT, POLL, || Ok(nodes.iter().all(Node::is_connected)))?;
    let start = Instant::now();
    let millis = single_writes(&nodes[0].folder, &nodes[1].folder, SLOW_WRITES, |_| Ok(()))?;
    let usage = usage(&nodes);
    Ok(Some(Measured {
        seconds: start.elapsed().as_secs_f64(),
        files: SLOW_WRITES,
        cpu_seconds: usage.cpu_seconds,
        peak: usage.peak,
        latency: Latency::of(millis),
        ..Measured::default()
    }))
}

/// One process that knows all files.
pub fn memory(size: Size, home: &Path) -> Outcome<Option<Measured>> {
    let Some(mut nodes) = nodes(home, &["a"], 10.0)? else {
        return Ok(None);
    };
    fill(&nodes[0].folder, size)?;
    let start = Instant::now();
    nodes[0].start()?;
    wait_for("Syncthing's scan", LIMIT, POLL, || Ok(nodes[0].files("localFiles") >= size.files as u64))?;
    let seconds = start.elapsed().as_secs_f64();
    interrupt::pause(Duration::from_secs(3))?;
    let usage = usage(&nodes);
    Ok(Some(Measured { resident: Some(usage.resident), ..Measured::of(size, seconds, usage) }))
}

fn usage(nodes: &[Node]) -> Usage {
    nodes.iter().filter_map(|node| Usage::of(node.server.as_ref()?.0.id())).fold(Usage::default(), Usage::and)
}

/// Identities and configurations; none where it isn't installed.
fn nodes(home: &Path, names: &[&str], watch_delay: f64) -> Outcome<Option<Vec<Node>>> {
    let ports = free_ports(2 * names.len())?;
    let mut nodes = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let place = home.join(format!("home-{name}"));
        let folder = home.join(name);
        // Without its marker it takes a folder for lost.
        fs::create_dir_all(folder.join(".stfolder")).map_err(Failure::io("create", &folder))?;
        let generated =
            Command::new("syncthing").args(["generate", "--no-default-folder", "--home"]).arg(&place).output();
        match generated {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                return Err(Failure::new(format!(
                    "syncthing generate ended with {}: {}",
                    output.status,
                    String::from_utf8_lossy(&output.stdout)
                )));
            }
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(reason) => {
                return Err(Failure::new(format!("could not run syncthing: {reason}")));
            }
        }
        let path = place.join("config.xml");
        let made = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
        let device = made
            .split_once("<device id=\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(device, _)| device.to_owned())
            .ok_or_else(|| Failure::new(format!("{} names no device", path.display())))?;
        nodes.push(Node {
            folder,
            home: place,
            device,
            data_port: ports[2 * number],
            rest_port: ports[2 * number + 1],
            server: None,
        });
    }
    for node in &nodes {
        let path = node.home.join("config.xml");
        fs::write(&path, configuration(node, &nodes, watch_delay)).map_err(Failure::io("write", &path))?;
    }
    Ok(Some(nodes))
}

fn configuration(own: &Node, all: &[Node], watch_delay: f64) -> String {
    let shared: String = all.iter().map(|node| format!("<device id=\"{}\"/>", node.device)).collect();
    let devices: String = all
        .iter()
        .map(|node| {
            format!(
                "<device id=\"{}\" compression=\"metadata\"><address>tcp://127.0.0.1:{}</address></device>\n",
                node.device, node.data_port
            )
        })
        .collect();
    format!(
        "<configuration version=\"35\">\n\
         <folder id=\"bench\" path=\"{folder}\" type=\"sendreceive\" rescanIntervalS=\"3600\" \
         fsWatcherEnabled=\"true\" fsWatcherDelayS=\"{watch_delay}\">{shared}</folder>\n\
         {devices}\
         <gui enabled=\"true\" tls=\"false\"><address>127.0.0.1:{rest}</address><apikey>{KEY}</apikey></gui>\n\
         <options><listenAddress>tcp://127.0.0.1:{data}</listenAddress>\
         <globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>\
         <relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><startBrowser>false</startBrowser>\
         <reconnectionIntervalS>1</reconnectionIntervalS>\
         <urAccepted>-1</urAccepted><autoUpgradeIntervalH>0</autoUpgradeIntervalH>\
         <crashReportingEnabled>false</crashReportingEnabled></options>\n\
         </configuration>\n",
        folder = own.folder.display(),
        rest = own.rest_port,
        data = own.data_port,
    )
}

impl Node {
    fn start(&mut self) -> Outcome<()> {
        self.server = serve(
            Command::new("syncthing")
                .args(["serve", "--no-browser", "--no-restart", "--home"])
                .arg(&self.home)
                // Without its monitor process, so that usage is the worker's.
                .env("STMONITORED", "yes")
                .env("STNOUPGRADE", "1"),
            &self.home.join("log"),
        )?;
        wait_for("Syncthing's start", Duration::from_secs(30), POLL, || Ok(self.get("/rest/system/ping").is_some()))
    }

    fn files(&self, field: &str) -> u64 {
        self.get("/rest/db/status?folder=bench").and_then(|status| status[field].as_u64()).unwrap_or(0)
    }

    fn sent_bytes(&self) -> u64 {
        self.get("/rest/system/connections").and_then(|found| found["total"]["outBytesTotal"].as_u64()).unwrap_or(0)
    }

    fn is_connected(&self) -> bool {
        self.get("/rest/system/connections").is_some_and(|found| {
            found["connections"].as_object().is_some_and(|all| all.values().any(|one| one["connected"] == true))
        })
    }

    /// A GET in HTTP/1.0, whose answer ends with the connection. Two lines that need no client library.
    fn get(&self, path: &str) -> Option<Value> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.rest_port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nX-API-Key: {KEY}\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }
}
