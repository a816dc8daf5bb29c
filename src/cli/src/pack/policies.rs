//! The policies that were in force, and the files of those that the operator has.

use std::path::Path;

use fieldseal_model::hex;
use fieldseal_policy::{Policy, SCHEMA, Settings, digest_under};
use serde_json::{Value, json};

use super::archive::Packed;
use super::facts::InForce;
use super::rows;
use crate::failure::{Exit, Failure};

/// Members of a JSON web key that only a private or a shared one has.
const SECRET_MEMBERS: [&str; 7] = ["d", "k", "p", "q", "dp", "dq", "qi"];

/// A policy as files.
pub(super) struct Files {
    digest: [u8; 32],
    /// The schema that the program was built with which loaded it.
    schema: String,
    files: Vec<(String, String)>,
}

/// Reads the policy of a directory. Secrets of issuers are in files of their own, which are no part
/// of it; a key set with a secret is refused.
pub(super) fn read(dir: &Path) -> Result<Files, Failure> {
    let (_, files) = Policy::load_with_files(&Settings { dir: dir.to_owned() })
        .map_err(|e| Failure::usage("POLICY_INVALID", e.to_string()))?;
    for (name, text) in files.iter().filter(|(name, _)| name.ends_with(".jwks.json")) {
        if holds_secret(text) {
            let what =
                format!("{}: it holds a key that is no public one", dir.join(name).display());
            return Err(Failure::new(Exit::Usage, "POLICY_HOLDS_SECRET", what)
                .advise("nothing was written; an archive goes to other people"));
        }
    }
    Ok(Files::under(SCHEMA, files))
}

impl Files {
    fn under(schema: &str, files: Vec<(String, String)>) -> Self {
        let named = files.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        Self { digest: digest_under(schema, named), schema: schema.to_owned(), files }
    }

    /// The same files, as the program that wrote the directory's copy of its schema loaded them.
    fn of_their_time(&self) -> Option<Self> {
        let (_, schema) = self.files.iter().find(|(name, _)| name == "schema.cedarschema")?;
        Some(Self::under(schema, self.files.clone()))
    }
}

/// Not to be told from a public one: that is a secret until somebody has looked.
fn holds_secret(text: &str) -> bool {
    let Ok(set) = serde_json::from_str::<Value>(text) else { return true };
    let keys = set.get("keys").and_then(Value::as_array);
    let is_secret = |key: &Value| SECRET_MEMBERS.iter().any(|name| key.get(name).is_some());
    keys.is_none_or(|keys| keys.iter().any(is_secret))
}

/// The policies as they were in force: under this program's schema or an earlier one's. One that was not
/// is refused: whoever names it believes that it was.
pub(super) fn check(policies: Vec<Files>, in_force: &[InForce]) -> Result<Vec<Files>, Failure> {
    let was = |files: &Files| in_force.iter().any(|policy| policy.digest == files.digest);
    let find = |files: Files| {
        if was(&files) {
            return Ok(files);
        }
        files.of_their_time().filter(was).ok_or_else(|| {
            let digest = hex::encode(&files.digest);
            let what = format!("the policy {digest} was not in force in that time");
            Failure::usage("POLICY_NOT_IN_FORCE", what).advise(
                "name a directory as it was then, with the schema.cedarschema of the program that ran then",
            )
        })
    };
    policies.into_iter().map(find).collect()
}

/// `policies.json`, and the files of the policies that are there.
pub(super) fn packed(policies: &[Files], in_force: &[InForce]) -> Vec<Packed> {
    let listed = in_force.iter().map(|policy| {
        json!({
            "digest": hex::encode(&policy.digest), "record": policy.record,
            "time": rows::instant(policy.time), "kind": policy.kind,
            "included": is_included(policies, policy),
        })
    });
    let listed = json!({ "policies": listed.collect::<Vec<_>>() });
    let mut packed = vec![Packed::new("policies.json", format!("{listed:#}\n"))];
    let mut seen = Vec::new();
    for Files { digest, schema, files } in policies {
        if seen.contains(digest) {
            continue;
        }
        seen.push(*digest);
        let directory = format!("policies/{}", hex::encode(digest));
        packed.push(Packed::new(format!("{directory}/builtin.cedarschema"), schema.as_str()));
        for (name, text) in files {
            packed.push(Packed::new(format!("{directory}/files/{name}"), text.as_str()));
        }
    }
    packed
}

/// True if the archive has its files.
pub(super) fn is_included(policies: &[Files], policy: &InForce) -> bool {
    policies.iter().any(|files| policy.digest == files.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_known_under_the_schema_of_its_time() {
        let files = |rules: &str| {
            let files = [("a.cedar", rules), ("schema.cedarschema", "// of an earlier program")];
            files.map(|(name, text)| (name.to_owned(), text.to_owned())).to_vec()
        };
        let then = Files::under("// of an earlier program", files("x"));
        let (record, time, kind) = (0, fieldseal_model::Timestamp::default(), String::new());
        let in_force = [InForce { record, time, kind, digest: then.digest.to_vec() }];
        let found = check(vec![Files::under(SCHEMA, files("x"))], &in_force).ok().unwrap();
        assert_eq!((found[0].digest, &found[0].schema), (then.digest, &then.schema));
        let other = check(vec![Files::under(SCHEMA, files("y"))], &in_force).err().unwrap();
        assert_eq!(other.reason(), "POLICY_NOT_IN_FORCE");
    }

    #[test]
    fn a_key_set_with_a_secret_is_known() {
        for (text, secret) in [
            (r#"{"keys":[]}"#, false),
            (r#"{"keys":[{"kty":"OKP","x":"AA"}]}"#, false),
            (r#"{"keys":[{"kty":"OKP","x":"AA"},{"kty":"oct","k":"AA"}]}"#, true),
            (r#"{"keys":[{"kty":"RSA","n":"AA","e":"AQAB","d":"AA"}]}"#, true),
            (r#"{"k":"AA"}"#, true),
            ("no JSON", true),
        ] {
            assert_eq!(holds_secret(text), secret, "{text}");
        }
    }
}
