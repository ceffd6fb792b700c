//! A page of ListObjectsV2 as OSS writes it. What is not listed is taken for deleted, so a page that is not wholly understood
//! is an error, never a shorter page.

use jiff::{Timestamp, Unit};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::{Listed, ListedVersion, Listing};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListBucketResult {
    is_truncated: bool,
    encoding_type: Option<String>,
    #[serde(default)]
    contents: Vec<Contents>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    key: String,
    #[serde(rename = "ETag")]
    etag: String,
    size: u64,
    last_modified: Timestamp,
    r#type: Option<String>,
}

/// Reads the page that was asked for behind `after`.
///
/// # Errors
/// What is wrong with it, as the end of a sentence: it cannot be read, or its keys are not those asked for in their order, in
/// which case going on behind the last one could miss some or go round for ever.
pub(super) fn parse(xml: &[u8], prefix: &str, after: Option<&str>) -> Result<Listing, String> {
    let text = std::str::from_utf8(xml).map_err(|_| "is not UTF-8".to_owned())?;
    let page: ListBucketResult =
        quick_xml::de::from_str(text).map_err(|error| format!("is no answer of OSS: {error}"))?;
    let escaped = page.encoding_type.as_deref() == Some("url");
    let mut objects: Vec<Listed> = Vec::with_capacity(page.contents.len());
    for Contents { key, etag, size, last_modified, r#type } in page.contents {
        let object = if escaped {
            percent_decode_str(&key).decode_utf8().map_err(|_| format!("names a key that is no UTF-8: {key:?}"))?.into()
        } else {
            key
        };
        let last = objects.last().map(|listed| listed.object.as_str()).or(after);
        if !object.starts_with(prefix) || last.is_some_and(|last| *object <= *last) {
            return Err(format!("names {object:?} out of turn (prefix {prefix:?}, behind {last:?})"));
        }
        let version = ListedVersion {
            etag: etag.trim_matches('"').to_ascii_uppercase(),
            size,
            // HEAD knows no fractions, and the same version must look the same.
            last_modified: whole_second(last_modified),
        };
        let is_link = r#type.as_deref() == Some("Symlink");
        objects.push(Listed { object, version: (!is_link).then_some(version) });
    }
    if page.is_truncated && objects.is_empty() {
        return Err("ends without naming a key, though there are more".to_owned());
    }
    Ok(Listing { objects, more: page.is_truncated })
}

/// The second that a time lies in.
fn whole_second(time: Timestamp) -> Timestamp {
    let floor = jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Floor);
    time.round(floor).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn page(entries: &[(&str, &str)], truncated: bool) -> String {
        let contents: String = entries
            .iter()
            .map(|(key, modified)| {
                format!(
                    "<Contents><Key>{key}</Key><LastModified>{modified}</LastModified><ETag>\"ab\"</ETag>\
                     <Type>Normal</Type><Size>7</Size><StorageClass>Standard</StorageClass></Contents>"
                )
            })
            .collect();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult><Name>b</Name><Prefix></Prefix>\
             <EncodingType>url</EncodingType><IsTruncated>{truncated}</IsTruncated>{contents}</ListBucketResult>"
        )
    }

    #[test]
    fn a_page_is_read_with_keys_decoded_and_times_cut_to_the_second_that_head_gives() {
        let xml = page(&[("a%20b%2B", "2026-01-02T03:04:05.678Z"), ("a/%C3%A4%01", "2026-01-02T03:04:05.000Z")], true);
        let Listing { objects, more } = parse(xml.as_bytes(), "a", Some("a")).unwrap();
        assert!(more);
        let keys: Vec<_> = objects.iter().map(|listed| listed.object.as_str()).collect();
        assert_eq!(keys, ["a b+", "a/\u{e4}\u{1}"]);
        let last_modified = "2026-01-02T03:04:05Z".parse().unwrap();
        let version = ListedVersion { etag: "AB".to_owned(), size: 7, last_modified };
        assert!(objects.iter().all(|listed| listed.version.as_ref() == Some(&version)), "{objects:?}");
        let links = xml.replace(">Normal<", ">Symlink<");
        let Listing { objects, .. } = parse(links.as_bytes(), "a", Some("a")).unwrap();
        assert!(objects.iter().all(|listed| listed.version.is_none()), "{objects:?}");
    }

    #[test]
    fn a_page_that_goes_backwards_repeats_or_strays_is_refused() {
        let time = "2026-01-02T03:04:05.000Z";
        for (keys, prefix, after) in [
            (["b", "a"], "", None),
            (["a", "a"], "", None),
            (["a", "b"], "", Some("a")),
            (["a", "b"], "", Some("c")),
            (["pa", "qb"], "p", None),
        ] {
            let xml = page(&keys.map(|key| (key, time)), false);
            let refused = parse(xml.as_bytes(), prefix, after).unwrap_err();
            assert!(refused.contains("out of turn"), "{keys:?}: {refused}");
        }
        assert!(parse(page(&[], true).as_bytes(), "", None).is_err());
        assert_eq!(parse(page(&[], false).as_bytes(), "", None).unwrap(), Listing::default());
    }

    #[test]
    fn what_is_no_listing_is_never_an_empty_one() {
        for body in [
            "",
            "<html><body>Bad gateway</body></html>",
            "{}",
            "<Error><Code>NoSuchBucket</Code></Error>",
            "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>",
            "<ListBucketResult><IsTruncated>false</IsTruncated>",
        ] {
            assert!(parse(body.as_bytes(), "", None).is_err(), "{body}");
        }
        assert!(parse(b"\xff", "", None).is_err());
    }

    proptest! {
        #[test]
        fn no_cut_and_no_changed_byte_of_a_page_shortens_it_unnoticed(at in any::<prop::sample::Index>(), byte: u8, cut: bool) {
            let whole = page(&[("a", "2026-01-02T03:04:05.000Z"), ("b", "2026-01-02T03:04:06.000Z")], false);
            let mut bytes = whole.clone().into_bytes();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else if let Some(changed) = bytes.get_mut(at) { *changed = byte }
            if let Ok(Listing { objects, more }) = parse(&bytes, "", None) {
                prop_assert!(!cut && !more && objects.len() == 2, "{}: {objects:?}", String::from_utf8_lossy(&bytes));
            }
        }
    }
}
