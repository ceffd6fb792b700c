//! What the text of `x-oss-process` may say.
#![allow(clippy::unwrap_used)]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;

fn steps(text: &str) -> Vec<Step> {
    match Task::parse(text).unwrap().work {
        Work::Image(steps) => steps,
        other => vec![Step::AutoOrient(other == Work::ImageInfo)],
    }
}

#[test]
fn a_chain_is_read_in_its_order() {
    let resize = Resize { mode: Mode::Lfit, size: Size::Width(100), enlarge: false, color: [0xff; 3] };
    assert_eq!(
        steps("image/resize,w_100/rotate,90/format,png"),
        [Step::Resize(resize.clone()), Step::Rotate(90), Step::Format(Format::Png)]
    );
    assert_eq!(steps("image/resize,w_100/"), [Step::Resize(resize)]);
    assert_eq!(
        steps("image/resize,limit_0,color_01ff20,h_2,m_pad,w_1,w_3"),
        [Step::Resize(Resize { mode: Mode::Pad, size: Size::Both(3, 2), enlarge: true, color: [1, 0xff, 0x20] })]
    );
    assert_eq!(
        steps("image/auto-orient,1/auto-orient,0/quality,q_5/quality,q_5,Q_6/quality,7"),
        [
            Step::AutoOrient(true),
            Step::AutoOrient(false),
            Step::Quality(Quality::Relative(5)),
            Step::Quality(Quality::Absolute(6)),
            Step::Quality(Quality::Relative(7)),
        ]
    );
    assert_eq!(Task::parse("image/info").unwrap().work, Work::ImageInfo);
}

#[test]
fn what_is_wrong_with_a_chain_is_said_with_the_number_that_oss_gives_it() {
    for (text, code, ec) in [
        ("image/", "InvalidArgument", Some("0040-00000212")),
        ("image", "InvalidArgument", Some("0040-00000212")),
        ("image/slim,1", "InvalidArgument", Some("0040-00000213")),
        ("image/blur,r_3,s_2", "NotImplemented", None),
        ("image/info/resize,w_1", "InvalidArgument", None),
        ("image/resize", "MissingArgument", Some("0040-00000322")),
        ("image/resize,m_fill", "MissingArgument", Some("0040-00000322")),
        ("image/resize,w_100,m_abc", "InvalidArgument", Some("0040-00000311")),
        ("image/resize,w_0", "InvalidArgument", Some("0040-00000312")),
        ("image/resize,w_16385", "InvalidArgument", Some("0040-00000312")),
        ("image/resize,w_+1", "InvalidArgument", Some("0040-00000312")),
        ("image/resize,h_x", "InvalidArgument", Some("0040-00000313")),
        ("image/resize,l_0", "InvalidArgument", Some("0040-00000314")),
        ("image/resize,s_", "InvalidArgument", Some("0040-00000315")),
        ("image/resize,p_1001", "InvalidArgument", Some("0040-00000317")),
        ("image/resize,w_100,m_pad,color_AABBCCDD", "InvalidArgument", Some("0040-00000318")),
        ("image/resize,w_100,limit_3", "InvalidArgument", Some("0040-00000319")),
        ("image/resize,w_0,h_0", "InvalidArgument", Some("0040-00000321")),
        ("image/resize,width_1", "InvalidArgument", None),
        ("image/crop,w_-1", "InvalidArgument", Some("0040-00000225")),
        ("image/crop,h_abc", "InvalidArgument", Some("0040-00000226")),
        ("image/crop,g_fac", "InvalidArgument", Some("0040-00000209")),
        ("image/crop,x_a", "InvalidArgument", None),
        ("image/rotate", "InvalidArgument", Some("0040-00000216")),
        ("image/rotate,a_90", "InvalidArgument", Some("0040-00000217")),
        ("image/rotate,361", "InvalidArgument", Some("0040-00000217")),
        ("image/rotate,90,200", "InvalidArgument", Some("0040-00000203")),
        ("image/auto-orient", "InvalidArgument", Some("0040-00000214")),
        ("image/auto-orient,2", "InvalidArgument", Some("0040-00000215")),
        ("image/format", "InvalidArgument", Some("0040-00000207")),
        ("image/format,f_png", "InvalidArgument", Some("0040-00000206")),
        ("image/format,avif", "NotImplemented", None),
        ("image/quality", "MissingArgument", Some("0040-00000307")),
        ("image/quality,Q_200", "InvalidArgument", Some("0040-00000308")),
        ("image/quality,q_0", "InvalidArgument", Some("0040-00000309")),
        ("image/quality,200", "InvalidArgument", Some("0040-00000310")),
        ("video/snapshot,t_-32", "InvalidArgument", Some("0053-00000101")),
        ("video/snapshot,t_1,w_-800", "InvalidArgument", Some("0053-00000104")),
        ("video/snapshot,t_1,h_x", "InvalidArgument", Some("0053-00000105")),
        ("video/snapshot,t_1,m_32", "InvalidArgument", Some("0053-00000106")),
        ("video/snapshot,t_1,f_32", "InvalidArgument", Some("0053-00000107")),
        ("video/snapshot,t_1,ar_32", "InvalidArgument", Some("0053-00000108")),
        ("video/snapshot,t-1", "InvalidArgument", Some("0053-00000109")),
        ("video/convert,vcodec_h264", "InvalidArgument", None),
        ("video/convert,f_exe", "InvalidArgument", None),
        ("video/convert,f_mp4,s_0x1", "InvalidArgument", None),
        ("video/concat,x", "NotImplemented", None),
        ("doc/convert,target_png", "NotImplemented", None),
        ("style/small", "NoSuchStyle", None),
        ("", "InvalidArgument", None),
        ("nothing", "InvalidArgument", None),
        ("image/info|sys/other", "InvalidArgument", None),
        ("image/info|sys/saveas,b_YQ", "MissingArgument", None),
        ("image/info|sys/saveas,o_", "InvalidObjectName", None),
        ("image/info|sys/saveas,o_%", "BadRequest", None),
        ("image/info|sys/saveas,x_YQ", "InvalidArgument", None),
    ] {
        let error = Task::parse(text).unwrap_err();
        assert_eq!((error.code, error.ec), (code, ec), "{text}");
    }
    assert_eq!(Task::parse("image/resize,w_0").unwrap_err().message, "The value: 0 of parameter: w is invalid.");
    assert_eq!(
        Task::parse("image/quality,image").unwrap_err().message,
        "The value: image of parameter: quality is invalid.reason:Value must be digit"
    );
    assert!(Task::parse(&format!("image/{}", "rotate,1/".repeat(1000))).is_err());
}

#[test]
fn a_destination_is_read_however_the_client_encodes_it() {
    // The second key has a slash in standard Base64.
    for key in ["demo.jpg", "\u{7ffb}a???>>>/b.jpg"] {
        let expected = Some(Destination { bucket: Some("other".to_owned()), key: key.to_owned() });
        for engine in [URL_SAFE, URL_SAFE_NO_PAD, STANDARD] {
            let encode = |text: &str| engine.encode(text);
            let saving = format!("|sys/saveas,o_{},b_{}", encode(key), encode("other"));
            assert_eq!(Task::parse(&format!("image/info{saving}")).unwrap().save_as, expected);
            assert_eq!(Task::parse(&format!("image/info{saving}/notify,topic_YQ")).unwrap().save_as, expected);
        }
        let alone = Task::parse(&format!("image/info|sys/saveas,o_{}", URL_SAFE.encode(key))).unwrap();
        assert_eq!(alone.save_as, Some(Destination { bucket: None, key: key.to_owned() }));
    }
}

#[test]
fn the_parameters_of_a_callback_are_taken_as_they_are() {
    let trigger = |text| match Task::parse(text).unwrap().work {
        Work::TriggerCallback(trigger) => (trigger.callback, trigger.variables),
        _ => (None, None),
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(trigger("trigger/callback,callback_a/+b==,callback-var_c="), (some("a/+b=="), some("c=")));
    assert_eq!(trigger("trigger/callback,callback_,callback-var_"), (None, None));
    assert_eq!(trigger("trigger/callback"), (None, None));
}

#[test]
fn films_are_taken_as_they_are_described() {
    let snapshot = Task::parse("video/snapshot,t_7000,f_png,w_800,h_600,m_fast,ar_auto").unwrap().work;
    let expected = Snapshot { time: 7000, png: true, width: 800, height: 600, fast: true, turn: Turn::Auto };
    assert_eq!(snapshot, Work::Snapshot(expected));
    let text = "video/convert,f_avi,vcodec_h265,s_1920x1080,vb_2000000,fps_30,acodec_aac,ab_100000,sn_1,new_thing,odd";
    let expected = Conversion {
        container: "avi".to_owned(),
        video_codec: Some("h265".to_owned()),
        audio_codec: Some("aac".to_owned()),
        size: Some((Some(1920), Some(1080))),
        video_bits: Some(2_000_000),
        audio_bits: Some(100_000),
        frames: Some("30".to_owned()),
        no_subtitles: true,
        ..Conversion::default()
    };
    assert_eq!(Task::parse(text).unwrap().work, Work::Convert(expected));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(
        text in "((image|video|trigger|sys)/?)?((resize|crop|rotate|format|snapshot|convert|quality|saveas|callback)[,/|]?|[a-zA-Z]{1,2}_[0-9x+=-]{0,6}[,/|]?|.){0,12}",
    ) {
        let _ = Task::parse(&text);
    }

    #[test]
    fn every_key_survives_its_encoding(key in ".{1,200}", padded: bool) {
        let encoded = if padded { URL_SAFE.encode(&key) } else { URL_SAFE_NO_PAD.encode(&key) };
        let task = Task::parse(&format!("image/info|sys/saveas,o_{encoded}"));
        prop_assert_eq!(task.unwrap().save_as.unwrap().key, key);
    }
}
