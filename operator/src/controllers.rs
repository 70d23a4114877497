//! Reconciles what the bell names, each object alone and with pauses of its own after failures.

use crate::caches::{Bell, Listeners};
use crate::error::Error;
use crate::operator::Operator;
use crate::{conflict, identity, mesh, provision, volume};
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::runtime::controller::{Action, Config, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::{debug, warn};

/// How long to wait for more changes before looking at an object: a burst of them is one.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How many objects of a kind are reconciled at once.
const AT_ONCE: u16 = 8;
/// The pause after an object's first failure. Each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Reconciles until it is dropped.
pub async fn run(operator: Arc<Operator>, bell: &Bell) {
    let (to_meshes, meshes) = unbounded();
    let (to_volumes, volumes) = unbounded();
    let (to_questions, questions) = unbounded();
    let (to_requests, requests) = unbounded();
    let (to_claims, claims) = unbounded();
    let caches = &operator.caches;
    let all = futures::future::join5(
        each(caches.meshes.clone(), meshes, operator.clone(), |mesh, operator| {
            Box::pin(async move { mesh::reconcile::reconcile(&mesh, &operator).await })
        }),
        each(caches.volumes.clone(), volumes, operator.clone(), |volume, operator| {
            Box::pin(async move { volume::reconcile::reconcile(&volume, &operator).await })
        }),
        each(caches.volumes.clone(), questions, operator.clone(), |volume, operator| {
            Box::pin(async move { conflict::reconcile::reconcile(&volume, &operator).await })
        }),
        each(caches.requests.clone(), requests, operator.clone(), |request, operator| {
            Box::pin(async move { identity::reconcile::reconcile(&request, &operator).await })
        }),
        each(caches.claims.clone(), claims, operator.clone(), |claim, operator| {
            Box::pin(async move { provision::reconcile::reconcile(&claim, &operator).await })
        }),
    );
    bell.begin(Listeners {
        meshes: to_meshes,
        volumes: to_volumes,
        questions: to_questions,
        requests: to_requests,
        claims: to_claims,
    });
    all.await;
}

type Reconciled = futures::future::BoxFuture<'static, Result<Option<Duration>, Error>>;

/// Reconciles objects of one kind.
async fn each<K>(
    store: Store<K>,
    changed: UnboundedReceiver<ObjectRef<K>>,
    operator: Arc<Operator>,
    reconcile: fn(Arc<K>, Arc<Operator>) -> Reconciled,
) where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let failures = Arc::new(Failures::default());
    let counted = failures.clone();
    let reconciler = move |object: Arc<K>, operator: Arc<Operator>| {
        let counted = counted.clone();
        Box::pin(async move {
            let outcome = reconcile(object.clone(), operator.clone()).await;
            operator.metrics.reconciled(&K::kind(&()), outcome.is_ok());
            let again = outcome?;
            counted.forget(&key(&*object));
            Ok(again.map_or_else(Action::await_change, Action::requeue))
        })
    };
    let on_error = move |object: Arc<K>, error: &Error, _: Arc<Operator>| {
        let pause = failures.pause(key(&*object));
        warn!("{} {}: {error}; tried again in {pause:?}", K::kind(&()), key(&*object));
        Action::requeue(pause)
    };
    let config = Config::default().debounce(DEBOUNCE).concurrency(AT_ONCE);
    let results = applier(reconciler, on_error, operator, store, changed.map(Ok::<_, Infallible>), config);
    // An object that went before it was looked at is an error here and nowhere else.
    quietly(results).await;
}

async fn quietly<T, E: std::fmt::Display>(results: impl Stream<Item = Result<T, E>>) {
    let report = |result: Result<T, E>| async move {
        if let Err(error) = result {
            debug!("{error}");
        }
    };
    results.for_each(report).await;
}

fn key<K: ResourceExt>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// How often objects have failed in a row.
#[derive(Default)]
struct Failures(Mutex<BTreeMap<String, u32>>);

impl Failures {
    /// Counts one more, and says how long to pause.
    fn pause(&self, key: String) -> Duration {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(*count)).min(LONGEST_PAUSE);
        *count = count.saturating_add(1);
        pause
    }

    fn forget(&self, key: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_for_each_object_alone_and_end_with_a_success() {
        let failures = Failures::default();
        let pause = |key: &str| failures.pause(key.to_owned()).as_millis();
        assert_eq!([pause("a"), pause("a"), pause("b")], [500, 1000, 500]);
        assert_eq!((0..100).map(|_| pause("a")).max(), Some(60_000));
        failures.forget("a");
        assert_eq!(pause("a"), 500);
    }
}
