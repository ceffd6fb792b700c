//! What must hold after every step, and at rest.

use oss_callback::record::{MOST_ATTEMPTS, Reason, Record, RecordKey, State, ThumbnailState};

use super::contents::{end, key_of};
use super::reference::{KEYS, Model, Version};
use super::world::{self, Object, etag};

/// What must hold after every step.
pub fn hold_always(world: &world::State, model: &Model, stored: &[Record]) {
    assert_eq!(world.violations, Vec::<String>::new());
    for key in 0..KEYS {
        let found = world.objects.get(&key_of(key)).map(|object| (object.etag(), object.second));
        let expected = model.live(key).map(|version| (etag(&super::contents::bytes(version.content)), version.second));
        assert_eq!(found, expected, "the world does what the model does");
        let name = key_of(key);
        let standing = stored.iter().find(|record| record.key() == name);
        let history = world.history.get(&name);
        // I1: what was stored once is there, whatever died since.
        assert_eq!(standing, history.and_then(|history| history.values().last()), "I1");
        if let Some(history) = history {
            one_after_the_other(&history.values().collect::<Vec<_>>());
            forward_only(&history.values().collect::<Vec<_>>(), model.versions.get(&key).map_or(&[], Vec::as_slice));
        }
    }
    for record in stored {
        assert!(record.attempts <= MOST_ATTEMPTS, "I6: {record:?}");
        assert_eq!(record.lease.is_some(), record.state == State::Processing, "{record:?}");
        if record.state == State::Ready {
            has_its_thumbnails(record, world);
        }
    }
}

/// I3: each write is the next revision of what was read, and generations never go back.
fn one_after_the_other(history: &[&Record]) {
    for (record, revision) in history.iter().zip(1..) {
        assert_eq!(record.revision, revision, "I3: a write is missing");
    }
    for pair in history.windows(2) {
        let [before, after] = pair else { continue };
        assert!((before.generation..=before.generation + 1).contains(&after.generation), "I3: {before:?} {after:?}");
        assert_eq!(before.first_seen, after.first_seen);
    }
}

/// I3: no confirmed record is about an older version than one before it.
fn forward_only(history: &[&Record], versions: &[Option<Version>]) {
    let mut reached = 0;
    for record in history.iter().filter(|record| record.confirmed && record.state != State::Deleted) {
        let is_it = |version: &Option<Version>| {
            version.is_some_and(|version| {
                record.etag == Some(etag(&super::contents::bytes(version.content)))
                    && record.last_modified.map(|time| time.as_second()) == Some(version.second)
            })
        };
        let ahead = versions.iter().skip(reached).position(is_it);
        reached += ahead.unwrap_or_else(|| panic!("I3: {record:?} goes back behind {reached} of {versions:?}"));
    }
}

/// I4, and one set of them: I5.
fn has_its_thumbnails(record: &Record, world: &world::State) {
    let etag = record.etag.as_deref().unwrap();
    let names: Vec<&str> = record.thumbnails.iter().map(|line| line.name.as_str()).collect();
    assert_eq!(names, ["small", "large"], "I5: {record:?}");
    for line in &record.thumbnails {
        assert_eq!(line.state, ThumbnailState::Ready, "I4: {record:?}");
        assert!(line.key.contains(etag), "I4: {record:?}");
        let made: Option<&Object> = world.objects.get(&RecordKey::new(line.bucket.clone(), line.key.clone()));
        let made = made.unwrap_or_else(|| panic!("I4: {} is not there", line.key));
        assert_eq!(Some(made.bytes.len() as u64), line.size, "I4");
        let picture = image::load_from_memory(&made.bytes).expect("I4: a thumbnail is a picture");
        assert_eq!((Some(picture.width()), Some(picture.height())), (line.width, line.height), "I4");
    }
}

/// I2: every record says what OSS says, and nothing is left to be done. `told`: every callback came; a listing names no type, so
/// by listings alone nobody hears of the same bytes that were uploaded again as another type within the same second.
pub fn hold_at_rest(world: &world::State, model: &Model, stored: &[Record], told: bool) {
    for key in 0..KEYS {
        let name = key_of(key);
        let record = stored.iter().find(|record| record.key() == name);
        let Some(version) = model.live(key) else {
            assert!(record.is_none_or(|record| record.state == State::Deleted), "I2: it is gone: {record:?}");
            continue;
        };
        let object = &world.objects[&name];
        let record = record.unwrap_or_else(|| panic!("I2: nobody knows of {name:?}"));
        assert!(record.confirmed && !record.recheck, "I2: {record:?}");
        assert_eq!(record.etag, Some(object.etag()), "I2: {record:?}");
        assert_eq!(record.size, Some(object.bytes.len() as u64), "I2: {record:?}");
        assert_eq!(record.last_modified.map(|time| time.as_second()), Some(object.second), "I2: {record:?}");
        let is_of_its_type = record.mime.as_deref() == Some(object.mime.as_str());
        assert!(is_of_its_type || !told, "I2: {:?} is the type of {record:?}", object.mime);
        assert_eq!((record.lease.as_ref(), record.next_attempt, record.due()), (None, None, None), "{record:?}");
        let given_up = record.reason == Some(Reason::Exhausted);
        if given_up {
            assert_eq!((record.state, record.attempts), (State::Failed, MOST_ATTEMPTS), "I6");
            let culprits = model.mishaps + world.deaths;
            assert!(culprits >= MOST_ATTEMPTS, "I6: given up after {culprits} mishaps: {record:?}");
        } else if is_of_its_type {
            assert_eq!((record.state, record.reason), end(version.content), "{record:?}");
        }
    }
}
