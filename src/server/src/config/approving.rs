//! `[keys]`: what needs a second principal.

use std::time::Duration;

use super::setting::{Kind, Setting};

pub(super) const REQUIRE: Setting = Setting {
    name: "keys.require_approval",
    meaning: "What a second principal must approve before it happens: the destruction of a key version \
        (destroy), the shredding of a partition (shred). It is set here and not with a key, so that \
        no caller can take it back.",
    kind: Kind::Texts {
        takes: "an array of destroy and shred, or [] for nothing",
        is: |text| matches!(text, "destroy" | "shred"),
        set: |config, words| {
            config.approving.destroy = words.iter().any(|word| word == "destroy");
            config.approving.shred = words.iter().any(|word| word == "shred");
        },
    },
};

pub(super) const LIFETIME: Setting = Setting {
    name: "keys.approval_hours",
    meaning: "How long a request waits for a second principal.",
    kind: Kind::Number {
        unit: "hours",
        default: 24,
        least: 1,
        most: 168,
        set: |config, hours| {
            config.approving.lifetime = Duration::from_secs(u64::from(hours) * 3600);
        },
    },
};
