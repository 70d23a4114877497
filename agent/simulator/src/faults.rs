//! Failures of the file system, ordered one by one or drawn from a seed.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use syncmesh_io::FsError;

/// Which calls fail. Clones share the plan, so that a scenario can change it while an agent runs. Calls are named as
/// their trait names them: `Fs` and `Directory` plainly (`publish`), `OpenFile` as `file.write_at`, `StateFiles` as
/// `state.write`.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug, Default)]
struct Plan {
    next: BTreeMap<&'static str, VecDeque<FsError>>,
    random: Option<Random>,
}

#[derive(Debug)]
struct Random {
    state: u64,
    per_million: u32,
    /// Which calls; all if none is named.
    calls: &'static [&'static str],
    errors: Vec<FsError>,
}

impl Faults {
    /// No call fails.
    pub fn none() -> Self {
        Self::default()
    }

    /// The next call of this name fails; several wait in line.
    pub fn fail_next(&self, call: &'static str, why: FsError) {
        self.plan().next.entry(call).or_default().push_back(why);
    }

    /// From now on so many calls in a million fail, with one of these errors. Nothing at all or no error ends it.
    pub fn fail_randomly(&self, seed: u64, per_million: u32, errors: &[FsError]) {
        self.fail_some(seed, per_million, &[], errors);
    }

    /// The same for some calls only.
    pub fn fail_some(&self, seed: u64, per_million: u32, calls: &'static [&'static str], errors: &[FsError]) {
        self.plan().random = (per_million > 0 && !errors.is_empty()).then(|| Random {
            state: seed,
            per_million,
            calls,
            errors: errors.to_vec(),
        });
    }

    /// Whether this call fails.
    pub(crate) fn take(&self, call: &'static str) -> Result<(), FsError> {
        let mut plan = self.plan();
        if let Some(why) = plan.next.get_mut(call).and_then(VecDeque::pop_front) {
            return Err(why);
        }
        let is_meant = |random: &&mut Random| random.calls.is_empty() || random.calls.contains(&call);
        let Some(random) = plan.random.as_mut().filter(is_meant) else {
            return Ok(());
        };
        if split_mix(&mut random.state) % 1_000_000 >= u64::from(random.per_million) {
            return Ok(());
        }
        let drawn = split_mix(&mut random.state) % random.errors.len() as u64;
        Err(random.errors[drawn as usize].clone())
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): good enough to draw failures, and the whole state is one number.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
