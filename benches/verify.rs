//! What it costs to prove a callback: from the bytes of a request to `Verified`, the string to sign included.
//!
//!     cargo bench --bench verify

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use oss_callback::keys::TrustedKeys;
use oss_callback::request::{Body, CallbackPaths, DeliveredPath, Incoming, SignedRequest};
use oss_callback::signature::{PublicKey, verify};
use rsa::RsaPublicKey;
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::pkcs8::DecodePublicKey as _;
use rsa::signature::hazmat::PrehashVerifier as _;

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use support::function::{Signed, TEST_KEY_URL, repository};
use support::{Series, callback, print_table, thread_time};

const ROUNDS: usize = 41;
const CALLBACKS: usize = 500;

fn main() {
    let pem = std::fs::read_to_string(repository("tests/support/test-key.pub.pem")).unwrap();
    let keys = TrustedKeys::published().unwrap().with(TEST_KEY_URL, &PublicKey::from_pem(&pem).unwrap());
    let paths = CallbackPaths::parse("/callback").unwrap();
    let bare = VerifyingKey::<Md5>::new(RsaPublicKey::from_public_key_pem(&pem).unwrap());
    let signed: Vec<Signed> = (0..CALLBACKS).map(callback).collect();
    let bare_parts: Vec<(Vec<u8>, Signature)> = signed.iter().map(digest_and_signature).collect();

    let (mut whole, mut rsa) = (Series::default(), Series::default());
    for _ in 0..ROUNDS {
        let requests: Vec<Incoming> = signed.iter().map(incoming).collect();
        let begun = thread_time();
        for request in requests {
            let candidates = paths.candidates(&request.path).unwrap();
            let request = SignedRequest::receive(request, candidates, 4_000).unwrap();
            black_box(verify(request, &keys).unwrap());
        }
        whole.push_per(thread_time() - begun, CALLBACKS);

        let begun = thread_time();
        for (digest, signature) in &bare_parts {
            bare.verify_prehash(black_box(digest), signature).unwrap();
        }
        rsa.push_per(thread_time() - begun, CALLBACKS);
    }

    let row = |what: &str, series: &Series| {
        let figures = [series.median(), series.lowest()].map(|figure| format!("{figure:.1} µs"));
        [vec![what.to_owned()], figures.to_vec(), vec![format!("{:.2}", whole.over(series))]].concat()
    };
    print_table(
        &format!(
            "Processor time to prove a callback, with a key of 512 bits; medians of {ROUNDS} interleaved rounds of {CALLBACKS}"
        ),
        &["what", "median", "lowest round", "the whole over it"],
        &[row("headers, string to sign, MD5, RSA", &whole), row("RSA alone (`rsa`)", &rsa)],
    );
}

fn incoming(signed: &Signed) -> Incoming {
    let headers: HeaderMap = signed
        .headers
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
        .collect();
    Incoming {
        received: Instant::now(),
        method: Method::POST,
        path: DeliveredPath::raw(&signed.path),
        query: signed.query.clone(),
        headers,
        body: Body::Whole(signed.body.clone().into()),
    }
}

fn digest_and_signature(signed: &Signed) -> (Vec<u8>, Signature) {
    let text = [signed.path.as_bytes(), b"\n", &signed.body].concat();
    let signature = &signed.headers.iter().find(|(name, _)| name == "Authorization").unwrap().1;
    (Md5::digest(text).to_vec(), Signature::try_from(STANDARD.decode(signature).unwrap().as_slice()).unwrap())
}
