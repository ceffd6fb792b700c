//! Reading a rules file: first its shape, which is here, then every value, so that all faults are reported at once.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use toml::Spanned;

use super::check::Check;
use super::{Rule, Rules};

/// Why a rules file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rules cannot be used: {}", join(.faults))]
pub struct RulesError {
    pub(super) faults: Vec<Fault>,
}

impl RulesError {
    /// Every fault, by line; never empty.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

/// One fault in a rules file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line it stands in, from 1.
    pub line: usize,
    /// What is wrong, with the field and its value, and what to do.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}: {}", self.line, self.message)
    }
}

fn join(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    rule: Vec<Spanned<RuleTable>>,
    #[serde(default)]
    output: OutputTable,
    #[serde(default)]
    fields: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    index: IndexTable,
    #[serde(default)]
    limits: LimitsTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleTable {
    pub(super) mime: Option<Spanned<String>>,
    pub(super) prefix: Option<Spanned<String>>,
    pub(super) suffix: Option<String>,
    pub(super) bucket: Option<Spanned<String>>,
    pub(super) max_size: Option<Spanned<i64>>,
    pub(super) thumbnails: Option<Spanned<Vec<Spanned<VariantTable>>>>,
    pub(super) record: Option<Spanned<bool>>,
    pub(super) skip: Option<Spanned<bool>>,
    pub(super) snapshot: Option<SnapshotTable>,
    pub(super) transcode: Option<String>,
}

/// Read for its shape alone: frames are not made by this version.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only the shape is judged")]
pub(super) struct SnapshotTable {
    at_ms: Option<u64>,
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VariantTable {
    pub(super) name: Option<Spanned<String>>,
    pub(super) width: Option<Spanned<i64>>,
    pub(super) height: Option<Spanned<i64>>,
    pub(super) fit: Option<Spanned<String>>,
    pub(super) format: Option<Spanned<String>>,
    pub(super) quality: Option<Spanned<i64>>,
    pub(super) enlarge: Option<bool>,
    pub(super) background: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct OutputTable {
    pub(super) prefix: Option<Spanned<String>>,
    pub(super) bucket: Option<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct IndexTable {
    #[serde(default)]
    pub(super) custom: Vec<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsTable {
    pub(super) max_bytes: Option<Spanned<i64>>,
    pub(super) max_pixels: Option<Spanned<i64>>,
    pub(super) max_side: Option<Spanned<i64>>,
    pub(super) max_memory: Option<Spanned<i64>>,
}

pub(super) fn parse(text: &str) -> Result<Rules, RulesError> {
    let document: Document = toml::from_str(text).map_err(|error| shape_error(text, &error))?;
    let mut check = Check::new(text);
    let output = check.output(&document.output);
    let rules = if document.rule.is_empty() {
        vec![Rule::built_in_images()]
    } else {
        document.rule.iter().filter_map(|rule| check.rule(rule, &output)).collect()
    };
    let fields = check.fields(&document.fields);
    let indexed = check.index(&document.index);
    let limits = check.limits(&document.limits);
    let faults = check.into_faults();
    if faults.is_empty() { Ok(Rules { rules, output, fields, indexed, limits }) } else { Err(RulesError { faults }) }
}

/// A fault of syntax or type: only the parser knows about it, and it stops at the first.
fn shape_error(text: &str, error: &toml::de::Error) -> RulesError {
    let line = line_at(text, error.span().unwrap_or_default().start);
    let written = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim();
    let message = error.message().trim_end().replace('\n', ", ");
    RulesError { faults: vec![Fault { line, message: format!("`{written}`: {message}") }] }
}

pub(super) fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count().saturating_add(1)
}
