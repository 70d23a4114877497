//! The calls that change something in the cluster.

use crate::difference;
use crate::error::Error;
use crate::metrics::Metrics;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject, NamespaceResourceScope};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::sync::Arc;
use syncmesh_crds::state::State;
use tracing::info;

/// Who writes, in objects' managed fields: each applies the whole of what it owns, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manager {
    /// The mesh that a new installation begins with.
    FirstMesh,
    /// What a mesh's agents need.
    Agents,
    /// Replicas, but for people's decisions.
    Replicas,
    /// People's decisions in replicas.
    Decisions,
    /// What pods mount.
    Mounts,
    /// Questions to people.
    Questions,
    /// Roots of meshes.
    Authority,
    /// Certificates of agents.
    Certificates,
    /// Volumes for claims of our StorageClasses.
    Provisioned,
    /// How things are.
    Status,
}

impl Manager {
    fn as_str(self) -> &'static str {
        match self {
            Self::FirstMesh => "syncmesh-operator-first-mesh",
            Self::Agents => "syncmesh-operator-agents",
            Self::Replicas => "syncmesh-operator-replicas",
            Self::Decisions => "syncmesh-operator-decisions",
            Self::Mounts => "syncmesh-operator-mounts",
            Self::Questions => "syncmesh-operator-questions",
            Self::Authority => "syncmesh-operator-authority",
            Self::Certificates => "syncmesh-operator-certificates",
            Self::Provisioned => "syncmesh-operator-provisioned",
            Self::Status => "syncmesh-operator-status",
        }
    }
}

/// The calls that change something in the cluster.
pub struct Writes {
    client: Client,
    recorder: Recorder,
    metrics: Arc<Metrics>,
}

impl Writes {
    /// By this client, and in the name of this operator.
    pub fn new(client: Client, operator: &str, metrics: Arc<Metrics>) -> Self {
        let reporter = Reporter { controller: "syncmesh-operator".into(), instance: Some(operator.to_owned()) };
        Self { recorder: Recorder::new(client.clone(), reporter), client, metrics }
    }

    /// Applies an object unless it is there as it should be.
    pub async fn ensure<K>(&self, manager: Manager, desired: K, existing: Option<&K>) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Serialize + Debug,
    {
        let desired = difference::signed(desired);
        if existing.is_some_and(|existing| difference::is_there(&desired, existing)) {
            return Ok(());
        }
        self.apply(manager, &desired).await
    }

    /// Applies an object.
    pub async fn apply<K>(&self, manager: Manager, object: &K) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Serialize + Debug,
    {
        let what = format!("apply {}", name_of(object));
        info!("{what}");
        let api = self.writing(object);
        api.patch(&object.name_any(), &by(manager), &Patch::Apply(object)).await.map(drop).map_err(Error::call(what))
    }

    /// Applies some fields of an object that is there.
    pub async fn apply_fields<K>(&self, manager: Manager, object: &K, fields: Value) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let what = format!("apply some of {}", name_of(object));
        info!("{what}");
        let patch = Patch::Apply(of(object, fields));
        let api = self.writing(object);
        api.patch(&object.name_any(), &by(manager), &patch).await.map(drop).map_err(Error::call(what))
    }

    /// Applies an object's status.
    pub async fn apply_status<K, S>(&self, object: &K, status: &S) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()>,
        S: Serialize,
    {
        let what = format!("write the status of {}", name_of(object));
        let patch = Patch::Apply(of(object, json!({ "status": status })));
        let api = self.writing(object);
        let written = api.patch_status(&object.name_any(), &by(Manager::Status), &patch).await;
        written.map(drop).map_err(Error::call(what))
    }

    /// Applies some fields of one part of an object, the same one that was read: nobody else's under its name.
    pub async fn apply_part<K>(&self, manager: Manager, object: &K, part: &str, fields: Value) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let what = format!("write the {part} of {}", name_of(object));
        let mut fields = of(object, fields);
        fields["metadata"]["uid"] = json!(object.meta().uid);
        let api = self.writing(object);
        let written = api.patch_subresource(part, &object.name_any(), &by(manager), &Patch::Apply(fields)).await;
        written.map(drop).map_err(Error::call(what))
    }

    /// Merges some fields into one part of an object that others write, too.
    pub async fn merge_part<K>(&self, manager: Manager, object: &K, part: &str, mut fields: Value) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let what = format!("write the {part} of {}", name_of(object));
        info!("{what}");
        fields["metadata"] = json!({ "uid": object.meta().uid });
        let by = PatchParams { field_manager: Some(manager.as_str().into()), ..PatchParams::default() };
        let api = self.writing(object);
        let written = api.patch_subresource(part, &object.name_any(), &by, &Patch::Merge(fields)).await;
        written.map(drop).map_err(Error::call(what))
    }

    /// Replaces an object that is as it was read: its version is part of it.
    pub async fn replace<K>(&self, manager: Manager, object: &K) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
    {
        let what = format!("replace {}", name_of(object));
        info!("{what}");
        let value = serde_json::to_value(object).and_then(serde_json::from_value);
        let value = value.map_err(kube::Error::SerdeError).map_err(Error::call(what.clone()))?;
        let by = PostParams { field_manager: Some(manager.as_str().into()), ..PostParams::default() };
        let api = self.writing(object);
        api.replace(&object.name_any(), &by, &value).await.map(drop).map_err(Error::call(what))
    }

    /// Writes a status that is another one than before, and tells of another state.
    pub async fn show<K, S>(
        &self,
        object: &K,
        before: Option<&S>,
        after: &S,
        state: fn(&S) -> Option<State>,
        message: Option<&str>,
    ) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()>,
        S: Serialize + PartialEq,
    {
        if before == Some(after) {
            return Ok(());
        }
        self.apply_status(object, after).await?;
        match state(after) {
            Some(now) if before.and_then(state) != Some(now) => self.tell(object, now, message).await,
            _ => Ok(()),
        }
    }

    /// Makes an object. One of that name that is there already stays as it is, whosever it is.
    pub async fn create<K>(&self, manager: Manager, object: &K) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug,
    {
        let what = format!("make {}", name_of(object));
        info!("{what}");
        let api = self.writing(object);
        let value = serde_json::to_value(object).and_then(serde_json::from_value);
        let value = value.map_err(kube::Error::SerdeError).map_err(Error::call(what.clone()))?;
        let by = PostParams { field_manager: Some(manager.as_str().into()), ..PostParams::default() };
        match api.create(&by, &value).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            made => made.map(drop).map_err(Error::call(what)),
        }
    }

    /// Changes an object by a JSON patch that begins with a test of its uid: an object made anew under the name is another one.
    pub async fn change<K>(&self, manager: Manager, object: &K, operations: Vec<Value>) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let what = format!("change {}", name_of(object));
        info!("{what}");
        let mut all = vec![json!({ "op": "test", "path": "/metadata/uid", "value": object.meta().uid })];
        all.extend(operations);
        let patch = serde_json::from_value(Value::Array(all));
        let patch = patch.map_err(kube::Error::SerdeError).map_err(Error::call(what.clone()))?;
        let by = PatchParams { field_manager: Some(manager.as_str().into()), ..PatchParams::default() };
        match self.writing(object).patch(&object.name_any(), &by, &Patch::Json::<()>(patch)).await {
            // What is gone needs no change: its watch comes later than its end.
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            changed => changed.map(drop).map_err(Error::call(what)),
        }
    }

    /// Merges some metadata into an object that is there.
    pub async fn annotate<K>(&self, manager: Manager, object: &K, fields: Value) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let what = format!("annotate {}", name_of(object));
        info!("{what}");
        let by = PatchParams { field_manager: Some(manager.as_str().into()), ..PatchParams::default() };
        let api = self.writing(object);
        api.patch(&object.name_any(), &by, &Patch::Merge(fields)).await.map(drop).map_err(Error::call(what))
    }

    /// Deletes an object as it was read, and no later one.
    pub async fn delete<K>(&self, object: &K) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()>,
    {
        if object.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        let what = format!("delete {}", name_of(object));
        info!("{what}");
        let meta = object.meta();
        let as_read = Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
        match self.writing(object).delete(&object.name_any(), &DeleteParams::default().preconditions(as_read)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            deleted => deleted.map(drop).map_err(Error::call(what)),
        }
    }

    /// An object of a namespace, as the API server itself sees it.
    pub async fn read<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let what = format!("read {} {namespace}/{name}", K::kind(&()));
        Api::namespaced(self.client.clone(), namespace).get_opt(name).await.map_err(Error::call(what))
    }

    /// Whether an object is there still, the same one and not being deleted, as the API server itself sees it.
    pub async fn is_wanted_still<K>(&self, object: &K) -> Result<bool, Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let what = format!("read {}", name_of(object));
        let found = self.api_of(object).get_metadata_opt(&object.name_any()).await.map_err(Error::call(what))?;
        Ok(found.is_some_and(|found| {
            found.metadata.uid == object.meta().uid && found.metadata.deletion_timestamp.is_none()
        }))
    }

    /// Tells by an event that an object's state is another one now.
    pub async fn tell<K>(&self, object: &K, state: State, message: Option<&str>) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let is_odd = matches!(state, State::Degraded | State::Held | State::Fenced | State::Failed | State::Unknown);
        let r#type = if is_odd { EventType::Warning } else { EventType::Normal };
        self.event(object, r#type, format!("{state:?}"), message).await
    }

    /// Tells by an event why an object can't have what it asks for.
    pub async fn complain<K>(&self, object: &K, reason: &str, message: &str) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()>,
    {
        self.event(object, EventType::Warning, reason.to_owned(), Some(message)).await
    }

    async fn event<K>(&self, object: &K, r#type: EventType, reason: String, message: Option<&str>) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()>,
    {
        let what = format!("write an event about {}", name_of(object));
        let event = Event {
            type_: r#type,
            reason,
            // An event takes a kilobyte.
            note: message.map(|message| message.chars().take(250).collect()),
            action: "Reconcile".into(),
            secondary: None,
        };
        self.metrics.written();
        self.recorder.publish(&event, &object.object_ref(&())).await.map_err(Error::call(what))
    }

    /// For one call that changes something.
    fn writing<K: Resource<DynamicType = ()>>(&self, object: &K) -> Api<DynamicObject> {
        self.metrics.written();
        self.api_of(object)
    }

    fn api_of<K: Resource<DynamicType = ()>>(&self, object: &K) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<K>(&());
        match &object.meta().namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }
}

/// Kind, namespace and name, for people.
fn name_of<K: Resource<DynamicType = ()>>(object: &K) -> String {
    let name = object.name_any();
    match &object.meta().namespace {
        Some(namespace) => format!("{} {namespace}/{name}", K::kind(&())),
        None => format!("{} {name}", K::kind(&())),
    }
}

/// Some fields, as of an object.
fn of<K: Resource<DynamicType = ()>>(object: &K, mut fields: Value) -> Value {
    fields["apiVersion"] = K::api_version(&()).into();
    fields["kind"] = K::kind(&()).into();
    fields["metadata"] = json!({ "name": object.name_any() });
    fields
}

fn by(manager: Manager) -> PatchParams {
    PatchParams::apply(manager.as_str()).force().validation_strict()
}
