//! Who leads, as a Lease says it: one operator at most makes calls.
//!
//! Clocks of machines are not compared. Whoever waits measures on its own monotonic clock for how long a lease hasn't changed, and the
//! leader from when it last asked for one that it got; so two can lead at once only if one clock runs half again as fast as another.

use crate::error::Error;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

/// The Lease's name.
const NAME: &str = "syncmesh-operator";
/// How long a lease holds that nobody renews.
const DURATION: Duration = Duration::from_secs(15);
/// How long its leader may go without having renewed it.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed, or looked at.
const PERIOD: Duration = Duration::from_secs(2);

const _: () = assert!(DEADLINE.as_secs() < DURATION.as_secs() && PERIOD.as_secs() * 2 < DEADLINE.as_secs());

/// A lease that this operator wants or has.
pub struct Leadership {
    leases: Api<Lease>,
    me: String,
    seen: Option<Seen>,
}

/// A lease of somebody else, and when it was first seen as it is.
struct Seen {
    version: Option<String>,
    since: Instant,
}

/// What to do about a lease.
#[derive(Debug, PartialEq)]
enum Move {
    /// Write it, as this.
    Take(LeaseSpec),
    /// Another one has it.
    Wait,
}

impl Leadership {
    /// Of the operators in a namespace.
    pub fn new(client: Client, namespace: &str, me: String) -> Self {
        Self { leases: Api::namespaced(client, namespace), me, seen: None }
    }

    /// Waits until this operator leads. The result is until when it may call.
    pub async fn win(&mut self) -> Instant {
        loop {
            let deadline = Instant::now() + DEADLINE;
            match timeout_at(deadline, self.attempt()).await {
                Ok(Ok(true)) => {
                    info!("this operator leads");
                    return deadline;
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => warn!("{error}"),
                Err(_) => warn!("the API server did not answer about the lease within {DEADLINE:?}"),
            }
            sleep(PERIOD).await;
        }
    }

    /// Renews the lease for as long as that is possible in time.
    pub async fn keep(&mut self, mut deadline: Instant) -> Error {
        loop {
            let renewal = async {
                sleep(PERIOD).await;
                (Instant::now(), self.attempt().await)
            };
            match timeout_at(deadline, renewal).await {
                Ok((asked, Ok(true))) => deadline = asked + DEADLINE,
                Ok((_, Err(error))) => warn!("{error}"),
                Ok((_, Ok(false))) | Err(_) => return Error::LeadershipLost,
            }
        }
    }

    /// Gives the lease up, so that nobody has to wait for its end.
    pub async fn give_up(&self) {
        // An API server that doesn't answer keeps nobody from ending.
        let _ = timeout(PERIOD, self.release()).await;
    }

    async fn release(&self) {
        let Ok(Some(mut lease)) = self.leases.get_opt(NAME).await else { return };
        match lease.spec.as_mut() {
            Some(spec) if spec.holder_identity.as_deref() == Some(&self.me) => spec.holder_identity = None,
            Some(_) | None => return,
        }
        if let Err(error) = self.leases.replace(NAME, &PostParams::default(), &lease).await {
            warn!("the lease ends by itself in {DURATION:?}, because it could not be given up: {error}");
        }
    }

    /// Takes or renews the lease, if that is allowed. Whoever was faster has changed its version, and then this one doesn't lead.
    async fn attempt(&mut self) -> Result<bool, Error> {
        let lease = self.leases.get_opt(NAME).await.map_err(Error::call("read the lease"))?;
        let version = lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let since = match self.seen.take() {
            Some(seen) if seen.version == version => seen.since,
            Some(_) | None => Instant::now(),
        };
        self.seen = Some(Seen { version, since });
        let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let Move::Take(spec) = decide(spec, &self.me, since.elapsed(), Timestamp::now()) else { return Ok(false) };
        let metadata = match &lease {
            Some(lease) => lease.metadata.clone(),
            None => ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
        };
        let wanted = Lease { metadata, spec: Some(spec) };
        let by = PostParams::default();
        let written = match lease {
            Some(_) => self.leases.replace(NAME, &by, &wanted).await,
            None => self.leases.create(&by, &wanted).await,
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(reason) => Err(Error::call("write the lease")(reason)),
        }
    }
}

/// What to do about a lease that has been as it is for some time.
fn decide(lease: Option<&LeaseSpec>, me: &str, unchanged: Duration, now: Timestamp) -> Move {
    let holder = lease.and_then(|lease| lease.holder_identity.as_deref()).filter(|holder| !holder.is_empty());
    let holds = lease.and_then(|lease| lease.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    let holds = holds.map_or(DURATION, Duration::from_secs);
    let taken = LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: Some(DURATION.as_secs() as i32),
        renew_time: Some(MicroTime(now)),
        ..lease.cloned().unwrap_or_default()
    };
    match holder {
        Some(holder) if holder == me => Move::Take(taken),
        Some(_) if unchanged < holds => Move::Wait,
        Some(_) | None => Move::Take(LeaseSpec {
            acquire_time: Some(MicroTime(now)),
            lease_transitions: Some(lease.map_or(0, |lease| lease.lease_transitions.unwrap_or(0) + 1)),
            ..taken
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_from(lease: Option<&LeaseSpec>, unchanged: u64) -> Option<LeaseSpec> {
        let now = Timestamp::from_second(100).unwrap();
        match decide(lease, "me", Duration::from_secs(unchanged), now) {
            Move::Take(spec) => Some(spec),
            Move::Wait => None,
        }
    }

    #[test]
    fn a_lease_is_taken_once_its_holder_has_been_silent_for_as_long_as_it_holds() {
        let others = LeaseSpec {
            holder_identity: Some("other".into()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        };
        assert_eq!(taken_from(Some(&others), 14), None);
        let taken = taken_from(Some(&others), 15).unwrap();
        assert_eq!((taken.holder_identity.as_deref(), taken.lease_transitions), (Some("me"), Some(4)));
    }

    #[test]
    fn a_lease_that_nobody_has_is_taken_at_once_and_ones_own_is_renewed() {
        let first = taken_from(None, 0).unwrap();
        assert_eq!(first.lease_transitions, Some(0));
        let renewed = taken_from(Some(&first), 0).unwrap();
        assert_eq!((renewed.lease_transitions, renewed.acquire_time.clone()), (Some(0), first.acquire_time.clone()));
        let given_up = LeaseSpec { holder_identity: None, ..first };
        assert_eq!(taken_from(Some(&given_up), 0).unwrap().lease_transitions, Some(1));
    }
}
