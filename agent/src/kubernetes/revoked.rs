//! The revocation list of the mesh's ConfigMap, from the API server itself: the kubelet takes up to a minute and a half until it shows what
//! a ConfigMap has become, which is long where a key was stolen. What isn't taken here is taken from the mounted file.

use super::surroundings::Surroundings;
use crate::control::limits::ANSWER;
use crate::control::question::Loop;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use std::pin::pin;
use std::sync::Arc;
use syncmesh_engine::ask::Ask;
use syncmesh_engine::node::Taken;
use tracing::{info, warn};

/// Hands the loop each list that the API server shows, for as long as the process lives.
///
/// # Errors
/// There is no way to the API server.
pub async fn follow(surroundings: Arc<Surroundings>, agent: Loop) -> Result<(), String> {
    let client = Client::try_default().await.map_err(|why| format!("can't watch the revocation list: {why}"))?;
    let bundles: Api<ConfigMap> = Api::namespaced(client, &surroundings.namespace);
    let own = watcher::Config::default().fields(&format!("metadata.name={}", surroundings.bundle()));
    let mut events = pin!(watcher(bundles, own).default_backoff());
    let mut is_heard = true;
    while let Some(event) = events.next().await {
        let shown = match event {
            Ok(Event::Apply(bundle) | Event::InitApply(bundle)) => {
                bundle.data.and_then(|mut data| data.remove("revoked"))
            }
            Ok(_) => None,
            Err(why) => {
                if std::mem::take(&mut is_heard) {
                    warn!(%why, "the revocation list can't be watched: it comes by peers, or by the kubelet, within two minutes");
                }
                continue;
            }
        };
        is_heard = true;
        let Some(list) = shown else { continue };
        match agent.question(ANSWER, |reply| Ask::Revoke(list, reply)).await {
            Ok(Taken::Now) => info!("the API server has another revocation list, which is told to peers"),
            Ok(Taken::Before) => {}
            Err(why) => warn!(%why, "the revocation list of the API server isn't taken over"),
        }
    }
    Err("the watch ended".into())
}
