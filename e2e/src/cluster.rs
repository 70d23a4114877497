//! The cluster on which stories are told.

use crate::failure::{Failure, Outcome};
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind, Status};
use kube::runtime::conditions;
use kube::runtime::wait::{await_condition, delete::delete_and_finalize};
use kube::{Client, Config, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::time::Duration;
use syncmesh_crds::{GROUP, VERSION, definitions};

/// Who applies, in the objects' managed fields.
const MANAGER: &str = "syncmesh-e2e";
/// How long a cluster gets for what takes it a second.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster that stories may change.
pub struct Cluster {
    client: Client,
    keep: bool,
}

/// What the API server says to an object.
#[derive(Debug)]
pub enum Answer {
    /// It takes it.
    Yes,
    /// It doesn't, for this reason.
    No(String),
}

/// Whether the API server stores what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// It does.
    Store,
    /// It only says whether it would.
    Ask,
}

impl Cluster {
    /// The cluster of $KUBECONFIG, and no other: stories change things, so whoever runs them says where.
    pub async fn of_kubeconfig(keep: bool) -> Outcome<Self> {
        if std::env::var_os("KUBECONFIG").is_none() {
            return Err(Failure::new(
                "KUBECONFIG is not set, and stories are told on no cluster that nobody named: \
                 `kind create cluster --kubeconfig kind.config`, then `KUBECONFIG=kind.config cargo xtask e2e`",
            ));
        }
        let client = Client::try_default().await.map_err(Failure::to("use the cluster of $KUBECONFIG"))?;
        let version = client.apiserver_version().await.map_err(Failure::to("reach the cluster of $KUBECONFIG"))?;
        println!("cluster: Kubernetes {}", version.git_version);
        Ok(Self { client, keep })
    }

    /// For what no story says in words of its own.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// For whoever has this token, and nothing else.
    pub async fn client_of(&self, token: &str) -> Outcome<Client> {
        let mut config = Config::infer().await.map_err(Failure::to("read $KUBECONFIG"))?;
        config.auth_info = serde_json::from_value(json!({ "token": token })).map_err(Failure::to("use a token"))?;
        Client::try_from(config).map_err(Failure::to("use a token"))
    }

    /// Applies our kinds, and waits until the API server serves them.
    pub async fn install_kinds(&self) -> Outcome<()> {
        let kinds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for kind in definitions::all() {
            let name = kind.name_any();
            kinds
                .patch(&name, &apply(Intent::Store), &Patch::Apply(&kind))
                .await
                .map_err(Failure::to(format!("apply the kind {name}")))?;
            let served = await_condition(kinds.clone(), &name, conditions::is_crd_established());
            tokio::time::timeout(PATIENCE, served)
                .await
                .map_err(Failure::to(format!("see {name} established")))?
                .map_err(Failure::to(format!("watch the kind {name}")))?;
        }
        Ok(())
    }

    /// Makes a namespace for a story, or takes the one that an earlier run left.
    pub async fn open_namespace(&self, name: &str) -> Outcome<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        namespaces
            .patch(name, &apply(Intent::Store), &Patch::Apply(&namespace))
            .await
            .map_err(Failure::to(format!("make the namespace {name}")))?;
        Ok(())
    }

    /// Deletes a story's namespace and waits until it is gone, unless somebody wants to look at it.
    pub async fn close_namespace(&self, name: &str) -> Outcome<()> {
        if self.keep {
            println!("kept: namespace {name}");
            return Ok(());
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        tokio::time::timeout(PATIENCE, delete_and_finalize(namespaces, name, &DeleteParams::background()))
            .await
            .map_err(Failure::to(format!("see the namespace {name} go")))?
            .map_err(Failure::to(format!("delete the namespace {name}")))
    }

    /// Applies an object of ours, as whole as it is.
    pub async fn apply(&self, namespace: &str, object: &Value, intent: Intent) -> Outcome<Answer> {
        let (api, name) = self.api_of(namespace, object);
        answer(api.patch(&name, &apply(intent), &Patch::Apply(object)).await, &name)
    }

    /// Applies an object of ours that the API server has to take.
    pub async fn stores(&self, namespace: &str, object: &Value) -> Outcome<()> {
        match self.apply(namespace, object, Intent::Store).await? {
            Answer::Yes => Ok(()),
            Answer::No(message) => Err(Failure::new(format!("an object was refused: {message}"))),
        }
    }

    /// Waits until an object is there and as it should be.
    pub async fn see<K>(&self, api: &Api<K>, name: &str, what: &str, is_so: impl Fn(&K) -> bool) -> Outcome<K>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let seen = await_condition(api.clone(), name, |object: Option<&K>| object.is_some_and(&is_so));
        let seen = tokio::time::timeout(PATIENCE, seen).await.map_err(Failure::to(format!("see {what}")))?;
        let seen = seen.map_err(Failure::to(format!("watch {name}")))?;
        seen.ok_or_else(|| Failure::new(format!("could not see {what}: it went again")))
    }

    /// Waits until an object isn't there.
    pub async fn see_gone<K>(&self, api: &Api<K>, name: &str) -> Outcome<()>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let gone = await_condition(api.clone(), name, |object: Option<&K>| object.is_none());
        let gone = tokio::time::timeout(PATIENCE, gone).await.map_err(Failure::to(format!("see {name} go")))?;
        gone.map(drop).map_err(Failure::to(format!("watch {name}")))
    }

    /// Asks whether the API server would take an object of any kind.
    pub async fn would_take<K>(&self, object: &K) -> Outcome<Answer>
    where
        K: Resource<DynamicType = ()> + Serialize + Debug,
    {
        let resource = ApiResource::erase::<K>(&());
        let api: Api<DynamicObject> = match &object.meta().namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        let name = object.meta().name.clone().unwrap_or_default();
        answer(api.patch(&name, &apply(Intent::Ask), &Patch::Apply(object)).await, &name)
    }

    /// The cluster's nodes.
    pub async fn nodes(&self) -> Outcome<Vec<Node>> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let list = nodes.list(&ListParams::default()).await.map_err(Failure::to("list the cluster's nodes"))?;
        Ok(list.items)
    }

    /// A namespace, as the API server has it.
    pub async fn namespace(&self, name: &str) -> Outcome<Namespace> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.get(name).await.map_err(Failure::to(format!("read the namespace {name}")))
    }

    /// Writes an object's status, as its agent or the operator would.
    pub async fn apply_status(&self, namespace: &str, object: &Value, intent: Intent) -> Outcome<Answer> {
        let (api, name) = self.api_of(namespace, object);
        let status = json!({
            "apiVersion": object["apiVersion"],
            "kind": object["kind"],
            "metadata": { "name": name },
            "status": object["status"],
        });
        answer(api.patch_status(&name, &apply(intent), &Patch::Apply(&status)).await, &name)
    }

    /// Deletes an object of ours, if it is there.
    pub async fn delete(&self, namespace: &str, object: &Value) -> Outcome<()> {
        let (api, name) = self.api_of(namespace, object);
        match api.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(refusal)) if refusal.code == 404 => Ok(()),
            outcome => outcome.map(drop).map_err(Failure::to(format!("delete {name}"))),
        }
    }

    fn api_of(&self, namespace: &str, object: &Value) -> (Api<DynamicObject>, String) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = text(&object["kind"]);
        let definition = definitions::all().into_iter().find(|definition| definition.spec.names.kind == kind);
        let plural = definition.as_ref().map(|definition| definition.spec.names.plural.clone()).unwrap_or_default();
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, &kind), &plural);
        let is_namespaced = definition.is_some_and(|definition| definition.spec.scope == "Namespaced");
        let api = if is_namespaced {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        };
        (api, text(&object["metadata"]["name"]))
    }
}

/// Unknown fields are refused, as `kubectl` refuses them.
fn apply(intent: Intent) -> PatchParams {
    let parameters = PatchParams { dry_run: intent == Intent::Ask, ..PatchParams::apply(MANAGER).force() };
    parameters.validation_strict()
}

fn answer<T>(outcome: Result<T, kube::Error>, name: &str) -> Outcome<Answer> {
    match outcome {
        Ok(_) => Ok(Answer::Yes),
        Err(kube::Error::Api(refusal)) if is_about_the_object(&refusal) => Ok(Answer::No(refusal.message.clone())),
        Err(reason) => Err(Failure::new(format!("could not ask the API server about {name}: {reason}"))),
    }
}

/// Bad request, conflict, unprocessable; and 500, which server-side apply answers to what hasn't the shape of its schema.
fn is_about_the_object(refusal: &Status) -> bool {
    [400, 409, 422, 500].contains(&refusal.code)
}
