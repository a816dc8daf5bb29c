//! `init`: an installation for production, and the one moment at which its recovery identity can
//! be seen.

use fieldseal_policy::Role;
use serde_json::json;

use crate::arguments::InitArguments;
use crate::connection::quoted_path;
use crate::failure::Failure;
use crate::installation::{self, Created, Plan};
use crate::output::{Output, Table, note};

/// Runs `init`.
pub(crate) async fn run(arguments: InitArguments, output: &Output) -> Result<(), Failure> {
    let mut plan = Plan::new(&arguments.dir, arguments.listen);
    plan.root_key_file = arguments.root_key_file;
    plan.recovery_recipient = arguments.recovery_recipient;
    if arguments.dev_certificates {
        plan = plan
            .with_dev_caller("app", &[Role::App])?
            .with_dev_caller("ops", &[Role::Operator])?
            .with_dev_caller("auditor", &[Role::Auditor])?;
    }
    let roles = [
        (Role::App, arguments.app),
        (Role::Operator, arguments.operator),
        (Role::Auditor, arguments.auditor),
    ];
    for (role, principals) in roles {
        plan.members.extend(principals.into_iter().map(|principal| (role, principal)));
    }
    let created = installation::create(&plan).await?;
    output.show(
        || {
            json!({
                "installation": created.installation.to_string(),
                "config": created.config(),
                "recovery_recipient": created.recovery_recipient,
            })
        },
        || summary(&plan, &created),
    )?;
    show_identity(&created);
    Ok(())
}

fn summary(plan: &Plan, created: &Created) -> String {
    let mut table = Table::bare();
    table.row(["installation", &created.installation.to_string()]);
    table.row(["configuration", &created.config().display().to_string()]);
    table.row(["recovery", &created.recovery_recipient]);
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
    text.push_str("\nnext\n");
    for (step, what) in next.iter().enumerate() {
        text.push_str(&format!("{}. {what}\n", step + 1));
    }
    text
}

/// To standard error, so that it does not slip into a file with the rest.
fn show_identity(created: &Created) {
    let Some(identity) = &created.recovery_identity else { return };
    note("");
    note("RECOVERY IDENTITY, shown once and stored nowhere. Without it and without the root key");
    note(
        "file, everything that was sealed is lost. Keep it off this machine, on paper or in a safe:",
    );
    note("");
    note(identity.trim_end());
    note("");
    note(
        "It opens the root key in state/keyring.json (`fieldseal recover`, or the `age` program).",
    );
}
