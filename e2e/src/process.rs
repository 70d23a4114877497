//! An operator as a process of this machine, for stories that need no image of it.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::rights;
use std::env;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command};

/// A running operator. It is killed when the story ends, however that is.
pub struct Operator(Child);

impl Operator {
    /// Starts the operator that was built beside the stories, on the cluster of $KUBECONFIG and with no more rights than the chart
    /// gives it.
    pub async fn start(cluster: &Cluster, name: &str, namespace: &str) -> Outcome<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e");
        let log = folder.join(format!("operator-{name}.log"));
        let file = fs::create_dir_all(&folder)
            .and_then(|()| File::create(&log))
            .map_err(Failure::to(format!("write {}", log.display())))?;
        let kubeconfig = folder.join(format!("operator-{name}.kubeconfig"));
        rights::of_operator(cluster, namespace, &kubeconfig).await?;
        let program = env::current_exe().map_err(Failure::to("find this program"))?.with_file_name("syncmesh-operator");
        let child = Command::new(&program)
            .args(["run", "--metrics", "127.0.0.1:0", "--log-level", "debug"])
            .args(["--name", name, "--namespace", namespace, "--agent-image", "syncmesh.test/agent:e2e"])
            .env("KUBECONFIG", &kubeconfig)
            .stderr(file)
            .spawn()
            .map_err(Failure::to(format!("start {}", program.display())))?;
        println!("operator {name} is started; it logs to {}", log.display());
        Ok(Self(child))
    }

    /// Most memory that it has had so far, in MiB.
    pub fn most_memory(&self) -> Outcome<u64> {
        let path = format!("/proc/{}/status", self.0.id());
        let status = fs::read_to_string(&path).map_err(Failure::to(format!("read {path}")))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib / 1024).ok_or_else(|| Failure::new(format!("{path} doesn't say how much memory it has")))
    }

    /// Kills it without a warning.
    pub fn kill(mut self) -> Outcome<()> {
        self.0.kill().and_then(|()| self.0.wait()).map(drop).map_err(Failure::to("kill an operator"))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // One that has ended already can't be killed, and that is all right.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
