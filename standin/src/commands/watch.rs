//! `oss-standin watch`: the journal of a running stand-in, for people on a terminal, as JSON lines elsewhere.

use std::io::{self, IsTerminal as _, Write};

use bytes::Bytes;
use clap::Args;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use oss_standin::{Event, Happened};
use tokio::net::TcpStream;

use super::Failed;

/// The longest line of the journal that is read, in bytes: some texts of 4 KiB each, escaped.
const LONGEST_LINE: usize = 256 * 1024;

/// How much of a body is shown on a terminal, in characters.
const SHOWN: usize = 160;

#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// Where the stand-in listens; by IP address, or localhost.
    #[arg(value_name = "ENDPOINT", default_value = "http://127.0.0.1:9080")]
    endpoint: Uri,
    /// Begin after the event of this number.
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
}

pub(crate) async fn run(watch: Watch) -> Result<(), Failed> {
    let mut body = follow(&watch).await.map_err(|cause| format!("cannot watch {}: {cause}", watch.endpoint))?;
    let people = io::stdout().is_terminal();
    let mut pending = Vec::new();
    while let Some(frame) = body.frame().await {
        // A stand-in that is killed ends the journal as one that is stopped does.
        let Ok(frame) = frame else { break };
        pending.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            match show(&line, people) {
                // Whoever reads has seen enough, as `head` does.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            }
        }
        if pending.len() > LONGEST_LINE {
            return Err("what comes from there is no journal: a line without end".into());
        }
    }
    tracing::info!("the stand-in has stopped");
    Ok(())
}

/// Asks for the journal, and for what will come.
async fn follow(watch: &Watch) -> Result<Incoming, Failed> {
    let authority = watch.endpoint.authority().ok_or("it is no URL such as http://127.0.0.1:9080")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // What breaks here is seen at the body, too.
        let _ = connection.await;
    });
    let request = Request::get(format!("/_standin/journal?after={}&follow=true", watch.after))
        .header(http::header::HOST, authority.as_str())
        .body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    match answer.status().as_u16() {
        200 => Ok(answer.into_body()),
        status => Err(format!("it answers {status}; is that a stand-in?").into()),
    }
}

fn show(line: &[u8], people: bool) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match serde_json::from_slice::<Event>(line) {
        Ok(event) if people => writeln!(output, "{}", for_people(&event))?,
        _ => output.write_all(line)?,
    }
    output.flush()
}

/// ANSI colours.
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// One event as a line: when, whose (the end of the request id), and how deep in the upload it happens.
fn for_people(event: &Event) -> String {
    let time = event.time.split(['T', 'Z']).nth(1).unwrap_or(&event.time);
    let id = event.request_id.get(event.request_id.len().saturating_sub(6)..).unwrap_or(&event.request_id);
    let (text, fault) = match &event.happened {
        Happened::Request { method, path, bucket, key, operation, length } => {
            let what = operation.as_deref().unwrap_or(method);
            let about = match (bucket, key) {
                (Some(bucket), Some(key)) => printable(&format!("{bucket}/{key}")),
                _ => printable(path),
            };
            let length =
                length.filter(|length| *length > 0).map_or(String::new(), |length| format!("  {length} bytes"));
            (format!("{what:<16} {about}{DIM}{length}{PLAIN}"), None)
        }
        Happened::Callback { url, path: _, body, body_type: _, fault } => {
            (format!("  callback ->    {}  {DIM}{}{PLAIN}", printable(url), printable(body)), fault.as_ref())
        }
        Happened::CallbackAnswer { status, body, failure, milliseconds, fault, .. } => {
            let said = failure.as_deref().or(body.as_deref()).unwrap_or_default();
            let status = coloured(*status, failure.is_some());
            (format!("  callback <- {status} {}  {DIM}{milliseconds} ms{PLAIN}", printable(said)), fault.as_ref())
        }
        Happened::Answer { status, code, milliseconds, fault } => {
            let code = code.as_deref().unwrap_or_default();
            let failed = code == "CallbackFailed";
            (
                format!("answer        {} {code}  {DIM}{milliseconds} ms{PLAIN}", coloured(*status, failed)),
                fault.as_ref(),
            )
        }
        other => (printable(&format!("{other:?}")), None),
    };
    let fault = fault.map_or(String::new(), |fault| format!("  {YELLOW}[{}]{PLAIN}", printable(fault)));
    format!("{DIM}{time:<12} {id}{PLAIN}  {text}{fault}")
}

fn coloured(status: Option<u16>, failed: bool) -> String {
    let colour = match status {
        Some(200..=399) if !failed => GREEN,
        _ => RED,
    };
    let status = status.map_or("-".to_owned(), |status| status.to_string());
    format!("{colour}{status:<3}{PLAIN}")
}

/// A text as one line that no terminal takes for a command.
fn printable(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(|character| match character {
            character if character.is_control() => character.escape_default().collect::<Vec<char>>(),
            character => vec![character],
        })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn line(json: &str) -> String {
        let event: Event = serde_json::from_str(json).unwrap();
        let mut text = for_people(&event);
        for colour in [DIM, RED, GREEN, YELLOW, PLAIN] {
            text = text.replace(colour, "");
        }
        text
    }

    #[test]
    fn an_upload_is_four_lines_that_stand_under_each_other() {
        let event = |happened: &str| {
            line(&format!(
                r#"{{"number":1,"time":"2026-11-23T09:41:20.123Z","request_id":"6B03E97FD0FE039A6F142772",{happened}}}"#
            ))
        };
        let request = r#""event":"request","method":"PUT","path":"/b/k","bucket":"b","key":"k","operation":"PutObject","length":5"#;
        assert_eq!(event(request), "09:41:20.123 142772  PutObject        b/k  5 bytes");
        let callback = r#""event":"callback","url":"http://h/cb","path":"/cb","body":"size=5","body_type":"t","fault":"callback-lost""#;
        assert_eq!(event(callback), "09:41:20.123 142772    callback ->    http://h/cb  size=5  [callback-lost]");
        let answered = r#""event":"callback_answer","url":"http://h/cb","status":200,"body":"{}","milliseconds":7"#;
        assert_eq!(event(answered), "09:41:20.123 142772    callback <- 200 {}  7 ms");
        let answer = r#""event":"answer","status":203,"code":"CallbackFailed","milliseconds":8"#;
        assert_eq!(event(answer), "09:41:20.123 142772  answer        203 CallbackFailed  8 ms");
    }

    #[test]
    fn nothing_in_an_event_commands_the_terminal() {
        assert_eq!(printable("a\x1b[2J\r\nü"), r"a\u{1b}[2J\r\nü");
        assert_eq!(printable(&"x".repeat(SHOWN + 1)), format!("{}...", "x".repeat(SHOWN)));
    }
}
