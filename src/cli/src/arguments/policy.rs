//! The arguments of `policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use fieldseal_model::{Action, Principal};
use fieldseal_policy::Role;

use super::questions::field;
use super::{ReasonArguments, key_name, principal};

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Write the policy of the three roles app, operator and auditor into a directory
    Init(PolicyInitArguments),
    /// Find everything that is wrong with a policy, with file and line
    Check(PolicySource),
    /// Say whether a call is allowed, and by which rule or why not; without a sidecar
    Explain(Box<ExplainArguments>),
    /// Say who may do something, by which rule, and what a call must state besides; without a sidecar
    WhoCan(WhoCanArguments),
    /// Ask a policy what a file expects of it, and fail where an answer differs; without a sidecar
    Test(PolicyTestArguments),
    /// Have the running sidecar read its policy again
    Reload(ReasonArguments),
}

#[derive(Debug, Args)]
pub(crate) struct PolicyInitArguments {
    /// Where to write it; none of the files may exist
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    #[command(flatten)]
    pub members: MemberArguments,
}

/// Who has which role.
#[derive(Debug, Args)]
pub(crate) struct MemberArguments {
    /// A caller who may encrypt and decrypt, for example spiffe://example.org/app (repeatable)
    #[arg(long, value_name = "PRINCIPAL", value_parser = principal)]
    pub app: Vec<Principal>,
    /// A caller who may create, change, rotate and destroy keys and reload the policy (repeatable)
    #[arg(long, value_name = "PRINCIPAL", value_parser = principal)]
    pub operator: Vec<Principal>,
    /// A caller who may read the audit log (repeatable)
    #[arg(long, value_name = "PRINCIPAL", value_parser = principal)]
    pub auditor: Vec<Principal>,
    /// A caller who may erase personal detail of the audit log (repeatable)
    #[arg(long, value_name = "PRINCIPAL", value_parser = principal)]
    pub privacy: Vec<Principal>,
}

impl MemberArguments {
    /// Each caller with its role.
    pub(crate) fn members(self) -> Vec<(Role, Principal)> {
        let of = |role, callers: Vec<Principal>| callers.into_iter().map(move |c| (role, c));
        let operators = of(Role::Operator, self.operator);
        let auditors = of(Role::Auditor, self.auditor).chain(of(Role::Privacy, self.privacy));
        of(Role::App, self.app).chain(operators).chain(auditors).collect()
    }
}

/// Where the policy is.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct PolicySource {
    /// The directory with the policy's files
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The configuration file of a sidecar, which says where its policy is
    /// [env: FIELDSEAL_CONFIG, without --dir]
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    #[command(flatten)]
    pub source: PolicySource,
    /// Who would call, for example spiffe://example.org/app
    #[arg(long, value_parser = principal)]
    pub principal: Principal,
    /// What would be called, for example Decrypt
    #[arg(long, value_parser = action)]
    pub action: Action,
    /// The key, for calls about a key or a column
    #[arg(long, value_name = "KEY", value_parser = key_name)]
    pub key: Option<String>,
    /// The database table, for calls about a column
    #[arg(long)]
    pub table: Option<String>,
    /// The column, for calls about a column
    #[arg(long)]
    pub column: Option<String>,
    /// The tenant or person; policy sees whether there is one, never which
    #[arg(long)]
    pub partition: Option<String>,
    /// The end user behind the caller: who vouches (iss) and whom it names (sub)
    #[arg(long, num_args = 2, value_names = ["ISSUER", "SUBJECT"])]
    pub end_user: Vec<String>,
    #[command(flatten)]
    pub reason: ReasonArguments,
}

#[derive(Debug, Args)]
pub(crate) struct WhoCanArguments {
    /// The call, for example Decrypt or RotateKey; or a group of calls as rules name it, for example
    /// decrypt or manage
    pub action: String,
    /// The table and the column, for example users.iban, for calls about a column
    #[arg(value_name = "TABLE.COLUMN", value_parser = field)]
    pub field: Option<(String, String)>,
    /// Only under this key
    #[arg(long, value_name = "KEY", value_parser = key_name)]
    pub key: Option<String>,
    #[command(flatten)]
    pub source: PolicySource,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyTestArguments {
    /// The file of expected answers (TOML)
    pub file: PathBuf,
    #[command(flatten)]
    pub source: PolicySource,
}

fn action(text: &str) -> Result<Action, String> {
    Action::from_name(text).ok_or_else(|| {
        let names: Vec<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        format!("an action is one of {}", names.join(", "))
    })
}
