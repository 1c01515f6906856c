//! What a bucket holds, key by key, to be compared: `GET /v1/list-crc/{vbucket}`.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cuttlebone_bucket::VbucketId;
use hyper::Method;

use crate::client::{Client, ClientError};
use crate::keeping::Keeping;
use crate::problem::Refusal;

pub(crate) fn router(keeping: Keeping) -> Router {
    Router::new().route("/v1/list-crc/{vbucket}", get(list_crc)).with_state(keeping)
}

impl Client {
    /// Every key of a vbucket with the checksum of its value, one a line, in order.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub async fn list_crc(&self, vbucket: VbucketId) -> Result<String, ClientError> {
        let bytes = self.connect().await?.call(Method::GET, &format!("/v1/list-crc/{vbucket}")).await?;
        String::from_utf8(bytes.into()).map_err(|_| ClientError::Malformed("a list that is no text"))
    }
}

/// What `ceph-kvstore-tool … list-crc` prints of a store, of one vbucket: the parts of each key between tabs, and the
/// checksum of key and value. A key's parts are what NUL bytes separate; what begins with one is the node's own.
async fn list_crc(
    State(keeping): State<Keeping>,
    Path(vbucket): Path<VbucketId>,
) -> Result<Response, Refusal> {
    let listed = tokio::task::spawn_blocking(move || keeping.bucket.checksums(vbucket)).await;
    let mut text = String::new();
    for (crc, key) in listed.map_err(|_| Refusal::internal())?? {
        if key.first() == Some(&0) {
            continue;
        }
        // A key's first part has no NUL; what follows may.
        for part in key.splitn(2, |byte| *byte == 0) {
            escape(part, &mut text);
            text.push('\t');
        }
        text.push_str(&crc.to_string());
        text.push('\n');
    }
    Ok(text.into_response())
}

/// Source: `ceph/ceph:src/common/url_escape.cc`, `url_escape`; as `cuttlebone-store` has it.
fn escape(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-./_~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push('%');
            for digit in [byte >> 4, byte & 15] {
                text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
            }
        }
    }
}
