//! `init`: an installation for production, and the one moment at which its recovery identity can
//! be seen.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use fieldseal_policy::Role;
use rustix::fs::fstat;
use serde_json::json;
use zeroize::Zeroizing;

use crate::arguments::InitArguments;
use crate::connection::quoted_path;
use crate::failure::{Exit, Failure};
use crate::installation::{self, Created, Plan};
use crate::output::{Output, Table};
use crate::signals::{StopSignals, interrupted};

/// Runs `init`.
pub(crate) async fn run(arguments: InitArguments, output: &Output) -> Result<(), Failure> {
    let mut plan = Plan::new(&arguments.dir, arguments.listen);
    plan.root_key_file = arguments.provider.root_key_file.clone();
    plan.settings.extend(arguments.provider.settings());
    plan.recovery_recipient = arguments.recovery_recipient;
    if arguments.dev_certificates {
        plan = plan
            .with_dev_caller("app", &[Role::App])?
            .with_dev_caller("ops", &[Role::Operator])?
            .with_dev_caller("auditor", &[Role::Auditor])?;
    }
    plan.members.extend(arguments.members.members());
    refuse_unseen(&plan)?;
    // The identity exists nowhere else: an installation whose identity nobody saw is taken back.
    // So is one that a signal interrupts; a later signal waits until the identity is shown.
    let mut signals = StopSignals::listen_with_hangup()?;
    let prepared = tokio::select! {
        biased;
        () = signals.received() => return Err(interrupted("nothing was kept")),
        prepared = installation::prepare(&plan) => prepared?,
    };
    show_identity(prepared.created())?;
    let created = prepared.keep();
    let shown = output.show(
        || {
            json!({
                "installation": created.installation.to_string(),
                "config": created.config(),
                "recovery_recipient": created.recovery_recipient,
                "log_public_key": created.audit().join("log.pub"),
            })
        },
        || summary(&plan, &created),
    );
    shown.map_err(|failure| {
        failure.advise(format!("the installation was made; it is {}", created.dir.display()))
    })
}

fn summary(plan: &Plan, created: &Created) -> String {
    let mut table = Table::bare();
    table.row(["installation", &created.installation.to_string()]);
    table.row(["configuration", &created.config().display().to_string()]);
    table.row(["recovery", &created.recovery_recipient]);
    table.row(["log's public key", &created.audit().join("log.pub").display().to_string()]);
    let mut text = table.text();
    let mut next = Vec::new();
    if plan.dev_callers.is_empty() {
        next.push(
            "put the server's certificate, its key and the client CA where [tls] says".into(),
        );
    }
    if plan.members.is_empty() {
        next.push(format!(
            "name the callers in {}; nobody may do anything yet",
            created.dir.join("policy/members.toml").display()
        ));
    }
    next.push(format!("run  fieldseal serve --config {}", quoted_path(&created.config())));
    next.push(
        "give the log's public key to the auditors, away from here: it checks the log".into(),
    );
    text.push_str("\nnext\n");
    for (step, what) in next.iter().enumerate() {
        text.push_str(&format!("{}. {what}\n", step + 1));
    }
    text
}

/// Writing to the null device succeeds, and shows nothing to anybody. A closed standard error is the
/// same: at its start a Rust program opens the null device in its place.
fn refuse_unseen(plan: &Plan) -> Result<(), Failure> {
    if plan.recovery_recipient.is_some() {
        return Ok(());
    }
    let null = std::fs::metadata("/dev/null").map(|found| found.rdev());
    let error = fstat(std::io::stderr()).map(|found| found.st_rdev);
    match (null, error) {
        (Ok(null), Ok(error)) if null == error => Err(Failure::usage(
            "IDENTITY_UNSEEN",
            "standard error goes nowhere, and the recovery identity is shown there once",
        )
        .advise("let it reach you, or pass --recovery-recipient age1…")),
        _ => Ok(()),
    }
}

/// To standard error, so that it does not slip into a file with the rest.
fn show_identity(created: &Created) -> Result<(), Failure> {
    let Some(identity) = &created.recovery_identity else { return Ok(()) };
    let text = Zeroizing::new(format!(
        "\nRECOVERY IDENTITY, shown once and stored nowhere. Without it and without the root\n\
         provider, everything that was sealed is lost. Keep it off this machine, on paper or in a safe:\n\
         \n{}\n\n\
         It opens the root key in state/keyring.json (`fieldseal recover`, or the `age` program).\n",
        identity.trim_end()
    ));
    let mut terminal = std::io::stderr().lock();
    terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush()).map_err(|error| {
        let what = format!("the recovery identity could not be shown: {error}");
        Failure::new(Exit::Internal, "IDENTITY_UNSEEN", what)
            .advise("nothing was kept; run it again where standard error can be written")
    })
}
