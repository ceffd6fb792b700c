//! `multipart/form-data`, taken apart as it arrives: bytes in, events out, whatever the pieces they come in. Nothing
//! here reads or waits, and no more is held than one head or one boundary needs.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use percent_encoding::percent_decode_str;

/// The longest head of a part in bytes. protocol: a field's name has at most 8 KB; a file's name stands beside it.
const LONGEST_HEAD: usize = 16 * 1024;
/// The longest boundary (RFC 2046).
const LONGEST_BOUNDARY: usize = 70;
/// The most blanks behind a boundary; with more it is content.
const MOST_BLANKS: usize = 1024;

/// What a form consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A part begins.
    Part(Head),
    /// The next bytes of its content.
    Data(Bytes),
    PartEnd,
    /// The closing boundary; what follows it does not count.
    End,
}

/// What a part says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) name: String,
    pub(crate) filename: Option<String>,
    pub(crate) content_type: Option<String>,
}

/// Why this is no form, as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FormError(pub(crate) &'static str);

/// The boundary that a Content-Type names; `None` if it is not that of a form.
pub(crate) fn boundary(content_type: &str) -> Option<String> {
    let (media_type, parameters) = content_type.split_once(';')?;
    if !media_type.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameters_of(parameters).into_iter().find(|(name, _)| name == "boundary")?.1;
    (1..=LONGEST_BOUNDARY).contains(&boundary.len()).then_some(boundary)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Preamble,
    Head,
    Data,
    /// The closing boundary has come, and is yet to be told.
    Closing,
    Closed,
}

/// What ends a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boundary {
    /// Another part follows.
    Next,
    Last,
}

/// A form on its way in.
#[derive(Debug)]
pub(crate) struct Parser {
    /// With the line break that belongs to it.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    state: State,
    part_ended: bool,
}

impl Parser {
    pub(crate) fn new(boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first boundary may be the very first line; then no line break stands before it.
        Self { delimiter, buffer: BytesMut::from(&b"\r\n"[..]), state: State::Preamble, part_ended: false }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Closing | State::Closed) {
            self.buffer.extend_from_slice(bytes);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// The next event in the bytes that have come so far; `None` until more come.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, FormError> {
        loop {
            if std::mem::take(&mut self.part_ended) {
                return Ok(Some(Event::PartEnd));
            }
            match self.state {
                State::Closing => {
                    self.state = State::Closed;
                    self.buffer.clear();
                    return Ok(Some(Event::End));
                }
                State::Closed => return Ok(None),
                State::Head => match memmem::find(&self.buffer, b"\r\n\r\n") {
                    Some(at) if at <= LONGEST_HEAD => {
                        let head = self.buffer.split_to(at + 4);
                        self.state = State::Data;
                        return parse_head(&head).map(|head| Some(Event::Part(head)));
                    }
                    None if self.buffer.len() <= LONGEST_HEAD => return Ok(None),
                    _ => return Err(FormError("The head of a part is too long.")),
                },
                State::Preamble | State::Data => {
                    let in_part = self.state == State::Data;
                    let (content, boundary) = self.take_content();
                    if let Some(boundary) = boundary {
                        self.part_ended = in_part;
                        self.state = if boundary == Boundary::Last { State::Closing } else { State::Head };
                    }
                    if in_part && !content.is_empty() {
                        return Ok(Some(Event::Data(content)));
                    }
                    if boundary.is_none() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The content up to the next boundary, which is taken too, or as far as it is certain that none has begun.
    fn take_content(&mut self) -> (Bytes, Option<Boundary>) {
        let mut from = 0;
        while let Some(rest) = self.buffer.get(from..) {
            let Some(at) = memmem::find(rest, &self.delimiter).map(|at| from + at) else { break };
            let behind = at + self.delimiter.len();
            match boundary_before(self.buffer.get(behind..).unwrap_or_default()) {
                Some((Some(boundary), blanks)) => {
                    let content = self.buffer.split_to(at).freeze();
                    let _ = self.buffer.split_to(self.delimiter.len() + blanks);
                    return (content, Some(boundary));
                }
                // A line that begins like a boundary and goes on is content.
                Some((None, _)) => from = behind,
                None => return (self.buffer.split_to(at).freeze(), None),
            }
        }
        let certain = self.buffer.len().saturating_sub(self.delimiter.len() - 1).max(from);
        (self.buffer.split_to(certain).freeze(), None)
    }
}

/// Whether a delimiter is a boundary, by what stands behind it, and how many blanks do; `None` until more has come.
fn boundary_before(rest: &[u8]) -> Option<(Option<Boundary>, usize)> {
    if rest.starts_with(b"--") {
        return Some((Some(Boundary::Last), 0));
    }
    // RFC 2046 lets a mail gateway put blanks here.
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match rest.get(blanks..).unwrap_or_default() {
        _ if blanks > MOST_BLANKS => Some((None, 0)),
        // The line break stays: a head without a single line is two of them.
        [b'\r', b'\n', ..] => Some((Some(Boundary::Next), blanks)),
        [] | [b'\r'] => None,
        [b'-'] if blanks == 0 => None,
        _ => Some((None, 0)),
    }
}

fn parse_head(head: &[u8]) -> Result<Head, FormError> {
    let text = std::str::from_utf8(head).map_err(|_| FormError("The head of a part is not UTF-8."))?;
    let mut parsed = Head::default();
    let mut named = false;
    for line in text.split("\r\n").filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(FormError("A line in the head of a part is no header."))?;
        match name.trim().to_ascii_lowercase().as_str() {
            "content-disposition" => {
                let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
                if !kind.trim().eq_ignore_ascii_case("form-data") {
                    return Err(FormError("The Content-Disposition of a part is not form-data."));
                }
                let mut extended = None;
                for (name, value) in parameters_of(parameters) {
                    match name.as_str() {
                        "name" => (parsed.name, named) = (value, true),
                        "filename" => parsed.filename = Some(value),
                        "filename*" => extended = extended_value(&value),
                        _ => {}
                    }
                }
                parsed.filename = extended.or(parsed.filename);
            }
            "content-type" => parsed.content_type = Some(value.trim().to_owned()).filter(|value| !value.is_empty()),
            _ => {}
        }
    }
    match named {
        true => Ok(parsed),
        false => Err(FormError("A part has no name.")),
    }
}

/// `; name=value; name="quoted value"`, names in lower case.
fn parameters_of(text: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([';', ' ', '\t']);
        let Some((name, after)) = rest.split_once('=') else { return parameters };
        let (value, after) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let (value, after) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), after)
            }
        };
        parameters.push((name.trim().to_ascii_lowercase(), value));
        rest = after;
    }
}

/// The text up to the closing quote, and what follows it. A backslash escapes only a quote and itself: some browsers
/// send whole Windows paths as they are.
fn unquote(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = quoted.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => match characters.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, escaped)) => value.push(escaped),
                None => value.push('\\'),
            },
            other => value.push(other),
        }
    }
    (value, "")
}

/// `UTF-8''percent-encoded` (RFC 8187).
fn extended_value(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_language, encoded) = rest.split_once('\'')?;
    let decoded = percent_decode_str(encoded).decode_utf8().ok()?;
    charset.eq_ignore_ascii_case("utf-8").then(|| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// What comes out of these pieces, neighbouring data joined.
    fn events(boundary: &str, pieces: &[&[u8]]) -> Result<Vec<Event>, FormError> {
        let mut parser = Parser::new(boundary);
        let mut events: Vec<Event> = Vec::new();
        for piece in pieces {
            parser.push(piece);
            while let Some(event) = parser.next()? {
                match (events.last_mut(), event) {
                    (Some(Event::Data(before)), Event::Data(data)) => {
                        *before = [&before[..], &data[..]].concat().into()
                    }
                    (_, event) => events.push(event),
                }
            }
        }
        Ok(events)
    }

    fn part(name: &str, filename: Option<&str>, content_type: Option<&str>) -> Event {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Event::Part(Head { name: name.into(), filename: owned(filename), content_type: owned(content_type) })
    }

    fn data(bytes: &'static [u8]) -> Event {
        Event::Data(Bytes::from_static(bytes))
    }

    const FORM: &[u8] = b"preamble\r\n--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na/${filename}\r\n\
        --b  \r\ncontent-disposition:form-data;NAME=x;other=1\r\nX-More: y\r\n\r\n\r\n--b\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".txt\"\r\nContent-Type: text/plain\r\n\r\n\
        \r\n--\r\n--c\r\n--b--\r\nepilogue\r\n--b\r\n";

    #[test]
    fn a_form_is_its_parts_in_order() {
        let expected = [
            part("key", None, None),
            data(b"a/${filename}"),
            Event::PartEnd,
            part("x", None, None),
            Event::PartEnd,
            part("file", Some("a \"b\".txt"), Some("text/plain")),
            data(b"\r\n--\r\n--c"),
            Event::PartEnd,
            Event::End,
        ];
        assert_eq!(events("b", &[FORM]).unwrap(), expected);
        let bytes: Vec<&[u8]> = FORM.chunks(1).collect();
        assert_eq!(events("b", &bytes).unwrap(), expected);
    }

    #[test]
    fn a_line_that_begins_like_a_boundary_is_content() {
        let blanks = " ".repeat(MOST_BLANKS + 1);
        for content in
            ["\r\n--bX", "--b", "\r\n--b -\r\n", "\r\n--b-", "\r\n--b\r\r\n--bb\r\n", &format!("\r\n--b{blanks}")]
        {
            let form = format!("--bX\r\n--b\r\nContent-Disposition: form-data; name=a\r\n\r\n{content}\r\n--b--");
            let expected = [part("a", None, None), Event::Data(content.to_owned().into()), Event::PartEnd, Event::End];
            assert_eq!(events("b", &[form.as_bytes()]).unwrap(), expected);
            let bytes: Vec<&[u8]> = form.as_bytes().chunks(1).collect();
            assert_eq!(events("b", &bytes).unwrap(), expected);
        }
    }

    #[test]
    fn names_are_read_as_browsers_write_them() {
        for (disposition, name, filename) in [
            ("form-data; name=\"file\"", "file", None),
            ("FORM-DATA; filename=\"C:\\dir\\a.txt\"; name=file", "file", Some("C:\\dir\\a.txt")),
            ("form-data; name=\"\"; filename=\"\"", "", Some("")),
            ("form-data; name=\"a\"; filename=\"x\"; filename*=UTF-8''%E8%B7%AF", "a", Some("路")),
            ("form-data; name=\"x:名\"", "x:名", None),
        ] {
            let form = format!("--b\r\nContent-Disposition: {disposition}\r\n\r\n1\r\n--b--");
            assert_eq!(events("b", &[form.as_bytes()]).unwrap().first(), Some(&part(name, filename, None)));
        }
    }

    #[test]
    fn what_is_no_form_is_refused_in_a_sentence() {
        for form in [
            "--b\r\n\r\n\r\n--b--",
            "--b\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\n",
            "--b\r\nContent-Disposition: form-data\r\n\r\n",
            "--b\r\nno header\r\n\r\n",
        ] {
            assert!(events("b", &[form.as_bytes()]).is_err(), "{form}");
        }
        let endless = [b"--b\r\nx: ".to_vec(), vec![b'x'; LONGEST_HEAD]].concat();
        assert!(events("b", &[&endless]).is_err());
    }

    #[test]
    fn boundaries_are_read_quoted_and_bare() {
        assert_eq!(boundary("multipart/form-data; boundary=abc").as_deref(), Some("abc"));
        assert_eq!(boundary("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"").as_deref(), Some("a b"));
        for content_type in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=b", ""]
        {
            assert_eq!(boundary(content_type), None);
        }
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_same_events(form in "((\r\n)?--b| |--|\r\n|\r|\n|Content-Disposition: form-data; name=\"a\"|\r\n\r\n|x){0,14}", cuts in proptest::collection::vec(1_usize..9, 0..40)) {
            let whole = events("b", &[form.as_bytes()]);
            let mut pieces = Vec::new();
            let mut rest = form.as_bytes();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            pieces.push(rest);
            let cut = events("b", &pieces);
            match (whole, cut) {
                // Of the data of a part that has not ended, more or less may have come out.
                (Ok(mut whole), Ok(mut cut)) => {
                    for events in [&mut whole, &mut cut] {
                        if matches!(events.last(), Some(Event::Data(_))) { events.pop(); }
                    }
                    prop_assert_eq!(whole, cut);
                }
                (whole, cut) => prop_assert_eq!(whole.is_err(), cut.is_err()),
            }
        }

        #[test]
        fn what_is_written_as_a_form_is_read_back(fields in proptest::collection::vec(("[a-zA-Z:_-]{1,9}", proptest::collection::vec(any::<u8>(), 0..60)), 0..5)) {
            let boundary = "----boundary-that-no-value-has";
            let mut form = Vec::new();
            let mut expected = Vec::new();
            for (name, value) in &fields {
                form.extend_from_slice(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes());
                form.extend_from_slice(value);
                form.extend_from_slice(b"\r\n");
                expected.push(part(name, None, None));
                if !value.is_empty() { expected.push(Event::Data(value.clone().into())); }
                expected.push(Event::PartEnd);
            }
            form.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
            expected.push(Event::End);
            prop_assert_eq!(events(boundary, &[&form]).unwrap(), expected);
        }

        #[test]
        fn any_bytes_are_a_form_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), content_type in ".{0,60}") {
            let _ = events("b", &[&bytes]);
            let _ = boundary(&content_type);
        }
    }
}
