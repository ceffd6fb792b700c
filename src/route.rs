//! Which route a request is for.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::error::{Failure, quoted};
use crate::record::{RecordKey, State};
use crate::records::Query;
use crate::request::{CallbackPaths, Incoming};

/// The most records on a page of a listing.
const PAGE_LIMIT: usize = 1000;

/// Which route a request is for.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// A callback, with the candidates for the path that OSS signed.
    Callback(Vec<Vec<u8>>),
    /// The records; what of them is judged after the token.
    Records,
    /// A run that reconciles: started or joined, or looked at.
    Reconcile,
}

impl Route {
    /// Finds the route by path, then judges the method. `with_reading`: whether the read routes exist.
    ///
    /// # Errors
    /// [`Failure::NotFound`], [`Failure::NoReading`] or [`Failure::MethodNotAllowed`].
    pub fn of(incoming: &Incoming, paths: &CallbackPaths, with_reading: bool) -> Result<Self, Failure> {
        if let Some(candidates) = paths.candidates(&incoming.path) {
            return allow(incoming, &Method::POST, "POST").map(|()| Self::Callback(candidates));
        }
        if incoming.path.without_stage() == "/reconcile" {
            let allowed = [Method::POST, Method::GET].contains(&incoming.method);
            return match (with_reading, allowed) {
                (false, _) => Err(Failure::NoReading),
                (true, true) => Ok(Self::Reconcile),
                (true, false) => Err(Failure::MethodNotAllowed { allowed: "GET, POST" }),
            };
        }
        match below_records(incoming) {
            Some(_) if with_reading => allow(incoming, &Method::GET, "GET").map(|()| Self::Records),
            Some(_) => Err(Failure::NoReading),
            None => Err(Failure::NotFound),
        }
    }
}

/// What stands behind `/records`, if that is the route: nothing, or a slash and more.
fn below_records(incoming: &Incoming) -> Option<&str> {
    let rest = incoming.path.without_stage().strip_prefix("/records")?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// What a reader wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// One record.
    Record(RecordKey),
    /// A page of records.
    Page(Query),
}

impl Wanted {
    /// Reads path and query of a request to [`Route::Records`].
    ///
    /// # Errors
    /// [`Failure::NoRecord`] for a path that can name no object, [`Failure::BadField`] or [`Failure::MissingField`] for a
    /// query that cannot be read.
    pub fn of(incoming: &Incoming) -> Result<Self, Failure> {
        let name = below_records(incoming).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
        if name.is_empty() {
            return by_query(incoming.query.as_deref().unwrap_or_default());
        }
        let (bucket, object) = name.split_once('/').ok_or(Failure::NoRecord)?;
        let decode = |text: &str| match incoming.path.decoded {
            true => Ok(text.to_owned()),
            false => percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| Failure::NoRecord),
        };
        Ok(Self::Record(RecordKey::new(decode(bucket)?, decode(object)?)))
    }
}

fn allow(incoming: &Incoming, method: &Method, allowed: &'static str) -> Result<(), Failure> {
    if incoming.method == method { Ok(()) } else { Err(Failure::MethodNotAllowed { allowed }) }
}

/// `object` with `bucket` names one record, for any key behind any gateway; everything else filters a listing.
fn by_query(query: &str) -> Result<Wanted, Failure> {
    let bad = |name: &str, problem: String| Failure::BadField { name: name.to_owned(), problem };
    let pairs: Vec<(String, String)> =
        serde_urlencoded::from_str(query).map_err(|error| bad("query", format!("cannot be read: {error}")))?;
    let mut wanted = Query { limit: 100, ..Query::default() };
    let mut object = None;
    for (name, value) in pairs {
        match name.as_str() {
            "bucket" => wanted.bucket = Some(value),
            "object" => object = Some(value),
            "prefix" => wanted.prefix = Some(value),
            "cursor" => wanted.cursor = Some(value),
            "state" => {
                let names = State::ALL.map(State::as_str).join(", ");
                let state = State::from_name(&value)
                    .ok_or_else(|| bad("state", format!("is {}; there are {names}", quoted(&value))))?;
                wanted.state = Some(state);
            }
            "limit" => match value.parse() {
                Ok(limit @ 1..=PAGE_LIMIT) => wanted.limit = limit,
                _ => return Err(bad("limit", format!("is {}, not between 1 and {PAGE_LIMIT}", quoted(&value)))),
            },
            other => match other.strip_prefix("custom.") {
                Some(custom) => wanted.custom.push((custom.to_owned(), value)),
                None => return Err(bad(&quoted(other), "is no filter of this route".to_owned())),
            },
        }
    }
    match (object, wanted.bucket.clone()) {
        (None, _) => Ok(Wanted::Page(wanted)),
        (Some(object), Some(bucket)) => Ok(Wanted::Record(RecordKey::new(bucket, object))),
        (Some(_), None) => {
            Err(Failure::MissingField { name: "bucket".to_owned(), hint: "An object is named by bucket and object." })
        }
    }
}
