//! The settings: the only reader of the environment. Every fault is found before anything starts, and all are reported at once.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;

use crate::error::quoted;
use crate::media::Rules;
use crate::request::CallbackPaths;
use crate::signature::PublicKey;
use crate::trust::{AllowList, ApiToken};

/// Settings that may be given as a flag: the variable, and what it means. A flag is the variable's name without
/// `OSS_CALLBACK_`, in lower case, with `-` for `_`. Secrets have no flag.
pub const FLAGS: [(&str, &str); 11] = [
    ("OSS_CALLBACK_LISTEN", "Address of the server [default: 127.0.0.1:9000]"),
    (
        "OSS_CALLBACK_PATH",
        "Path of callbackUrl as OSS calls it, stage included; a comma-separated list [default: /callback]",
    ),
    ("OSS_CALLBACK_BUCKETS", "Allow-list, comma-separated, NAME or NAME/PREFIX; nothing is served without it"),
    ("OSS_CALLBACK_KEYS", "Further trusted keys, comma-separated URL=PEMFILE pairs [default: the published key alone]"),
    (
        "OSS_CALLBACK_STORE",
        "embedded:DIRECTORY or dynamodb:TABLE [default: embedded:./oss-callback-data; on Lambda none]",
    ),
    ("OSS_CALLBACK_RULES", "TOML file of rules [default: thumbnails of 256 and 800 pixels for images]"),
    ("OSS_CALLBACK_BUDGET_MS", "Time in which every request is answered, in milliseconds [default: 4000]"),
    ("OSS_CALLBACK_CONCURRENCY", "Callbacks under way at a time; further ones are answered 503 busy [default: 256]"),
    ("OSS_CALLBACK_LOG", "text or json [default: text on a terminal, else json]"),
    ("OSS_ENDPOINT", "Endpoint of OSS; without it nothing is confirmed and no thumbnails are made"),
    ("OSS_REGION", "Region of OSS, such as cn-hangzhou"),
];

/// The most that `OSS_CALLBACK_CONCURRENCY` can be: as many connections as the server takes.
const MOST_AT_A_TIME: usize = 1024;

/// The settings of OSS: all of them, or none.
const OSS_NEEDS: [&str; 4] = ["OSS_ENDPOINT", "OSS_REGION", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"];

/// The name of the flag for a variable.
pub fn flag_name(variable: &str) -> String {
    variable.strip_prefix("OSS_CALLBACK_").unwrap_or(variable).to_ascii_lowercase().replace('_', "-")
}

/// Where settings come from: flags first, then the environment.
pub struct Source<'a> {
    flags: BTreeMap<String, String>,
    environment: &'a dyn Fn(&str) -> Option<String>,
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Source").field("flags", &self.flags).finish_non_exhaustive()
    }
}

impl<'a> Source<'a> {
    /// Flags by the name of their variable, over an environment.
    pub const fn new(flags: BTreeMap<String, String>, environment: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { flags, environment }
    }

    /// The value of a variable; an empty one counts as absent.
    fn get(&self, variable: &str) -> Option<String> {
        self.flags
            .get(variable)
            .cloned()
            .or_else(|| (self.environment)(variable))
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }
}

/// The process environment, for [`Source::new`]. A value that is not Unicode counts as absent.
pub fn process_environment(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

/// Which program the settings are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The server on its own host.
    Server,
    /// The function on Lambda, where there is no disk to keep records on.
    Lambda,
}

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Which store holds the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// A file in this directory.
    Embedded(PathBuf),
    /// A DynamoDB table.
    DynamoDb(DynamoDb),
}

impl fmt::Display for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(directory) => write!(formatter, "embedded:{}", directory.display()),
            Self::DynamoDb(settings) => write!(formatter, "dynamodb:{}", settings.table),
        }
    }
}

/// DynamoDB by the AWS SDK's own variables.
#[derive(Clone, PartialEq, Eq)]
pub struct DynamoDb {
    /// The table.
    pub table: String,
    /// `AWS_REGION` or `AWS_DEFAULT_REGION`.
    pub region: String,
    /// `AWS_ENDPOINT_URL_DYNAMODB` or `AWS_ENDPOINT_URL`, if not the region's own.
    pub endpoint: Option<String>,
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: String,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<String>,
}

impl fmt::Debug for DynamoDb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("DynamoDb").field("table", &self.table).finish_non_exhaustive()
    }
}

/// OSS, where there is one to ask.
#[derive(Clone, PartialEq, Eq)]
pub struct Oss {
    /// `OSS_ENDPOINT`, with its scheme.
    pub endpoint: Uri,
    /// `OSS_REGION`, without `oss-`.
    pub region: String,
    /// `OSS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `OSS_ACCESS_KEY_SECRET`.
    pub access_key_secret: String,
    /// `OSS_SESSION_TOKEN`.
    pub session_token: Option<String>,
}

impl fmt::Debug for Oss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Oss").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Everything that the function needs to know, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the server.
    pub listen: SocketAddr,
    /// Paths of `callbackUrl`.
    pub paths: CallbackPaths,
    /// The allow-list.
    pub buckets: AllowList,
    /// Further trusted keys by URL.
    pub keys: Vec<(String, PublicKey)>,
    /// Where records are kept.
    pub store: Store,
    /// What is done with which object.
    pub rules: Rules,
    /// Time in which every request is answered.
    pub budget: Duration,
    /// The most callbacks under way at a time.
    pub concurrency: usize,
    /// Token of the read routes; without it they do not exist.
    pub api_token: Option<ApiToken>,
    /// OSS; without it nothing is confirmed.
    pub oss: Option<Oss>,
    /// What the settings are for.
    pub purpose: Purpose,
}

/// Everything that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "The settings are not usable:")?;
        self.0.iter().try_for_each(|fault| writeln!(formatter, "  - {fault}"))
    }
}

impl std::error::Error for Faults {}

impl Config {
    /// Reads and checks all settings.
    ///
    /// # Errors
    /// Every fault there is, each with the variable, its value (unless secret) and what to do.
    pub fn read(source: &Source<'_>, purpose: Purpose) -> Result<Self, Faults> {
        let mut reader = Reader { source, faults: Vec::new() };
        let listen = reader.listen();
        let paths = reader.parsed("OSS_CALLBACK_PATH", Some("/callback"), CallbackPaths::parse);
        let buckets = match source.get("OSS_CALLBACK_BUCKETS") {
            Some(_) => reader.parsed("OSS_CALLBACK_BUCKETS", None, AllowList::parse),
            None => {
                reader.fault(
                    "OSS_CALLBACK_BUCKETS is not set. Name the buckets whose callbacks are accepted: anybody can have OSS \
                     sign a callback about any bucket.",
                );
                None
            }
        };
        let keys = reader.parsed("OSS_CALLBACK_KEYS", Some(""), trusted_keys);
        let store = reader.store(purpose);
        let rules = reader.rules();
        let budget = reader.parsed("OSS_CALLBACK_BUDGET_MS", Some("4000"), budget);
        let concurrency = reader.parsed("OSS_CALLBACK_CONCURRENCY", Some("256"), |value| match value.parse() {
            Ok(count @ 1..=MOST_AT_A_TIME) => Ok(count),
            _ => Err(format!("{} is not a whole number from 1 to {MOST_AT_A_TIME}", quoted(value))),
        });
        let oss = reader.oss();
        if let Some(format) = source.get("OSS_CALLBACK_LOG").filter(|format| format != "text" && format != "json") {
            reader.fault(format!("OSS_CALLBACK_LOG: {} is neither text nor json.", quoted(&format)));
        }
        if source.get("OSS_CALLBACK_TOKENS").is_some() {
            reader.fault("OSS_CALLBACK_TOKENS is set, but this version does not check tokens yet. Unset it.");
        }
        let api_token = source.get("OSS_CALLBACK_API_TOKEN").map(|token| ApiToken::new(&token));
        let read = (|| {
            Some(Self {
                listen: listen?,
                paths: paths?,
                buckets: buckets?,
                keys: keys?,
                store: store?,
                rules: rules?,
                budget: budget?,
                concurrency: concurrency?,
                api_token,
                oss,
                purpose,
            })
        })();
        match read {
            Some(config) if reader.faults.is_empty() => Ok(config),
            _ => Err(Faults(reader.faults)),
        }
    }

    /// Only what `records` needs: the store with the rules that say how it is indexed, and where a server that holds it listens.
    ///
    /// # Errors
    /// As [`Config::read`], for these settings alone.
    pub fn read_store(source: &Source<'_>) -> Result<StoreConfig, Faults> {
        let mut reader = Reader { source, faults: Vec::new() };
        let store = reader.store(Purpose::Server);
        let rules = source.get("OSS_CALLBACK_RULES").map(|_| reader.rules());
        let listen = reader.listen();
        match (store, listen) {
            (Some(store), Some(listen)) if reader.faults.is_empty() => Ok(StoreConfig {
                store,
                rules: rules.flatten(),
                listen,
                api_token: source.get("OSS_CALLBACK_API_TOKEN"),
            }),
            _ => Err(Faults(reader.faults)),
        }
    }

    /// Only what `worker` needs: the store, the rules, and OSS, without which there is no work.
    ///
    /// # Errors
    /// As [`Config::read`], for these settings alone.
    pub fn read_worker(source: &Source<'_>, purpose: Purpose) -> Result<WorkerConfig, Faults> {
        let mut reader = Reader { source, faults: Vec::new() };
        let store = reader.store(purpose);
        let rules = reader.rules();
        let oss = reader.oss();
        if oss.is_none() && reader.faults.is_empty() {
            reader.fault(format!("{} are not set. Without OSS there is nothing to do.", OSS_NEEDS.join(", ")));
        }
        match (store, rules, oss) {
            (Some(store), Some(rules), Some(oss)) if reader.faults.is_empty() => Ok(WorkerConfig { store, rules, oss }),
            _ => Err(Faults(reader.faults)),
        }
    }

    /// What `reconcile` needs beside what a worker does: the allow-list, if there is one. Who names a bucket on the command
    /// line means it, so it need not be set; where it is, it holds.
    ///
    /// # Errors
    /// As [`Config::read_worker`], for these settings alone.
    pub fn read_reconcile(source: &Source<'_>) -> Result<(WorkerConfig, Option<AllowList>), Faults> {
        let mut reader = Reader { source, faults: Vec::new() };
        let buckets = reader.parsed("OSS_CALLBACK_BUCKETS", None, AllowList::parse);
        match (Self::read_worker(source, Purpose::Server), reader.faults) {
            (Ok(worker), faults) if faults.is_empty() => Ok((worker, buckets)),
            (Ok(_), faults) => Err(Faults(faults)),
            (Err(Faults(of_worker)), faults) => Err(Faults([faults, of_worker].concat())),
        }
    }

    /// How logs are to look, and which (`RUST_LOG`).
    pub fn read_log(source: &Source<'_>, terminal: bool) -> (LogFormat, Option<String>) {
        let format = match source.get("OSS_CALLBACK_LOG").as_deref() {
            Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            _ if terminal => LogFormat::Text,
            _ => LogFormat::Json,
        };
        (format, source.get("RUST_LOG"))
    }

    /// Which of the functions in the package Lambda started this process for: the template's `Handler`. What is not known
    /// is the function behind the gateway.
    pub fn handler(source: &Source<'_>) -> Handler {
        match source.get("_HANDLER").as_deref() {
            Some("worker") => Handler::Worker,
            Some("sweep") => Handler::Sweep,
            _ => Handler::Callback,
        }
    }

    /// Whether this process was started by Lambda.
    pub fn on_lambda(source: &Source<'_>) -> bool {
        source.get("AWS_LAMBDA_RUNTIME_API").is_some()
    }
}

/// A function in the Lambda package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    /// Behind the gateway: callbacks and the read routes.
    Callback,
    /// Fed by the stream of the table: the work that was left over.
    Worker,
    /// On a schedule: what is due and was left.
    Sweep,
}

/// What `worker` needs to know.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The store.
    pub store: Store,
    /// What is done with which object; the same as the server's.
    pub rules: Rules,
    /// OSS.
    pub oss: Oss,
}

/// What `records` needs to know.
#[derive(Clone)]
pub struct StoreConfig {
    /// The store.
    pub store: Store,
    /// The rules, if there are others than the built-in ones.
    pub rules: Option<Rules>,
    /// Where a server that holds the store listens.
    pub listen: SocketAddr,
    /// The token for that server's read routes.
    pub api_token: Option<String>,
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StoreConfig").field("store", &self.store).finish_non_exhaustive()
    }
}

struct Reader<'a> {
    source: &'a Source<'a>,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn fault(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }

    fn parsed<T>(
        &mut self,
        variable: &str,
        default: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.source.get(variable).or_else(|| default.map(str::to_owned))?;
        match parse(&value) {
            Ok(parsed) => Some(parsed),
            Err(problem) => {
                self.fault(format!("{variable}: {problem}."));
                None
            }
        }
    }

    fn listen(&mut self) -> Option<SocketAddr> {
        self.parsed("OSS_CALLBACK_LISTEN", Some("127.0.0.1:9000"), |value| {
            value.parse().map_err(|_| format!("{} is not an address such as 127.0.0.1:9000", quoted(value)))
        })
    }

    fn rules(&mut self) -> Option<Rules> {
        let Some(path) = self.source.get("OSS_CALLBACK_RULES") else { return Some(Rules::built_in()) };
        let read = std::fs::read_to_string(&path)
            .map_err(|error| format!("{} cannot be read: {error}", quoted(&path)))
            .and_then(|text| Rules::parse(&text).map_err(|error| format!("{}: {error}", quoted(&path))));
        match read {
            Ok(rules) => Some(rules),
            Err(problem) => {
                self.fault(format!("OSS_CALLBACK_RULES: {problem}"));
                None
            }
        }
    }

    fn store(&mut self, purpose: Purpose) -> Option<Store> {
        let default = match purpose {
            Purpose::Server => Some("embedded:./oss-callback-data"),
            Purpose::Lambda => None,
        };
        let Some(value) = self.source.get("OSS_CALLBACK_STORE").or_else(|| default.map(str::to_owned)) else {
            self.fault("OSS_CALLBACK_STORE is not set. On Lambda name a table: dynamodb:TABLE.");
            return None;
        };
        match value.split_once(':') {
            Some(("embedded", _)) if purpose == Purpose::Lambda => {
                self.fault("OSS_CALLBACK_STORE: Lambda keeps no files; name a table: dynamodb:TABLE.");
                None
            }
            Some(("embedded", directory)) if !directory.is_empty() => Some(Store::Embedded(directory.into())),
            Some(("dynamodb", table)) if !table.is_empty() => self.dynamodb(table),
            _ => {
                self.fault(format!(
                    "OSS_CALLBACK_STORE: {} is neither embedded:DIRECTORY nor dynamodb:TABLE.",
                    quoted(&value)
                ));
                None
            }
        }
    }

    fn dynamodb(&mut self, table: &str) -> Option<Store> {
        let region = self.source.get("AWS_REGION").or_else(|| self.source.get("AWS_DEFAULT_REGION"));
        let access_key_id = self.source.get("AWS_ACCESS_KEY_ID");
        let secret_access_key = self.source.get("AWS_SECRET_ACCESS_KEY");
        for (variable, value) in [
            ("AWS_REGION", &region),
            ("AWS_ACCESS_KEY_ID", &access_key_id),
            ("AWS_SECRET_ACCESS_KEY", &secret_access_key),
        ] {
            if value.is_none() {
                self.fault(format!("{variable} is not set; DynamoDB needs it."));
            }
        }
        Some(Store::DynamoDb(DynamoDb {
            table: table.to_owned(),
            region: region?,
            endpoint: self.source.get("AWS_ENDPOINT_URL_DYNAMODB").or_else(|| self.source.get("AWS_ENDPOINT_URL")),
            access_key_id: access_key_id?,
            secret_access_key: secret_access_key?,
            session_token: self.source.get("AWS_SESSION_TOKEN"),
        }))
    }

    fn oss(&mut self) -> Option<Oss> {
        let values = OSS_NEEDS.map(|variable| self.source.get(variable));
        let session_token = self.source.get("OSS_SESSION_TOKEN");
        if values.iter().all(Option::is_none) && session_token.is_none() {
            return None;
        }
        for (variable, value) in OSS_NEEDS.iter().zip(&values) {
            if value.is_none() {
                self.fault(format!(
                    "{variable} is not set, but other settings of OSS are. Set all of {}, or none to run unconfirmed.",
                    OSS_NEEDS.join(", ")
                ));
            }
        }
        let [endpoint, region, access_key_id, access_key_secret] = values;
        let endpoint = endpoint.and_then(|value| match endpoint_uri(&value) {
            Ok(uri) => Some(uri),
            Err(problem) => {
                self.fault(format!("OSS_ENDPOINT: {problem}."));
                None
            }
        });
        let region = region.map(|region| region.strip_prefix("oss-").unwrap_or(&region).to_owned());
        Some(Oss {
            endpoint: endpoint?,
            region: region?,
            access_key_id: access_key_id?,
            access_key_secret: access_key_secret?,
            session_token,
        })
    }
}

fn endpoint_uri(value: &str) -> Result<Uri, String> {
    let with_scheme = if value.contains("://") { value.to_owned() } else { format!("https://{value}") };
    let uri: Uri = with_scheme.parse().map_err(|_| format!("{} is not an address", quoted(value)))?;
    match (uri.scheme_str(), uri.host(), uri.path()) {
        (Some("http" | "https"), Some(_), "" | "/") => Ok(uri),
        (Some("http" | "https"), Some(_), _) => {
            Err(format!("{} has a path; give scheme and host alone", quoted(value)))
        }
        _ => Err(format!("{} is not an http or https address", quoted(value))),
    }
}

fn trusted_keys(list: &str) -> Result<Vec<(String, PublicKey)>, String> {
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let (url, file) =
                entry.rsplit_once('=').ok_or_else(|| format!("{} is not of the form URL=PEMFILE", quoted(entry)))?;
            let pem = std::fs::read_to_string(file)
                .map_err(|error| format!("the key file {} cannot be read: {error}", quoted(file)))?;
            let key = PublicKey::from_pem(&pem).map_err(|error| format!("{}: {error}", quoted(file)))?;
            Ok((url.to_owned(), key))
        })
        .collect()
}

fn budget(value: &str) -> Result<Duration, String> {
    match value.parse() {
        Ok(milliseconds @ 100..=4900) => Ok(Duration::from_millis(milliseconds)),
        _ => Err(format!("{} is not between 100 and 4900; OSS waits 5000 ms", quoted(value))),
    }
}
