//! The policy of a form, as the JSON inside or as sent: read or refused without a panic, and held against any value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oss_standin::fuzzing;

// Up to the first zero byte the policy, after it the value of every field.
fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (policy, value) = text.split_once('\0').unwrap_or((&text, ""));
    if fuzzing::policy(policy, value) {
        serde_json::from_str::<serde_json::Value>(policy).expect("an accepted policy is JSON");
    }
});
