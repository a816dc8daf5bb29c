//! The policy that a new installation starts with.

use fieldseal_model::Principal;

/// The schema that every policy is checked against, in Cedar's schema language.
pub const SCHEMA: &str = include_str!("defaults/schema.cedarschema");

/// The rules of the four roles, in Cedar.
pub const DEFAULT_POLICY: &str = include_str!("defaults/roles.cedar");

/// The file with the schema.
pub(crate) const SCHEMA_FILE: &str = "schema.cedarschema";
/// The file that says who has which role.
pub(crate) const MEMBERS_FILE: &str = "members.toml";
/// The file with the default rules. Any `*.cedar` file beside it is a rule file too.
pub(crate) const POLICY_FILE: &str = "roles.cedar";

/// A role of the default policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Encrypts and decrypts.
    App,
    /// Creates and rotates keys, sees keys and status.
    Operator,
    /// Reads the audit log, sees keys and status.
    Auditor,
    /// Erases personal detail of the audit log.
    Privacy,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::App, Self::Operator, Self::Auditor, Self::Privacy];

    /// The name in the policy and in the members file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Privacy => "privacy",
        }
    }
}

/// The files of a new installation's policy directory, as (file name, text): the schema, the rules,
/// and the members. Put them into one directory, or into [`crate::Policy::from_texts`].
#[must_use]
pub fn default_files(members: &[(Role, Principal)]) -> Vec<(&'static str, String)> {
    vec![
        (SCHEMA_FILE, SCHEMA.to_owned()),
        (POLICY_FILE, DEFAULT_POLICY.to_owned()),
        (MEMBERS_FILE, members_file(members)),
    ]
}

fn members_file(members: &[(Role, Principal)]) -> String {
    let mut text = String::from(
        "# Who has which role of the rules beside this file: one line for each service. The sidecar\n\
         # reads it again on `fieldseal policy reload` and on SIGHUP.\n\
         # A principal is written as in its certificate: spiffe://domain/path, dns:name or cn:name.\n",
    );
    for role in Role::ALL {
        text.push_str(&format!("\n{} = [\n", role.as_str()));
        let mut has = members.iter().filter(|(of, _)| *of == role).peekable();
        if has.peek().is_none() {
            text.push_str(&format!("    # \"spiffe://example.org/{}\",\n", role.as_str()));
        }
        for (_, principal) in has {
            text.push_str(&format!("    {},\n", toml_string(principal.as_str())));
        }
        text.push_str("]\n");
    }
    text
}

/// A TOML basic string. Only a `cn:` principal can have a quote or a backslash; none has a control
/// character.
fn toml_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
