//! Small XML documents: answers, written front to back, and request bodies, read into a tree.

use quick_xml::Reader;
use quick_xml::escape::{escape, resolve_predefined_entity};
use quick_xml::events::{BytesRef, BytesStart, Event};

/// The most elements and the deepest nesting of a document that is read; the largest that OSS knows (1,000 keys to be
/// deleted, 10,000 parts to be joined) has fewer.
const MOST_ELEMENTS: usize = 40_000;
const DEEPEST: usize = 16;

/// A document under construction: one root element, children appended in order.
pub(crate) struct Document {
    text: String,
    open: Vec<&'static str>,
}

impl Document {
    pub(crate) fn new(root: &'static str) -> Self {
        let mut document =
            Self { text: String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"), open: Vec::new() };
        document.open(root);
        document
    }

    /// Opens a child element; [`Document::close`] ends it.
    pub(crate) fn open(&mut self, name: &'static str) {
        self.text.push('<');
        self.text.push_str(name);
        self.text.push('>');
        self.open.push(name);
    }

    pub(crate) fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            self.text.push_str("</");
            self.text.push_str(name);
            self.text.push('>');
        }
    }

    /// Appends `<name>value</name>`.
    ///
    /// XML 1.0 cannot express most control characters, not even escaped. They become U+FFFD, so that one odd key
    /// does not make a whole page unreadable; clients that have such keys ask for `encoding-type=url`.
    pub(crate) fn text(&mut self, name: &'static str, value: &str) {
        self.open(name);
        self.content(value);
        self.close();
    }

    /// Appends text to the element that is open.
    pub(crate) fn content(&mut self, value: &str) {
        let value: String = value.chars().map(|c| if is_xml_character(c) { c } else { '\u{fffd}' }).collect();
        // A bare carriage return would be read back as a line feed.
        self.text.push_str(&escape(value.as_str()).replace('\r', "&#13;"));
    }

    /// Appends an instant.
    ///
    /// protocol: with the milliseconds always zero, as OSS stores whole seconds.
    pub(crate) fn instant(&mut self, name: &'static str, milliseconds: i64) {
        let instant = jiff::Timestamp::from_second(milliseconds.div_euclid(1000))
            .map(|timestamp| timestamp.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string());
        self.text(name, &instant.unwrap_or_default());
    }

    pub(crate) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.text
    }
}

fn is_xml_character(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// One element of a document that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// Without its namespace.
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Reads a whole document with this root; `None` if it is none.
    pub(crate) fn parse(document: &[u8], root: &str) -> Option<Self> {
        let text = std::str::from_utf8(document).ok()?;
        let mut reader = Reader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
        // The innermost open element is the last; under all of them stands the document itself.
        let mut open = vec![Self::default()];
        let mut elements = 0;
        loop {
            match reader.read_event().ok()? {
                Event::Start(start) => open.push(Self::begin(&start)),
                Event::Empty(start) => open.last_mut()?.children.push(Self::begin(&start)),
                Event::End(_) => {
                    let closed = open.pop()?;
                    open.last_mut()?.children.push(closed);
                }
                Event::Text(text) => open.last_mut()?.text.push_str(&text.xml10_content()),
                Event::CData(text) => open.last_mut()?.text.push_str(&text.xml10_content()),
                Event::GeneralRef(reference) => open.last_mut()?.text.push_str(&resolve(&reference)?),
                // Entities of its own are what hostile documents bring.
                Event::DocType(_) => return None,
                Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
                Event::Eof => break,
            }
            elements += 1;
            if elements > 4 * MOST_ELEMENTS || open.len() > DEEPEST {
                return None;
            }
        }
        let [document] = open.as_mut_slice() else { return None };
        if !document.text.trim().is_empty() || document.children.len() != 1 {
            return None;
        }
        document.children.pop().filter(|element| element.name == root)
    }

    fn begin(start: &BytesStart<'_>) -> Self {
        let name = start.local_name().into_inner().to_owned();
        Self { name, ..Self::default() }
    }

    pub(crate) fn children(&self, name: &str) -> impl Iterator<Item = &Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first child of this name, exactly as it stands there.
    pub(crate) fn child_text(&self, name: &str) -> Option<&str> {
        self.children(name).next().map(|child| child.text.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// What `&name;` or `&#number;` stands for.
fn resolve(reference: &BytesRef<'_>) -> Option<String> {
    match reference.resolve_char_ref().ok()? {
        Some(character) => Some(character.to_string()),
        None => resolve_predefined_entity(&reference.xml10_content()).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_read_as_it_stands() {
        let document = "\u{feff}<?xml version='1.0'?><!-- c --><o:R xmlns:o='u'>\n <K> a&amp;b&#x20;&#13;<![CDATA[<c>]]> </K><E/></o:R>";
        let root = Element::parse(document.as_bytes(), "R").unwrap();
        assert_eq!(root.child_text("K"), Some(" a&b \r<c> "));
        assert_eq!((root.child_text("E"), root.child_text("N")), (Some(""), None));
    }

    #[test]
    fn what_is_not_one_document_with_the_root_is_refused() {
        for document in [
            "",
            "R",
            "<R>",
            "</R>",
            "<R></S>",
            "<S/>",
            "<R/><R/>",
            "<R/>text",
            "<R>&unknown;</R>",
            "<!DOCTYPE R [<!ENTITY a 'b'>]><R>&a;</R>",
        ] {
            assert_eq!(Element::parse(document.as_bytes(), "R"), None, "{document}");
        }
        assert_eq!(Element::parse(b"<R>\xff</R>", "R"), None);
        assert_eq!(Element::parse(format!("{}{}", "<R>".repeat(50), "</R>".repeat(50)).as_bytes(), "R"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in "[^\u{0}-\u{8}\u{b}\u{c}\u{e}-\u{1f}\u{fffe}\u{ffff}]{0,30}") {
            let mut document = Document::new("R");
            document.text("K", &value);
            let root = Element::parse(document.finish().as_bytes(), "R").unwrap();
            prop_assert_eq!(root.child_text("K"), Some(value.as_str()));
        }

        #[test]
        fn any_bytes_are_read_or_refused(text in "(</?[RK] ?/?>|&[a-z#0-9]{0,4};?|<!|\\]|.){0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
            let _ = Element::parse(text.as_bytes(), "R");
            let _ = Element::parse(&bytes, "R");
        }
    }
}
