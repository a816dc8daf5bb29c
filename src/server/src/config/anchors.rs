//! `[audit]`: where checkpoints of the log are posted to.

use fieldseal_engine::AnchorTarget;

use super::setting::{Kind, Setting};

pub(super) const FILE: Setting = Setting {
    name: "audit.anchor_file",
    meaning: "A file on another machine's volume, where the newest checkpoint is written every \
        audit.checkpoint_seconds and at the stop. A log that does not go on from it is not started.",
    kind: Kind::OptionalPath {
        set: |config, path| config.audit.anchors.extend(path.map(AnchorTarget::File)),
    },
};

pub(super) const COMMAND: Setting = Setting {
    name: "audit.anchor_command",
    meaning: "The same by a program with its first arguments: with put behind them it keeps the line on its \
        standard input, with get it writes the newest one, or nothing. It has 10 seconds.",
    kind: Kind::Command {
        set: |config, words| {
            let command = Some(words).filter(|words| !words.is_empty());
            config.audit.anchors.extend(command.map(AnchorTarget::Command));
        },
    },
};
