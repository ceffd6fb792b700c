//! Small XML documents, written front to back.

use quick_xml::escape::escape;

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
        let value: String = value.chars().map(|c| if is_xml_character(c) { c } else { '\u{fffd}' }).collect();
        // A bare carriage return would be read back as a line feed.
        self.text.push_str(&escape(value.as_str()).replace('\r', "&#13;"));
        self.close();
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
