//! Where the log begins that an answer is taken from: what is older is archived, and not in it.

use prost_types::Timestamp;
use serde_json::{Map, Value};

/// The first record that is at hand, and when it was made.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Beginning {
    pub(crate) index: i64,
    pub(crate) time: Option<Timestamp>,
}

impl Beginning {
    /// True if a question about everything since then reaches into what is archived.
    pub(crate) fn cuts(&self, since: Option<&Timestamp>) -> bool {
        let at = |time: &Timestamp| (time.seconds, time.nanos);
        let begins = self.time.as_ref().map(at);
        let is_behind = since.zip(begins).is_some_and(|(since, begins)| at(since) >= begins);
        self.index > 0 && !is_behind
    }

    /// What the reader of such an answer must know.
    pub(crate) fn remark(&self, show: impl Fn(&Timestamp) -> String) -> String {
        let time = self.time.as_ref().map(|at| format!(" ({})", show(at))).unwrap_or_default();
        format!(
            "the log begins with record {}{time}: older ones are archived, and not in this answer; the \
             archive is a log by itself",
            self.index
        )
    }

    /// The same for programs.
    pub(crate) fn json(
        &self,
        since: Option<&Timestamp>,
        show: impl Fn(&Timestamp) -> String,
    ) -> Map<String, Value> {
        let fields = [
            ("log_first_index", self.index.into()),
            ("log_start_time", self.time.as_ref().map(show).into()),
            ("archived_left_out", self.cuts(since).into()),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_question_that_reaches_into_what_is_archived_is_cut() {
        let at = |seconds, nanos| Timestamp { seconds, nanos };
        let begins = Beginning { index: 7, time: Some(at(100, 5)) };
        for (since, cut) in [(None, true), (Some(at(100, 4)), true), (Some(at(100, 5)), false)] {
            assert_eq!(begins.cuts(since.as_ref()), cut, "{since:?}");
        }
        assert!(!Beginning { index: 0, ..begins.clone() }.cuts(None));
        let unknown = Beginning { time: None, ..begins.clone() };
        assert!(unknown.cuts(Some(&at(100, 5))));
        let shown = begins.remark(|at| at.seconds.to_string());
        assert!(shown.starts_with("the log begins with record 7 (100): older ones are archived"));
        let json = begins.json(None, |at| at.seconds.to_string());
        assert_eq!((&json["log_first_index"], &json["log_start_time"]), (&7.into(), &"100".into()));
        assert_eq!(json["archived_left_out"], true);
    }
}
