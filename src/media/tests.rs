#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use proptest::prelude::*;

/// The rules in the documentation, without what is for videos.
const DOCUMENTED: &str = r##"
[[rule]]
mime = "image/*"
prefix = "photos/"
thumbnails = [
  { name = "small", width = 256, height = 256, fit = "inside", format = "jpeg", quality = 80 },
  { name = "large", width = 800, height = 800, fit = "cover", format = "webp", quality = 70, enlarge = true, background = "#0a0B0c" },
]
[[rule]]
mime = "*/*"
record = true
[output]
prefix = "thumbnails/"
[fields]
object = "filename"
height = "h"
[index]
custom = ["uid"]
[limits]
max_bytes = 1000
max_pixels = 2000
max_side = 30
max_memory = 4000
"##;

fn faults(text: &str) -> Vec<String> {
    Rules::parse(text).expect_err("these rules must be refused").faults().iter().map(Fault::to_string).collect()
}

fn names(action: Action<'_>) -> Vec<&str> {
    match action {
        Action::Thumbnails(variants) => variants.iter().map(|variant| variant.name.as_str()).collect(),
        other => panic!("no thumbnails but {other:?}"),
    }
}

#[test]
fn the_documented_rules_are_read() {
    let rules = Rules::parse(DOCUMENTED).unwrap();
    let Action::Thumbnails([small, large]) = rules.action("b", "photos/a.jpg", Some("image/jpeg"), 1) else {
        panic!("two variants");
    };
    assert_eq!(*small, Variant::inside("small", 256));
    let expected = Variant {
        fit: Fit::Cover,
        format: Format::Webp,
        quality: 70,
        enlarge: true,
        background: [10, 11, 12],
        ..Variant::inside("large", 800)
    };
    assert_eq!(*large, expected);
    assert_eq!(rules.fields().name("object"), "filename");
    assert_eq!(rules.fields().name("imageInfo.height"), "h");
    assert_eq!(rules.fields().name("etag"), "etag");
    assert_eq!(rules.indexed(), ["uid"]);
    assert_eq!(*rules.limits(), Limits { max_bytes: 1000, max_pixels: 2000, max_side: 30, max_memory: 4000 });
}

#[test]
fn built_in_rules_make_two_thumbnails_of_images_and_record_the_rest() {
    let rules = Rules::built_in();
    assert_eq!(names(rules.action("b", "a", Some("image/png"), 1)), ["small", "large"]);
    assert_eq!(rules.action("b", "a", Some("video/mp4"), 1), Action::Record);
    assert_eq!(rules.action("b", "a", None, 1), Action::Record);
}

#[test]
fn a_file_without_rules_keeps_the_built_in_ones() {
    assert_eq!(Rules::parse("").unwrap(), Rules::built_in());
    let rules = Rules::parse("[output]\nprefix = \"t/\"").unwrap();
    assert_eq!(names(rules.action("b", "a.jpg", None, 1)), ["small", "large"]);
    assert_eq!(rules.output().prefix(), "t/");
}

#[test]
fn the_first_rule_that_matches_decides() {
    let rules = Rules::parse(
        r#"
        [[rule]]
        mime = "image/*"
        prefix = "private/"
        skip = true
        [[rule]]
        mime = "image/png"
        suffix = ".raw.png"
        record = true
        [[rule]]
        mime = "image/*"
        bucket = "photos"
        max_size = 100
        thumbnails = [{ name = "t", width = 1, height = 1 }]
        "#,
    )
    .unwrap();
    let png = Some("image/png");
    assert_eq!(rules.action("photos", "private/a.png", png, 1), Action::Skip(Reason::RefusedByRule));
    assert_eq!(rules.action("photos", "a.raw.png", png, 1), Action::Record);
    assert_eq!(names(rules.action("photos", "a.png", png, 100)), ["t"]);
    assert_eq!(rules.action("photos", "a.png", png, 101), Action::Record, "over max_size the rule does not match");
    assert_eq!(rules.action("other", "a.png", png, 1), Action::Record);
}

#[test]
fn the_declared_type_decides_without_parameters_and_letter_case() {
    let rules = Rules::built_in();
    for declared in ["image/jpeg", "IMAGE/JPEG", " image/jpeg ; charset=utf-8", "image/jpg;q=1"] {
        assert_eq!(names(rules.action("b", "a.txt", Some(declared), 1)), ["small", "large"], "{declared}");
    }
    assert_eq!(rules.action("b", "a.jpg", Some("text/plain"), 1), Action::Record);
}

#[test]
fn the_extension_decides_where_no_type_is_declared() {
    let rules = Rules::built_in();
    for declared in [None, Some(""), Some("application/octet-stream"), Some("Application/Octet-Stream; a=b")] {
        for key in ["a.jpg", "x/y.z/a.JPeG", "a.b.webp", ".png"] {
            assert_eq!(names(rules.action("b", key, declared, 1)), ["small", "large"], "{declared:?} {key}");
        }
        for key in ["jpg", "a.jpg/b", "a.", "a.txt", "a.unheard-of", ""] {
            assert_eq!(rules.action("b", key, declared, 1), Action::Record, "{declared:?} {key}");
        }
    }
}

#[test]
fn common_names_of_a_type_count_as_the_registered_one() {
    let rules = Rules::parse("[[rule]]\nmime = \"Image/JPEG\"\nskip = true").unwrap();
    for declared in ["image/jpg", "image/pjpeg", "image/jpeg"] {
        assert_eq!(rules.action("b", "a", Some(declared), 1), Action::Skip(Reason::RefusedByRule), "{declared}");
    }
}

#[test]
fn own_output_is_skipped_before_any_rule() {
    let rules =
        Rules::parse("[[rule]]\nmime = \"*/*\"\nthumbnails = [{ name = \"t\", width = 1, height = 1 }]").unwrap();
    assert_eq!(rules.action("b", "thumbnails/x.jpg", Some("image/jpeg"), 1), Action::Skip(Reason::OwnOutput));
    assert_eq!(names(rules.action("b", "thumbnails.jpg", None, 1)), ["t"]);
    assert_eq!(rules.output().bucket("b"), "b");
}

#[test]
fn with_a_bucket_of_its_own_only_that_bucket_holds_own_output() {
    let rules = Rules::parse("[output]\nbucket = \"thumbs\"").unwrap();
    assert_eq!(rules.action("thumbs", "thumbnails/x.jpg", None, 1), Action::Skip(Reason::OwnOutput));
    assert_eq!(names(rules.action("photos", "thumbnails/x.jpg", None, 1)), ["small", "large"]);
    assert_eq!(rules.output().bucket("photos"), "thumbs");
}

#[test]
fn a_rule_under_the_output_prefix_is_refused() {
    let text = "[[rule]]\nmime = \"image/*\"\nprefix = \"thumbnails/big/\"\nrecord = true";
    assert_eq!(
        faults(text),
        ["line 3: `prefix` is \"thumbnails/big/\", which lies under the output prefix \"thumbnails/\": thumbnails of \
          thumbnails would never end; choose another prefix for the rule or for `[output]`"]
    );
    Rules::parse(&format!("{text}\nbucket = \"photos\"\n[output]\nbucket = \"thumbs\"")).unwrap();
    Rules::parse("[[rule]]\nmime = \"image/*\"\nprefix = \"t\"\nskip = true\n[output]\nprefix = \"t/t/\"").unwrap();
}

#[test]
fn an_output_prefix_that_takes_in_other_objects_is_refused() {
    let fault = |prefix: &str| faults(&format!("[output]\nprefix = {prefix:?}")).join("");
    assert!(fault("").contains("every object would count as a thumbnail"));
    assert!(fault("thumbs").contains("end it with \"/\""));
    for prefix in ["/", "/t/", "a//b/", "../", "a/./", "a\\b/", "a\n/"] {
        assert!(fault(prefix).contains("use names separated by single slashes"), "{prefix:?}");
    }
    assert!(fault(&format!("{}/", "a".repeat(512))).contains("it has 513 bytes; use at most 512"));
}

#[test]
fn every_fault_of_value_is_reported_at_once_by_line() {
    let text = r#"
[[rule]]
prefix = "a"
[[rule]]
mime = "image"
max_size = 0
bucket = "A"
thumbnails = [
  { name = "Big!", width = 0, height = 8193, fit = "crop", format = "avif", quality = 101, background = "red" },
  { name = "x", width = 1 },
  { name = "x", height = 1 },
  { width = 1, height = 1 },
]
record = true
[[rule]]
mime = "*/*"
record = false
[[rule]]
mime = "*/*"
thumbnails = []
[fields]
bucket = ""
etag = "size"
nonsense = "a"
[index]
custom = ["", "a", "a"]
[limits]
max_bytes = -1
max_side = 5000000000
"#;
    let expected = [
        "line 2: the rule has no `mime`: give a type such as \"image/*\", or \"*/*\" for all",
        "line 2: the rule says not what to do: give exactly one of `thumbnails`, `record = true`, `skip = true` and, for videos, `snapshot` with or without `transcode`",
        "line 4: the rule says more than once what to do: give exactly one of `thumbnails`, `record = true`, `skip = true` and, for videos, `snapshot` with or without `transcode`",
        "line 5: `mime` is \"image\": write type/subtype without parameters, such as \"image/png\", \"image/*\" or \"*/*\"",
        "line 6: `max_size` is 0: give 1 or more",
        "line 7: `bucket` is \"A\": a bucket name has 3 to 63 of a-z, 0-9 and \"-\", without \"-\" at either end",
        "line 9: `name` is \"Big!\": use 1 to 64 of a-z, 0-9, \"_\" and \"-\"",
        "line 9: `width` is 0: give 1 to 8192",
        "line 9: `height` is 8193: give 1 to 8192",
        "line 9: `fit` is \"crop\": use one of inside, cover, exact",
        "line 9: `format` is \"avif\": use one of jpeg, png, webp",
        "line 9: `quality` is 101: give 1 to 100",
        "line 9: `background` is \"red\": write # and six hexadecimal digits, such as \"#ffffff\"",
        "line 10: the variant has no `height`: give 1 to 8192 pixels",
        "line 11: `name` is \"x\" a second time: give each variant its own",
        "line 11: the variant has no `width`: give 1 to 8192 pixels",
        "line 12: the variant has no `name`: give one, such as \"small\"",
        "line 17: `record` is false: write `record = true` or leave it out",
        "line 20: `thumbnails` lists 0 variants: give 1 to 16, or `record = true` to make none",
        "line 22: `bucket` of `[fields]` is empty: give its name in the body",
        "line 23: `etag` of `[fields]` is \"size\", which is also the name of `size`: give each its own",
        "line 24: `nonsense` of `[fields]` is no field of OSS: use one of bucket, object, etag, size, mimeType, \
         imageInfo.height, imageInfo.width, imageInfo.format, crc64, contentMd5, vpcId, clientIp, reqId, operation",
        "line 26: `custom` of `[index]` names an empty variable: remove it",
        "line 26: `custom` of `[index]` names \"a\" twice: remove one",
        "line 28: `max_bytes` is -1: give 1 or more",
        "line 29: `max_side` is 5000000000: give 1 to 4294967295",
    ];
    assert_eq!(faults(text), expected);
    let message = Rules::parse(text).unwrap_err().to_string();
    assert!(message.starts_with("the rules cannot be used: line 2: the rule has no `mime`"), "{message}");
}

#[test]
fn a_fault_of_syntax_or_type_names_its_line_and_what_stands_there() {
    let fault = |text: &str| faults(text).join("|");
    assert_eq!(
        fault("\n[output]\nprefixes = \"a\""),
        "line 3: `prefixes = \"a\"`: unknown field `prefixes`, expected `prefix` or `bucket`"
    );
    assert!(fault("[[rule]]\nmime = 1\nrecord = true").starts_with("line 2: `mime = 1`: invalid type: integer `1`"));
    assert!(fault("[[rule]\nmime = 1").starts_with("line 1: `[[rule]`: "));
    assert!(fault("rule = 1").starts_with("line 1: `rule = 1`: invalid type"));
    assert!(fault("[limits]\nmax_bytes = 1\nmax_bytes = 2").starts_with("line 3: `max_bytes = 2`: duplicate key"));
}

#[test]
fn what_a_later_version_makes_is_skipped_in_words_and_the_rules_say_so() {
    let text = "[[rule]]\nmime = \"video/*\"\nsnapshot = { at_ms = 1000, width = 800 }\ntranscode = \"video/convert\"";
    let rules = Rules::parse(text).unwrap();
    assert_eq!(rules.action("b", "a.mp4", Some("video/mp4"), 1), Action::Skip(Reason::NotSupported));
    assert!(rules.ask_too_much() && !Rules::built_in().ask_too_much());
    assert!(Rules::parse("[[rule]]\nmime = \"video/*\"\nsnapshot = { at = 1 }").is_err());
}

#[test]
fn two_fields_may_swap_their_names_but_not_share_one() {
    let rules = Rules::parse("[fields]\netag = \"size\"\nsize = \"etag\"").unwrap();
    assert_eq!((rules.fields().name("etag"), rules.fields().name("size")), ("size", "etag"));
    assert_eq!(faults("[fields]\netag = \"x\"\nsize = \"x\"").len(), 2);
    assert!(faults("[fields]\nheight = \"h\"\n\"imageInfo.height\" = \"i\"").join("").contains("given a second time"));
}

#[test]
fn keys_of_thumbnails_stay_the_same_for_ever() {
    let variant = Variant::inside("small", 256);
    assert_eq!(
        Output::default().key("examplebucket", "a/b.jpg", "5D41402ABC4B2A76B9719D911017C592", &variant),
        KEY_OF_SMALL
    );
    let other = Output { prefix: "t/".to_owned(), bucket: None };
    assert_eq!(
        other.key("examplebucket", "a/b.jpg", "5d41402abc4b2a76b9719d911017c592", &variant),
        KEY_OF_SMALL.replace("thumbnails/", "t/"),
        "letter case of the ETag does not count"
    );
}

const KEY_OF_SMALL: &str = "thumbnails/a60c35bfef183b3d1af57b68d0264d5a6e514ef905736e2fa2e0aa9205f6dd8d/5D41402ABC4B2A76B9719D911017C592/small-53ef57c1.jpg";

#[test]
fn every_parameter_that_changes_the_bytes_changes_the_key() {
    let base = Variant::inside("v", 100);
    let changed = [
        Variant { width: 101, ..base.clone() },
        Variant { height: 101, ..base.clone() },
        Variant { fit: Fit::Cover, ..base.clone() },
        Variant { fit: Fit::Exact, ..base.clone() },
        Variant { format: Format::Png, ..base.clone() },
        Variant { format: Format::Webp, ..base.clone() },
        Variant { quality: 81, ..base.clone() },
        Variant { enlarge: true, ..base.clone() },
        Variant { background: [0, 0, 0], ..base.clone() },
        Variant { name: "w".to_owned(), ..base.clone() },
    ];
    let output = Output::default();
    let keys = std::iter::once(&base).chain(&changed).map(|variant| output.key("b", "o", "E", variant));
    assert_eq!(keys.collect::<std::collections::BTreeSet<_>>().len(), 1 + changed.len());
}

#[test]
fn a_parameter_without_effect_does_not_change_the_key() {
    let png = Variant { format: Format::Png, ..Variant::inside("v", 100) };
    let other = Variant { quality: 1, background: [1, 2, 3], ..png.clone() };
    let output = Output::default();
    assert_eq!(output.key("b", "o", "E", &png), output.key("b", "o", "E", &other));
}

#[test]
fn bucket_and_object_are_kept_apart_in_the_key() {
    let (output, variant) = (Output::default(), Variant::inside("v", 1));
    assert_ne!(output.key("ab", "c", "E", &variant), output.key("a", "bc", "E", &variant));
}

proptest! {
    #[test]
    fn nothing_of_a_hostile_object_or_etag_stands_in_the_key(object in ".{0,40}", etag in ".{0,80}") {
        for object in [object, "../../etc/passwd".to_owned(), "a\0b\nc\u{1b}[2J".to_owned()] {
            let key = Output::default().key("b", &object, &etag, &Variant::inside("small", 256));
            let parts: Vec<&str> = key.split('/').collect();
            prop_assert_eq!(parts.len(), 4);
            prop_assert_eq!(parts[0], "thumbnails");
            prop_assert_eq!(parts[1].len(), 64);
            prop_assert!((1..=64).contains(&parts[2].len()));
            prop_assert!(parts[3].starts_with("small-") && parts[3].ends_with(".jpg"));
            prop_assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-.".contains(&byte)));
            prop_assert!(!key.contains(".."));
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in r#"(\[\[?(rule|output|fields|index|limits)\]?\]|mime|prefix|=|"|/|\*|[0-9\n ]){0,40}"#) {
        let _ = Rules::parse(&text);
    }
}
