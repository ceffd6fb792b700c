//! The stand-in's own routes, for people and tests at this machine: faults to arm at run time, the journal to read and
//! follow. A web page that a browser shows on this machine must not be able to use them.

use std::net::IpAddr;

use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use serde::Deserialize;
use serde_json::json;

use crate::connection::Client;
use crate::dispatch::host_of;
use crate::fault::Fault;
use crate::journal::{self, Event, Journal};
use crate::reply::{Reply, full};
use crate::request::Query;
use crate::server::State;
use crate::upload::read_whole;

/// Where the own routes begin. No bucket has such a name, and where the bucket stands in Host, these are keys of it.
const OWN: &str = "/_standin/";
const FAULTS: &str = "/_standin/faults";
const JOURNAL: &str = "/_standin/journal";

/// The longest body of an administrative request in bytes.
const LONGEST_BODY: usize = 64 * 1024;

/// The most events in one piece of a journal that is read.
const EVENTS_AT_ONCE: usize = 256;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a path is one of the stand-in itself, not of what it stands in for.
pub(crate) fn is_own(parts: &Parts) -> bool {
    parts.uri.path().starts_with(OWN)
}

/// One refused administrative request.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

fn refuse(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status, code, message: message.into() }
}

/// Answers a request to one of the own routes, in JSON.
pub(crate) async fn answer(state: &State, client: &Client, parts: &Parts, body: &mut Incoming) -> Reply {
    match perform(state, client, parts, body).await {
        Ok(reply) => reply,
        Err(Refusal { status, code, message }) => {
            let mut reply = document(&json!({"error": {"code": code, "message": message}}));
            *reply.status_mut() = status;
            reply
        }
    }
}

async fn perform(state: &State, client: &Client, parts: &Parts, body: &mut Incoming) -> Result<Reply, Refusal> {
    if !client.address.ip().to_canonical().is_loopback() {
        let message = "this route is for the machine that the stand-in runs on: the journal holds what callbacks say";
        return Err(refuse(StatusCode::FORBIDDEN, "forbidden", message));
    }
    check_origin(parts)?;
    let bad = |message: String| refuse(StatusCode::BAD_REQUEST, "bad_request", message);
    let query = parts.uri.query().unwrap_or_default();
    let query = Query::parse(query).map_err(|error| bad(error.message))?;
    match (parts.uri.path(), &parts.method) {
        (FAULTS, &Method::GET) => Ok(faults(state)),
        (FAULTS, &Method::POST) => {
            let body = read_whole(body, LONGEST_BODY).await.map_err(|error| bad(error.message))?;
            let arm: Arm = serde_json::from_slice(&body).map_err(|cause| {
                bad(format!("{cause}; the body is JSON: {{\"faults\": [\"slow=2s,times=1\"], \"seed\": 7}}"))
            })?;
            let parsed: Result<Vec<Fault>, _> = arm.faults.iter().map(|spec| spec.parse()).collect();
            let parsed = parsed.map_err(|error: crate::FaultError| bad(error.to_string()))?;
            match arm.seed {
                // Another seed means another sequence, so everything begins anew.
                Some(seed) => state.faults.replace(Some(seed), parsed),
                None => parsed.into_iter().for_each(|fault| state.faults.add(fault)),
            }
            Ok(faults(state))
        }
        (FAULTS, &Method::DELETE) => {
            state.faults.replace(None, Vec::new());
            Ok(faults(state))
        }
        (JOURNAL, &Method::GET) => {
            let after = match query.get("after") {
                Some(number) => number.parse().map_err(|_| bad(format!("after={number} is not a whole number")))?,
                None => 0,
            };
            Ok(lines(state.recorder.journal(), after, follower(&query, client).map_err(bad)?))
        }
        (FAULTS | JOURNAL, method) => {
            let message = format!("{method} is none of this route's methods");
            Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message))
        }
        (path, _) => {
            let message = format!("there is no {path}; there are {FAULTS} and {JOURNAL}");
            Err(refuse(StatusCode::NOT_FOUND, "not_found", message))
        }
    }
}

/// Refuses what a web page could have sent: a page says where it comes from, and to reach a loopback address under its
/// own name (DNS rebinding) it must call it by that name.
fn check_origin(parts: &Parts) -> Result<(), Refusal> {
    let forbidden = |message: &str| refuse(StatusCode::FORBIDDEN, "forbidden", message);
    let elsewhere = parts.headers.get(FETCH_SITE).is_some_and(|site| site != "none");
    if parts.headers.contains_key(ORIGIN) || elsewhere {
        return Err(forbidden("this route is not for web pages: the request carries Origin or Sec-Fetch-Site"));
    }
    let host = host_of(parts).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => &host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address.is_ok() || name.eq_ignore_ascii_case("localhost") {
        true => Ok(()),
        false => Err(forbidden("this route is called by IP address or as localhost: Host names something else")),
    }
}

/// What is armed: `{"faults": ["slow=2s,times=1"]}`, added to those there are; with `"seed": 7` in their place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Arm {
    #[serde(default)]
    faults: Vec<String>,
    seed: Option<u64>,
}

fn faults(state: &State) -> Reply {
    let (seed, faults) = state.faults.list();
    document(&json!({"seed": seed, "faults": faults}))
}

/// The client to stay with, if it asks to follow.
fn follower(query: &Query, client: &Client) -> Result<Option<Client>, String> {
    match query.get("follow") {
        Some("true" | "") => Ok(Some(client.clone())),
        Some("false") | None => Ok(None),
        Some(other) => Err(format!("follow={other} is neither true nor false")),
    }
}

/// The events after a number, a line of JSON each; with a follower also those that come, until the stand-in stops.
fn lines(journal: Journal, after: u64, follower: Option<Client>) -> Reply {
    let pieces = stream::unfold((journal, after, follower), |(journal, after, follower)| async move {
        let events = match &follower {
            Some(client) => tokio::select! {
                events = journal.wait_for_newer(after) => events,
                () = client.stopping() => journal.newer_than(after),
            },
            None => journal.newer_than(after),
        };
        let events = events.get(..EVENTS_AT_ONCE).unwrap_or(&events);
        let last = events.last()?.number;
        let text: String = events.iter().map(|event: &std::sync::Arc<Event>| journal::line(event)).collect();
        Some((Ok(Frame::data(Bytes::from(text))), (journal, last, follower)))
    });
    let mut reply = Response::new(StreamBody::new(pieces).boxed_unsync());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    reply
}

fn document(value: &serde_json::Value) -> Reply {
    let mut reply = full(format!("{value}\n"));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
