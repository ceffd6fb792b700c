//! A form as it arrives: read or refused without a panic, the same whatever the pieces, and what is written is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oss_standin::fuzzing;

// The first byte is the size of the pieces, the rest the form.
fuzz_target!(|data: &[u8]| {
    let Some((size, form)) = data.split_first() else { return };
    let pieces: Vec<&[u8]> = form.chunks(usize::from(*size).max(1)).collect();
    let whole = fuzzing::multipart_form("b", &[form]);
    assert_eq!(whole, fuzzing::multipart_form("b", &pieces), "pieces must not matter");
    if let Some(fields) = whole {
        read_back(&fields);
    }
});

fn read_back(fields: &[(String, Vec<u8>)]) {
    // What stands inside a content or a name must not end it.
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let fields: Vec<_> = fields.iter().filter(|(name, _)| plain(name)).cloned().collect();
    let boundary = "boundary-of-the-second-form";
    if fields.iter().any(|(_, content)| content.windows(boundary.len()).any(|window| window == boundary.as_bytes())) {
        return;
    }
    let mut written = Vec::new();
    for (name, content) in &fields {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        written.extend_from_slice(head.as_bytes());
        written.extend_from_slice(content);
        written.extend_from_slice(b"\r\n");
    }
    written.extend_from_slice(format!("--{boundary}--").as_bytes());
    assert_eq!(fuzzing::multipart_form(boundary, &[&written]), Some(fields));
}
