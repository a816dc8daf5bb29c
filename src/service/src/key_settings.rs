//! A key's settings as the wire gives them.

use std::time::Duration;

use fieldseal_api::v1;
use fieldseal_model::{
    AllowedPurposes, KeySettings, Labels, Malformed, MalformedReason, Setting, TicketPatterns,
};

/// Fields of a key that no update sets.
const OUTPUT_ONLY: [&str; 6] =
    ["name", "primary_version", "versions", "create_time", "etag", "next_rotation_time"];

/// The settings of a new key: what is absent has its default.
pub(crate) fn of_new(mut wire: v1::Key) -> Result<KeySettings, Malformed> {
    if wire.suites.is_empty() {
        wire.suites = KeySettings::default().suites().to_vec();
    }
    let window = wire.destroy_window;
    let mut settings = of_update(wire, &Setting::ALL)?;
    if let Some(window) = window {
        settings.set_destroy_window(duration("destroy_window", window)?)?;
    }
    Ok(settings)
}

/// The settings that an update mask names.
pub(crate) fn of_mask(mask: Option<&prost_types::FieldMask>) -> Result<Vec<Setting>, Malformed> {
    let invalid = |message: String| Malformed::new(MalformedReason::UpdateMaskInvalid, message);
    let names = || Setting::ALL.map(Setting::as_str).join(", ");
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    if paths.is_empty() {
        return Err(invalid(format!("update_mask names what is set, at least one of {}", names())));
    }
    let mut which = Vec::with_capacity(paths.len());
    for path in paths {
        if path == "destroy_window" {
            return Err(Malformed::new(
                MalformedReason::SettingFixed,
                "destroy_window is set when a key is created and never changes, so that nobody \
                 shortens it first",
            ));
        }
        if OUTPUT_ONLY.contains(&path.as_str()) {
            return Err(invalid(format!("no update sets {path}; update_mask names {}", names())));
        }
        match Setting::ALL.into_iter().find(|setting| setting.as_str() == path) {
            Some(setting) => which.push(setting),
            // What stands there is not repeated: it may be anything.
            None => {
                return Err(invalid(format!(
                    "update_mask names a field that is no setting; settings are {}",
                    names()
                )));
            }
        }
    }
    which.sort_unstable();
    which.dedup();
    Ok(which)
}

/// The new values of these settings; one that is absent has its default.
pub(crate) fn of_update(wire: v1::Key, which: &[Setting]) -> Result<KeySettings, Malformed> {
    let mut settings = KeySettings::default();
    let mut required = settings.required();
    let v1::Key { rotation_period, data_key_lifetime, seal_limit, suites, labels, .. } = wire;
    let mut labels = Some(labels);
    for setting in which {
        match (setting, rotation_period, data_key_lifetime) {
            (Setting::RotationPeriod, Some(period), _) => {
                settings.set_rotation_period(duration("rotation_period", period)?)?;
            }
            (Setting::DataKeyLifetime, _, Some(lifetime)) => {
                settings.set_data_key_lifetime(duration("data_key_lifetime", lifetime)?)?;
            }
            (Setting::RotationPeriod, None, _) | (Setting::DataKeyLifetime, _, None) => {}
            (Setting::SealLimit, ..) if seal_limit == 0 => {}
            (Setting::SealLimit, ..) => settings.set_seal_limit(seal_limit)?,
            (Setting::Suites, ..) => settings.set_suites(&suites)?,
            (Setting::LogEncrypts, ..) => settings.set_log_encrypts(wire.log_encrypts),
            (Setting::RowRequired, ..) => required.row = wire.row_required,
            (Setting::PartitionRequired, ..) => required.partition = wire.partition_required,
            (Setting::PurposeRequired, ..) => required.purpose = wire.purpose_required,
            (Setting::EndUserRequired, ..) => required.end_user = wire.end_user_required,
            (Setting::AllowedPurposes, ..) => {
                settings.set_allowed_purposes(AllowedPurposes::parse(&wire.allowed_purposes)?);
            }
            (Setting::TicketPatterns, ..) => {
                settings.set_ticket_patterns(TicketPatterns::parse(&wire.ticket_patterns)?);
            }
            (Setting::Labels, ..) => {
                settings.set_labels(Labels::parse(labels.take().unwrap_or_default())?);
            }
        }
    }
    settings.set_required(required);
    Ok(settings)
}

fn duration(name: &str, wire: prost_types::Duration) -> Result<Duration, Malformed> {
    let invalid = || {
        Malformed::new(MalformedReason::SettingInvalid, format!("{name} is a time, not negative"))
    };
    let seconds = u64::try_from(wire.seconds).map_err(|_| invalid())?;
    let nanos = u32::try_from(wire.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    Ok(Duration::new(seconds, nanos.ok_or_else(invalid)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(paths: &[&str]) -> Result<Vec<Setting>, MalformedReason> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        of_mask(Some(&prost_types::FieldMask { paths })).map_err(|what| what.reason())
    }

    #[test]
    fn a_mask_names_settings_that_can_be_set() {
        assert_eq!(
            mask(&["labels", "rotation_period", "labels"]),
            Ok(vec![Setting::RotationPeriod, Setting::Labels])
        );
        assert_eq!(of_mask(None).map_err(|what| what.reason()), mask(&[]));
        for bad in [&[][..], &["*"], &["name"], &["etag"], &["versions"], &["next_rotation_time"]] {
            assert_eq!(mask(bad), Err(MalformedReason::UpdateMaskInvalid), "{bad:?}");
        }
        let with_good = ["labels", "rotationPeriod"];
        assert_eq!(mask(&with_good), Err(MalformedReason::UpdateMaskInvalid));
        assert_eq!(mask(&["destroy_window"]), Err(MalformedReason::SettingFixed));
    }

    #[test]
    fn what_is_absent_has_its_default_and_what_is_not_named_is_not_looked_at() {
        assert_eq!(of_new(v1::Key::default()), Ok(KeySettings::default()));
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let wire = v1::Key {
            rotation_period: seconds(-1),
            destroy_window: seconds(1),
            seal_limit: 1,
            log_encrypts: true,
            ..v1::Key::default()
        };
        let set = of_update(wire.clone(), &[Setting::LogEncrypts]);
        assert!(set.is_ok_and(|set| set.log_encrypts()));
        for which in [Setting::RotationPeriod, Setting::SealLimit, Setting::Suites] {
            let refused = of_update(wire.clone(), &[which]).map_err(|what| what.reason());
            assert_eq!(refused, Err(MalformedReason::SettingInvalid), "{which:?}");
        }
        for window in [seconds(1), Some(prost_types::Duration { seconds: 86_400, nanos: 1 })] {
            let wire = v1::Key { destroy_window: window, ..v1::Key::default() };
            let refused = of_new(wire).map_err(|what| what.reason());
            assert_eq!(refused, Err(MalformedReason::SettingInvalid));
        }
        let off = v1::Key { rotation_period: seconds(0), ..v1::Key::default() };
        assert!(of_new(off).is_ok_and(|set| set.rotation_period().is_none()));
    }
}
