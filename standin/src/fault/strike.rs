//! Where a request's fault takes effect: before anything is done, on the clock, and on the finished answer.

use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, DATE, ETAG, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body as _, Frame};
use md5::{Digest as _, Md5};

use super::RequestFault;
use crate::connection::Client;
use crate::error::Error;
use crate::reply::Reply;

/// What a request meets with before anything is done.
pub(crate) enum Meeting {
    /// It is served.
    Served,
    /// It is refused.
    Refused(Error),
    /// It is never answered, and its connection ends only when the stand-in stops.
    Held,
    /// Its connection ends now.
    Cut,
}

impl RequestFault {
    /// Before anything is done; a request that is late waits here.
    pub(crate) async fn meet(&self, client: &Client) -> Meeting {
        match self {
            Self::Slow(delay) => {
                tokio::select! {
                    () = tokio::time::sleep(*delay) => {}
                    // Who stops the stand-in does not wait for this.
                    () = client.stopping() => {}
                }
                Meeting::Served
            }
            Self::Hang => Meeting::Held,
            Self::Reset => {
                client.reset_at_end();
                Meeting::Cut
            }
            Self::InternalError => Meeting::Refused(Error::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                "We encountered an internal error. Please try again.",
            )),
            // not documented: the wording.
            Self::Unavailable => Meeting::Refused(Error::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "The service is temporarily unavailable. Please try again.",
            )),
            Self::Precondition => Meeting::Refused(
                Error::new(
                    StatusCode::PRECONDITION_FAILED,
                    "PreconditionFailed",
                    "At least one of the pre-conditions you specified did not hold.",
                )
                .detail("Condition", "If-Match"),
            ),
            Self::Truncate | Self::WrongEtag | Self::Skew(_) | Self::AnswerLost => Meeting::Served,
        }
    }

    /// What the stand-in takes for the time.
    pub(crate) fn clock(&self) -> SystemTime {
        let now = SystemTime::now();
        let Self::Skew(seconds) = self else { return now };
        let off = Duration::from_secs(seconds.unsigned_abs().into());
        let skewed = if *seconds < 0 { now.checked_sub(off) } else { now.checked_add(off) };
        skewed.unwrap_or(now)
    }

    /// On the finished answer.
    pub(crate) fn disturb(&self, mut reply: Reply, method: &Method) -> Reply {
        match self {
            Self::Truncate if method != Method::HEAD => truncated(reply),
            Self::WrongEtag => {
                if let Some(etag) = reply.headers_mut().get_mut(ETAG) {
                    *etag = another_etag(etag);
                }
                reply
            }
            Self::Skew(_) => {
                if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(self.clock())) {
                    reply.headers_mut().insert(DATE, date);
                }
                reply
            }
            _ => reply,
        }
    }
}

/// An ETag that looks like one and is not this one.
fn another_etag(etag: &HeaderValue) -> HeaderValue {
    let hex: String = Md5::digest(etag).iter().map(|byte| format!("{byte:02X}")).collect();
    HeaderValue::try_from(format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Announces the whole length and breaks off after half of it. What has no length, or none above nothing, stays whole.
fn truncated(reply: Reply) -> Reply {
    let announced = reply.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let Some(length) = announced.or(reply.body().size_hint().exact()).filter(|length| *length > 0) else {
        return reply;
    };
    let (mut head, body) = reply.into_parts();
    head.headers.insert(CONTENT_LENGTH, length.into());
    Reply::from_parts(head, StreamBody::new(half(body, length / 2)).boxed_unsync())
}

fn half(
    body: UnsyncBoxBody<Bytes, io::Error>,
    left: u64,
) -> impl futures_util::Stream<Item = io::Result<Frame<Bytes>>> {
    stream::try_unfold((body, left), |(mut body, left)| async move {
        if left == 0 {
            // Lets what was sent so far leave before the connection breaks.
            tokio::task::yield_now().await;
            return Err(io::Error::other("cut by a fault"));
        }
        let Some(frame) = body.frame().await.transpose()? else { return Ok(None) };
        let Ok(mut data) = frame.into_data() else { return Ok(None) };
        data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left.saturating_sub(data.len() as u64);
        Ok(Some((Frame::data(data), (body, left))))
    })
}
