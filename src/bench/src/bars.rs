//! What is wanted, and what a run says about it.

use serde_json::json;

use crate::load::Call;

/// Which yardstick a bar is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Yardstick {
    DurableEcho,
    BareEcho,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Calls (or, for batches, fields) a second: at least `goal` times the yardstick's.
    Rate,
    /// The time that half of the calls take, in microseconds: at most `goal` times the yardstick's.
    P50,
}

/// One load with its goal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) bar: &'static str,
    pub(crate) call: Call,
    pub(crate) callers: usize,
    pub(crate) connections: usize,
    pub(crate) measure: Measure,
    pub(crate) against: Yardstick,
    pub(crate) goal: f64,
}

const fn rate(
    bar: &'static str,
    call: Call,
    (callers, connections): (usize, usize),
    against: Yardstick,
    goal: f64,
) -> Load {
    Load { bar, call, callers, connections, measure: Measure::Rate, against, goal }
}

/// Connections that the widest load needs.
pub(crate) const MOST_CONNECTIONS: usize = 8;
/// Callers of a batch at the same time, on as many connections as the unary bars use.
const BATCH_CALLERS: (usize, usize) = (8, 4);
/// With fewer rounds a median is chance.
pub(crate) const FEWEST_ROUNDS: u32 = 5;
/// The most memory that the sidecar may hold after the run, in MB.
const RESIDENT_GOAL_MB: f64 = 60.0;

/// Every load, in the order in which a round runs them.
pub(crate) const LOADS: [Load; 6] = [
    rate("Decrypt calls/s, 64 callers", Call::Decrypt, (64, 4), Yardstick::DurableEcho, 0.80),
    rate("Decrypt calls/s, 256 callers", Call::Decrypt, (256, 8), Yardstick::DurableEcho, 0.80),
    rate("Encrypt calls/s, 64 callers", Call::Encrypt, (64, 4), Yardstick::BareEcho, 0.80),
    rate(
        "BatchDecrypt fields/s, 1000 x 64 B",
        Call::BatchDecrypt,
        BATCH_CALLERS,
        Yardstick::BareEcho,
        0.40,
    ),
    rate(
        "BatchEncrypt fields/s, 1000 x 64 B",
        Call::BatchEncrypt,
        BATCH_CALLERS,
        Yardstick::BareEcho,
        0.40,
    ),
    Load {
        bar: "Decrypt p50 us, 1 caller",
        call: Call::Decrypt,
        callers: 1,
        connections: 1,
        measure: Measure::P50,
        against: Yardstick::DurableEcho,
        goal: 1.20,
    },
];

/// One line of the report.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: &'static str,
    ours: f64,
    durable_echo: Option<f64>,
    bare_echo: Option<f64>,
    ratio: Option<f64>,
    goal: f64,
    met: bool,
}

impl Bar {
    /// The medians of a load, compared.
    pub(crate) fn compared(load: &Load, ours: f64, durable_echo: f64, bare_echo: f64) -> Self {
        let yardstick = match load.against {
            Yardstick::DurableEcho => durable_echo,
            Yardstick::BareEcho => bare_echo,
        };
        let ratio = ours / yardstick;
        // A yardstick of nothing gives no number, and meets nothing.
        let met = match load.measure {
            Measure::Rate => ratio.is_finite() && ratio >= load.goal,
            Measure::P50 => ratio.is_finite() && ratio <= load.goal,
        };
        Self {
            bar: load.bar,
            ours,
            durable_echo: Some(durable_echo),
            bare_echo: Some(bare_echo),
            ratio: Some(ratio),
            goal: load.goal,
            met,
        }
    }

    /// The memory that the sidecar holds after the run.
    pub(crate) fn resident(mb: f64) -> Self {
        Self {
            bar: "RSS after the run, MB",
            ours: mb,
            durable_echo: None,
            bare_echo: None,
            ratio: None,
            goal: RESIDENT_GOAL_MB,
            met: mb <= RESIDENT_GOAL_MB,
        }
    }
}

/// What stands beside the bars.
#[derive(Debug)]
pub(crate) struct Statistics {
    /// How often each server was measured.
    pub(crate) rounds: u32,
    /// Of the sidecar's syncs with 64 callers, in microseconds: the median of the rounds.
    pub(crate) sync_p50_us: f64,
    pub(crate) sync_p99_us: f64,
    /// Records a sync with 64 callers.
    pub(crate) group_size: f64,
    /// CPU time of the server a Decrypt, all loads of Decrypt together.
    pub(crate) cpu_us_per_call: f64,
    pub(crate) durable_echo_cpu_us_per_call: f64,
    pub(crate) bare_echo_cpu_us_per_call: f64,
}

/// All that a run says.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) bars: Vec<Bar>,
    pub(crate) statistics: Statistics,
}

impl Report {
    /// One JSON line a bar, and one with the statistics.
    pub(crate) fn json(&self) -> String {
        let bars = self.bars.iter().map(|bar| {
            json!({
                "bar": bar.bar,
                "ours": rounded(bar.ours, 1),
                "durable_echo": bar.durable_echo.map(|n| rounded(n, 1)),
                "bare_echo": bar.bare_echo.map(|n| rounded(n, 1)),
                "ratio": bar.ratio.map(|n| rounded(n, 3)),
                "goal": bar.goal,
                "met": bar.met,
            })
        });
        let s = &self.statistics;
        let statistics = json!({
            "rounds": s.rounds,
            "sync_p50_us": rounded(s.sync_p50_us, 1),
            "sync_p99_us": rounded(s.sync_p99_us, 1),
            "group_size": rounded(s.group_size, 1),
            "cpu_us_per_call": rounded(s.cpu_us_per_call, 1),
            "durable_echo_cpu_us_per_call": rounded(s.durable_echo_cpu_us_per_call, 1),
            "bare_echo_cpu_us_per_call": rounded(s.bare_echo_cpu_us_per_call, 1),
        });
        bars.chain([statistics]).map(|line| format!("{line}\n")).collect()
    }

    /// The same for people.
    pub(crate) fn table(&self) -> String {
        let number = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), |n| format!("{n:.0}"));
        let mut text = format!(
            "{:<36} {:>10} {:>12} {:>10} {:>6} {:>6}  {}\n",
            "bar", "ours", "durable echo", "bare echo", "ratio", "goal", "met"
        );
        for bar in &self.bars {
            text.push_str(&format!(
                "{:<36} {:>10} {:>12} {:>10} {:>6} {:>6}  {}\n",
                bar.bar,
                number(Some(bar.ours)),
                number(bar.durable_echo),
                number(bar.bare_echo),
                bar.ratio.map_or_else(|| "-".to_owned(), |n| format!("{n:.2}")),
                bar.goal,
                if bar.met { "yes" } else { "NO" },
            ));
        }
        let s = &self.statistics;
        text.push_str(&format!(
            "\nsync p50 {:.0} us, p99 {:.0} us, {:.1} records a sync (64 callers)\n\
             server CPU a Decrypt: {:.1} us (durable echo {:.1}, bare echo {:.1})\n\
             rounds: {}\n",
            s.sync_p50_us,
            s.sync_p99_us,
            s.group_size,
            s.cpu_us_per_call,
            s.durable_echo_cpu_us_per_call,
            s.bare_echo_cpu_us_per_call,
            s.rounds,
        ));
        text
    }

    /// What whoever reads the numbers must know, one sentence a line; for standard error.
    pub(crate) fn notes(&self) -> String {
        let mut notes = String::new();
        let rounds = self.statistics.rounds;
        if rounds < FEWEST_ROUNDS {
            notes.push_str(&format!(
                "this run is no result: it has --rounds {rounds}, and {FEWEST_ROUNDS} are the fewest\n"
            ));
        }
        for bar in self.bars.iter().filter(|bar| !bar.met) {
            notes.push_str(&format!("missed: {}\n", bar.bar));
        }
        if self.bars.iter().any(|bar| !bar.met) {
            notes.push_str("docs/performance.md says how to find out where the time goes\n");
        }
        notes
    }
}

/// So many places after the point.
fn rounded(number: f64, places: i32) -> f64 {
    let scale = 10f64.powi(places);
    (number * scale).round() / scale
}

/// The middle of some numbers, or the mean of the middle two.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let half = numbers.len() / 2;
    let at = |place: usize| numbers.get(place).copied().unwrap_or(f64::NAN);
    if numbers.len() % 2 == 1 { at(half) } else { (at(half.wrapping_sub(1)) + at(half)) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics() -> Statistics {
        Statistics {
            rounds: FEWEST_ROUNDS,
            sync_p50_us: 100.0,
            sync_p99_us: 900.0,
            group_size: 31.27,
            cpu_us_per_call: 20.0,
            durable_echo_cpu_us_per_call: 15.0,
            bare_echo_cpu_us_per_call: 12.0,
        }
    }

    #[test]
    fn what_was_not_measured_meets_nothing() {
        assert!(median(Vec::new()).is_nan());
        for load in &LOADS {
            assert!(!Bar::compared(load, f64::NAN, 1.0, 1.0).met, "{}", load.bar);
            assert!(!Bar::compared(load, 1.0, 0.0, 0.0).met, "{}", load.bar);
        }
        assert!(!Bar::resident(f64::NAN).met && !Bar::resident(60.1).met);
    }

    #[test]
    fn a_short_run_is_no_result_and_a_missed_bar_is_named() {
        let with = |rounds, resident| {
            let statistics = Statistics { rounds, ..statistics() };
            Report { bars: vec![Bar::resident(resident)], statistics }.notes()
        };
        assert!(with(FEWEST_ROUNDS - 1, 1.0).starts_with("this run is no result"));
        let missed = with(FEWEST_ROUNDS, 61.0);
        assert!(missed.starts_with("missed: RSS") && missed.contains("docs/performance.md"));
        assert_eq!(with(FEWEST_ROUNDS, 1.0), "");
    }

    #[test]
    fn each_bar_is_held_against_its_own_yardstick() {
        for load in &LOADS {
            let (durable, bare) = match load.against {
                Yardstick::DurableEcho => (100.0, 1e9),
                Yardstick::BareEcho => (1e9, 100.0),
            };
            let (good, bad) = match load.measure {
                Measure::Rate => (load.goal * 100.0 + 0.1, load.goal * 100.0 - 0.1),
                Measure::P50 => (load.goal * 100.0 - 0.1, load.goal * 100.0 + 0.1),
            };
            assert!(Bar::compared(load, good, durable, bare).met, "{}", load.bar);
            assert!(!Bar::compared(load, bad, durable, bare).met, "{}", load.bar);
        }
    }

    #[test]
    fn every_line_of_json_has_every_field() {
        let mut bars: Vec<_> =
            LOADS.iter().map(|load| Bar::compared(load, 1.0, 2.0, 3.0)).collect();
        bars.push(Bar::resident(41.5));
        let report = Report { bars, statistics: statistics() };
        let text = report.json();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
        assert_eq!(lines.len(), LOADS.len() + 2);
        for line in &lines[..LOADS.len() + 1] {
            let object = line.as_object().expect("object");
            for name in ["bar", "ours", "durable_echo", "bare_echo", "ratio", "goal", "met"] {
                assert!(object.contains_key(name), "{line}");
            }
        }
        assert!(lines[LOADS.len()]["ratio"].is_null());
        assert_eq!(lines[LOADS.len() + 1]["group_size"], 31.3);
        assert_eq!(lines[LOADS.len() + 1]["rounds"], FEWEST_ROUNDS);
        let table = report.table();
        assert!(table.lines().all(|line| line.len() < 100), "{table}");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![5.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
    }
}
