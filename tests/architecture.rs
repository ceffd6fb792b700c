//! The map of the house: which file may use which, and who alone may touch the rim.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Each file (or folder) with all that it uses. A line may only name lines above it, so arrows run one way.
const USES: [(&str, &[&str]); 25] = [
    // words
    ("error", &[]),
    ("record", &[]),
    // values
    ("media", &["record"]),
    ("thumbnail", &["media", "record"]),
    // proofs
    ("request", &["error"]),
    ("signature", &["error", "request"]),
    ("keys", &["signature"]),
    // facts
    ("callback", &["error", "media", "signature"]),
    // ports and their adapters
    ("objects", &["record"]),
    ("records", &["record"]),
    // verdict
    ("trust", &["callback", "error", "objects", "record"]),
    ("reply", &["error", "record"]),
    ("route", &["error", "record", "records", "request"]),
    ("observe", &["media", "objects", "record", "records", "thumbnail", "trust"]),
    ("worker", &["media", "objects", "observe", "record", "records", "thumbnail"]),
    ("reconcile", &["media", "objects", "record", "records", "worker"]),
    // spine
    (
        "app",
        &[
            "callback",
            "error",
            "media",
            "objects",
            "observe",
            "reconcile",
            "record",
            "records",
            "reply",
            "request",
            "route",
            "signature",
            "trust",
            "worker",
        ],
    ),
    // wiring
    ("config", &["error", "media", "request", "signature", "trust"]),
    ("log", &["config"]),
    ("wire", &["app", "config", "keys", "media", "objects", "reconcile", "records", "signature", "worker"]),
    // edges
    ("lambda", &["app", "error", "record", "reply", "request", "worker"]),
    ("server", &["app", "error", "reply", "request"]),
    ("served", &["reconcile", "record", "records"]),
    ("verbs", &["app", "config", "lambda", "reconcile", "record", "records", "served", "server", "wire"]),
    ("main", &["config", "log"]),
];

/// The text of every source file by its room, tests left out.
fn rooms() -> BTreeMap<String, String> {
    fn collect(folder: &Path, room: Option<&str>, rooms: &mut BTreeMap<String, String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            let room = room.unwrap_or(&stem);
            if path.is_dir() {
                collect(&path, Some(room), rooms);
            } else if stem != "lib" && stem != "tests" {
                let text = std::fs::read_to_string(&path).unwrap();
                let code: String = text
                    .split("#[cfg(test)]")
                    .next()
                    .unwrap()
                    .lines()
                    .filter(|line| !line.trim_start().starts_with("//"))
                    .map(|line| format!("{line}\n"))
                    .collect();
                rooms.entry(room.to_owned()).or_default().push_str(&code);
            }
        }
    }
    let mut rooms = BTreeMap::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut rooms);
    rooms
}

/// The names behind `crate::` and `oss_callback::`, groups taken apart.
fn used_by(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for root in ["crate::", "oss_callback::"] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            let names = match rest.strip_prefix('{') {
                Some(group) => group.split('}').next().unwrap().split(',').collect(),
                None => vec![rest],
            };
            used.extend(names.iter().map(|name| {
                name.trim()
                    .chars()
                    .take_while(|letter| letter.is_ascii_lowercase() || *letter == '_')
                    .collect::<String>()
            }));
        }
    }
    used.remove("");
    used
}

#[test]
fn every_file_uses_exactly_what_the_table_says_and_arrows_run_one_way() {
    let rooms = rooms();
    let named: BTreeSet<&str> = USES.iter().map(|(room, _)| *room).collect();
    assert_eq!(rooms.keys().map(String::as_str).collect::<BTreeSet<_>>(), named, "the table names every file");
    let mut above = BTreeSet::new();
    for (room, allowed) in USES {
        let mut used = used_by(&rooms[room]);
        used.remove(room);
        let allowed: BTreeSet<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(used, allowed, "what {room} uses");
        assert!(allowed.is_subset(&above), "{room} uses only what stands above it");
        above.insert(room.to_owned());
    }
}

#[test]
fn only_the_wiring_names_adapters_and_only_config_reads_the_environment() {
    for (room, code) in rooms() {
        let adapters = ["objects::oss", "records::embedded", "records::dynamodb"];
        if room != "wire" {
            assert!(!adapters.iter().any(|adapter| code.contains(adapter)), "{room} names an adapter");
        }
        if room != "config" {
            assert!(!code.contains("env::var"), "{room} reads the environment");
        }
    }
}

#[test]
fn the_pure_rooms_do_no_io_and_wait_for_nothing() {
    let rooms = rooms();
    for room in ["error", "record", "media", "thumbnail", "request", "signature", "keys", "callback"] {
        for word in ["async ", ".await", "tokio", "std::fs", "std::net", "hyper"] {
            assert!(!rooms[room].contains(word), "{room} holds {word}");
        }
    }
}
