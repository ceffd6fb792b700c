//! DeleteObject and DeleteMultipleObjects.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;

use crate::error::Error;
use crate::list::Encoding;
use crate::reply::{Reply, empty, full, xml};
use crate::request::Query;
use crate::store::{Bucket, on_disk};
use crate::upload::read_document;
use crate::xml::{Document, Element};

/// protocol: one request deletes at most 1,000 objects.
const MOST_KEYS: usize = 1000;

/// protocol: 204, also if there was no such object.
pub(crate) async fn delete_object(bucket: Arc<Bucket>, key: &str) -> Result<Reply, Error> {
    delete(bucket, vec![key.to_owned()]).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn delete_multiple_objects(
    bucket: Arc<Bucket>,
    query: &Query,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, Error> {
    let document = read_document(headers, body, "Delete").await?;
    let list = DeleteList::of(&document).ok_or_else(|| Error::malformed_xml("Delete"))?;
    let of_versions = document.children("Object").filter_map(|object| object.child_text("VersionId")).any(|id| {
        let id = id.trim();
        !id.is_empty() && id != "null"
    });
    if of_versions {
        // The current object must not go in place of an old version.
        return Err(Error::not_implemented("deleting a version"));
    }
    // Named in a header or in the query, depending on the SDK.
    let encoding = match headers.get("encoding-type") {
        Some(name) => Encoding::named(&String::from_utf8_lossy(name.as_bytes()))?,
        None => Encoding::of(query)?,
    };
    delete(bucket, list.keys.clone()).await?;
    if list.quiet {
        // protocol: only failures are listed, and there are none.
        return Ok(full(""));
    }
    let mut document = Document::new("DeleteResult");
    encoding.write(&mut document);
    for key in &list.keys {
        document.open("Deleted");
        document.text("Key", &encoding.of_text(key));
        document.close();
    }
    Ok(xml(document))
}

async fn delete(bucket: Arc<Bucket>, keys: Vec<String>) -> Result<(), Error> {
    on_disk(move || bucket.delete(&keys)).await
}

/// What is to be deleted.
#[derive(Debug, PartialEq, Eq)]
struct DeleteList {
    keys: Vec<String>,
    /// Whether only failures are reported.
    quiet: bool,
}

impl DeleteList {
    fn of(document: &Element) -> Option<Self> {
        let quiet = match document.child_text("Quiet").map(str::trim) {
            None | Some("" | "false") => false,
            Some("true") => true,
            Some(_) => return None,
        };
        let keys: Option<Vec<String>> = document
            .children("Object")
            .map(|object| object.child_text("Key").filter(|key| !key.is_empty()).map(str::to_owned))
            .collect();
        keys.filter(|keys| (1..=MOST_KEYS).contains(&keys.len())).map(|keys| Self { keys, quiet })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn read(document: &str) -> Option<DeleteList> {
        DeleteList::of(&Element::parse(document.as_bytes(), "Delete")?)
    }

    #[test]
    fn one_to_a_thousand_keys_are_read() {
        let list = |count| format!("<Delete>{}</Delete>", "<Object><Key>k</Key></Object>".repeat(count));
        assert_eq!(read(&list(1000)).unwrap().keys.len(), 1000);
        for document in [
            &list(0),
            &list(1001),
            "<Delete><Object/></Delete>",
            "<Delete><Object><Key/></Object></Delete>",
            "<Delete><Quiet>perhaps</Quiet><Object><Key>k</Key></Object></Delete>",
        ] {
            assert_eq!(read(document), None, "{document:.80}");
        }
    }

    proptest! {
        #[test]
        fn keys_are_read_as_they_were_written(keys in proptest::collection::vec("[ -~é\\n\\r\\t]{1,20}", 1..5), quiet: bool) {
            let mut document = Document::new("Delete");
            document.text("Quiet", if quiet { "true" } else { "false" });
            for key in &keys {
                document.open("Object");
                document.text("Key", key);
                document.close();
            }
            prop_assert_eq!(read(&document.finish()), Some(DeleteList { keys, quiet }));
        }
    }
}
