//! `oss-standin replay`: sends a recorded request again, byte for byte.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use oss_standin::send_raw;
use serde_json::json;

use super::{Failed, answer, read};

pub(crate) const EXAMPLES: &str = "\
Examples:
  oss-standin replay events/genuine/json-body.http http://127.0.0.1:9000
  oss-standin replay standin/tests/wire/python-v2-put.http http://127.0.0.1:9080    # serve --max-skew off takes old ones
  oss-standin trigger http://127.0.0.1:9000/callback --print | oss-standin replay - http://127.0.0.1:9000

The exit code is 0 if the answer has a status from 200 to 299, else 1.";

/// What ends a body that was cut when it was recorded: how many bytes are missing stands between these.
const CUT: (&[u8], &[u8]) = (b"...(", b" more bytes)");

/// The longest recorded request, in bytes, with what it is filled up to.
const LONGEST: u64 = 64 * 1024 * 1024;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// A raw HTTP request, from its request line to the end of its body; - is standard input.
    file: PathBuf,
    /// Where it goes: scheme, host and port. Path, Host and all else are those of the recording.
    url: String,
    /// Fill a body that ends in `...(N more bytes)` up to its Content-Length, with its last byte.
    #[arg(long)]
    fill: bool,
    /// Seconds to wait for the answer.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    timeout: u64,
    /// Print JSON on a terminal too.
    #[arg(long)]
    json: bool,
    /// Certificate authorities (PEM) that https trusts beside the public ones.
    #[arg(long, value_name = "FILE")]
    callback_ca: Option<PathBuf>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode, Failed> {
    let mut request = recording(&arguments.file)?;
    if arguments.fill {
        request = fill(request)?;
    }
    for warning in warnings(&request) {
        tracing::warn!("{warning}");
    }
    let certificates = arguments.callback_ca.as_deref().map(read).transpose()?.unwrap_or_default();
    let begun = Instant::now();
    let limit = Duration::from_secs(arguments.timeout);
    let result = send_raw(&arguments.url, &request, &certificates, limit).await;
    let milliseconds = begun.elapsed().as_millis();
    let text = if answer::for_programs(arguments.json) {
        let mut fields = answer::fields(&result);
        fields.insert("milliseconds".to_owned(), json!(milliseconds));
        format!("{}\n", json!(fields))
    } else {
        answer::lines(&result, milliseconds)
    };
    answer::print(text.as_bytes())?;
    let accepted = result.is_ok_and(|answer| (200..300).contains(&answer.status));
    Ok(if accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn recording(file: &Path) -> Result<Vec<u8>, Failed> {
    let mut request = Vec::new();
    let fail = |cause| format!("cannot read {}: {cause}", file.display());
    if file == Path::new("-") {
        std::io::stdin().take(LONGEST + 1).read_to_end(&mut request).map_err(fail)?;
    } else {
        std::fs::File::open(file).and_then(|open| open.take(LONGEST + 1).read_to_end(&mut request)).map_err(fail)?;
    }
    if request.len() as u64 > LONGEST {
        return Err(format!("{} is longer than 64 MiB", file.display()).into());
    }
    Ok(request)
}

/// Head (with its empty line) and body of a request; `None` without an empty line.
fn split(request: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = request.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    request.split_at_checked(end)
}

/// The trimmed value of the first header of this name.
fn header(head: &[u8], name: &str) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let found = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim().to_owned())
}

fn length(head: &[u8]) -> Option<u64> {
    header(head, "content-length").and_then(|value| value.parse().ok())
}

/// The body without the mark of a cut, if there is one.
fn before_cut(body: &[u8]) -> Option<&[u8]> {
    let marked = body.strip_suffix(CUT.1)?;
    let digits = marked.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let before = marked.get(..marked.len().checked_sub(digits)?)?.strip_suffix(CUT.0)?;
    (digits > 0).then(|| before.strip_suffix(b"\n").unwrap_or(before))
}

/// Replaces the mark of a cut by as many bytes as Content-Length asks for.
fn fill(mut request: Vec<u8>) -> Result<Vec<u8>, Failed> {
    let Some((head, body)) = split(&request) else { return Ok(request) };
    let Some(kept) = before_cut(body) else { return Ok(request) };
    if header(head, "transfer-encoding").is_some() {
        return Err("the body was cut between its chunks, which cannot be filled".into());
    }
    let Some(length) = length(head).filter(|length| *length <= LONGEST) else {
        return Err("the body was cut, and its Content-Length is missing or above 64 MiB".into());
    };
    let filler = kept.last().copied().unwrap_or_default();
    let (head, kept) = (head.len(), kept.len());
    request.truncate(head + kept);
    request.resize(head + kept.max(usize::try_from(length)?), filler);
    Ok(request)
}

/// What a server is likely to stumble over.
fn warnings(request: &[u8]) -> Vec<String> {
    let Some((head, body)) = split(request) else {
        return vec![
            "the recording has no empty line (CR LF CR LF) after its head: line ends may have been changed to LF, \
                     and no server will take it for a whole request"
                .to_owned(),
        ];
    };
    let mut warnings = Vec::new();
    let bare = head.iter().zip([0].iter().chain(head)).any(|(byte, before)| *byte == b'\n' && *before != b'\r');
    if bare {
        warnings.push("some lines of the head end in LF, not in CR LF".to_owned());
    }
    if header(head, "transfer-encoding").is_some() {
        if !body.ends_with(b"0\r\n\r\n") {
            warnings.push("the last chunk is missing: the server will wait for it".to_owned());
        }
        return warnings;
    }
    match length(head) {
        None if !body.is_empty() => warnings.push(format!(
            "there is no Content-Length, so the {} bytes after the head will not be taken for its body",
            body.len()
        )),
        Some(length) if length > body.len() as u64 => {
            let filled = if before_cut(body).is_some() { "; --fill fills it" } else { "" };
            warnings.push(format!(
                "the body has {} of the {length} bytes that Content-Length announces: the server will wait{filled}",
                body.len()
            ));
        }
        Some(length) if length < body.len() as u64 => warnings
            .push(format!("the body is longer than its Content-Length of {length}: a line end added by an editor?")),
        _ => {}
    }
    warnings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cut_body_is_filled_up_to_its_length_with_its_last_byte() {
        let cut = b"PUT /k HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc\n...(7 more bytes)".to_vec();
        let filled = fill(cut.clone()).unwrap();
        assert!(filled.ends_with(b"\r\n\r\nabcccccccc"), "{:?}", String::from_utf8_lossy(&filled));
        assert_eq!(warnings(&filled), Vec::<String>::new());
        let warned = warnings(b"PUT /k HTTP/1.1\r\nContent-Length: 99\r\n\r\nabc\n...(96 more bytes)");
        assert!(warned.iter().any(|warning| warning.contains("--fill")), "{warned:?}");
    }

    #[test]
    fn what_is_not_marked_as_cut_is_left_as_it_is() {
        for request in [
            &b"PUT /k HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"[..],
            b"PUT /k HTTP/1.1\r\nContent-Length: 10\r\n\r\n...( more bytes)",
            b"PUT /k HTTP/1.1\nContent-Length: 10\n\n...(7 more bytes)",
            b"",
        ] {
            assert_eq!(fill(request.to_vec()).unwrap(), request);
        }
        assert!(fill(b"PUT /k HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\na...(7 more bytes)".to_vec()).is_err());
        assert!(fill(b"PUT /k HTTP/1.1\r\n\r\na...(7 more bytes)".to_vec()).is_err());
    }

    #[test]
    fn what_a_server_would_stumble_over_is_said() {
        for (request, part) in [
            (&b"POST / HTTP/1.1\nContent-Length: 1\n\nx"[..], "no empty line"),
            (b"POST / HTTP/1.1\r\nA: b\nContent-Length: 1\r\n\r\nx", "LF"),
            (b"POST / HTTP/1.1\r\nA: b\r\n\r\nx", "no Content-Length"),
            (b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nx", "will wait"),
            (b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx\n", "longer"),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx", "last chunk"),
        ] {
            let warned = warnings(request);
            assert!(warned.iter().any(|warning| warning.contains(part)), "{part}: {warned:?}");
        }
        assert!(warnings(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").is_empty());
    }
}
