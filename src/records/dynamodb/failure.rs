//! Why the table did not answer, as sentences for people: what happened, to which table, what to do. Never what was sent.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::query::QueryError;

use super::DynamoDb;
use super::index::Index;
use crate::records::RecordsError;

/// Why an index was not read.
pub(super) enum IndexFailure {
    /// It is missing, or not what it should be; why DynamoDB says so.
    Missing(String),
    /// Any other failure.
    Other(RecordsError),
}

impl From<RecordsError> for IndexFailure {
    fn from(error: RecordsError) -> Self {
        Self::Other(error)
    }
}

impl DynamoDb {
    pub(super) fn unavailable<E>(&self, error: &SdkError<E>) -> RecordsError
    where
        E: ProvideErrorMetadata,
    {
        let Self { table, settings, .. } = self;
        let region = &settings.region;
        let place = settings.endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
        let named = format!("table {table:?} in {region}{place}");
        RecordsError::Unavailable(match error {
            SdkError::ServiceError(refused) => refusal(&named, refused.err()),
            SdkError::TimeoutError(_) => {
                format!("{named} did not answer within {} ms; try again", settings.operation_timeout.as_millis())
            }
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                format!("{named} could not be connected to in time; see whether the network lets DynamoDB through")
            }
            SdkError::DispatchFailure(_) => {
                format!("{named} cannot be reached; see whether the network lets DynamoDB through")
            }
            SdkError::ResponseError(_) => {
                format!("{named} gave an answer that is none of DynamoDB's; check the endpoint")
            }
            _ => format!("{named} cannot be asked; check region, endpoint and credentials"),
        })
    }

    pub(super) fn index_failure(&self, error: &SdkError<QueryError>) -> IndexFailure {
        match error.as_service_error() {
            Some(refused) if refused.code() == Some("ValidationException") => {
                IndexFailure::Missing(refused.message().unwrap_or("no reason given").to_owned())
            }
            _ => IndexFailure::Other(self.unavailable(error)),
        }
    }

    /// What to do about an index that is missing, where nothing else will do.
    pub(super) fn no_index(&self, index: &Index, failure: IndexFailure) -> RecordsError {
        match failure {
            IndexFailure::Other(error) => error,
            IndexFailure::Missing(reason) => RecordsError::Unavailable(format!(
                "table {:?} cannot be asked by its index {:?} ({reason}); it needs {index}",
                self.table, index.name
            )),
        }
    }
}

/// What DynamoDB's refusal means for whoever runs this.
fn refusal(named: &str, refused: &impl ProvideErrorMetadata) -> String {
    match refused.code().unwrap_or("an unnamed error") {
        "ResourceNotFoundException" => format!("there is no {named}; create it, or correct its name or the region"),
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "LimitExceededException" => format!("{named} is throttled; raise its capacity or try again later"),
        "ValidationException" => {
            format!("{named} refuses the request: {}", refused.message().unwrap_or("no reason given"))
        }
        code @ ("AccessDeniedException"
        | "ExpiredTokenException"
        | "IncompleteSignatureException"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "UnrecognizedClientException") => {
            format!("{named} refuses our credentials ({code}); check them and their permissions")
        }
        code => format!("{named} answered with {code}; try again"),
    }
}
