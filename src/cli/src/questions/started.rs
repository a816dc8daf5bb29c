//! What a start says of settings and certificates, held against the start before.

use fieldseal_api::v1;

use crate::times;

/// Digits of a digest that are shown. JSON of `audit list` has all.
const DIGITS: usize = 12;

/// The note of a start, with what is not as at the start before it.
pub(super) fn note(event: &v1::AuditEvent, earlier: &[v1::AuditEvent]) -> String {
    let before = earlier.iter().find(|event| event.kind == "START");
    let differs = match before {
        None => first(event),
        Some(before) => since(event, before),
    };
    [event.note.clone()].into_iter().chain(differs).collect::<Vec<_>>().join("; ")
}

/// Of the first start that is known.
fn first(event: &v1::AuditEvent) -> Vec<String> {
    let mut said = Vec::new();
    if !event.settings_digest.is_empty() {
        said.push(format!("settings {}", brief(&event.settings_digest)));
    }
    said.extend(event.certificates.iter().map(named));
    said
}

fn since(event: &v1::AuditEvent, before: &v1::AuditEvent) -> Vec<String> {
    let mut said = Vec::new();
    let (was, is) = (&before.settings_digest, &event.settings_digest);
    if was != is {
        said.push(format!("settings changed: {} to {}", brief(was), brief(is)));
        said.extend(changed(&event.settings, &before.settings));
    }
    // What serves nobody, as a restore, has no certificates.
    if !event.certificates.is_empty() && !before.certificates.is_empty() {
        let is_new = |one: &&v1::ProcessCertificate| !before.certificates.contains(one);
        let is_gone = |one: &&v1::ProcessCertificate| !event.certificates.contains(one);
        let added = event.certificates.iter().filter(is_new);
        said.extend(added.map(|one| format!("new {}", named(one))));
        let removed = before.certificates.iter().filter(is_gone);
        said.extend(removed.map(|one| format!("no more {}", named(one))));
    }
    said
}

/// Settings that are told and are not as before.
fn changed<'s>(
    now: &'s [v1::ProcessSetting],
    before: &'s [v1::ProcessSetting],
) -> impl Iterator<Item = String> + 's {
    let value = |settings: &'s [v1::ProcessSetting], name: &str| {
        let found = settings.iter().find(|setting| setting.name == name);
        found.map_or("-", |setting| setting.value.as_str())
    };
    let gone = before.iter().filter(move |old| !now.iter().any(|new| new.name == old.name));
    let names = now.iter().chain(gone).map(|setting| setting.name.as_str());
    names.filter_map(move |name| {
        let (was, is) = (value(before, name), value(now, name));
        (was != is).then(|| format!("{name} {was} to {is}"))
    })
}

fn named(certificate: &v1::ProcessCertificate) -> String {
    let expires = times::day(certificate.expire_time.unwrap_or_default().seconds);
    format!("{} {} until {expires}", certificate.usage, brief(&certificate.fingerprint))
}

fn brief(digest: &str) -> String {
    if digest.is_empty() { "-".to_owned() } else { digest.chars().take(DIGITS).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(digest: &str, settings: &[(&str, &str)], certificates: &[&str]) -> v1::AuditEvent {
        let setting = |(name, value): &(&str, &str)| v1::ProcessSetting {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        };
        let certificate = |fingerprint: &&str| v1::ProcessCertificate {
            usage: "server".to_owned(),
            fingerprint: (*fingerprint).to_owned(),
            expire_time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        };
        v1::AuditEvent {
            kind: "START".to_owned(),
            note: "0.1.0".to_owned(),
            settings_digest: digest.to_owned(),
            settings: settings.iter().map(setting).collect(),
            certificates: certificates.iter().map(certificate).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_start_says_what_is_not_as_at_the_start_before() {
        let other = v1::AuditEvent { kind: "STOP".to_owned(), ..Default::default() };
        let before = start("aa", &[("audit.a", "1"), ("audit.old", "2")], &["c1"]);
        let same = start("aa", &[("audit.a", "1"), ("audit.old", "2")], &["c1"]);
        assert_eq!(note(&same, &[other.clone(), before.clone()]), "0.1.0");
        let now = start("bb", &[("audit.a", "0"), ("audit.new", "3")], &["c2"]);
        assert_eq!(
            note(&now, &[other.clone(), before.clone(), start("bb", &[], &["c2"])]),
            "0.1.0; settings changed: aa to bb; audit.a 1 to 0; audit.new - to 3; \
             audit.old 2 to -; new server c2 until 2027-01-15; \
             no more server c1 until 2027-01-15"
        );
        let alone = note(&before, std::slice::from_ref(&other));
        assert_eq!(alone, "0.1.0; settings aa; server c1 until 2027-01-15");
        // Nothing that is told changed, and something did.
        let untold = start("cc", &[("audit.a", "1"), ("audit.old", "2")], &["c1"]);
        assert_eq!(
            note(&untold, std::slice::from_ref(&before)),
            "0.1.0; settings changed: aa to cc"
        );
        let restore = start("aa", &[("audit.a", "1"), ("audit.old", "2")], &[]);
        assert_eq!((note(&restore, &[before]), note(&other, &[])), ("0.1.0".into(), String::new()));
    }
}
