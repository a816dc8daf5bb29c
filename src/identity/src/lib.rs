//! Who stands behind a call: the end user, as a signed JSON web token names them (RFC 7519).
//!
//! **For:** issuers and their keys, the checks of a token, and to which caller a token belongs.
//! **May use:** model. No async, nothing of the wire: whoever knows it fetches keys. It reads the files of
//! secrets, and no others.
//! **Must hold:** nobody is an end user but by a signature of a configured issuer under one of the
//! algorithms that are listed for it; a token serves one principal until it ends; no error repeats
//! any part of a token.

mod issuers;
mod jwks;
mod refused;
mod remote;
mod secret;
mod shown;
mod token;

pub use issuers::{File, ISSUERS_FILE, Issuers, JWKS_SUFFIX, Wrong};
pub use refused::{Flaw, Refused};
pub use remote::{
    Attempt, Fetched, JWKS_EVERY_SECONDS, JWKS_LIFETIME_SECONDS, JWKS_SPACING_SECONDS,
    MOST_JWKS_BYTES, Remote,
};
pub use shown::{Shown, TokenId};
pub use token::{Claims, LEEWAY_SECONDS, MAX_LIFETIME_SECONDS, MAX_TOKEN_BYTES};
