//! Moments on the wire and on paper (RFC 3339, UTC).

use fieldseal_model::Timestamp as Moment;
use prost_types::Timestamp;

/// A moment for people: to the second, UTC.
pub(crate) fn shown(at: Option<&Timestamp>) -> String {
    let text = full(at);
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

/// A moment for programs: to the millisecond, UTC.
pub(crate) fn json(at: Option<&Timestamp>) -> Option<String> {
    at.map(|_| full(at))
}

fn full(at: Option<&Timestamp>) -> String {
    let Some(at) = at else { return String::new() };
    let nanos = at.seconds.saturating_mul(1_000_000_000).saturating_add(at.nanos.into());
    Moment::from_unix_nanos(nanos).to_string()
}

/// The day of a time in seconds since 1970, UTC. Certificates may be valid for longer than a
/// [`Moment`] reaches.
pub(crate) fn day(seconds: i64) -> String {
    let at = chrono::DateTime::from_timestamp(seconds, 0);
    at.map_or_else(String::new, |at| at.format("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown() {
        let at = Timestamp { seconds: 1_793_491_200, nanos: 5_000_000 };
        assert_eq!(shown(Some(&at)), "2026-11-01T00:00:00Z");
        assert_eq!(json(Some(&at)).as_deref(), Some("2026-11-01T00:00:00.005Z"));
        assert_eq!((shown(None).as_str(), json(None)), ("", None));
        assert_eq!((day(67_090_118_400), day(-1)), ("4096-01-01".into(), "1969-12-31".into()));
    }
}
