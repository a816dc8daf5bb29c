//! `policy init`, `policy check` and `policy reload`. (The questions have files of their own.)

mod explain;
mod tested;
mod who_can;

use std::fs::File;
use std::path::{Path, PathBuf};

use fieldseal_api::v1;
use fieldseal_model::{Principal, PrincipalKind, hex};
use fieldseal_policy::{Policy, PolicyErrors, Problem, Role, Settings};
use fieldseal_server::Config;
use fieldseal_server::config::Environment;
use serde_json::{Value, json};

use crate::arguments::{PolicyCommand, PolicyInitArguments, PolicySource, ReasonArguments};
use crate::connection::{self, failure, quoted_path};
use crate::failure::{Exit, Failure};
use crate::installation::write_new;
use crate::keys::event;
use crate::output::{Output, Table, counted};
use crate::serve::config_failure;
use crate::values;

/// Stands for `--config` where neither it nor `--dir` is given.
const CONFIG: &str = "FIELDSEAL_CONFIG";

/// Runs `policy …`.
pub(crate) async fn run(command: PolicyCommand, output: &Output) -> Result<(), Failure> {
    match command {
        PolicyCommand::Init(arguments) => init(arguments, output),
        PolicyCommand::Check(source) => check(&source, output),
        PolicyCommand::Explain(arguments) => explain::run(&arguments, output),
        PolicyCommand::WhoCan(arguments) => who_can::run(&arguments, output),
        PolicyCommand::Test(arguments) => tested::run(&arguments, output),
        PolicyCommand::Reload(reason) => reload(&reason, output).await,
    }
}

/// Writes the files of a policy for the three roles into a directory that exists.
///
/// # Errors
/// `FILE_EXISTS` if one of them is there; none is written then.
pub(crate) fn write(dir: &Path, members: &[(Role, Principal)]) -> Result<(), Failure> {
    let files = fieldseal_policy::default_files(members);
    for (name, _) in &files {
        let path = dir.join(name);
        if path.symlink_metadata().is_ok() {
            let what = format!("{} exists already", path.display());
            return Err(Failure::new(Exit::Conflict, "FILE_EXISTS", what)
                .advise("a policy is never written over another; name another directory"));
        }
    }
    for (name, text) in files {
        write_new(&dir.join(name), &text)?;
    }
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| Failure::io("cannot sync", dir, &e))
}

fn init(arguments: PolicyInitArguments, output: &Output) -> Result<(), Failure> {
    let dir = &arguments.dir;
    std::fs::create_dir_all(dir).map_err(|e| Failure::io("cannot make", dir, &e))?;
    write(dir, &arguments.members.members())?;
    output.show(
        || json!({ "directory": dir }),
        || {
            let members = quoted_path(&dir.join("members.toml"));
            format!(
                "wrote the roles app, operator and auditor into {}\n\nnext\n\
                 1. give callers their roles in {members}, one line for each\n\
                 2. run  fieldseal policy check --dir {}",
                dir.display(),
                quoted_path(dir)
            )
        },
    )
}

/// The policy's directory, and the kind of callers' names where a configuration says it.
fn source(source: &PolicySource) -> Result<(Settings, Option<PrincipalKind>), Failure> {
    let environment = Environment::of_process();
    let stated = environment.other(CONFIG).map(PathBuf::from);
    match (&source.dir, source.config.as_ref().or(stated.as_ref())) {
        (Some(dir), _) => Ok((Settings { dir: dir.clone() }, None)),
        (None, Some(path)) => {
            let config = Config::load(path).map_err(|e| config_failure(&e))?;
            Ok((Settings { dir: config.policy_directory }, Some(config.tls.principal)))
        }
        (None, None) => Err(Failure::usage("POLICY_UNNAMED", "name --dir or --config")),
    }
}

fn invalid(errors: &PolicyErrors) -> Failure {
    Failure::usage("POLICY_INVALID", errors.to_string())
}

fn check(stated: &PolicySource, output: &Output) -> Result<(), Failure> {
    let (settings, kind) = source(stated)?;
    let checked = Policy::check(&settings, kind);
    let (errors, warnings) = match &checked {
        Ok(checked) => (&[][..], &checked.warnings[..]),
        Err(errors) => (errors.problems(), &[][..]),
    };
    let policy = checked.as_ref().ok().map(|checked| &checked.policy);
    let digest = policy.map(|policy| hex::encode(&policy.digest()));
    output.show(
        || {
            json!({
                "valid": errors.is_empty(), "policy_digest": digest,
                "rules": policy.map(Policy::rules),
                "errors": errors.iter().map(problem_json).collect::<Vec<_>>(),
                "warnings": warnings.iter().map(problem_json).collect::<Vec<_>>(),
            })
        },
        || {
            let mut table = Table::bare();
            errors.iter().for_each(|problem| table.row(["error", &problem.to_string()]));
            warnings.iter().for_each(|problem| table.row(["warning", &problem.to_string()]));
            if let (Some(policy), Some(digest)) = (policy, &digest) {
                table.row(["valid", &counted(policy.rules() as u64, "rule")]);
                table.row(["policy", digest]);
            }
            table.text()
        },
    )?;
    match errors.len() {
        0 => Ok(()),
        count => {
            let count = counted(count as u64, "error");
            let what = format!("{count} in {}", settings.dir.display());
            Err(Failure::usage("POLICY_INVALID", what))
        }
    }
}

fn problem_json(problem: &Problem) -> Value {
    json!({
        "file": problem.file, "line": problem.line, "column": problem.column,
        "message": problem.message,
    })
}

async fn reload(reason: &ReasonArguments, output: &Output) -> Result<(), Failure> {
    let mut client = connection::connect().await?.system();
    let request = v1::ReloadPolicyRequest { reason: Some(values::reason(reason)) };
    let reply = client.reload_policy(request).await.map_err(|s| failure(&s))?.into_inner();
    let event = event(reply.receipt.as_ref());
    output.show(
        || {
            json!({
                "policy_digest": reply.policy_digest,
                "previous_policy_digest": reply.previous_policy_digest, "event": event,
            })
        },
        || {
            let mut table = Table::bare();
            table.row(["policy", &reply.policy_digest]);
            table.row(["before", &reply.previous_policy_digest]);
            table.row(["record", event.as_deref().unwrap_or_default()]);
            let same = reply.policy_digest == reply.previous_policy_digest;
            let said = if same { "read again; it says what it said before" } else { "reloaded" };
            format!("{said}\n{}", table.text())
        },
    )
}
