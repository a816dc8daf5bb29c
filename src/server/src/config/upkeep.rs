//! `[store]`: what goes on beside the calls.

use std::time::Duration;

use super::setting::{Kind, Setting};

pub(super) const SCRUB: Setting = Setting {
    name: "store.scrub_minutes",
    meaning: "How often every record of the store is opened and checked, beside the calls; the first \
        time is right after the start. 0 is never: then a damaged record shows when it is used.",
    kind: Kind::Number {
        unit: "minutes",
        default: 60,
        least: 0,
        most: 10_080,
        set: |config, number| config.upkeep.scrub_every = every(number, 60),
    },
};

pub(super) const GENERATIONS: Setting = Setting {
    name: "store.generation_hours",
    meaning: "How often a sealed copy of the whole store is written into state/generations; three are \
        kept. It is no backup: it lies on the same disk. 0 is never.",
    kind: Kind::Number {
        unit: "hours",
        default: 24,
        least: 0,
        most: 720,
        set: |config, number| config.upkeep.generation_every = every(number, 3600),
    },
};

fn every(number: u32, seconds: u64) -> Option<Duration> {
    (number > 0).then(|| Duration::from_secs(u64::from(number).saturating_mul(seconds)))
}
