#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use http::{HeaderName, HeaderValue};

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    headers
}

fn address(bucket: &str, key: &str) -> [Address; 1] {
    [Address { bucket: Some(bucket.to_owned()), key: key.to_owned() }]
}

fn verify(method: &Method, query: &str, headers: &HeaderMap, addresses: &[Address], secret: &str) -> Result<(), Error> {
    let query = Query::parse(query)?;
    let head = Head { method, query: &query, headers };
    let claim = Claim::read(head)?.unwrap_or_else(|| panic!("not signed"));
    claim.verify(head, addresses, secret).map(|_| ())
}

const QUERY: &str = "param1=value1&%2Bparam1=value3&%7Cparam1=value4&%2Bparam2&%7Cparam2&param2";
const KEY: &str = "1234+-/123/1.txt";

fn four(date: &str, additional: &str, signature: &str, more: &[(&str, &str)]) -> Result<(), Error> {
    let day = date.get(..8).unwrap_or_default();
    let authorization = format!(
        "OSS4-HMAC-SHA256 Credential=ak/{day}/cn-hangzhou/oss/aliyun_v4_request,{additional}Signature={signature}"
    );
    let mut pairs = vec![
        ("x-oss-head1", "value"),
        ("abc", "value"),
        ("zabc", "value"),
        ("xyz", "value"),
        ("content-type", "text/plain"),
        ("x-oss-content-sha256", "UNSIGNED-PAYLOAD"),
        ("x-oss-date", date),
        ("authorization", &authorization),
    ];
    pairs.extend_from_slice(more);
    verify(&Method::PUT, QUERY, &headers(&pairs), &address("bucket", KEY), "sk")
}

#[test]
fn version_4_headers_verify_as_published() {
    four("20231216T162057Z", "", "e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe", &[]).unwrap();
    let token = [("x-oss-security-token", "token")];
    four("20231217T034736Z", "", "b94a3f999cf85bcdc00d332fbd3734ba03e48382c36fa4d5af5df817395bd9ea", &token).unwrap();
    let signature = "4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f";
    for additional in ["abc;zabc", "ZAbc;abc", "abc;zabc;content-type;x-oss-date"] {
        four("20231216T172512Z", &format!("AdditionalHeaders={additional},"), signature, &[]).unwrap();
    }
}

#[test]
fn the_day_of_the_scope_is_that_of_the_date() {
    let pairs = [
        ("x-oss-date", "20231216T162057Z"),
        ("authorization", "OSS4-HMAC-SHA256 Credential=ak/20231215/cn-hangzhou/oss/aliyun_v4_request,Signature=00"),
    ];
    let refused = verify(&Method::PUT, "", &headers(&pairs), &address("bucket", KEY), "sk").unwrap_err();
    assert!(format!("{refused:?}").contains("InvalidArgument"), "{refused:?}");
}

#[test]
fn version_4_is_refused_when_a_signed_byte_differs() {
    let signature = "e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe";
    let other = "f21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe";
    assert_eq!(four("20231216T162057Z", "", other, &[]).unwrap_err().code, "SignatureDoesNotMatch");
    assert!(four("20231216T162058Z", "", signature, &[]).is_err());
    assert!(four("20231216T162057Z", "", signature, &[("x-oss-head2", "")]).is_err());
    assert!(four("20231216T162057Z", "AdditionalHeaders=abc,", signature, &[]).is_err());
}

#[test]
fn version_4_queries_verify_as_published() {
    let presigned = |date: &str, more: &str, signature: &str| {
        let day = date.get(..8).unwrap_or_default();
        let query = format!(
            "{QUERY}&x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date={date}&x-oss-expires=599{more}\
             &x-oss-credential=ak%2F{day}%2Fcn-hangzhou%2Foss%2Faliyun_v4_request&x-oss-signature={signature}"
        );
        let headers = headers(&[
            ("x-oss-head1", "value"),
            ("abc", "value"),
            ("zabc", "value"),
            ("xyz", "value"),
            ("content-type", "application/octet-stream"),
        ]);
        verify(&Method::PUT, &query, &headers, &address("bucket", KEY), "sk")
    };
    presigned("20231217T025437Z", "", "a39966c61718be0d5b14e668088b3fa07601033f6518ac7b523100014269c0fe").unwrap();
    let token = "&x-oss-security-token=token";
    presigned("20231217T035628Z", token, "3817ac9d206cd6dfc90f1c09c00be45005602e55898f26f5ddb06d7892e1f8b5").unwrap();
}

#[test]
fn version_1_headers_verify_as_published() {
    let by = |author: &str| {
        let headers = headers(&[
            ("content-md5", "eB5eJF1ptWaXm4bijSPyxw=="),
            ("content-type", "text/html"),
            ("x-oss-date", "Wed, 28 Dec 2022 10:27:41 GMT"),
            ("x-oss-meta-author", author),
            ("x-oss-meta-magic", "abracadabra"),
            ("authorization", "OSS ak:kSHKmLxlyEAKtZPkJhG9bZb5k7M="),
        ]);
        verify(&Method::PUT, "prefix=unsigned", &headers, &address("examplebucket", "nelson"), "sk")
    };
    by("alice").unwrap();
    assert!(by("alicf").is_err());
}

#[test]
fn version_1_queries_verify_as_published() {
    let presigned = |more: &str, signature: &str| {
        let query = format!("versionId=versionId&OSSAccessKeyId=ak&Expires=1699807420&Signature={signature}{more}");
        verify(&Method::GET, &query, &HeaderMap::new(), &address("bucket", "key"), "sk")
    };
    presigned("", "dcLTea%2BYh9ApirQ8o8dOPqtvJXQ%3D").unwrap();
    presigned("&unsigned=1", "dcLTea%2BYh9ApirQ8o8dOPqtvJXQ%3D").unwrap();
    // Not published: computed with another implementation.
    presigned("&security-token=token", "yCd%2BuDFFzUp929P%2FEmwxgXfCM8E%3D").unwrap();
    assert!(presigned("&callback=e30%3D", "dcLTea%2BYh9ApirQ8o8dOPqtvJXQ%3D").is_err());
}

#[test]
fn the_reading_that_was_signed_is_chosen() {
    let query = Query::parse(
        "versionId=versionId&OSSAccessKeyId=ak&Expires=1699807420&Signature=dcLTea%2BYh9ApirQ8o8dOPqtvJXQ%3D",
    );
    let (query, headers) = (query.unwrap(), HeaderMap::new());
    let head = Head { method: &Method::GET, query: &query, headers: &headers };
    let [right] = address("bucket", "key");
    let [wrong] = address("bucket", "bucket/key");
    let claim = Claim::read(head).unwrap().unwrap();
    assert_eq!(claim.verify(head, &[wrong, right.clone()], "sk").unwrap(), &right);
}

#[test]
fn the_clock_is_judged_in_both_versions() {
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let skew = Duration::from_secs(900);
    let judge = |query: &str, pairs: &[(&str, &str)]| {
        let (query, headers) = (Query::parse(query).unwrap(), headers(pairs));
        let claim = Claim::read(Head { method: &Method::GET, query: &query, headers: &headers }).unwrap().unwrap();
        claim.check_time(now, skew).map_err(|error| error.code)
    };
    let at = |offset: i64| {
        let instant = UNIX_EPOCH + Duration::from_secs(u64::try_from(1_700_000_000 + offset).unwrap());
        let zoned = jiff::Timestamp::try_from(instant).unwrap();
        (httpdate::fmt_http_date(instant), zoned.strftime("%Y%m%dT%H%M%SZ").to_string())
    };
    for (offset, expected) in [
        (0, Ok(())),
        (900, Ok(())),
        (-900, Ok(())),
        (901, Err("RequestTimeTooSkewed")),
        (-901, Err("RequestTimeTooSkewed")),
    ] {
        let (http, basic) = at(offset);
        assert_eq!(judge("", &[("authorization", "OSS ak:s"), ("date", &http)]), expected, "{offset}");
        let four = "OSS4-HMAC-SHA256 Credential=ak/20231114/r/oss/aliyun_v4_request,Signature=s";
        assert_eq!(judge("", &[("authorization", four), ("x-oss-date", &basic)]), expected, "{offset}");
        assert_eq!(judge("", &[("authorization", four), ("date", &http)]), expected, "{offset}");
    }
    assert_eq!(judge("", &[("authorization", "OSS ak:s")]), Err("AccessDenied"));
    let presigned = |offset: i64| {
        format!(
            "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date={}&x-oss-expires=60\
             &x-oss-credential=ak%2F20231114%2Fr%2Foss%2Faliyun_v4_request&x-oss-signature=s",
            at(offset).1
        )
    };
    assert_eq!(judge(&presigned(-60), &[]), Ok(()));
    assert_eq!(judge(&presigned(-61), &[]), Err("AccessDenied"));
    assert_eq!(judge(&presigned(901), &[]), Err("RequestTimeTooSkewed"));
    assert_eq!(judge("OSSAccessKeyId=ak&Expires=1700000000&Signature=s", &[]), Ok(()));
    assert_eq!(judge("OSSAccessKeyId=ak&Expires=1699999999&Signature=s", &[]), Err("AccessDenied"));
    assert_eq!(judge(&format!("OSSAccessKeyId=ak&Expires={}&Signature=s", u64::MAX), &[]), Ok(()));
}

#[test]
fn what_is_no_signature_is_refused_and_never_panics() {
    let read = |query: &str, authorization: Option<&str>| {
        let query = Query::parse(query).unwrap();
        let headers = authorization.map(|value| headers(&[("authorization", value)])).unwrap_or_default();
        Claim::read(Head { method: &Method::GET, query: &query, headers: &headers }).map(|claim| claim.is_some())
    };
    assert!(!read("", None).unwrap());
    for authorization in [
        "",
        "OSS",
        "OSS ak",
        "Bearer x",
        "OSS4-HMAC-SHA256 ",
        "OSS4-HMAC-SHA256 Credential=ak,Signature=s",
        "OSS4-HMAC-SHA256 Credential=ak/d/r/s3/aliyun_v4_request,Signature=s",
        "OSS2 AccessKeyId:ak,Signature:s",
    ] {
        assert!(read("", Some(authorization)).is_err(), "{authorization}");
    }
    let two = read("", Some("OSS2 AccessKeyId:ak,Signature:s")).unwrap_err();
    assert!(two.message.contains("OSS2"));
    assert!(read("x-oss-signature-version=OSS2&x-oss-signature=s", None).unwrap_err().message.contains("OSS2"));
    assert!(read("OSSAccessKeyId=ak&Expires=x&Signature=s", None).is_err());
    assert!(read("OSSAccessKeyId=ak&Expires=1&Signature=s", Some("OSS ak:s")).is_err());
}

#[test]
fn a_policy_is_signed_as_it_stands_in_the_form() {
    let policy = STANDARD.encode(
        "{\"expiration\":\"2023-12-16T18:00:00.000Z\",\"conditions\":[{\"bucket\":\"examplebucket\"},\
         {\"x-oss-signature-version\":\"OSS4-HMAC-SHA256\"},\
         {\"x-oss-credential\":\"ak/20231216/cn-hangzhou/oss/aliyun_v4_request\"},\
         {\"x-oss-date\":\"20231216T162057Z\"},[\"content-length-range\",1,1024]]}",
    );
    let scope = Scope::parse("ak/20231216/cn-hangzhou/oss/aliyun_v4_request").unwrap();
    let four = "0907bcc8b96dadcadd5034287cd9804b3e09e3899b6f327dba205d3e7e298601";
    assert_eq!(policy_signature_four("sk", &scope, &policy), four);
    assert_eq!(policy_signature_one("sk", &policy), "dAdgLi/G7UXr6wTAcfn340NMDYU=");
}
