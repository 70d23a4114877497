//! Which objects of a kind belong to a volume: nobody looks at ten thousand of them to find ten.

use kube::Resource;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use syncmesh_crds::SyncVolume;

/// Whose an object is.
type Owner<K> = fn(&K) -> Option<ObjectRef<SyncVolume>>;
/// By namespace and name of the volume.
type Objects<K> = BTreeMap<(String, String), Vec<ObjectRef<K>>>;

fn key(volume: &ObjectRef<SyncVolume>) -> (String, String) {
    (volume.namespace.clone().unwrap_or_default(), volume.name.clone())
}

/// Objects of a kind, by the volume to which they belong.
#[derive(Clone)]
pub struct OfVolumes<K: Resource<DynamicType = ()> + Clone + 'static> {
    /// All of them.
    pub all: Store<K>,
    owner: Owner<K>,
    known: Arc<Mutex<Objects<K>>>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> OfVolumes<K> {
    /// None are known yet.
    pub(super) fn new(all: Store<K>, owner: Owner<K>) -> Self {
        Self { all, owner, known: Arc::default() }
    }

    /// Those of a volume, as they are in the cache.
    pub fn of(&self, volume: &ObjectRef<SyncVolume>) -> Vec<Arc<K>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let objects = known.get(&key(volume)).into_iter().flatten().filter_map(|object| self.all.get(object));
        // One whose labels were changed may be another's now.
        let mut objects: Vec<Arc<K>> = objects.filter(|object| (self.owner)(object).as_ref() == Some(volume)).collect();
        objects.sort_by(|one, other| one.meta().name.cmp(&other.meta().name));
        objects
    }

    /// The cache has taken this in.
    pub(super) fn follow(&self, event: &Event<K>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(object) => self.add(&mut known, object),
            Event::Delete(object) => {
                let Some(volume) = (self.owner)(object).as_ref().map(key) else { return };
                let object = ObjectRef::from_obj(object);
                if let Some(objects) = known.get_mut(&volume) {
                    objects.retain(|other| *other != object);
                    if objects.is_empty() {
                        known.remove(&volume);
                    }
                }
            }
            // What has gone while nobody watched is named by no event.
            Event::InitDone => {
                known.clear();
                self.all.state().iter().for_each(|object| self.add(&mut known, object));
            }
            Event::Init | Event::InitApply(_) => {}
        }
    }

    fn add(&self, known: &mut Objects<K>, object: &K) {
        if let Some(volume) = (self.owner)(object) {
            let (objects, object) = (known.entry(key(&volume)).or_default(), ObjectRef::from_obj(object));
            if !objects.contains(&object) {
                objects.push(object);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels;
    use k8s_openapi::api::core::v1::PersistentVolume;
    use kube::ResourceExt;
    use kube::core::ObjectMeta;
    use kube::runtime::reflector::store;

    fn persistent(name: &str, volume: &str) -> PersistentVolume {
        let labels = labels::of_volume("default", "web", volume);
        PersistentVolume {
            metadata: ObjectMeta { name: Some(name.into()), labels: Some(labels), ..ObjectMeta::default() },
            ..PersistentVolume::default()
        }
    }

    #[test]
    fn a_volumes_objects_are_those_that_the_cache_has_of_it() {
        let (reader, mut writer) = store();
        let index = OfVolumes::new(reader, |object: &PersistentVolume| labels::volume(object));
        let mut see = |event: Event<PersistentVolume>| {
            writer.apply_watcher_event(&event);
            index.follow(&event);
        };
        let names = || {
            let of = |volume: &str| index.of(&ObjectRef::new(volume).within("web"));
            ["docs", "other"]
                .map(|volume| of(volume).iter().map(|object| object.name_any()).collect::<Vec<_>>().join(" "))
        };
        see(Event::Init);
        see(Event::InitApply(persistent("b", "docs")));
        assert_eq!(names(), ["", ""], "not all have been read");
        see(Event::InitDone);
        see(Event::Apply(persistent("a", "docs")));
        assert_eq!(names(), ["a b", ""]);
        see(Event::Apply(persistent("a", "other")));
        assert_eq!(names(), ["b", "a"], "its labels were changed");
        see(Event::Delete(persistent("b", "docs")));
        assert_eq!(names(), ["", "a"]);
        see(Event::Init);
        see(Event::InitApply(persistent("c", "docs")));
        see(Event::InitDone);
        assert_eq!(names(), ["c", ""], "a went while nobody watched");
    }
}
