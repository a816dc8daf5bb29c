//! Names that no record has: an empty answer must not read as "nobody" where a name was mistyped.

use fieldseal_api::v1;

use super::asked::{Asked, Groups};
use super::{READS, WRITES, bare};
use crate::failure::Failure;

/// The names that a question is about.
#[derive(Default)]
pub(super) struct Names {
    pub(super) principal: Option<String>,
    pub(super) key_version: Option<String>,
    pub(super) field: Option<(String, String)>,
    /// With the field.
    pub(super) key: Option<String>,
}

impl Names {
    /// Each name, and what finds the records that have it, at whatever time.
    fn queries(self) -> Vec<(String, v1::AuditEventQuery)> {
        let none = v1::AuditEventQuery::default;
        let principal = self
            .principal
            .map(|name| (name.clone(), v1::AuditEventQuery { principals: vec![name], ..none() }));
        let version = self.key_version.map(|name| {
            let shown = bare(&name).replace("/versions/", "/");
            (shown, v1::AuditEventQuery { key_versions: vec![name], ..none() })
        });
        let key = self.key;
        let field = self.field.map(|(table, column)| {
            let under = key.as_ref().map(|key| format!(" under {key}")).unwrap_or_default();
            let shown = format!("{table}.{column}{under}");
            let keys = key.iter().map(|key| format!("keys/{key}")).collect();
            // Questions about a field name it as well.
            let actions = READS.into_iter().chain(WRITES).map(str::to_owned).collect();
            (shown, v1::AuditEventQuery { table, column, keys, actions, ..none() })
        });
        [principal, version, field].into_iter().flatten().collect()
    }
}

impl Asked {
    /// What an answer without anything must say of the names that it was about; nothing of an answer with
    /// something.
    pub(super) async fn unnamed(
        &mut self,
        found: &Groups,
        names: Names,
    ) -> Result<Vec<String>, Failure> {
        let mut unnamed = Vec::new();
        if found.total.event_count > 0 {
            return Ok(unnamed);
        }
        for (name, query) in names.queries() {
            if self.all_groups(&query, &[]).await?.total.event_count == 0 {
                unnamed.push(format!(
                    "no record of this log names {name}, at any time: make sure that it is written as the \
                     sidecar knows it"
                ));
            }
        }
        Ok(unnamed)
    }
}
