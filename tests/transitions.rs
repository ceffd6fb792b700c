//! What must hold for a record through any sequence of transitions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use jiff::Timestamp;
use oss_callback::record::{
    End, Facts, Lease, MOST_ATTEMPTS, Plan, Reason, Record, RecordKey, State, Thumbnail, ThumbnailState, Transition,
    Upload,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Something that happens to a record.
#[derive(Debug, Clone)]
enum Event {
    Observe { facts: Facts, upload: Option<Upload>, plan: Plan },
    Lease { owner: String },
    Commit { owner: String, end: End },
    Release { owner: String, reason: Reason, made: Vec<Thumbnail> },
    Postpone,
    Again,
    Delete,
    Gone { owner: String },
}

fn key() -> RecordKey {
    RecordKey::new("examplebucket", "a/b.jpg")
}

/// The second number `second` of the test.
fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// What becomes of the record; `None` where nothing is to be written.
fn step(previous: Option<&Record>, event: &Event, now: Timestamp) -> Option<Record> {
    match event {
        Event::Observe { facts, upload, plan } => written(previous, facts, upload.as_ref(), plan, now),
        Event::Lease { owner } => previous?.lease(lease(owner, now), now),
        Event::Commit { owner, end } => previous?.commit(owner, end.clone(), now),
        Event::Release { owner, reason, made } => previous?.release(owner, *reason, made.clone(), now, now),
        Event::Postpone => previous?.postpone(now, now),
        Event::Again => previous?.again(now),
        Event::Delete => previous?.delete(now),
        Event::Gone { owner } => previous?.gone(owner, now),
    }
}

fn written(
    previous: Option<&Record>,
    facts: &Facts,
    upload: Option<&Upload>,
    plan: &Plan,
    now: Timestamp,
) -> Option<Record> {
    match Record::observe(previous, &key(), facts, upload, plan, now) {
        Transition::Write(record) => Some(*record),
        Transition::Unchanged => None,
    }
}

/// A lease that runs out after the next event but one.
fn lease(owner: &str, now: Timestamp) -> Lease {
    Lease { owner: owner.to_owned(), until: at(now.as_second() + 1) }
}

// Few different values, so that the same ones meet again.

fn facts() -> impl Strategy<Value = Facts> {
    let last_modified = prop_oneof![Just(None), Just(Some(at(100))), Just(Some(at(200)))];
    let etag = option::weighted(0.8, "[AB]");
    let size = option::weighted(0.8, 1..=2_u64);
    let mime = prop_oneof![3 => Just("image/jpeg"), 1 => Just("text/plain")];
    (etag, size, mime, last_modified, any::<bool>()).prop_map(|(etag, size, mime, last_modified, confirmed)| Facts {
        etag,
        size,
        mime: Some(mime.to_owned()),
        last_modified,
        version_id: None,
        crc64: None,
        own_output: false,
        confirmed,
    })
}

fn upload() -> impl Strategy<Value = Upload> {
    (option::of("[RS]"), option::of(1..=3_u32)).prop_map(|(request_id, width)| Upload {
        request_id,
        width,
        ..Upload::default()
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    prop_oneof![
        Just(Plan::Record),
        Just(Plan::Skip(Reason::RefusedByRule)),
        owner().prop_map(|owner| Plan::Make(lease(&owner, at(0)))),
        Just(Plan::Leave),
        Just(Plan::Verify(Reason::OssUnavailable)),
    ]
}

fn owner() -> impl Strategy<Value = String> {
    "[xy]"
}

fn reason() -> impl Strategy<Value = Reason> {
    prop_oneof![Just(Reason::Undecodable), Just(Reason::UnsupportedFormat), Just(Reason::Unknown)]
}

/// Why work may be put off.
fn put_off() -> impl Strategy<Value = Reason> {
    prop_oneof![
        1 => Just(Reason::OutOfTime),
        1 => Just(Reason::OssUnavailable),
        1 => Just(Reason::OssForbidden),
        2 => Just(Reason::ObjectChanged),
    ]
}

fn thumbnail() -> impl Strategy<Value = Thumbnail> {
    let state = prop_oneof![Just(ThumbnailState::Ready), Just(ThumbnailState::Failed)];
    (state, option::of(reason())).prop_map(|(state, reason)| Thumbnail {
        name: "small".to_owned(),
        state,
        bucket: "examplebucket".to_owned(),
        key: "thumbnails/small".to_owned(),
        width: None,
        height: None,
        mime: None,
        size: None,
        reason,
    })
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        3 => (vec(thumbnail(), 0..3), option::of(Just(Reason::TypeMismatch)))
            .prop_map(|(thumbnails, remark)| End::Made { thumbnails, remark }),
        1 => reason().prop_map(End::Failed),
        1 => reason().prop_map(End::Skipped),
        1 => Just(End::Nothing),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (facts(), option::of(upload()), plan())
            .prop_map(|(facts, upload, plan)| Event::Observe { facts, upload, plan }),
        2 => owner().prop_map(|owner| Event::Lease { owner }),
        2 => (owner(), end()).prop_map(|(owner, end)| Event::Commit { owner, end }),
        1 => (owner(), put_off(), vec(thumbnail(), 0..2))
            .prop_map(|(owner, reason, made)| Event::Release { owner, reason, made }),
        1 => Just(Event::Postpone),
        1 => Just(Event::Again),
        1 => Just(Event::Delete),
        1 => owner().prop_map(|owner| Event::Gone { owner }),
    ]
}

/// The states of a record through the events, each with the event and the time that led to it.
fn histories() -> impl Strategy<Value = Vec<(Option<Record>, Event, Timestamp, Option<Record>)>> {
    vec(event(), 1..40).prop_map(|events| {
        let mut standing = None;
        let mut history = Vec::new();
        for (event, second) in events.into_iter().zip(1..) {
            let next = step(standing.as_ref(), &event, at(second));
            history.push((standing.clone(), event, at(second), next.clone()));
            standing = next.or(standing);
        }
        history
    })
}

/// A record somewhere in its life.
fn records() -> impl Strategy<Value = Record> {
    histories().prop_filter_map("nothing was recorded", |history| {
        history.into_iter().rev().find_map(|(before, _, _, after)| after.or(before))
    })
}

proptest! {
    #[test]
    fn the_first_write_is_generation_one_and_revision_one(facts in facts(), upload in option::of(upload()), plan in plan()) {
        let record = written(None, &facts, upload.as_ref(), &plan, at(1)).unwrap();
        prop_assert_eq!((record.generation, record.revision), (1, 1));
        prop_assert_eq!((record.first_seen, record.updated), (at(1), at(1)));
        prop_assert_eq!(record.key(), key());
    }

    #[test]
    fn every_write_is_the_next_revision_at_its_own_time(history in histories()) {
        for (before, _, now, after) in history {
            let (Some(before), Some(after)) = (before, after) else { continue };
            prop_assert_eq!(after.revision, before.revision + 1);
            prop_assert_eq!(after.updated, now);
            prop_assert_eq!(after.first_seen, before.first_seen);
        }
    }

    #[test]
    fn the_generation_rises_by_one_when_another_version_is_seen_and_never_otherwise(history in histories()) {
        for (before, event, _, after) in history {
            let (Some(before), Some(after)) = (before, after) else { continue };
            let another = matches!(
                &event,
                Event::Observe { facts, plan, .. } if !before.describes(facts) && !matches!(plan, Plan::Verify(_))
            );
            prop_assert_eq!(after.generation, before.generation + u64::from(another), "{:?}", event);
        }
    }

    #[test]
    fn what_is_observed_twice_changes_nothing_the_second_time(history in histories()) {
        for (_, event, now, after) in history {
            let (Event::Observe { facts, upload, plan }, Some(after)) = (event, after) else { continue };
            let again = written(Some(&after), &facts, upload.as_ref(), &plan, now);
            prop_assert_eq!(again, None);
        }
    }

    #[test]
    fn a_record_describes_the_version_that_was_written_down(history in histories()) {
        for (_, event, _, after) in history {
            if let (Event::Observe { facts, .. }, Some(after)) = (event, after) {
                prop_assert!(after.describes(&facts) || after.recheck);
            }
        }
    }

    #[test]
    fn whether_two_versions_are_the_same_does_not_depend_on_which_came_first(one in facts(), other in facts()) {
        let record_of = |facts: &Facts| written(None, facts, None, &Plan::Record, at(1)).unwrap();
        prop_assert_eq!(record_of(&one).describes(&other), record_of(&other).describes(&one));
    }

    #[test]
    fn the_same_bytes_under_another_type_are_another_version_where_oss_says_so(facts in facts(), confirmed: bool) {
        let record = written(None, &Facts { confirmed: true, ..facts.clone() }, None, &Plan::Record, at(1)).unwrap();
        let other = Facts { mime: Some("video/mp4".to_owned()), confirmed, ..facts };
        prop_assert_eq!(record.describes(&other), !confirmed);
    }

    #[test]
    fn a_claim_that_cannot_be_checked_never_replaces_another_version(
        record in records(),
        facts in facts(),
        upload in option::of(upload()),
    ) {
        prop_assume!(!record.describes(&facts));
        let plan = Plan::Verify(Reason::OssUnavailable);
        let doubted = written(Some(&record), &facts, upload.as_ref(), &plan, at(99));
        let kept = doubted.clone().unwrap_or_else(|| record.clone());
        prop_assert!(kept.recheck || kept.state == State::Unverified, "somebody must look");
        let but_for_the_mark = Record { recheck: record.recheck, next_attempt: record.next_attempt, revision: record.revision, updated: record.updated, ..kept.clone() };
        prop_assert_eq!(&but_for_the_mark, &record);
        prop_assert_eq!(written(Some(&kept), &facts, upload.as_ref(), &plan, at(99)), None, "once is enough");
    }

    #[test]
    fn an_object_that_is_deleted_and_uploaded_again_is_the_next_generation(record in records(), facts in facts()) {
        let tombstone = record.delete(at(98)).unwrap_or(record);
        prop_assert_eq!((tombstone.state, tombstone.recheck), (State::Deleted, false));
        prop_assert_eq!(&tombstone.delete(at(99)), &None);
        prop_assert!(!tombstone.is_due(at(99)));
        let again = written(Some(&tombstone), &facts, None, &Plan::Record, at(99)).unwrap();
        prop_assert_eq!(again.generation, tombstone.generation + 1);
        prop_assert_eq!(again.state, State::Recorded);
    }

    #[test]
    fn only_the_holder_of_the_lease_commits_or_releases(record in records(), end in end()) {
        for owner in ["x", "y", "somebody else"] {
            let holds = record.state == State::Processing && record.lease.as_ref().is_some_and(|lease| lease.owner == owner);
            prop_assert_eq!(record.commit(owner, end.clone(), at(99)).is_some(), holds);
            prop_assert_eq!(record.release(owner, Reason::OutOfTime, Vec::new(), at(99), at(99)).is_some(), holds);
            prop_assert_eq!(record.gone(owner, at(99)).is_some(), holds);
        }
    }

    #[test]
    fn a_lease_is_held_exactly_while_the_record_is_processing(history in histories()) {
        for record in history.into_iter().filter_map(|(_, _, _, after)| after) {
            prop_assert_eq!(record.lease.is_some(), record.state == State::Processing, "{:?}", record.state);
        }
    }

    #[test]
    fn a_lease_is_given_only_on_work_that_is_due_and_counts_the_attempt(record in records(), second in 0..60_i64) {
        let now = at(second);
        let leased = record.lease(lease("x", now), now);
        prop_assert_eq!(leased.is_some(), record.is_due(now));
        if let Some(leased) = leased {
            if record.attempts >= MOST_ATTEMPTS {
                prop_assert_eq!((leased.state, leased.reason), (State::Failed, Some(Reason::Exhausted)));
                prop_assert_eq!(leased.attempts, record.attempts);
                return Ok(());
            }
            prop_assert_eq!(leased.attempts, record.attempts + 1);
            prop_assert!(!leased.is_due(now), "a second worker gets it as well");
            prop_assert!(leased.is_due(at(second + 2)), "nobody gets it after the first one died");
        }
    }

    #[test]
    fn nothing_is_attempted_more_often_than_the_ceiling_and_what_reaches_it_has_failed(history in histories()) {
        for record in history.into_iter().filter_map(|(_, _, _, after)| after) {
            prop_assert!(record.attempts <= MOST_ATTEMPTS, "{:?}", record);
            prop_assert!(record.reason != Some(Reason::Exhausted) || record.state == State::Failed);
        }
    }

    #[test]
    fn something_is_due_exactly_where_work_or_a_doubt_is_left(history in histories()) {
        for record in history.into_iter().filter_map(|(_, _, _, after)| after) {
            let left = matches!(record.state, State::Received | State::Processing) || record.is_in_doubt();
            prop_assert_eq!(record.due().is_some(), left, "{:?}", record);
            prop_assert!(left || record.next_attempt.is_none(), "nobody has to come back: {:?}", record);
            if record.is_due(at(1_000_000)) || record.is_in_doubt() {
                prop_assert!(record.due().unwrap() <= at(1_000_000), "it is found by whoever looks for what is due");
            }
        }
    }

    #[test]
    fn what_oss_or_time_is_to_blame_for_is_no_attempt(record in records(), reason in put_off(), made in vec(thumbnail(), 0..3)) {
        let Some(held) = record.lease.clone() else { return Ok(()) };
        let released = record.release(&held.owner, reason, made.clone(), at(70), at(60)).unwrap();
        let counts = reason == Reason::ObjectChanged;
        prop_assert_eq!(released.attempts, record.attempts - u32::from(!counts));
        if released.state == State::Received {
            prop_assert_eq!((&released.thumbnails, released.reason), (&made, Some(reason)));
            prop_assert!(!released.is_due(at(69)) && released.is_due(at(70)));
            // Who has just heard from OSS need not sit out a pause that OSS was to blame for.
            let early = released.lease_early(lease("y", at(69)), at(69));
            prop_assert_eq!(early.is_some_and(|leased| leased.is_leased_by("y")), !counts);
        } else {
            prop_assert_eq!((released.state, record.attempts), (State::Failed, MOST_ATTEMPTS));
        }
    }

    #[test]
    fn pauses_grow_up_to_an_hour_and_do_not_keep_in_step(attempts in 0..9_u32, deferrals in 0..30_u32, random: u32) {
        let record = written(None, &Facts { etag: None, size: None, mime: None, last_modified: None, version_id: None, crc64: None, own_output: false, confirmed: true }, None, &Plan::Leave, at(0)).unwrap();
        let pause = |record: &Record, random| record.next_try(at(0), random).as_second();
        let record = Record { attempts, deferrals, ..record };
        let longer = Record { deferrals: deferrals + 1, ..record.clone() };
        prop_assert!((5..=3600).contains(&pause(&record, 0)));
        prop_assert!(pause(&longer, 0) >= pause(&record, 0));
        prop_assert!((pause(&record, 0)..=pause(&record, 0) * 5 / 4 + 1).contains(&pause(&record, random)));
    }

    #[test]
    fn work_that_is_asked_for_again_begins_anew_and_keeps_what_was_made(record in records()) {
        let at_rest = matches!(record.state, State::Ready | State::Failed | State::Recorded | State::Skipped);
        let again = record.again(at(99));
        prop_assert_eq!(again.is_some(), at_rest && record.confirmed);
        if let Some(again) = again {
            prop_assert!(again.is_due(at(99)));
            prop_assert_eq!((again.attempts, again.generation), (0, record.generation));
            prop_assert_eq!(again.thumbnails, record.thumbnails);
        }
    }

    #[test]
    fn work_is_ready_only_if_every_variant_was_made(
        thumbnails in vec(thumbnail(), 0..4),
        remark in option::of(Just(Reason::TypeMismatch)),
        facts in facts(),
    ) {
        let leased = written(None, &facts, None, &Plan::Make(lease("x", at(1))), at(1)).unwrap();
        let end = End::Made { thumbnails: thumbnails.clone(), remark };
        let ended = leased.commit("x", end, at(2)).unwrap();
        let all_made = thumbnails.iter().all(|thumbnail| thumbnail.state == ThumbnailState::Ready);
        prop_assert_eq!(ended.state, if all_made { State::Ready } else { State::Failed });
        prop_assert!(all_made || ended.reason.is_some(), "a failure says why");
        prop_assert!(!all_made || ended.reason == remark, "what was made may still be remarked on");
        prop_assert_eq!(ended.thumbnails, thumbnails);
        prop_assert_eq!(ended.generation, leased.generation);
    }
}
