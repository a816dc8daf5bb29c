//! Moments in the time zone that was asked for.

use chrono::offset::LocalResult;
use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, TimeZone, Utc};
use prost_types::Timestamp;

use crate::failure::Failure;
use crate::times;

/// In which times are read that have no offset, and in which all are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    Utc,
    /// Where this computer is (`TZ`, or the system's setting).
    Local,
}

impl Zone {
    pub(crate) fn new(local: bool) -> Self {
        if local { Self::Local } else { Self::Utc }
    }

    /// For the output: `UTC`, or `local time`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Utc => "UTC",
            Self::Local => "local time",
        }
    }

    /// RFC 3339, to the second, with its offset.
    pub(crate) fn show(self, at: &Timestamp) -> String {
        let nanos = u32::try_from(at.nanos).unwrap_or(0);
        let Some(utc) = DateTime::<Utc>::from_timestamp(at.seconds, nanos) else {
            return String::new();
        };
        match self {
            Self::Utc => utc.to_rfc3339_opts(SecondsFormat::Secs, true),
            Self::Local => utc.with_timezone(&Local).to_rfc3339_opts(SecondsFormat::Secs, false),
        }
    }

    /// The same to the millisecond, for programs.
    pub(crate) fn json(self, at: Option<&Timestamp>) -> Option<String> {
        match self {
            Self::Utc => times::json(at),
            Self::Local => at.map(|at| {
                let nanos = u32::try_from(at.nanos).unwrap_or(0);
                let utc = DateTime::<Utc>::from_timestamp(at.seconds, nanos).unwrap_or_default();
                utc.with_timezone(&Local).to_rfc3339_opts(SecondsFormat::Millis, false)
            }),
        }
    }

    /// A range, and in which zone its times are.
    pub(crate) fn range(self, since: Option<&Timestamp>, until: Option<&Timestamp>) -> String {
        let time = |at: Option<&Timestamp>, none: &str| {
            at.map_or_else(|| none.to_owned(), |at| self.show(at))
        };
        let zone = match self {
            Self::Utc => self.name().to_owned(),
            Self::Local => format!("{} with its offset from UTC", self.name()),
        };
        let (since, until) = (time(since, "the log begins"), time(until, "now"));
        format!("since {since}, until {until}; times are {zone}")
    }

    /// Where a range begins: a date, a date and a time, or RFC 3339 with an offset. Of an hour that comes
    /// twice the first one, so that nothing is missed.
    pub(crate) fn since(self, text: &str) -> Result<Timestamp, Failure> {
        self.parse(text, Ord::min)
    }

    /// Where a range ends, written the same way. Of an hour that comes twice the second one.
    pub(crate) fn until(self, text: &str) -> Result<Timestamp, Failure> {
        self.parse(text, Ord::max)
    }

    /// Before which something goes for good, or elsewhere. Of an hour that comes twice the first one, so that
    /// nothing goes too early.
    pub(crate) fn before(self, text: &str) -> Result<Timestamp, Failure> {
        self.parse(text, Ord::min)
    }

    /// `choose` takes one of two moments that clocks show alike.
    fn parse(self, text: &str, choose: Choose) -> Result<Timestamp, Failure> {
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(moment(&at));
        }
        let Some(naive) = naive(text) else { return Err(invalid(text)) };
        let at = match self {
            Self::Utc => return Ok(moment(&Utc.from_utc_datetime(&naive))),
            Self::Local => Local.from_local_datetime(&naive),
        };
        match at {
            LocalResult::Single(at) => Ok(moment(&at)),
            // When clocks are put back an hour comes twice. Which of the two is named first depends on
            // the platform.
            LocalResult::Ambiguous(one, other) => Ok(moment(&choose(one, other))),
            LocalResult::None => Err(Failure::usage(
                "TIME_INVALID",
                format!("there was no {text:?} here: clocks were put forward"),
            )),
        }
    }
}

/// One of two moments.
type Choose = fn(DateTime<Local>, DateTime<Local>) -> DateTime<Local>;

fn naive(text: &str) -> Option<NaiveDateTime> {
    let forms = ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"];
    let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let timed = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    timed.or_else(|| date().map(|date| date.and_time(NaiveTime::MIN)))
}

fn moment<Z: TimeZone>(at: &DateTime<Z>) -> Timestamp {
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0);
    Timestamp { seconds: at.timestamp(), nanos }
}

fn invalid(text: &str) -> Failure {
    Failure::usage("TIME_INVALID", format!("{text:?} is no moment in time")).advise(
        "write a date, a date and a time like \"2026-11-01 08:00\", or RFC 3339 like \
         2026-11-01T08:00:00+01:00",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_shown() {
        for (text, expected) in [
            ("2026-11-01", "2026-11-01T00:00:00Z"),
            ("2026-11-01 08:30", "2026-11-01T08:30:00Z"),
            ("2026-11-01T08:30:15", "2026-11-01T08:30:15Z"),
            ("2026-11-01T01:00:00+02:00", "2026-10-31T23:00:00Z"),
            ("2026-11-01T01:00:00.5Z", "2026-11-01T01:00:00Z"),
        ] {
            let read = Zone::Utc.since(text).unwrap();
            assert_eq!(Zone::Utc.show(&read), expected, "{text}");
            // What is shown is read as the same moment in either zone.
            let whole = Timestamp { nanos: 0, ..read };
            assert_eq!(Zone::Local.until(&Zone::Local.show(&read)).unwrap(), whole, "{text}");
        }
        for bad in ["", "yesterday", "2026-13-01", "2026-11-01 25:00", "1.11.2026"] {
            assert_eq!(Zone::Utc.since(bad).unwrap_err().reason(), "TIME_INVALID", "{bad}");
        }
    }
}
