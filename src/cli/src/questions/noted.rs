//! What an event says of itself in words.

use fieldseal_api::v1;

use super::report::Cell;
use super::started;

/// Digits of a digest that a table shows. JSON and CSV have them all.
const DIGITS: usize = 12;

/// The note of a change: of a key's settings what was set to what, of a reload which policy decides now, of a
/// start what is not as at the start before it. The earlier ones are the newest first.
pub(super) fn note(event: &v1::AuditEvent, earlier: &[v1::AuditEvent]) -> Cell {
    let (now, before) = (&event.policy_digest, &event.previous_policy_digest);
    match event.kind.as_str() {
        "KEY_UPDATED" if !event.key_settings.is_empty() => {
            let set = event.key_settings.iter();
            let set = set.map(|setting| format!("{}={}", setting.name, setting.value));
            Cell::Text(set.collect::<Vec<_>>().join(" "))
        }
        "POLICY_RELOADED" if !now.is_empty() => Cell::Long {
            all: format!("policy {before} to {now}"),
            shown: format!("policy {} to {}", brief(before), brief(now)),
        },
        "START" => Cell::Text(started::note(event, earlier)),
        _ => Cell::Text(event.note.clone()),
    }
}

fn brief(digest: &str) -> String {
    digest.chars().take(DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_says_what_was_set_and_a_reload_which_policy_decides() {
        let setting = |name: &str, value: &str| v1::AuditSetting {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let updated = v1::AuditEvent {
            kind: "KEY_UPDATED".into(),
            note: "seal_limit,labels".into(),
            key_settings: vec![setting("seal_limit", "7"), setting("labels", "")],
            ..Default::default()
        };
        assert_eq!(note(&updated, &[]), Cell::Text("seal_limit=7 labels=".into()));
        // One that an older program wrote.
        let older = v1::AuditEvent { key_settings: Vec::new(), ..updated };
        assert_eq!(note(&older, &[]), Cell::Text("seal_limit,labels".into()));
        let reloaded = v1::AuditEvent {
            kind: "POLICY_RELOADED".into(),
            policy_digest: "b".repeat(64),
            previous_policy_digest: "a".repeat(64),
            ..Default::default()
        };
        let (all, shown) = match note(&reloaded, &[]) {
            Cell::Long { all, shown } => (all, shown),
            other => panic!("{other:?}"),
        };
        assert_eq!(all, format!("policy {} to {}", "a".repeat(64), "b".repeat(64)));
        assert_eq!(shown, "policy aaaaaaaaaaaa to bbbbbbbbbbbb");
        let refused = v1::AuditEvent {
            policy_digest: String::new(),
            note: "members.toml, line 3".into(),
            ..reloaded
        };
        assert_eq!(note(&refused, &[]), Cell::Text("members.toml, line 3".into()));
    }
}
