//! Which purposes and tickets a key takes.

use std::sync::Arc;

use crate::malformed::{Malformed, MalformedReason};
use crate::reason::{Purpose, Ticket};

/// Most purposes that a key allows, and most patterns of its tickets.
pub const MAX_ALLOWED: usize = 16;
/// Most bytes of all of them together, for purposes and for patterns.
pub const MAX_ALLOWED_BYTES: usize = 1024;

/// The purposes that a key takes; empty: any, and none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowedPurposes(Arc<[Purpose]>);

/// The forms of the tickets that a key takes, one of which must fit; empty: any, and none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TicketPatterns(Arc<[TicketPattern]>);

/// The form of a ticket. `#` is one digit or more, `?` is one character, `*` is any number of
/// characters, also none; `\` in front of a character, and every other character, is that character.
/// The whole ticket must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TicketPattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    One(char),
    Digits,
    AnyOne,
    Any,
}

fn invalid(message: String) -> Malformed {
    Malformed::new(MalformedReason::SettingInvalid, message)
}

/// Checks what both lists have in common.
fn bounded(what: &str, texts: &[String]) -> Result<(), Malformed> {
    let bytes: usize = texts.iter().map(String::len).sum();
    if texts.len() > MAX_ALLOWED || bytes > MAX_ALLOWED_BYTES {
        return Err(invalid(format!(
            "{what} has at most {MAX_ALLOWED} texts of at most {MAX_ALLOWED_BYTES} bytes together"
        )));
    }
    let twice =
        texts.iter().enumerate().any(|(at, text)| texts.iter().skip(at + 1).any(|t| t == text));
    if twice || texts.iter().any(String::is_empty) {
        return Err(invalid(format!("{what} has no text twice, and none that is empty")));
    }
    Ok(())
}

impl AllowedPurposes {
    /// These purposes.
    ///
    /// # Errors
    /// `SETTING_INVALID` for more than [`MAX_ALLOWED`] or [`MAX_ALLOWED_BYTES`], for one that is empty
    /// or there twice, and for what is no purpose.
    pub fn parse(texts: &[String]) -> Result<Self, Malformed> {
        bounded("allowed_purposes", texts)?;
        let purposes = texts.iter().map(|text| Purpose::parse(text));
        let purposes: Result<Arc<[_]>, _> = purposes.collect();
        purposes.map(Self).map_err(|what| invalid(what.message().to_owned()))
    }

    /// Refuses a purpose that is not among them.
    ///
    /// # Errors
    /// `PURPOSE_REQUIRED` without a purpose, `PURPOSE_NOT_ALLOWED`.
    pub fn check(&self, purpose: &Purpose) -> Result<(), Malformed> {
        if self.0.is_empty() || self.0.contains(purpose) {
            return Ok(());
        }
        Err(match purpose.as_str() {
            "" => Malformed::new(
                MalformedReason::PurposeRequired,
                "the key wants a purpose: state it as reason.purpose",
            ),
            _ => Malformed::new(
                MalformedReason::PurposeNotAllowed,
                "the key does not take this purpose; its allowed_purposes are those that it takes",
            ),
        })
    }

    /// Their texts.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Purpose::as_str)
    }
}

impl TicketPatterns {
    /// These patterns.
    ///
    /// # Errors
    /// `SETTING_INVALID` for more than [`MAX_ALLOWED`] or [`MAX_ALLOWED_BYTES`], for one that is empty,
    /// there twice, longer than a ticket can be, has control characters, or ends with a single `\`.
    pub fn parse(texts: &[String]) -> Result<Self, Malformed> {
        bounded("ticket_patterns", texts)?;
        texts.iter().map(|text| TicketPattern::parse(text)).collect::<Result<_, _>>().map(Self)
    }

    /// Refuses a ticket that fits none of them.
    ///
    /// # Errors
    /// `TICKET_REQUIRED` without a ticket, `TICKET_NOT_ALLOWED`.
    pub fn check(&self, ticket: &Ticket) -> Result<(), Malformed> {
        if self.0.is_empty() {
            return Ok(());
        }
        if ticket.as_str().is_empty() {
            return Err(Malformed::new(
                MalformedReason::TicketRequired,
                "the key wants a ticket: state it as reason.ticket",
            ));
        }
        if self.0.iter().any(|pattern| pattern.fits(ticket.as_str())) {
            return Ok(());
        }
        Err(Malformed::new(
            MalformedReason::TicketNotAllowed,
            "the ticket has none of the forms that the key takes; see its ticket_patterns",
        ))
    }

    /// Their texts.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|pattern| pattern.text.as_str())
    }
}

impl TicketPattern {
    fn parse(text: &str) -> Result<Self, Malformed> {
        Ticket::parse(text).map_err(|what| invalid(format!("a pattern: {}", what.message())))?;
        let mut parts = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            parts.push(match character {
                '#' => Part::Digits,
                '?' => Part::AnyOne,
                '*' => Part::Any,
                '\\' => Part::One(characters.next().ok_or_else(|| {
                    invalid("a pattern must not end with a backslash before nothing".to_owned())
                })?),
                other => Part::One(other),
            });
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Goes through the pattern once, and keeps every place of the text that it can have come to: the
    /// time is at most the product of both lengths, whatever the pattern.
    fn fits(&self, text: &str) -> bool {
        let characters: Vec<char> = text.chars().collect();
        let mut reached = vec![false; characters.len()];
        reached.insert(0, true);
        for part in &self.parts {
            let mut next = vec![*part == Part::Any && reached.first() == Some(&true)];
            let places = reached.iter().zip(reached.iter().skip(1));
            for (character, (before, behind)) in characters.iter().zip(places) {
                let here = next.last() == Some(&true);
                next.push(match part {
                    Part::One(wanted) => *before && character == wanted,
                    Part::AnyOne => *before,
                    Part::Any => here || *behind,
                    Part::Digits => character.is_ascii_digit() && (*before || here),
                });
            }
            reached = next;
        }
        reached.last() == Some(&true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, ticket: &str) -> bool {
        let patterns = TicketPatterns::parse(&[pattern.to_owned()]).unwrap();
        patterns.check(&Ticket::parse(ticket).unwrap()).is_ok()
    }

    #[test]
    fn a_ticket_fits_as_a_whole() {
        for (pattern, good, bad) in [
            (
                "OPS-#",
                &["OPS-1", "OPS-4711"][..],
                &["OPS-", "OPS-1a", "xOPS-1", "ops-1", "OPS-1 "][..],
            ),
            ("INC????", &["INC1234", "INCäöüß"], &["INC123", "INC12345"]),
            ("*-#", &["A-1", "-1", "a-b-12"], &["A-", "A1", "A-1b"]),
            ("#*#", &["11", "1x1", "123"], &["1", "1x", ""]),
            ("*", &["x", "anything at all"], &[""]),
            ("a\\*b", &["a*b"], &["ab", "axb"]),
            ("\\#\\?\\\\", &["#?\\"], &["1x\\"]),
            ("#", &["0", "٣0"][..1], &["٣", "-1", "1.0"]),
            ("C?T*#-*#", &["CAT1-1", "CxT-9-77-0"], &["CAT-1", "CAT1-"]),
        ] {
            good.iter().for_each(|ticket| assert!(fits(pattern, ticket), "{pattern} {ticket}"));
            bad.iter().for_each(|ticket| assert!(!fits(pattern, ticket), "{pattern} {ticket}"));
        }
        let hard = "*#".repeat(64);
        assert!(!fits(&hard, &format!("{}x", "1".repeat(127))));
        assert!(fits(&hard, &"1".repeat(128)));
    }

    #[test]
    fn one_of_several_is_enough_and_an_empty_list_takes_everything() {
        let texts = ["OPS-#".to_owned(), "CASE-#".to_owned()];
        let of = |text: &str| Ticket::parse(text).unwrap();
        let reason = |result: Result<(), Malformed>| result.map_err(|what| what.reason());
        let patterns = TicketPatterns::parse(&texts).unwrap();
        assert_eq!(reason(patterns.check(&of("CASE-7"))), Ok(()));
        assert_eq!(reason(patterns.check(&of("INC-7"))), Err(MalformedReason::TicketNotAllowed));
        assert_eq!(reason(patterns.check(&of(""))), Err(MalformedReason::TicketRequired));
        assert_eq!(patterns.iter().collect::<Vec<_>>(), texts);
        assert_eq!(reason(TicketPatterns::default().check(&of(""))), Ok(()));
        let of = |text: &str| Purpose::parse(text).unwrap();
        let purposes =
            AllowedPurposes::parse(&["support".to_owned(), "billing".to_owned()]).unwrap();
        assert_eq!(reason(purposes.check(&of("billing"))), Ok(()));
        for other in ["Billing", "billing ", "support,billing"] {
            let refused = Err(MalformedReason::PurposeNotAllowed);
            assert_eq!(reason(purposes.check(&of(other))), refused, "{other}");
        }
        assert_eq!(reason(purposes.check(&of(""))), Err(MalformedReason::PurposeRequired));
        assert_eq!(reason(AllowedPurposes::default().check(&of("x"))), Ok(()));
    }

    #[test]
    fn lists_have_their_limits() {
        let list = |count: usize, len: usize| -> Vec<String> {
            (0..count).map(|i| format!("{i:0len$}")).collect()
        };
        for (texts, fine) in [
            (list(16, 64), true),
            (list(17, 2), false),
            (list(9, 128), false),
            (list(1, 129), false),
            (vec![String::new()], false),
            (vec!["a".to_owned(), "a".to_owned()], false),
            (vec!["a\n".to_owned()], false),
        ] {
            let (purposes, patterns) =
                (AllowedPurposes::parse(&texts), TicketPatterns::parse(&texts));
            assert_eq!((purposes.is_ok(), patterns.is_ok()), (fine, fine), "{texts:?}");
        }
        let backslash = TicketPatterns::parse(&["a\\".to_owned()]).map_err(|what| what.reason());
        assert_eq!(backslash, Err(MalformedReason::SettingInvalid));
    }
}
