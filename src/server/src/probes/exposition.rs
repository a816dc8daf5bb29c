//! Metrics as text, in the form that the reader asks for.

use std::fmt;

use fieldseal_audit::Distribution;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::names::{Kind, Metric};

/// How the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// OpenMetrics 1.0, for whoever asks for it.
    OpenMetrics,
    /// The older text form of Prometheus, which every reader knows.
    Prometheus,
}

impl Form {
    /// The form that an `Accept` header asks for.
    pub(super) fn accepted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Debug)]
enum Value {
    Count(u64),
    Number(f64),
    Distribution(Distribution),
}

#[derive(Debug)]
struct Sample {
    labels: Vec<(&'static str, String)>,
    value: Value,
}

/// All families of one scrape, in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Families(Vec<(&'static Metric, Vec<Sample>)>);

impl Families {
    /// A counter without labels.
    pub(super) fn count(&mut self, metric: &'static Metric, count: u64) {
        self.add(metric, [], Value::Count(count));
    }

    /// A counter with these labels, in the order of the metric's.
    pub(super) fn count_of<const N: usize>(
        &mut self,
        metric: &'static Metric,
        labels: [&str; N],
        count: u64,
    ) {
        self.add(metric, labels, Value::Count(count));
    }

    /// A number without labels.
    pub(super) fn gauge(&mut self, metric: &'static Metric, number: f64) {
        self.add(metric, [], Value::Number(number));
    }

    /// A number with these labels, in the order of the metric's.
    pub(super) fn gauge_of<const N: usize>(
        &mut self,
        metric: &'static Metric,
        labels: [&str; N],
        number: f64,
    ) {
        self.add(metric, labels, Value::Number(number));
    }

    /// A histogram with these labels, in the order of the metric's.
    pub(super) fn distribution<const N: usize>(
        &mut self,
        metric: &'static Metric,
        labels: [&str; N],
        distribution: Distribution,
    ) {
        self.add(metric, labels, Value::Distribution(distribution));
    }

    /// A family that may have no numbers yet.
    pub(super) fn family(&mut self, metric: &'static Metric) {
        if !self.0.iter().any(|(known, _)| *known == metric) {
            self.0.push((metric, Vec::new()));
        }
    }

    fn add<const N: usize>(&mut self, metric: &'static Metric, labels: [&str; N], value: Value) {
        self.family(metric);
        let names = metric.labels.iter().copied();
        let labels = names.zip(labels.iter().map(|label| (*label).to_owned())).collect();
        let family = self.0.iter_mut().find(|(known, _)| *known == metric);
        if let Some((_, samples)) = family {
            samples.push(Sample { labels, value });
        }
    }

    /// The text.
    ///
    /// # Errors
    /// If a number cannot be written.
    pub(super) fn text(self, form: Form) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        match form {
            Form::OpenMetrics => text::encode(&mut out, &registry)?,
            Form::Prometheus => prometheus_text::encode(&mut out, &registry)?,
        }
        Ok(out)
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (metric, samples) in &self.0 {
            let (name, kind) = match metric.kind {
                // The encoder puts the end of a counter's name back.
                Kind::Counter => (metric.name.trim_end_matches("_total"), MetricType::Counter),
                Kind::Gauge => (metric.name, MetricType::Gauge),
                Kind::Histogram => (metric.name, MetricType::Histogram),
            };
            let mut family = encoder.encode_descriptor(name, metric.help, None, kind)?;
            for sample in samples {
                if sample.labels.is_empty() {
                    sample.value.encode(&mut family)?;
                } else {
                    sample.value.encode(&mut family.encode_family(&sample.labels)?)?;
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match self {
            Self::Count(count) => encoder.encode_counter::<NoLabelSet, _, u64>(count, None),
            Self::Number(number) => encoder.encode_gauge(number),
            Self::Distribution(found) => {
                let buckets = found.buckets();
                encoder.encode_histogram::<NoLabelSet>(found.sum(), found.total(), &buckets, None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;

    #[test]
    fn both_forms_name_every_number_alike() {
        let families = || {
            let mut families = Families::default();
            families.count_of(&names::CALLS, ["a/b", "OK"], 3);
            families.gauge(&names::READY, 1.0);
            let seconds = Distribution::of(&[0.5], vec![2, 1], 4.0);
            families.distribution(&names::CALL_SECONDS, ["a/b", "ok"], seconds);
            families.family(&names::KEYS);
            families
        };
        for form in [Form::OpenMetrics, Form::Prometheus] {
            let text = families().text(form).unwrap();
            for line in [
                "fieldseal_calls_total{method=\"a/b\",code=\"OK\"} 3",
                "fieldseal_ready 1.0",
                "# TYPE fieldseal_keys gauge",
                "fieldseal_call_seconds_count{method=\"a/b\",outcome=\"ok\"} 3",
                "fieldseal_call_seconds_sum{method=\"a/b\",outcome=\"ok\"} 4.0",
            ] {
                assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
            }
            // The order of labels is the form's own affair.
            for (bound, count) in [("le=\"0.5\"", "} 2"), ("le=\"+Inf\"", "} 3")] {
                let bucket = text.lines().find(|line| line.contains(bound)).unwrap();
                assert!(bucket.starts_with("fieldseal_call_seconds_bucket{"), "{bucket}");
                assert!(bucket.contains("method=\"a/b\"") && bucket.ends_with(count), "{bucket}");
            }
            assert_eq!(text.ends_with("# EOF\n"), form == Form::OpenMetrics);
        }
    }

    #[test]
    fn who_asks_for_nothing_gets_the_form_that_everybody_reads() {
        assert_eq!(Form::accepted(None), Form::Prometheus);
        assert_eq!(Form::accepted(Some("*/*")), Form::Prometheus);
        let asked = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        assert_eq!(Form::accepted(Some(asked)), Form::OpenMetrics);
    }
}
