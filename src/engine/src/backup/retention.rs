//! How long backups are kept: the first one of a day, a week and a month longer than the others.

use std::time::Duration;

use fieldseal_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::manifest::Manifest;

const DAY: u64 = 24 * 3600;

/// How long backups made from now on are kept. 0 keeps none of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The first of each day: so many days.
    pub daily: u32,
    /// The first of each week, from Monday on: so many weeks.
    pub weekly: u32,
    /// The first of each month: so many months of 31 days.
    pub monthly: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { daily: 7, weekly: 8, monthly: 12 }
    }
}

/// What a backup is kept as. UTC counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The first of its month.
    Monthly,
    /// The first of its week.
    Weekly,
    /// The first of its day.
    Daily,
    /// A further one of a day: kept for two days.
    Recent,
}

impl Class {
    /// As it stands in the manifest.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Monthly => "monthly",
            Self::Weekly => "weekly",
            Self::Daily => "daily",
            Self::Recent => "recent",
        }
    }
}

/// The day, the week and the month of a moment, each counted from an origin of its own.
fn periods(at: Timestamp) -> [i64; 3] {
    let days = at.unix_nanos().div_euclid(1_000_000_000).div_euclid(DAY as i64);
    // 1970-01-01 was a Thursday.
    let week = (days + 3).div_euclid(7);
    let text = at.to_string();
    let mut parts = text.split('-').map(|part| part.parse::<i64>().unwrap_or(0));
    let month = parts.next().unwrap_or(0) * 12 + parts.next().unwrap_or(0);
    [days, week, month]
}

/// What a backup made now is kept as, and until when: the longest of what it is the first of.
pub(super) fn class(now: Timestamp, earlier: &[Manifest], keep: Keep) -> (Class, Timestamp) {
    let of_now = periods(now);
    let taken: Vec<[i64; 3]> = earlier.iter().map(|one| periods(one.created_at())).collect();
    let lifetimes = [
        (Class::Daily, u64::from(keep.daily) * DAY),
        (Class::Weekly, u64::from(keep.weekly) * 7 * DAY),
        (Class::Monthly, u64::from(keep.monthly) * 31 * DAY),
    ];
    let mut best = (Class::Recent, 2 * DAY);
    for (kind, ((class, lifetime), now)) in lifetimes.into_iter().zip(of_now).enumerate() {
        let is_first = taken.iter().all(|one| one.get(kind) != Some(&now));
        if is_first && lifetime > best.1 {
            best = (class, lifetime);
        }
    }
    (best.0, now.plus(Duration::from_secs(best.1)))
}

/// Which of these are over. The newest is kept whatever happens: it may be the only one.
pub(super) fn expired(all: &[Manifest], now: Timestamp) -> Vec<&Manifest> {
    let newest = all.iter().map(Manifest::created_at).max();
    let is_over = |one: &&Manifest| one.expires_at() <= now && Some(one.created_at()) != newest;
    all.iter().filter(is_over).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: i64) -> Timestamp {
        Timestamp::from_unix_nanos(number * DAY as i64 * 1_000_000_000)
    }

    /// Backs up `per_day` times a day, prunes after each, and returns what is left.
    fn after(days: i64, per_day: i64, keep: Keep) -> Vec<Manifest> {
        let mut kept = Vec::new();
        // 2026-01-01.
        for number in 0..days * per_day {
            let now = day(20_454).plus(Duration::from_secs(number as u64 * DAY / per_day as u64));
            let (class, until) = class(now, &kept, keep);
            kept.push(Manifest::example(now, class, until));
            let over: Vec<_> = expired(&kept, now).into_iter().cloned().collect();
            kept.retain(|one| !over.contains(one));
        }
        kept
    }

    fn count(kept: &[Manifest], class: Class) -> usize {
        kept.iter().filter(|one| one.class == class).count()
    }

    #[test]
    fn two_years_of_backups_leave_days_weeks_and_months() {
        for per_day in [1, 4] {
            let kept = after(730, per_day, Keep::default());
            let months = count(&kept, Class::Monthly);
            assert!((12..=13).contains(&months), "{months} months");
            // Some weeks and days begin with a monthly or a weekly one.
            let weeks = count(&kept, Class::Weekly);
            assert!((5..=8).contains(&weeks), "{weeks} weeks");
            let days = count(&kept, Class::Daily);
            assert!((5..=7).contains(&days), "{days} days");
            // Every one of the last 7 days has one, of the last 8 weeks, and of the last 12 months.
            let has = |kind: usize, back: i64| {
                let newest = kept.iter().map(|one| periods(one.created_at())[kind]).max().unwrap();
                (0..back).all(|ago| {
                    kept.iter().any(|one| periods(one.created_at())[kind] == newest - ago)
                })
            };
            assert!(has(0, 7) && has(1, 8) && has(2, 12), "{per_day} a day");
            assert!(kept.len() <= 13 + 8 + 7 + 2 * per_day as usize);
        }
    }

    #[test]
    fn the_newest_backup_is_never_over() {
        let kept = after(1, 1, Keep { daily: 1, weekly: 0, monthly: 0 });
        assert!(expired(&kept, day(30_000)).is_empty());
        let two = after(3, 1, Keep { daily: 9, weekly: 0, monthly: 0 });
        assert_eq!(expired(&two, day(30_000)).len(), two.len() - 1);
    }

    #[test]
    fn a_kind_of_which_none_is_kept_is_none() {
        let kept = after(100, 1, Keep { daily: 5, weekly: 0, monthly: 0 });
        assert_eq!(kept.len(), count(&kept, Class::Daily));
        assert_eq!(kept.len(), 5);
    }
}
