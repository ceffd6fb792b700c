//! The reference model: which versions every object had, which uploads were reported, and what may happen next.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

/// What an object may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// A picture.
    Red,
    /// Another picture.
    Blue,
    /// The first picture, declared as a text.
    RedAsText,
    /// Something that is no picture, and does not claim to be one.
    Text,
    /// The same, declared as a picture.
    TextAsPicture,
    /// Half a picture.
    Broken,
    /// A picture that kills whoever reads it.
    Poison,
}

/// One version of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub content: Content,
    /// Last-Modified.
    pub second: i64,
}

/// An upload, whose callback may be delivered never, once or often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    pub key: usize,
    pub version: Version,
    /// Whether the template of the callback asks for the ETag.
    pub says_etag: bool,
}

/// Whether OSS answers us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Up,
    Down,
    Forbidden,
}

/// Something unforeseen.
#[derive(Debug, Clone, Copy)]
pub enum Surprise {
    /// The process dies, before a request to the store or to OSS takes effect or after.
    Crash { effect: bool },
    /// One request fails, before it takes effect or after.
    Fault { effect: bool },
    /// Somebody uploads an object.
    Upload(Upload),
    /// Somebody deletes an object.
    Delete { key: usize },
    /// OSS answers no more.
    Outage,
}

/// A surprise at the request to store or OSS that comes `after` so many others, or at the end if there are fewer.
#[derive(Debug, Clone, Copy)]
pub struct Ambush {
    pub after: u32,
    pub surprise: Surprise,
}

/// How everything comes to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Every callback is delivered in the end.
    Delivered,
    /// Somebody reconciles.
    Reconciled,
}

/// What happens next.
#[derive(Debug, Clone)]
pub enum Transition {
    Upload(Upload),
    Delete {
        key: usize,
    },
    /// The process does all this at the same time.
    Act {
        /// Callbacks that are delivered, by the number of their upload.
        deliver: Vec<usize>,
        sweep: bool,
        reconcile: bool,
        ambush: Option<Ambush>,
        /// How their requests fall out of step.
        pace: u64,
    },
    /// A callback about this upload that nobody signed, or about a bucket that is not ours.
    Forge {
        upload: usize,
        signed: bool,
    },
    Oss(Reach),
    /// The clock of the process jumps by so many seconds.
    Jump(i64),
    /// The process dies and is started again.
    Restart,
    /// Whatever was wrong ends, and what is due is done.
    Rest(Rest),
}

/// The truth about the bucket.
#[derive(Debug, Clone)]
pub struct Model {
    /// The versions of each object, `None` where it was deleted; the last one is what is there.
    pub versions: BTreeMap<usize, Vec<Option<Version>>>,
    pub uploads: Vec<Upload>,
    pub reach: Reach,
    /// The clock of OSS.
    pub second: i64,
    /// So many things went wrong that may have cost an attempt.
    pub mishaps: u32,
}

/// So many objects there are; few, so that things meet.
pub const KEYS: usize = 2;

impl Model {
    /// What is there now.
    pub fn live(&self, key: usize) -> Option<Version> {
        self.versions.get(&key).and_then(|versions| versions.last().copied().flatten())
    }

    fn upload(&mut self, upload: Upload) {
        self.second = upload.version.second;
        self.versions.entry(upload.key).or_default().push(Some(upload.version));
        self.uploads.push(upload);
    }

    fn delete(&mut self, key: usize) {
        if self.live(key).is_some() {
            self.versions.entry(key).or_default().push(None);
        }
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self {
            versions: BTreeMap::new(),
            uploads: Vec::new(),
            reach: Reach::Up,
            second: 1_700_000_000,
            mishaps: 0,
        })
        .boxed()
    }

    fn transitions(model: &Self) -> BoxedStrategy<Transition> {
        let upload = uploads(model.second);
        let unasked = prop_oneof![
            6 => upload.clone().prop_map(Transition::Upload),
            1 => (0..KEYS).prop_map(|key| Transition::Delete { key }),
            2 => reach().prop_map(Transition::Oss),
            2 => prop_oneof![Just(-600), Just(-7), Just(7), Just(61), Just(4000)].prop_map(Transition::Jump),
            1 => Just(Transition::Restart),
            3 => act(vec(Just(0), 0..1).boxed(), model.second),
            1 => prop_oneof![Just(Rest::Delivered), Just(Rest::Reconciled)].prop_map(Transition::Rest),
        ];
        if model.uploads.is_empty() {
            return unasked.boxed();
        }
        let sent = 0..model.uploads.len();
        prop_oneof![
            3 => unasked,
            3 => act(prop_oneof![2 => vec(sent.clone(), 1..2), 1 => vec(sent.clone(), 2..5)].boxed(), model.second),
            1 => (sent, any::<bool>()).prop_map(|(upload, signed)| Transition::Forge { upload, signed }),
        ]
        .boxed()
    }

    fn preconditions(model: &Self, transition: &Transition) -> bool {
        let begins_no_earlier = |upload: &Upload| upload.version.second >= model.second;
        match transition {
            Transition::Upload(upload) => begins_no_earlier(upload),
            Transition::Act { deliver, ambush, .. } => {
                deliver.iter().all(|upload| *upload < model.uploads.len())
                    && ambush.is_none_or(|ambush| match ambush.surprise {
                        Surprise::Upload(upload) => begins_no_earlier(&upload),
                        _ => true,
                    })
            }
            Transition::Forge { upload, .. } => *upload < model.uploads.len(),
            _ => true,
        }
    }

    fn apply(mut model: Self, transition: &Transition) -> Self {
        match transition {
            Transition::Upload(upload) => model.upload(*upload),
            Transition::Delete { key } => model.delete(*key),
            Transition::Act { ambush: Some(Ambush { surprise, .. }), .. } => {
                model.mishaps += 1;
                match surprise {
                    Surprise::Upload(upload) => model.upload(*upload),
                    Surprise::Delete { key } => model.delete(*key),
                    Surprise::Outage => model.reach = Reach::Down,
                    Surprise::Crash { .. } | Surprise::Fault { .. } => {}
                }
            }
            Transition::Oss(reach) => model.reach = *reach,
            Transition::Rest(_) => model.reach = Reach::Up,
            Transition::Restart => model.mishaps += 1,
            Transition::Act { .. } | Transition::Forge { .. } | Transition::Jump(_) => {}
        }
        model
    }
}

fn uploads(now: i64) -> impl Strategy<Value = Upload> + Clone {
    let content = prop_oneof![
        4 => Just(Content::Red),
        4 => Just(Content::Blue),
        1 => Just(Content::RedAsText),
        1 => Just(Content::Text),
        1 => Just(Content::TextAsPicture),
        1 => Just(Content::Broken),
        1 => Just(Content::Poison),
    ];
    // Often within the same second.
    (0..KEYS, content, prop_oneof![Just(0), Just(1)], any::<bool>()).prop_map(
        move |(key, content, later, says_etag)| Upload {
            key,
            version: Version { content, second: now + later },
            says_etag,
        },
    )
}

fn reach() -> impl Strategy<Value = Reach> {
    prop_oneof![2 => Just(Reach::Up), 1 => Just(Reach::Down), 1 => Just(Reach::Forbidden)]
}

fn act(deliver: BoxedStrategy<Vec<usize>>, now: i64) -> impl Strategy<Value = Transition> {
    let surprise = prop_oneof![
        3 => any::<bool>().prop_map(|effect| Surprise::Crash { effect }),
        2 => any::<bool>().prop_map(|effect| Surprise::Fault { effect }),
        3 => uploads(now).prop_map(Surprise::Upload),
        1 => (0..KEYS).prop_map(|key| Surprise::Delete { key }),
        1 => Just(Surprise::Outage),
    ];
    let ambush = (0..12_u32, surprise).prop_map(|(after, surprise)| Ambush { after, surprise });
    let others = prop_oneof![3 => Just((false, false)), 2 => Just((true, false)), 1 => Just((false, true))];
    (deliver, others, option::weighted(0.5, ambush), any::<u64>()).prop_map(
        |(deliver, (sweep, reconcile), ambush, pace)| {
            let sweep = sweep || (deliver.is_empty() && !reconcile);
            let alone = deliver.len() + usize::from(sweep || reconcile) == 1;
            Transition::Act { deliver, sweep, reconcile, ambush, pace: if alone { 0 } else { pace } }
        },
    )
}
