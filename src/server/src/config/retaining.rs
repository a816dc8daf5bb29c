//! `[audit]`: what becomes of the log as it grows old.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use fieldseal_engine::ArchiveTarget;

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

fn days(number: u32) -> Duration {
    Duration::from_secs(u64::from(number) * 24 * 3600)
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
