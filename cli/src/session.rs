//! The cluster and the namespace that a command is about.

use crate::failure::{Failure, Outcome};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::process::Command;
use syncmesh_crds::SyncVolume;

/// kubectl's own flags, as far as they make sense here.
#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// The namespace [default: the context's]
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,
    /// The context of the kubeconfig [default: its current one]
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig [default: $KUBECONFIG, ~/.kube/config]
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// A cluster, and a namespace in it.
pub struct Session {
    /// For calls of the API server.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    flags: Flags,
}

/// An agent's pod.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its node.
    pub node: String,
    namespace: String,
    pod: String,
}

#[cfg(test)]
impl Agent {
    /// One on this node.
    pub fn on(node: &str) -> Self {
        Self { node: node.into(), namespace: "syncmesh-system".into(), pod: format!("agent-on-{node}") }
    }
}

impl Session {
    /// As the flags say.
    pub async fn begin(flags: &Flags) -> Outcome<Self> {
        let options = KubeConfigOptions { context: flags.context.clone(), ..KubeConfigOptions::default() };
        let config = match &flags.kubeconfig {
            Some(file) => {
                let read = Kubeconfig::read_from(file).map_err(Failure::to(format!("read {}", file.display())))?;
                Config::from_custom_kubeconfig(read, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        let config = config.map_err(Failure::to("find the cluster: see `kubectl config view`"))?;
        let namespace = flags.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(Failure::to("use the cluster's address"))?;
        Ok(Self { client, namespace, flags: flags.clone() })
    }

    /// Objects of the namespace.
    pub fn here<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The volume of this name, or the only one.
    pub async fn volume(&self, name: Option<&str>) -> Outcome<SyncVolume> {
        let volumes: Api<SyncVolume> = self.here();
        if let Some(name) = name {
            return volumes.get(name).await.map_err(Failure::call(format!("read volume {}/{name}", self.namespace)));
        }
        let mut all = volumes.list(&ListParams::default()).await.map_err(Failure::call("list volumes"))?.items;
        match (all.pop(), all.is_empty()) {
            (Some(volume), true) => Ok(volume),
            (None, _) => {
                Err(Failure::new(format!("namespace {} has no volume: name another one with -n", self.namespace)))
            }
            (Some(_), false) => {
                Err(Failure::new(format!("namespace {} has several volumes: name one with --volume", self.namespace)))
            }
        }
    }

    /// The running agents of a mesh, by node.
    pub async fn agents(&self, mesh: &str) -> Outcome<Vec<Agent>> {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let which =
            ListParams::default().labels(&format!("app.kubernetes.io/name=syncmesh-agent,syncmesh.io/mesh={mesh}"));
        let listed = pods.list(&which).await.map_err(Failure::call(format!("list the agents of mesh {mesh}")))?;
        let is_running = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        let agent = |pod: Pod| {
            let node = pod.spec.as_ref()?.node_name.clone()?;
            is_running(&pod).then(|| Agent {
                node,
                namespace: pod.namespace().unwrap_or_default(),
                pod: pod.name_any(),
            })
        };
        let mut agents: Vec<Agent> = listed.into_iter().filter_map(agent).collect();
        agents.sort_by(|one, other| one.node.cmp(&other.node));
        if agents.is_empty() {
            return Err(Failure::new(format!(
                "mesh {mesh} has no running agent: see `kubectl get smesh {mesh} -o wide`"
            )));
        }
        Ok(agents)
    }

    /// What an agent answers to a command that prints JSON.
    pub fn ask<T: DeserializeOwned>(&self, agent: &Agent, arguments: &[&str]) -> Outcome<T> {
        let what = format!("ask the agent on {}", agent.node);
        let mut command = self.kubectl();
        command.args([
            "exec",
            "--namespace",
            &agent.namespace,
            &agent.pod,
            "--container",
            "agent",
            "--",
            "/syncmesh-agent",
        ]);
        let output = command.args(arguments).args(["-o", "json"]).output();
        let output = output.map_err(Failure::to("run kubectl, which has to be on PATH"))?;
        if output.status.success() {
            serde_json::from_slice(&output.stdout).map_err(Failure::to(what))
        } else {
            Err(Failure::to(what)(String::from_utf8_lossy(&output.stderr).trim()))
        }
    }

    /// What all of these agents answer, at once.
    pub fn ask_all<T: DeserializeOwned + Send>(
        &self,
        agents: &[Agent],
        arguments: &[&str],
    ) -> Vec<(String, Outcome<T>)> {
        std::thread::scope(|scope| {
            let asked: Vec<_> = agents.iter().map(|agent| scope.spawn(|| self.ask(agent, arguments))).collect();
            let answer = |(agent, asked): (&Agent, std::thread::ScopedJoinHandle<'_, Outcome<T>>)| {
                let answer = asked.join().unwrap_or_else(|_| Err(Failure::new("a thread of this program failed")));
                (agent.node.clone(), answer)
            };
            agents.iter().zip(asked).map(answer).collect()
        })
    }

    /// kubectl, for the same cluster.
    pub fn kubectl(&self) -> Command {
        let mut command = Command::new("kubectl");
        if let Some(context) = &self.flags.context {
            command.args(["--context", context]);
        }
        if let Some(file) = &self.flags.kubeconfig {
            command.arg("--kubeconfig").arg(file);
        }
        command
    }
}

/// How agents call a volume.
pub fn id(volume: &SyncVolume) -> Outcome<String> {
    let known = volume.status.as_ref().and_then(|status| status.volume_id.clone());
    known.ok_or_else(|| {
        Failure::new(format!("volume {} has no directories yet: see `kubectl get svol -o wide`", volume.name_any()))
    })
}
