//! Judging the values in a rules file.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

use toml::Spanned;

use super::parse::{Fault, IndexTable, LimitsTable, OutputTable, RuleTable, VariantTable, line_at};
use super::{Fields, Fit, Format, Limits, MimePattern, Output, Rule, Variant, Verdict};

/// The most variants that one rule may ask for.
const MAX_VARIANTS: usize = 16;

/// Judges the values of a document whose shape is right, and collects what is wrong with them. What each function returns
/// after a fault does not matter: the faults decide.
pub(super) struct Check<'text> {
    text: &'text str,
    faults: Vec<Fault>,
}

impl<'text> Check<'text> {
    pub(super) const fn new(text: &'text str) -> Self {
        Self { text, faults: Vec::new() }
    }

    /// What is wrong, by line.
    pub(super) fn into_faults(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|fault| fault.line);
        self.faults
    }

    fn fault(&mut self, at: Range<usize>, message: impl Into<String>) {
        self.faults.push(Fault { line: line_at(self.text, at.start), message: message.into() });
    }

    pub(super) fn rule(&mut self, rule: &Spanned<RuleTable>, output: &Output) -> Option<Rule> {
        let at = rule.span();
        let rule = rule.as_ref();
        let mime = self.mime(rule.mime.as_ref(), at.clone());
        let bucket = self.bucket(rule.bucket.as_ref());
        if let Some(prefix) = &rule.prefix {
            self.rule_prefix(prefix, bucket.as_deref(), output);
        }
        let max_size = rule.max_size.as_ref().and_then(|size| self.number("max_size", size, 1..=i64::MAX));
        let verdict = self.verdict(rule, at);
        Some(Rule {
            mime: mime?,
            prefix: rule.prefix.as_ref().map(|prefix| prefix.as_ref().clone()).unwrap_or_default(),
            suffix: rule.suffix.clone().unwrap_or_default(),
            bucket,
            max_size,
            verdict: verdict?,
        })
    }

    fn mime(&mut self, mime: Option<&Spanned<String>>, rule: Range<usize>) -> Option<MimePattern> {
        let Some(mime) = mime else {
            self.fault(rule, "the rule has no `mime`: give a type such as \"image/*\", or \"*/*\" for all");
            return None;
        };
        let pattern = MimePattern::parse(mime.as_ref());
        if pattern.is_none() {
            let message = format!(
                "`mime` is {:?}: write type/subtype without parameters, such as \"image/png\", \"image/*\" or \"*/*\"",
                mime.as_ref()
            );
            self.fault(mime.span(), message);
        }
        pattern
    }

    fn rule_prefix(&mut self, prefix: &Spanned<String>, bucket: Option<&str>, output: &Output) {
        let other_bucket = matches!((bucket, &output.bucket), (Some(rule), Some(output)) if rule != output);
        if !output.prefix.is_empty() && prefix.as_ref().starts_with(&output.prefix) && !other_bucket {
            let message = format!(
                "`prefix` is {:?}, which lies under the output prefix {:?}: thumbnails of thumbnails would never end; \
                 choose another prefix for the rule or for `[output]`",
                prefix.as_ref(),
                output.prefix
            );
            self.fault(prefix.span(), message);
        }
    }

    fn verdict(&mut self, rule: &RuleTable, at: Range<usize>) -> Option<Verdict> {
        for (field, flag) in [("record", &rule.record), ("skip", &rule.skip)] {
            if let Some(flag) = flag.as_ref().filter(|flag| !flag.as_ref()) {
                self.fault(flag.span(), format!("`{field}` is false: write `{field} = true` or leave it out"));
            }
        }
        let thumbnails = rule.thumbnails.as_ref().map(|thumbnails| self.variants(thumbnails));
        // A rule may ask for both a frame and a transcoded copy.
        let video = rule.snapshot.is_some() || rule.transcode.is_some();
        let actions = usize::from(thumbnails.is_some())
            + usize::from(rule.record.is_some())
            + usize::from(rule.skip.is_some())
            + usize::from(video);
        if actions != 1 {
            let message = format!(
                "the rule says {} what to do: give exactly one of `thumbnails`, `record = true`, `skip = true` and, for videos, `snapshot` with or without `transcode`",
                if actions == 0 { "not" } else { "more than once" }
            );
            self.fault(at, message);
        }
        match (thumbnails, &rule.record, &rule.skip) {
            (Some(variants), _, _) => Some(Verdict::Thumbnails(variants)),
            (None, Some(_), _) => Some(Verdict::Record),
            (None, None, Some(_)) => Some(Verdict::Skip),
            (None, None, None) => video.then_some(Verdict::NotSupported),
        }
    }

    fn variants(&mut self, variants: &Spanned<Vec<Spanned<VariantTable>>>) -> Vec<Variant> {
        let count = variants.as_ref().len();
        if count == 0 || count > MAX_VARIANTS {
            let message = format!(
                "`thumbnails` lists {count} variants: give 1 to {MAX_VARIANTS}, or `record = true` to make none"
            );
            self.fault(variants.span(), message);
        }
        let mut names = BTreeSet::new();
        for name in variants.as_ref().iter().filter_map(|variant| variant.as_ref().name.as_ref()) {
            if !names.insert(name.as_ref()) {
                self.fault(
                    name.span(),
                    format!("`name` is {:?} a second time: give each variant its own", name.as_ref()),
                );
            }
        }
        variants.as_ref().iter().filter_map(|variant| self.variant(variant)).collect()
    }

    fn variant(&mut self, variant: &Spanned<VariantTable>) -> Option<Variant> {
        let at = variant.span();
        let variant = variant.as_ref();
        let name = self.variant_name(variant.name.as_ref(), at.clone());
        let width = self.side("width", variant.width.as_ref(), at.clone());
        let height = self.side("height", variant.height.as_ref(), at);
        let fit = self.choice("fit", variant.fit.as_ref(), Fit::Inside, Fit::from_name, &Fit::ALL.map(Fit::as_str));
        let format = self.choice(
            "format",
            variant.format.as_ref(),
            Format::Jpeg,
            Format::from_name,
            &Format::ALL.map(Format::as_str),
        );
        let quality = variant.quality.as_ref().map_or(Some(Variant::DEFAULT_QUALITY), |quality| {
            self.number("quality", quality, 1..=100).and_then(|quality| u8::try_from(quality).ok())
        });
        let background = self.background(variant.background.as_ref());
        Some(Variant {
            name: name?,
            width: width?,
            height: height?,
            fit,
            format,
            quality: quality?,
            enlarge: variant.enlarge.unwrap_or(false),
            background,
        })
    }

    fn variant_name(&mut self, name: Option<&Spanned<String>>, variant: Range<usize>) -> Option<String> {
        let Some(name) = name else {
            self.fault(variant, "the variant has no `name`: give one, such as \"small\"");
            return None;
        };
        let text = name.as_ref();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        if !(1..=Variant::MAX_NAME).contains(&text.len()) || !text.bytes().all(allowed) {
            let message = format!("`name` is {text:?}: use 1 to {} of a-z, 0-9, \"_\" and \"-\"", Variant::MAX_NAME);
            self.fault(name.span(), message);
        }
        Some(text.clone())
    }

    fn side(&mut self, field: &str, side: Option<&Spanned<i64>>, variant: Range<usize>) -> Option<u32> {
        let Some(side) = side else {
            self.fault(variant, format!("the variant has no `{field}`: give 1 to {} pixels", Variant::MAX_SIDE));
            return None;
        };
        self.number(field, side, 1..=i64::from(Variant::MAX_SIDE)).and_then(|side| u32::try_from(side).ok())
    }

    fn choice<T>(
        &mut self,
        field: &str,
        given: Option<&Spanned<String>>,
        default: T,
        from_name: impl Fn(&str) -> Option<T>,
        names: &[&str],
    ) -> T {
        let Some(given) = given else { return default };
        from_name(given.as_ref()).unwrap_or_else(|| {
            self.fault(given.span(), format!("`{field}` is {:?}: use one of {}", given.as_ref(), names.join(", ")));
            default
        })
    }

    fn background(&mut self, background: Option<&Spanned<String>>) -> [u8; 3] {
        let Some(given) = background else { return Variant::DEFAULT_BACKGROUND };
        colour(given.as_ref()).unwrap_or_else(|| {
            self.fault(
                given.span(),
                format!(
                    "`background` is {:?}: write # and six hexadecimal digits, such as \"#ffffff\"",
                    given.as_ref()
                ),
            );
            Variant::DEFAULT_BACKGROUND
        })
    }

    pub(super) fn output(&mut self, output: &OutputTable) -> Output {
        if let Some(prefix) = &output.prefix
            && let Some(problem) = prefix_problem(prefix.as_ref())
        {
            self.fault(prefix.span(), format!("`prefix` of `[output]` is {:?}: {problem}", prefix.as_ref()));
        }
        Output {
            prefix: output
                .prefix
                .as_ref()
                .map_or_else(|| Output::DEFAULT_PREFIX.to_owned(), |prefix| prefix.as_ref().clone()),
            bucket: self.bucket(output.bucket.as_ref()),
        }
    }

    fn bucket(&mut self, bucket: Option<&Spanned<String>>) -> Option<String> {
        let bucket = bucket?;
        let name = bucket.as_ref();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(3..=63).contains(&name.len()) || !name.bytes().all(allowed) || name.starts_with('-') || name.ends_with('-')
        {
            let message = format!(
                "`bucket` is {name:?}: a bucket name has 3 to 63 of a-z, 0-9 and \"-\", without \"-\" at either end"
            );
            self.fault(bucket.span(), message);
        }
        Some(name.clone())
    }

    pub(super) fn fields(&mut self, fields: &BTreeMap<String, Spanned<String>>) -> Fields {
        let mut names = BTreeMap::new();
        for (field, name) in fields {
            let canonical = canonical_field(field);
            if !Fields::CANONICAL.contains(&canonical) {
                let message =
                    format!("`{field}` of `[fields]` is no field of OSS: use one of {}", Fields::CANONICAL.join(", "));
                self.fault(name.span(), message);
            } else if name.as_ref().is_empty() {
                self.fault(name.span(), format!("`{field}` of `[fields]` is empty: give its name in the body"));
            } else if names.insert(canonical.to_owned(), name.as_ref().clone()).is_some() {
                self.fault(name.span(), format!("`{field}` of `[fields]` is given a second time: keep one"));
            }
        }
        let fields_read = Fields(names);
        for (field, name) in fields {
            let canonical = canonical_field(field);
            let clash = Fields::CANONICAL
                .into_iter()
                .find(|other| *other != canonical && fields_read.name(other) == name.as_ref());
            if let Some(other) = clash {
                let message = format!(
                    "`{field}` of `[fields]` is {:?}, which is also the name of `{other}`: give each its own",
                    name.as_ref()
                );
                self.fault(name.span(), message);
            }
        }
        fields_read
    }

    pub(super) fn index(&mut self, index: &IndexTable) -> Vec<String> {
        let mut seen = BTreeSet::new();
        for name in &index.custom {
            if name.as_ref().is_empty() {
                self.fault(name.span(), "`custom` of `[index]` names an empty variable: remove it");
            } else if !seen.insert(name.as_ref()) {
                self.fault(name.span(), format!("`custom` of `[index]` names {:?} twice: remove one", name.as_ref()));
            }
        }
        index.custom.iter().map(|name| name.as_ref().clone()).collect()
    }

    pub(super) fn limits(&mut self, limits: &LimitsTable) -> Limits {
        let default = Limits::default();
        let mut read = |field: &str, given: &Option<Spanned<i64>>, default: u64, most: i64| {
            given.as_ref().and_then(|given| self.number(field, given, 1..=most)).unwrap_or(default)
        };
        let max_side = read("max_side", &limits.max_side, default.max_side.into(), u32::MAX.into());
        Limits {
            max_bytes: read("max_bytes", &limits.max_bytes, default.max_bytes, i64::MAX),
            max_pixels: read("max_pixels", &limits.max_pixels, default.max_pixels, i64::MAX),
            max_side: u32::try_from(max_side).unwrap_or(u32::MAX),
            max_memory: read("max_memory", &limits.max_memory, default.max_memory, i64::MAX),
        }
    }

    fn number(&mut self, field: &str, given: &Spanned<i64>, allowed: RangeInclusive<i64>) -> Option<u64> {
        let value = *given.as_ref();
        if allowed.contains(&value) {
            return u64::try_from(value).ok();
        }
        let (least, most) = allowed.into_inner();
        let advice = if most == i64::MAX { format!("{least} or more") } else { format!("{least} to {most}") };
        self.fault(given.span(), format!("`{field}` is {value}: give {advice}"));
        None
    }
}

/// The full name of a field, where people know it by its last part.
fn canonical_field(field: &str) -> &str {
    match field {
        "height" => "imageInfo.height",
        "width" => "imageInfo.width",
        "format" => "imageInfo.format",
        other => other,
    }
}

/// Why `prefix` cannot be the output prefix.
fn prefix_problem(prefix: &str) -> Option<String> {
    if prefix.is_empty() {
        return Some("every object would count as a thumbnail; give a prefix such as \"thumbnails/\"".to_owned());
    }
    if prefix.len() > Output::MAX_PREFIX {
        return Some(format!("it has {} bytes; use at most {}", prefix.len(), Output::MAX_PREFIX));
    }
    let Some(path) = prefix.strip_suffix('/') else {
        return Some("end it with \"/\", so that it takes in no other objects".to_owned());
    };
    let bad_segment = path.split('/').any(|segment| matches!(segment, "" | "." | ".."));
    let bad_character = path.chars().any(|character| character.is_control() || character == '\\');
    (bad_segment || bad_character).then(|| {
        "use names separated by single slashes, without \".\", \"..\", backslashes or control characters".to_owned()
    })
}

/// Red, green and blue of `#rrggbb`.
fn colour(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6)?;
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let [_, red, green, blue] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some([red, green, blue])
}
