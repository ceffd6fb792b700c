//! Rules: from MIME type, prefix and real content to what is done with an object.
