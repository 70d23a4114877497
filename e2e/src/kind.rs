//! The kind cluster of $KUBECONFIG: its nodes are containers of this machine, and images come into it from here.

use crate::failure::{Failure, Outcome};
use crate::product;
use crate::program::{kubectl, repository, run};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where agents keep everything on a node.
const ROOT: &str = "/var/lib/syncmesh";
/// The image of the guide's pods.
const BUSYBOX: &str = "busybox:1.37";

/// The nftables table that cuts nodes.
const CUT: &str = "syncmesh-cut";

/// A kind cluster.
pub struct Kind {
    name: String,
}

impl Kind {
    /// The one of $KUBECONFIG. Its context tells its name.
    pub fn of_kubeconfig() -> Outcome<Self> {
        let context = kubectl("config current-context")?;
        let name = context.trim().strip_prefix("kind-").ok_or_else(|| {
            Failure::new(format!(
                "$KUBECONFIG leads to {}, which is no kind cluster: this story loads images into nodes and mounts their disks, so \
                 make one with `kind create cluster`",
                context.trim()
            ))
        })?;
        Ok(Self { name: name.to_owned() })
    }

    /// Its nodes' names.
    pub fn nodes(&self) -> Outcome<Vec<String>> {
        let nodes = run("kind", ["get", "nodes", "--name", &self.name])?;
        Ok(nodes.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
    }

    /// The one with the API server.
    pub fn control_plane(&self) -> String {
        format!("{}-control-plane", self.name)
    }

    /// Two of them that take pods.
    pub fn workers(&self) -> Outcome<[String; 2]> {
        let mut workers = self.nodes()?;
        workers.retain(|node| !node.ends_with("control-plane"));
        workers.sort();
        workers.truncate(2);
        <[String; 2]>::try_from(workers)
            .map_err(|found| Failure::new(format!("two workers are needed, there are {}", found.len())))
    }

    /// Runs a shell's line on a node.
    pub fn on(&self, node: &str, line: &str) -> Outcome<String> {
        run("docker", ["exec", node, "sh", "-ec", line])
    }

    /// Gives each node 2 GiB of memory for the storage root, empty, so that the disk of this machine doesn't decide.
    pub fn has_fresh_disks(&self) -> Outcome<()> {
        self.nodes()?.iter().try_for_each(|node| self.has_fresh_disk(node))
    }

    fn has_fresh_disk(&self, node: &str) -> Outcome<()> {
        // Lazily, since a pod that ends may still have it.
        self.on(node, &format!("while mountpoint -q {ROOT}; do umount -l {ROOT}; done"))?;
        self.on(node, &format!("mkdir -p {ROOT} && mount -t tmpfs -o size=2g,mode=0700 tmpfs {ROOT}")).map(drop)
    }

    /// Has the storage root on each node's own disk, empty: what is there survives when the node stops.
    pub fn has_own_disks(&self) -> Outcome<()> {
        for node in self.nodes()? {
            self.on(&node, &format!("while mountpoint -q {ROOT}; do umount -l {ROOT}; done; rm -rf {ROOT}"))?;
        }
        Ok(())
    }

    /// A node stops at once, as if its power were cut.
    pub fn stop(&self, node: &str) -> Outcome<()> {
        run("docker", ["kill", node]).map(drop)
    }

    /// It starts again.
    pub fn start(&self, node: &str) -> Outcome<()> {
        run("docker", ["start", node]).map(drop)
    }

    /// A machine burns: its pods end without a warning, its disk is another one, and somebody deletes its Node.
    pub fn lose(&self, node: &str) -> Outcome<()> {
        let kill = "ctr -n k8s.io tasks kill --all --signal SIGKILL";
        self.on(
            node,
            &format!(
                "systemctl stop kubelet; ctr -n k8s.io tasks ls -q | while read task; do {kill} $task || true; done"
            ),
        )?;
        self.on(node, "while pgrep -x syncmesh-agent; do sleep 0.2; done")?;
        // A kernel that lives goes on sending what its dead processes had written.
        self.on(node, "for space in /run/netns/*; do nsenter --net=$space ss -K -ta; done")?;
        self.has_fresh_disk(node)?;
        kubectl(&format!("delete node {node}"))?;
        // The cluster would do so by itself, minutes later: what comes under the name is to begin with pods of its own.
        kubectl(&format!("delete pods -A --field-selector spec.nodeName={node} --force --grace-period=0"))?;
        println!("{node} is lost");
        Ok(())
    }

    /// A new machine comes under the name of one that was lost.
    pub fn replace(&self, node: &str) -> Outcome<()> {
        self.on(node, "systemctl start kubelet")?;
        kubectl(&format!("wait node/{node} --for=create --timeout=60s"))?;
        kubectl(&format!("wait node/{node} --for=condition=Ready --timeout=120s"))?;
        println!("another machine has the name {node}");
        Ok(())
    }

    /// Builds the image of agent and operator under the name that the chart has, and loads it. Once: all stories of a run tell of one
    /// image.
    pub fn has_our_image(&self) -> Outcome<()> {
        static LOADED: AtomicBool = AtomicBool::new(false);
        if LOADED.load(Ordering::Relaxed) {
            return Ok(());
        }
        let tag = run("cargo", ["xtask", "image"])?;
        let tag = tag.lines().last().unwrap_or_default().trim();
        println!("image {tag} is built");
        self.load(tag)?;
        LOADED.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Loads the image of the guide's pods. Where nobody has pulled it, it is made of this machine's static busybox.
    pub fn has_busybox(&self) -> Outcome<()> {
        if run("docker", ["image", "inspect", BUSYBOX]).is_err() {
            pack_busybox()?;
        }
        self.load(BUSYBOX)
    }

    /// Cuts two nodes, and the pods on them, from each other, until [`Kind::mend`]. Both reach all others.
    pub fn cut(&self, node: &str, other: &str) -> Outcome<()> {
        let pods = kubectl(&format!("get node {other} -o jsonpath={{.spec.podCIDR}}"))?;
        let address =
            kubectl(&format!("get node {other} -o jsonpath={{.status.addresses[?(@.type==\"InternalIP\")].address}}"))?;
        for side in ["saddr", "daddr"] {
            self.drop_arriving(node, &format!("ip {side} '{{ {}, {} }}'", pods.trim(), address.trim()))?;
        }
        println!("{node} is cut from {other}");
        Ok(())
    }

    /// Keeps the pod of a node's agent from the API server, until [`Kind::mend`].
    pub fn mute_agent(&self, node: &str) -> Outcome<()> {
        let server = kubectl("get service -n default kubernetes -o jsonpath={.spec.clusterIP}")?;
        let pod = product::agent(node, ".status.podIP")?;
        self.drop_arriving(node, &format!("ip saddr {pod} ip daddr {}", server.trim()))?;
        println!("the agent on {node} is kept from the API server");
        Ok(())
    }

    /// What fits this and comes to a node, or from its pods, doesn't get further.
    fn drop_arriving(&self, node: &str, what: &str) -> Outcome<()> {
        let chain = format!("inet {CUT} arriving");
        self.on(
            node,
            &format!(
                "nft add table inet {CUT}; nft add chain {chain} '{{ type filter hook prerouting priority -300; }}'; \
                 nft add rule {chain} {what} drop"
            ),
        )
        .map(drop)
    }

    /// Ends a cut.
    pub fn mend(&self, node: &str) -> Outcome<()> {
        self.on(node, &format!("nft delete table inet {CUT}")).map(drop)
    }

    /// The agent's process on a node.
    pub fn agent_on(&self, node: &str) -> Outcome<String> {
        self.on(node, "pgrep -x syncmesh-agent | head -n 1")
    }

    /// Kills a node's agent without a warning. The kubelet starts another one.
    pub fn kill_agent(&self, node: &str) -> Outcome<()> {
        self.on(node, "until pkill -9 -x syncmesh-agent; do sleep 0.2; done").map(drop)
    }

    /// The API server and all else on its node stand still.
    pub fn pause_control_plane(&self) -> Outcome<()> {
        run("docker", ["pause", &self.control_plane()]).map(drop)
    }

    /// They go on.
    pub fn resume_control_plane(&self) -> Outcome<()> {
        run("docker", ["unpause", &self.control_plane()]).map(drop)
    }

    fn load(&self, image: &str) -> Outcome<()> {
        run("kind", ["load", "docker-image", "--name", &self.name, image]).map(drop)
    }
}

/// One binary, and a link for each program that it is.
fn pack_busybox() -> Outcome<()> {
    let programs = run("/bin/busybox", ["--list"]).map_err(|_| {
        Failure::new(format!(
            "the guide's pods need the image {BUSYBOX}: `docker pull {BUSYBOX}`, or install the package busybox-static (Debian, Ubuntu), \
             of which it is made then"
        ))
    })?;
    let folder = repository().join("target/e2e/busybox");
    // What an earlier run left may be another release.
    let _ = fs::remove_dir_all(&folder);
    let made = fill_busybox(&folder, &programs);
    made.map_err(Failure::to(format!("write {}", folder.display())))?;
    run("docker", ["build", "--quiet", "--tag", BUSYBOX, &folder.to_string_lossy()])?;
    run("docker", ["run", "--rm", BUSYBOX, "true"]).map(drop).map_err(|failure| {
        Failure::new(format!("this machine's /bin/busybox needs libraries, install busybox-static instead: {failure}"))
    })
}

fn fill_busybox(folder: &Path, programs: &str) -> std::io::Result<()> {
    let programs = programs.lines().filter(|name| *name != "busybox");
    fs::create_dir_all(folder.join("bin"))?;
    fs::copy("/bin/busybox", folder.join("bin/busybox"))?;
    for program in programs {
        symlink("busybox", folder.join("bin").join(program))?;
    }
    fs::write(folder.join("Dockerfile"), "FROM scratch\nCOPY bin /bin\nCMD [\"sh\"]\n")
}
