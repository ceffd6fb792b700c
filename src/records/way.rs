//! Which way a listing goes: through the index that leaves the least to look at.

use super::Query;
use crate::record::State;

/// The longest value of a custom variable that stands in an index, in bytes.
const LONGEST_INDEXED: usize = 1_024;

/// What narrows a listing down before any record is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way<'query> {
    /// The custom variable of this name has this value.
    Custom(&'query str, &'query str),
    /// The state, a rare one.
    State(State),
    /// Bucket and prefix, or nothing.
    Key,
}

impl<'query> Way<'query> {
    /// The way for this query, where the custom variables of these names are indexed. An owner has fewer records than a state.
    pub(super) fn of(query: &'query Query, indexed: &[String]) -> Self {
        let owner = query.custom.iter().find(|(name, value)| indexed.contains(name) && is_indexable(value));
        match (owner, query.state.filter(|state| is_rare(*state))) {
            (Some((name, value)), _) => Self::Custom(name, value),
            (None, Some(state)) => Self::State(state),
            (None, None) => Self::Key,
        }
    }
}

/// Whether an index holds records in this state. Most records come to rest in one of the others, where reading them all, or the
/// bucket, costs little more than an index would, and nothing at each write.
pub(super) const fn is_rare(state: State) -> bool {
    !matches!(state, State::Ready | State::Recorded)
}

/// Whether this value of a custom variable stands in an index; others are stored only.
pub(super) const fn is_indexable(value: &str) -> bool {
    !value.is_empty() && value.len() <= LONGEST_INDEXED
}
