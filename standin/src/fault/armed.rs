//! The faults in force, and the decision which of them strikes: a pure function of the seed, the fault, and how many
//! requests the fault has seen. So the same requests in the same order meet the same faults, whatever time they take.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{CallbackFault, Fault, FaultKind, RequestFault};

/// What a request or a callback is about, as far as limits of faults ask.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Subject<'a> {
    pub(crate) bucket: Option<&'a str>,
    pub(crate) key: Option<&'a str>,
    pub(crate) operation: Option<&'a str>,
    /// Of a callback: the path that is signed.
    pub(crate) path: Option<&'a str>,
}

/// A fault in force and what it has done so far.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ArmedFault {
    /// Its place in the order of arming, from 1; faults strike in this order.
    pub id: u64,
    /// The fault; in JSON the line in which it is written.
    #[serde(serialize_with = "as_written")]
    pub fault: Fault,
    /// The requests or callbacks within its limits that it was asked about.
    pub seen: u64,
    /// Those that it struck.
    pub struck: u64,
}

fn as_written<S: serde::Serializer>(fault: &Fault, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(fault)
}

/// All faults of one stand-in. At most one strikes each request, and at most one each callback: the first in order that
/// wants to.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Armed>);

#[derive(Debug, Default)]
struct Armed {
    seed: u64,
    faults: Vec<ArmedFault>,
}

impl Faults {
    pub(crate) fn new(seed: u64, faults: Vec<Fault>) -> Self {
        let all = Self::default();
        all.replace(Some(seed), faults);
        all
    }

    /// Adds one after all others.
    pub(crate) fn add(&self, fault: Fault) {
        self.lock().add(fault);
    }

    /// Puts these in place of all others and begins to count anew, with this seed or the one there is.
    pub(crate) fn replace(&self, seed: Option<u64>, faults: Vec<Fault>) {
        let mut armed = self.lock();
        armed.seed = seed.unwrap_or(armed.seed);
        armed.faults.clear();
        for fault in faults {
            armed.add(fault);
        }
    }

    /// The seed, and the faults in order.
    pub(crate) fn list(&self) -> (u64, Vec<ArmedFault>) {
        let armed = self.lock();
        (armed.seed, armed.faults.clone())
    }

    /// The fault that strikes this request.
    pub(crate) fn on_request(&self, subject: Subject<'_>) -> Option<RequestFault> {
        self.lock().strike(subject, |kind| match kind {
            FaultKind::Request(fault) => Some(fault.clone()),
            FaultKind::Callback(_) => None,
        })
    }

    /// The fault that strikes this callback.
    pub(crate) fn on_callback(&self, subject: Subject<'_>) -> Option<CallbackFault> {
        self.lock().strike(subject, |kind| match kind {
            FaultKind::Callback(fault) => Some(fault.clone()),
            FaultKind::Request(_) => None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Armed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Armed {
    fn add(&mut self, fault: Fault) {
        let id = self.faults.last().map_or(0, |last| last.id) + 1;
        self.faults.push(ArmedFault { id, fault, seen: 0, struck: 0 });
    }

    fn strike<K>(&mut self, subject: Subject<'_>, of_kind: impl Fn(&FaultKind) -> Option<K>) -> Option<K> {
        let seed = self.seed;
        self.faults.iter_mut().find_map(|armed| {
            let kind = of_kind(&armed.fault.kind)?;
            (armed.fault.concerns(subject) && armed.strikes(seed)).then_some(kind)
        })
    }
}

impl ArmedFault {
    fn strikes(&mut self, seed: u64) -> bool {
        self.seen += 1;
        let left = self.fault.times.is_none_or(|times| self.struck < times);
        let strikes = left && chance(seed, self.id, self.seen) < self.fault.probability;
        self.struck += u64::from(strikes);
        strikes
    }
}

impl Fault {
    fn concerns(&self, subject: Subject<'_>) -> bool {
        let same = |limit: &Option<String>, value: Option<&str>| {
            limit.as_deref().is_none_or(|limit| value.is_some_and(|value| value.eq_ignore_ascii_case(limit)))
        };
        let prefix = self.prefix.as_deref();
        same(&self.bucket, subject.bucket)
            && same(&self.operation, subject.operation)
            && prefix.is_none_or(|prefix| subject.key.is_some_and(|key| key.starts_with(prefix)))
            && self.kind.has_a_target(subject)
    }
}

impl FaultKind {
    /// Whether there is something to disturb, as far as that shows before.
    fn has_a_target(&self, subject: Subject<'_>) -> bool {
        match self {
            Self::Callback(CallbackFault::StageStripped(stage)) => {
                subject.path.is_some_and(|path| without_stage(path, stage).is_some())
            }
            // The answers to these have no body.
            Self::Request(RequestFault::Truncate) => {
                !matches!(subject.operation, Some("HeadObject" | "HeadBucket" | "DeleteObject" | "DeleteBucket"))
            }
            _ => true,
        }
    }
}

/// The rest of a path behind a stage, which is whole segments of it.
pub(crate) fn without_stage<'a>(path: &'a str, stage: &str) -> Option<&'a str> {
    path.strip_prefix(stage).filter(|rest| rest.starts_with('/'))
}

/// A number from 0 to below 1, as good as random, and always the same for the same three.
fn chance(seed: u64, id: u64, count: u64) -> f64 {
    let mut hash = Sha256::new();
    for number in [seed, id, count] {
        hash.update(number.to_be_bytes());
    }
    let bits = hash.finalize().iter().take(4).fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: Subject<'static> =
        Subject { bucket: Some("photos"), key: Some("a/b.jpg"), operation: Some("HeadObject"), path: None };

    fn pattern(seed: u64, probability: f64) -> Vec<bool> {
        let faults = Faults::new(seed, vec![Fault::new(RequestFault::Hang).probability(probability)]);
        (0..1000).map(|_| faults.on_request(ABOUT).is_some()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_seed_others() {
        assert_eq!(pattern(7, 0.5), pattern(7, 0.5));
        assert_ne!(pattern(7, 0.5), pattern(8, 0.5));
    }

    #[test]
    fn a_fault_strikes_about_as_often_as_is_likely() {
        for (probability, least, most) in [(0.0, 0, 0), (0.3, 240, 360), (1.0, 1000, 1000)] {
            let count = pattern(1, probability).into_iter().filter(|struck| *struck).count();
            assert!((least..=most).contains(&count), "{count} of 1000 with {probability}");
        }
    }

    #[test]
    fn a_fault_strikes_within_its_limits_only() {
        let hang = || Fault::new(RequestFault::Hang);
        for (fault, strikes) in [
            (hang().bucket("photos").prefix("a/").operation("headobject"), true),
            (hang().bucket("other"), false),
            (hang().prefix("b/"), false),
            (hang().operation("GetObject"), false),
            (Fault::new(CallbackFault::Lost), false),
        ] {
            assert_eq!(Faults::new(0, vec![fault.clone()]).on_request(ABOUT).is_some(), strikes, "{fault}");
        }
        let limited = Faults::new(0, vec![hang().bucket("photos")]);
        assert_eq!(limited.on_request(Subject::default()), None, "a request without a bucket is in none");
    }

    #[test]
    fn a_fault_that_finds_nothing_to_disturb_does_not_strike() {
        let stripped = |path: &'static str| {
            let faults = Faults::new(0, vec![Fault::new(CallbackFault::StageStripped("/prod".to_owned()))]);
            faults.on_callback(Subject { path: Some(path), ..ABOUT }).is_some()
        };
        assert!(stripped("/prod/cb"));
        assert!(!stripped("/cb") && !stripped("/prod") && !stripped("/production/cb"));
        assert_eq!(Faults::new(0, vec![Fault::new(RequestFault::Truncate)]).on_request(ABOUT), None);
    }

    #[test]
    fn a_fault_that_is_used_up_makes_room_for_the_next() {
        let twice = Fault::new(CallbackFault::Lost).times(2);
        let faults = Faults::new(0, vec![twice, Fault::new(CallbackFault::Doubled)]);
        let struck: Vec<_> = (0..4).filter_map(|_| faults.on_callback(ABOUT)).collect();
        assert_eq!(struck, [CallbackFault::Lost, CallbackFault::Lost, CallbackFault::Doubled, CallbackFault::Doubled]);
        let (_, listed) = faults.list();
        assert_eq!(listed.iter().map(|one| (one.id, one.seen, one.struck)).collect::<Vec<_>>(), [(1, 4, 2), (2, 2, 2)]);
    }
}
