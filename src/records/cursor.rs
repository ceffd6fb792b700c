//! Where a page of a listing ended, as an opaque word that can stand in a URL.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::RecordsError;

/// The cursor of the page that ended with this key.
pub(super) fn after(key: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// The key that [`after`] made a cursor of. Whether it can be one of the store's is for the store to say.
///
/// # Errors
/// If it is no cursor at all.
pub(super) fn last_key(cursor: &str) -> Result<Vec<u8>, RecordsError> {
    URL_SAFE_NO_PAD.decode(cursor).map_err(|_| RecordsError::BadCursor)
}
