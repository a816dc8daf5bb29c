//! `[keys]`: what needs a second principal.

use std::time::Duration;

use super::setting::{Kind, Setting};

pub(super) const REQUIRE: Setting = Setting {
    name: "keys.require_approval",
    meaning: "What a second principal must approve before it happens: the destruction of a key version \
        (destroy), the shredding of a partition (shred), and of the audit log that detail is erased (redact) \
        or segments are archived (archive). It is set here and not with a key, so that no caller can take \
        it back.",
    kind: Kind::Texts {
        takes: "an array of destroy, shred, redact and archive, or [] for nothing",
        is: |text| matches!(text, "destroy" | "shred" | "redact" | "archive"),
        set: |config, words| {
            let has = |what: &str| words.iter().any(|word| word == what);
            let approving = &mut config.approving;
            (approving.destroy, approving.shred) = (has("destroy"), has("shred"));
            (approving.redact, approving.archive) = (has("redact"), has("archive"));
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
