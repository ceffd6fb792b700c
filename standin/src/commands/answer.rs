//! How an answer is shown: an object of one line for programs, some lines for people.

use std::io::{self, IsTerminal as _, Write as _};

use oss_standin::{NoAnswer, RawAnswer};
use serde_json::{Map, Value, json};

/// Whether standard output is read by a program.
pub(crate) fn for_programs(asked: bool) -> bool {
    asked || !io::stdout().is_terminal()
}

/// The fields of an answer: status, headers and body, or why there are none.
pub(crate) fn fields(answer: &Result<RawAnswer, NoAnswer>) -> Map<String, Value> {
    let fields = match answer {
        Ok(answer) => json!({
            "status": answer.status,
            "headers": answer.headers,
            "body": String::from_utf8_lossy(&answer.body),
            "complete": answer.complete,
        }),
        Err(cause) => json!({ "status": null, "error": cause.to_string() }),
    };
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The same for people.
pub(crate) fn lines(answer: &Result<RawAnswer, NoAnswer>, milliseconds: u128) -> String {
    let answer = match answer {
        Ok(answer) => answer,
        Err(cause) => return format!("{cause} ({milliseconds} ms)\n"),
    };
    let mut lines = format!("{} ({milliseconds} ms)\n", answer.status);
    for (name, value) in &answer.headers {
        lines.push_str(&format!("  {name}: {}\n", printable(value)));
    }
    let body = String::from_utf8_lossy(&answer.body);
    if !body.is_empty() {
        lines.push_str(&format!("\n{}\n", printable(body.trim_end())));
    }
    if !answer.complete {
        lines.push_str("(cut short)\n");
    }
    lines
}

/// Control characters of a server must not steer a terminal.
fn printable(text: &str) -> String {
    let harmless = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.chars().map(harmless).collect()
}

/// Writes to standard output, at once.
pub(crate) fn print(text: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text)?;
    output.flush()
}
