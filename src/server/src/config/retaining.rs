//! `[audit]`: what becomes of the log as it grows old.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use fieldseal_engine::{ArchiveTarget, KeptFor, Retention};

use super::Config;
use super::setting::{Kind, Setting};

pub(super) const DIRECTORY: Setting = Setting {
    name: "audit.archive_directory",
    meaning: "Where the oldest segments of the log move to, after audit.at_hand_days and by `audit archive`. It \
        is made if it is not there; the directory above it must be. Outside of the state directory.",
    kind: Kind::OptionalPath {
        set: |config, path| {
            if let Some(path) = path {
                config.audit.retention.archive = Some(ArchiveTarget::Directory(path));
            }
        },
    },
};

pub(super) const COMMAND: Setting = Setting {
    name: "audit.archive_command",
    meaning: "The same by a program with its first arguments, instead of a directory: with put NAME behind them \
        it keeps its standard input under that name, with get NAME it writes what it keeps, or nothing. It has \
        10 minutes for a file.",
    kind: Kind::Command {
        set: |config, words| {
            if !words.is_empty() {
                config.audit.retention.archive = Some(ArchiveTarget::Command(words));
            }
        },
    },
};

pub(super) const AT_HAND: Setting = Setting {
    name: "audit.at_hand_days",
    meaning: "Segments of the log whose records are all older move to the archive by themselves; nothing moves \
        where no archive is configured. 0: only by `audit archive`.",
    kind: Kind::Number {
        unit: "days",
        default: 92,
        least: 0,
        most: 3_660,
        set: |config, number| config.audit.retention.at_hand = days(number),
    },
};

const fn kept(name: &'static str, meaning: &'static str, set: fn(&mut Config, u32)) -> Setting {
    let (unit, default, least, most) = ("days", 366, 0, 36_600);
    Setting { name, meaning, kind: Kind::Number { unit, default, least, most, set } }
}

pub(super) const CALLS: Setting = kept(
    "audit.keep_calls_days",
    "How long the personal detail of calls that encrypt or decrypt is kept in the log; then it is erased, and \
        a record says so. What is public of a record stays. 0 is for good.",
    |config, number| config.audit.retention.kept.calls = days(number),
);

pub(super) const REFUSALS: Setting =
    kept("audit.keep_refusals_days", "The same for calls that were refused.", |config, number| {
        config.audit.retention.kept.refusals = days(number)
    });

pub(super) const QUESTIONS: Setting = kept(
    "audit.keep_questions_days",
    "The same for questions that were asked of the log.",
    |config, number| config.audit.retention.kept.questions = days(number),
);

pub(super) const CHANGES: Setting = kept(
    "audit.keep_changes_days",
    "The same for everything else: changes of keys, partitions, policy, backups and the log, and calls about \
        them.",
    |config, number| config.audit.retention.kept.changes = days(number),
);

pub(super) const SHREDDED: Setting = Setting {
    name: "audit.redact_shredded",
    meaning: "Whether what the log has about a shredded partition is erased once its data keys are gone: the \
        personal detail of every field under that key that was recorded before, and a record says so.",
    kind: Kind::Flag {
        default: false,
        set: |config, on| config.audit.retention.redact_shredded = on,
    },
};

/// A setting's name, and where it stands.
type Class = (&'static str, fn(&KeptFor) -> Duration);

/// The settings of a class.
pub(super) const KEPT: [Class; 4] = [
    (CALLS.name, |kept| kept.calls),
    (REFUSALS.name, |kept| kept.refusals),
    (QUESTIONS.name, |kept| kept.questions),
    (CHANGES.name, |kept| kept.changes),
];

/// Why the personal detail of a class could not be erased in time: what is archived is not reached any more.
pub(super) fn unreachable(config: &Config, of: fn(&KeptFor) -> Duration) -> Option<String> {
    let Retention { archive, at_hand, kept, .. } = &config.audit.retention;
    let own = of(kept);
    if archive.is_none() || at_hand.is_zero() || own.is_zero() || own <= *at_hand {
        return None;
    }
    let is_longest = KEPT.iter().all(|(_, of)| !of(kept).is_zero() && of(kept) <= own);
    let at_hand = at_hand.as_secs() / DAY;
    (!is_longest).then(|| {
        format!(
            "expected at most audit.at_hand_days ({at_hand}), or the longest of audit.keep_…_days: what is \
             archived is not erased by class any more"
        )
    })
}

const DAY: u64 = 24 * 3600;

fn days(number: u32) -> Duration {
    Duration::from_secs(u64::from(number) * DAY)
}

/// Why the archive cannot be where it is said to be.
pub(super) fn misplaced(config: &Config) -> Option<String> {
    let Some(ArchiveTarget::Directory(path)) = &config.audit.retention.archive else { return None };
    let state = plain(&config.state.directory);
    plain(path).starts_with(&state).then(|| {
        format!("expected a directory outside of the state directory ({})", state.display())
    })
}

/// A path without `.` and `..`, as far as that can be said without looking at links.
fn plain(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in whole.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}
