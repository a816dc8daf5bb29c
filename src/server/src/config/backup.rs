//! `[backup]`: where backups go, who can open them, when they are made and how long they are kept; and
//! `[store]`: where everything is copied to.

use std::path::PathBuf;
use std::time::Duration;

use fieldseal_engine::CopyTarget;
use fieldseal_engine::backup::{Keep, Recipients};

use super::setting::{Kind, Setting};

/// `[backup]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackupSettings {
    /// The directory of the backups.
    pub directory: Option<PathBuf>,
    /// Age recipients, `age1…`.
    pub recipients: Vec<String>,
    /// How often one is made; zero for never.
    pub every: Duration,
    /// How long they are kept.
    pub keep: Keep,
}

const fn keep(
    name: &'static str,
    meaning: &'static str,
    unit: &'static str,
    default: u32,
    set: fn(&mut super::Config, u32),
) -> Setting {
    Setting { name, meaning, kind: Kind::Number { unit, default, least: 0, most: 1_000, set } }
}

pub(super) const DIRECTORY: Setting = Setting {
    name: "backup.directory",
    meaning: "Where backups are written: on another volume than the state, or collected from there.",
    kind: Kind::OptionalPath { set: |config, path| config.backup.directory = path },
};

pub(super) const RECIPIENTS: Setting = Setting {
    name: "backup.recipients",
    meaning: "Who can open backups: age recipients. Their identities belong on no machine that runs a \
        sidecar.",
    kind: Kind::Texts {
        takes: "an array of age recipients, each beginning with age1, or [] for none",
        is: |text| Recipients::parse([text]).is_ok(),
        set: |config, recipients| config.backup.recipients = recipients,
    },
};

pub(super) const SCHEDULE: Setting = Setting {
    name: "backup.schedule_hours",
    meaning: "How often a backup is made and what is over removed. 0 is never.",
    kind: Kind::Number {
        unit: "hours",
        default: 0,
        least: 0,
        most: 168,
        set: |config, hours| config.backup.every = Duration::from_secs(u64::from(hours) * 3600),
    },
};

pub(super) const DAILY: Setting = keep(
    "backup.keep_daily",
    "How long the first backup of a day is kept, of those made from now on. UTC counts.",
    "days",
    7,
    |config, number| config.backup.keep.daily = number,
);

pub(super) const WEEKLY: Setting = keep(
    "backup.keep_weekly",
    "How long the first backup of a week, from Monday on, is kept.",
    "weeks",
    8,
    |config, number| config.backup.keep.weekly = number,
);

pub(super) const MONTHLY: Setting = keep(
    "backup.keep_monthly",
    "How long the first backup of a month is kept.",
    "months",
    12,
    |config, number| config.backup.keep.monthly = number,
);

pub(super) const COPY: Setting = Setting {
    name: "store.copy",
    meaning: "A directory on another volume. Whatever is written to the store is durable there before it is \
        acknowledged; while it cannot be written, nothing is changed.",
    kind: Kind::OptionalPath {
        set: |config, path| {
            if let Some(path) = path {
                config.copy = Some(CopyTarget::Directory(path));
            }
        },
    },
};

pub(super) const COPY_COMMAND: Setting = Setting {
    name: "store.copy_command",
    meaning: "The same by a program, instead of a directory: it reads frames from its standard input and \
        answers each with the line ok once it is durable.",
    kind: Kind::Command {
        set: |config, words| {
            if !words.is_empty() {
                config.copy = Some(CopyTarget::Command(words));
            }
        },
    },
};
