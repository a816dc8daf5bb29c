//! Fetching the keys of issuers of end users' tokens, beside the calls: none waits for it.

use std::time::Duration;

use bytes::Bytes;
use fieldseal_engine::Engine;
use fieldseal_identity::{Attempt, Fetched, MOST_JWKS_BYTES};
use futures_util::future::join_all;
use http::{Method, StatusCode};

use crate::https::Peer;

/// How long one address may take to answer.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked whether a set is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Fetches every set that is due, all at the same time. What fails is in a log line, and is tried again.
pub async fn fetch_due(engine: &Engine, deadline: Duration) {
    let due = engine.issuers_due().into_iter();
    join_all(due.map(|attempt| fetch(attempt, deadline))).await;
}

/// Does so for as long as it is polled.
pub(crate) async fn keep(engine: &Engine) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        fetch_due(engine, DEADLINE).await;
    }
}

/// Fetches one; whether it did.
pub async fn fetch(attempt: Attempt, deadline: Duration) -> bool {
    let issuer = attempt.issuer().to_owned();
    let fetched = match answer(&attempt, deadline).await {
        Ok(set) => attempt.fetched(&set),
        Err(error) => Err(error),
    };
    let is_done = fetched.is_ok();
    match fetched {
        Ok(Fetched::Same) => {}
        Ok(Fetched::Changed(keys)) => tracing::info!(
            event = "issuer_keys_changed",
            issuer,
            keys,
            "the keys of an issuer of end users' tokens are others than before"
        ),
        Err(error) => tracing::error!(
            event = "issuer_keys_failed",
            issuer,
            error,
            "the keys of an issuer of end users' tokens were not fetched; those before stay for a day"
        ),
    }
    is_done
}

async fn answer(attempt: &Attempt, deadline: Duration) -> Result<Bytes, String> {
    let peer = Peer::new(attempt.url(), attempt.ca(), MOST_JWKS_BYTES, deadline)?;
    let answer = peer.send(Method::GET, Bytes::new(), None).await?;
    match answer.status {
        StatusCode::OK => Ok(answer.body),
        status => Err(format!("it answers with {}", status.as_u16())),
    }
}
