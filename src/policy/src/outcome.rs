//! What the rules of a policy say, in words of no policy language.

use std::sync::Arc;

/// What the rules say to a request. The names are those of the rules.
pub(crate) enum Outcome {
    /// Permitted by this rule.
    Permitted(Arc<str>),
    /// Forbidden by this rule.
    Forbidden(Arc<str>),
    /// Permitted by none.
    NoRule,
    /// This rule could not be evaluated; `None` if the request does not fit the schema.
    Failed(Option<Arc<str>>),
}

/// What the rules say to a request, with every rule that had a part in it.
#[derive(Default)]
pub(crate) struct Verdict {
    /// The rules that permit it or, if one forbids it, those that forbid it. By name.
    pub(crate) decided: Vec<String>,
    /// The rules that could not be evaluated, and why not. By name.
    pub(crate) failed: Vec<(String, String)>,
}
