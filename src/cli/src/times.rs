//! Moments on the wire and on paper (RFC 3339, UTC).

use fieldseal_model::Timestamp as Moment;
use prost_types::Timestamp;

use crate::failure::Failure;

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

/// A moment as a person writes it: RFC 3339, or a date.
pub(crate) fn parse(text: &str) -> Result<Timestamp, Failure> {
    text.parse::<Timestamp>().map_err(|_| {
        Failure::usage("TIME_INVALID", format!("{text:?} is no moment in time"))
            .advise("write it as RFC 3339, for example 2026-11-01T00:00:00Z, or as a date")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_shown() {
        for (text, shown_as) in [
            ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
            ("2026-11-01T01:00:00+01:00", "2026-11-01T00:00:00Z"),
            ("2026-11-01", "2026-11-01T00:00:00Z"),
        ] {
            let read = parse(text).map_err(|f| f.what().to_owned());
            assert_eq!(read.as_ref().map(|at| shown(Some(at))), Ok(shown_as.to_owned()), "{text}");
        }
        for bad in ["yesterday", "", "2026-13-01"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(shown(None), "");
        assert_eq!((day(67_090_118_400), day(-1)), ("4096-01-01".into(), "1969-12-31".into()));
    }
}
