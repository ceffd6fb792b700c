//! `oss-standin callback`: the two parameters of an upload, checked and ready to be pasted.

use std::process::ExitCode;

use clap::Args;
use oss_standin::CallbackParameters;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::parameters::{Facts, Wanted};
use super::{Failed, answer};

pub(crate) const EXAMPLES: &str = "\
Examples:
  oss-standin callback --url http://127.0.0.1:9000/callback
  oss-standin callback --url https://abc.example.com/callback --sni --var x:uid=7 --body 'object=${object}&uid=${x:uid}'
  oss-standin callback --url http://a.example.com/ --url http://b.example.com/ --body-type json --body '{\"object\":${object}}'
  curl -T a.txt -H \"x-oss-callback: $(oss-standin callback --url http://127.0.0.1:9000/callback | jq -r '.\"x-oss-callback\"')\" ...

Both values are signed like every x-oss- header; in a query, as for presigned URLs, they are called callback and callback-var.
What OSS would refuse is refused here, with exit code 1.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// callbackUrl; may be repeated, up to five are tried in order.
    #[arg(long = "url", value_name = "URL", required = true)]
    urls: Vec<String>,
    #[command(flatten)]
    wanted: Wanted,
    /// Print JSON on a terminal too.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    facts: Facts,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failed> {
    let parameters = arguments.wanted.parameters(&arguments.urls.join(";"));
    let preview = parameters.preview(&arguments.facts.facts())?;
    if arguments.wanted.is_json()
        && let Err(cause) = serde_json::from_str::<serde::de::IgnoredAny>(&preview)
    {
        tracing::warn!(
            "the filled body is no JSON ({cause}): variables bring their own quotes, \"object\":${{object}}"
        );
    }
    let text =
        if answer::for_programs(arguments.json) { line(&parameters, &preview) } else { lines(&parameters, &preview) };
    answer::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Both in percent-encoding, as they stand in a query.
fn in_query(parameters: &CallbackParameters) -> String {
    let encode = |name: &str, value: &str| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    let callback = encode("callback", &parameters.callback());
    match parameters.variables() {
        Some(variables) => format!("{callback}&{}", encode("callback-var", &variables)),
        None => callback,
    }
}

fn line(parameters: &CallbackParameters, preview: &str) -> String {
    let fields = json!({
        "x-oss-callback": parameters.callback(),
        "x-oss-callback-var": parameters.variables(),
        "callback": parameters.callback_json(),
        "callback_var": parameters.variables_json(),
        "query": in_query(parameters),
        "body": preview,
    });
    format!("{fields}\n")
}

fn lines(parameters: &CallbackParameters, preview: &str) -> String {
    let mut lines = format!("x-oss-callback: {}\n", parameters.callback());
    if let Some(variables) = parameters.variables() {
        lines.push_str(&format!("x-oss-callback-var: {variables}\n"));
    }
    lines.push_str(&format!("\ncallback     {}\n", parameters.callback_json()));
    if let Some(variables) = parameters.variables_json() {
        lines.push_str(&format!("callback-var {variables}\n"));
    }
    lines.push_str(&format!("query        {}\nbody         {preview}\n", in_query(parameters)));
    lines
}
