//! Bars over time, as SVG that stands in the page.

use std::collections::BTreeMap;

use chrono::DateTime;

use crate::output::grouped;

/// The most bars beside each other.
const MOST_BARS: i64 = 96;
/// How long a bar may be, in hours, with what it is called.
const WIDTHS: [(i64, &str); 6] = [
    (1, "hour"),
    (6, "6 hours"),
    (24, "day"),
    (7 * 24, "7 days"),
    (28 * 24, "28 days"),
    (364 * 24, "364 days"),
];
const HOUR_SECONDS: i64 = 3600;
/// The drawing's own units.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;
const MOST_LABELS: i64 = 8;

/// Bars of equal width.
pub(super) struct Chart {
    /// What a bar stands for: `day`.
    pub(super) each: &'static str,
    hours_each: i64,
    first: i64,
    bars: Vec<(u64, u64)>,
}

impl Chart {
    /// Puts hours together so that the bars fit beside each other; `None` without any.
    pub(super) fn new(hours: &BTreeMap<i64, (u64, u64)>) -> Option<Self> {
        let (first, last) = (*hours.keys().next()?, *hours.keys().next_back()?);
        let fits = |(each, _): &&(i64, &str)| {
            last.div_euclid(*each).saturating_sub(first.div_euclid(*each)) < MOST_BARS
        };
        let &(hours_each, each) = WIDTHS.iter().find(fits).or(WIDTHS.last())?;
        let (from, to) = (first.div_euclid(hours_each), last.div_euclid(hours_each));
        // One of a clock that was wrong for a while may be far away from all others.
        let from = from.max(to.saturating_sub(10 * MOST_BARS));
        let mut bars = vec![(0_u64, 0_u64); usize::try_from(to - from + 1).ok()?];
        for (hour, (read, not)) in hours {
            let at = hour.div_euclid(hours_each).saturating_sub(from);
            let bar = usize::try_from(at).ok().and_then(|at| bars.get_mut(at));
            if let Some(bar) = bar {
                *bar = (bar.0.saturating_add(*read), bar.1.saturating_add(*not));
            }
        }
        Some(Self { each, hours_each, first: from, bars })
    }

    /// The drawing, with a text for those who do not see it.
    pub(super) fn svg(&self) -> String {
        let most = self.bars.iter().map(|(read, not)| read.saturating_add(*not)).max();
        let (step, top) = scale(most.unwrap_or(0));
        let height = |number: u64| number as f64 / top as f64 * (HEIGHT - TOP - BOTTOM);
        let floor = HEIGHT - BOTTOM;
        let mut lines = String::new();
        let mut at = 0;
        while at <= top {
            let y = floor - height(at);
            lines.push_str(&format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                grouped(at)
            ));
            at = at.saturating_add(step);
        }
        let each = (WIDTH - LEFT - RIGHT) / self.bars.len() as f64;
        let wide = (each * 0.72).clamp(1.0, 40.0);
        let mut bars = String::new();
        for (place, (read, not)) in self.bars.iter().enumerate() {
            let x = LEFT + each * (place as f64 + 0.5) - wide / 2.0;
            let (read_height, not_height) = (height(*read), height(*not));
            let mut bar = |class: &str, y: f64, high: f64| {
                if high > 0.0 {
                    bars.push_str(&format!(
                        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" \
                         height=\"{high:.1}\"/>\n"
                    ));
                }
            };
            bar("read", floor - read_height, read_height);
            bar("not", floor - read_height - not_height, not_height);
        }
        format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Fields of decrypts for \
             each {}\">\n{lines}{bars}{}</svg>\n",
            self.each,
            self.labels(each)
        )
    }

    /// When some of the bars begin.
    fn labels(&self, each: f64) -> String {
        let count = self.bars.len() as i64;
        let every = (count + MOST_LABELS - 1) / MOST_LABELS;
        let y = HEIGHT - BOTTOM + 20.0;
        let label = |place: i64| {
            let x = LEFT + each * (place as f64 + 0.5);
            let text = self.label(place);
            format!(
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{text}</text>\n"
            )
        };
        (0..count).filter(|place| place % every == 0).map(label).collect()
    }

    fn label(&self, place: i64) -> String {
        let hours = self.first.saturating_add(place).saturating_mul(self.hours_each);
        let form = if self.hours_each < 24 { "%b %-d, %H:%M" } else { "%Y-%m-%d" };
        let at = DateTime::from_timestamp(hours.saturating_mul(HOUR_SECONDS), 0);
        at.map(|at| at.format(form).to_string()).unwrap_or_default()
    }
}

/// The distance between two lines, 1, 2 or 5 of a power of ten, and the highest of them: not below the
/// largest number.
fn scale(most: u64) -> (u64, u64) {
    let mut power = 1_u64;
    loop {
        for step in [1, 2, 5] {
            let step = power.saturating_mul(step);
            if step.saturating_mul(5) >= most {
                return (step, most.max(1).div_ceil(step).saturating_mul(step));
            }
        }
        power = power.saturating_mul(10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_become_bars_that_fit_and_lose_nothing() {
        assert!(Chart::new(&BTreeMap::new()).is_none());
        for (last, each) in [
            (0, "hour"),
            (95, "hour"),
            (96, "6 hours"),
            (600, "day"),
            (8760, "7 days"),
            (10 * 8760, "364 days"),
            (200 * 8760, "364 days"),
        ] {
            let hours = BTreeMap::from([(0, (3, 1)), (last, (4, 0))]);
            let chart = Chart::new(&hours).unwrap();
            assert_eq!(chart.each, each, "{last}");
            let read: u64 = chart.bars.iter().map(|bar| bar.0).sum();
            assert_eq!(read, if last == 0 { 4 } else { 7 });
            let svg = chart.svg();
            assert!(svg.matches("class=\"read\"").count() >= 1 && !svg.contains("NaN"), "{svg}");
        }
        let before = BTreeMap::from([(-1, (1, 0)), (1, (1, 0))]);
        assert_eq!(Chart::new(&before).unwrap().bars, [(1, 0), (0, 0), (1, 0)]);
        let far = BTreeMap::from([(i64::MIN / 7_200, (1, 0)), (0, (1, 0))]);
        assert!(Chart::new(&far).unwrap().bars.len() < 1000);
    }

    #[test]
    fn lines_stand_at_round_numbers() {
        let expected = [
            (0, (1, 1)),
            (1, (1, 1)),
            (5, (1, 5)),
            (6, (2, 6)),
            (11, (5, 15)),
            (26, (10, 30)),
            (1_234, (500, 1_500)),
        ];
        for (most, lines) in expected {
            assert_eq!(scale(most), lines, "{most}");
        }
        assert!(scale(u64::MAX).0 > 0);
    }
}
