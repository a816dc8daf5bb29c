//! The policies that were in force, and the files of those that the operator has.

use std::path::Path;

use fieldseal_model::hex;
use fieldseal_policy::{Policy, SCHEMA, Settings};
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
    files: Vec<(String, String)>,
}

/// Reads the policy of a directory. Secrets of issuers are in files of their own, which are no part
/// of it; a key set with a secret is refused.
pub(super) fn read(dir: &Path) -> Result<Files, Failure> {
    let (policy, files) = Policy::load_with_files(&Settings { dir: dir.to_owned() })
        .map_err(|e| Failure::usage("POLICY_INVALID", e.to_string()))?;
    for (name, text) in files.iter().filter(|(name, _)| name.ends_with(".jwks.json")) {
        if holds_secret(text) {
            let what =
                format!("{}: it holds a key that is no public one", dir.join(name).display());
            return Err(Failure::new(Exit::Usage, "POLICY_HOLDS_SECRET", what)
                .advise("nothing was written; an archive goes to other people"));
        }
    }
    Ok(Files { digest: policy.digest(), files })
}

/// Not to be told from a public one: that is a secret until somebody has looked.
fn holds_secret(text: &str) -> bool {
    let Ok(set) = serde_json::from_str::<Value>(text) else { return true };
    let keys = set.get("keys").and_then(Value::as_array);
    let is_secret = |key: &Value| SECRET_MEMBERS.iter().any(|name| key.get(name).is_some());
    keys.is_none_or(|keys| keys.iter().any(is_secret))
}

/// Refuses a policy that was not in force: whoever names it believes that it was.
pub(super) fn check(policies: &[Files], in_force: &[InForce]) -> Result<(), Failure> {
    for files in policies {
        if !in_force.iter().any(|policy| policy.digest == files.digest) {
            let digest = hex::encode(&files.digest);
            let what = format!("the policy {digest} was not in force in that time");
            return Err(Failure::usage("POLICY_NOT_IN_FORCE", what).advise(
                "name a directory as it was then; its digest depends on the program's version too",
            ));
        }
    }
    Ok(())
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
    for Files { digest, files } in policies {
        if seen.contains(digest) {
            continue;
        }
        seen.push(*digest);
        let directory = format!("policies/{}", hex::encode(digest));
        packed.push(Packed::new(format!("{directory}/builtin.cedarschema"), SCHEMA));
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
