//! Who may do what to which key, table and column, and why.
//!
//! **For:** turning what a caller states into a [`Permit`] or a [`Denial`], each naming the rule
//! that decided. Policies are [Cedar](https://www.cedarpolicy.com), which one file of this crate
//! hides.
//! **May use:** `model`. No store, no keys, no audit log, no async.
//! **Must hold:** what no rule permits is refused, an error while deciding is a refusal, and nobody
//! outside this crate makes or alters a `Permit` or a `Denial`.

mod cache;
mod cedar;
mod defaults;
mod errors;
mod expected;
mod explain;
mod lint;
mod load;
mod members;
mod nesting;
mod outcome;
mod permit;
mod policy;
mod request;
mod residual;
mod who_can;
mod wording;

pub use defaults::{DEFAULT_POLICY, Role, SCHEMA, default_files};
pub use errors::{PolicyErrors, Problem};
pub use expected::{Answer, MAX_TEST_BYTES, Tested};
pub use explain::{Explanation, NearMiss, RuleText};
pub use load::Settings;
pub use permit::{Denial, DenialCause, Permit};
pub use policy::{Checked, Policy, digest_under};
pub use request::{Request, Subject};
pub use who_can::{Callers, Condition, Grant, Question};
