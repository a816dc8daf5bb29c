//! Why a token was refused.

/// Why a token was refused. None of these carries any part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no token that may be taken, now or ever.
    #[error("the end user's token is refused: {}", .0.said())]
    Invalid(Flaw),
    /// Its time is over.
    #[error("the end user's token has expired; show a new one")]
    Expired,
    /// Another caller showed it first.
    #[error("another caller has shown this end user's token; each caller shows tokens of its own")]
    Bound,
    /// It names a key that is not known yet; the issuer's are fetched again.
    #[error(
        "the issuer's keys are fetched again, because the end user's token names a new one; try again in a moment"
    )]
    KeysPending,
    /// The issuer's keys could not be fetched, or not for too long.
    #[error(
        "the keys of the end user's issuer could not be fetched for too long; its tokens are taken again once they are"
    )]
    KeysUnavailable,
    /// As many tokens are remembered as can be.
    #[error("too many tokens of end users are in use; try again in a moment")]
    Full,
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// More bytes than a token may have.
    Length,
    /// No three parts in base64url with JSON in them, or a header that asks for what is not known.
    Form,
    /// An algorithm that is not listed for the issuer.
    Algorithm,
    /// An issuer that is not configured.
    Issuer,
    /// A key that the issuer does not have.
    Key,
    /// A signature that is not the issuer's.
    Signature,
    /// Another audience.
    Audience,
    /// A claim is missing, or is not what it should be.
    Claims,
    /// More than ten minutes between `iat` and `exp`.
    Lifetime,
    /// It begins later.
    NotYet,
    /// It is bound to another request.
    QueryHash,
}

impl Refused {
    /// The stable name, as it stands in `ErrorInfo.reason` and in the audit log.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Invalid(_) => "END_USER_TOKEN_INVALID",
            Self::Expired => "END_USER_TOKEN_EXPIRED",
            Self::Bound => "END_USER_TOKEN_BOUND",
            Self::KeysPending => "END_USER_KEYS_PENDING",
            Self::KeysUnavailable => "END_USER_KEYS_UNAVAILABLE",
            Self::Full => "END_USER_TOKENS_FULL",
        }
    }
}

impl Flaw {
    /// Every flaw.
    pub const ALL: &'static [Self] = &[
        Self::Length,
        Self::Form,
        Self::Algorithm,
        Self::Issuer,
        Self::Key,
        Self::Signature,
        Self::Audience,
        Self::Claims,
        Self::Lifetime,
        Self::NotYet,
        Self::QueryHash,
    ];

    /// The stable name of the check that the token failed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Form => "form",
            Self::Algorithm => "algorithm",
            Self::Issuer => "issuer",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Claims => "claims",
            Self::Lifetime => "lifetime",
            Self::NotYet => "not_yet_valid",
            Self::QueryHash => "query_hash",
        }
    }

    const fn said(self) -> &'static str {
        match self {
            Self::Length => "it has more than 8192 bytes",
            Self::Form => "it is no signed JSON web token in its compact form",
            Self::Algorithm => "its algorithm is not one that its issuer is configured with",
            Self::Issuer => "its issuer is not configured",
            Self::Key => "its issuer has no such key; if the keys are new, reload the policy",
            Self::Signature => "its signature is not its issuer's",
            Self::Audience => "it is meant for another audience",
            Self::Claims => "sub, iat or exp is missing, or a claim is not what it should be",
            Self::Lifetime => "more than 10 minutes lie between iat and exp",
            Self::NotYet => "it is not valid yet; compare the clocks",
            Self::QueryHash => {
                "its qsh is not end_user_query_hash, the hash of the request that it came with"
            }
        }
    }
}

impl From<Flaw> for Refused {
    fn from(flaw: Flaw) -> Self {
        Self::Invalid(flaw)
    }
}
