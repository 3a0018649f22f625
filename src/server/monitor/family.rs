//! Metrics as OpenMetrics writes them: families of samples.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

/// The begin of the names of all metrics but those of the process.
const PREFIX: &str = "cellframe_vpn";
/// The Content-Type of the text.
pub(super) const MIME: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The labels of a sample. They name no client: neither an address nor a key.
pub(super) type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// The samples of a family.
#[derive(Clone, Debug)]
pub(super) enum Samples {
    /// Numbers that only grow.
    Counter(Vec<(Labels, u64)>),
    /// The same with fractions.
    Sum(Vec<(Labels, f64)>),
    Gauge(Vec<(Labels, f64)>),
    /// The upper bounds of the classes, the last one without; the counts of each class, and the sum.
    Histogram(Vec<(Labels, Classes)>),
    /// What the labels say.
    Info(Labels),
}

/// A histogram: upper bound and count of each class, not added up, the last bound infinite.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Classes {
    pub(super) counts: Vec<(f64, u64)>,
    pub(super) sum: f64,
}

impl Classes {
    /// Puts bounds and counts together; there is one count more than bounds.
    pub(super) fn new(bounds: impl IntoIterator<Item = f64>, counts: &[u64], sum: f64) -> Classes {
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        Classes { counts: bounds.zip(counts.iter().copied()).collect(), sum }
    }

    /// Returns the number of all.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Returns the bound of the class in which this part of all lies; `None` without any.
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        let all = self.count();
        let mut left = (all as f64 * part).ceil() as u64;
        let mut classes = self.counts.iter().filter(|_| all > 0);
        classes.find_map(|(bound, count)| {
            let is_here = *count > 0 && *count >= left;
            left = left.saturating_sub(*count);
            is_here.then_some(*bound)
        })
    }
}

/// A family of samples with one meaning.
#[derive(Clone, Debug)]
pub(super) struct Family {
    /// Without prefix, unit, and what the type adds.
    pub(super) name: &'static str,
    /// The base unit.
    pub(super) unit: Option<Unit>,
    pub(super) help: &'static str,
    pub(super) samples: Samples,
}

/// Writes the families, then those of the process under their usual names.
pub(super) fn encode(own: Vec<Family>, of_process: Vec<Family>) -> Result<String, fmt::Error> {
    let mut out = String::with_capacity(16 << 10);
    for (mut registry, families) in [(Registry::with_prefix(PREFIX), own), (Registry::default(), of_process)] {
        registry.register_collector(Box::new(Families(families)));
        text::encode_registry(&mut out, &registry)?;
    }
    text::encode_eof(&mut out)?;
    Ok(out)
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

impl Family {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = match self.samples {
            Samples::Counter(_) | Samples::Sum(_) => MetricType::Counter,
            Samples::Gauge(_) => MetricType::Gauge,
            Samples::Histogram(_) => MetricType::Histogram,
            Samples::Info(_) => MetricType::Info,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), kind)?;
        match &self.samples {
            Samples::Counter(samples) => {
                each(&mut metric, samples, |metric, value| metric.encode_counter::<NoLabelSet, _, f64>(value, None))
            }
            Samples::Sum(samples) => {
                each(&mut metric, samples, |metric, value| metric.encode_counter::<NoLabelSet, _, f64>(value, None))
            }
            Samples::Gauge(samples) => each(&mut metric, samples, |metric, value| metric.encode_gauge(value)),
            Samples::Histogram(samples) => each(&mut metric, samples, |metric, classes| {
                metric.encode_histogram::<NoLabelSet>(classes.sum, classes.count(), &classes.counts, None)
            }),
            Samples::Info(labels) => metric.encode_info(labels),
        }
    }
}

fn each<T>(
    metric: &mut MetricEncoder<'_>,
    samples: &[(Labels, T)],
    mut encode: impl FnMut(&mut MetricEncoder<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    samples.iter().try_for_each(|(labels, value)| encode(&mut with_labels(metric, labels)?, value))
}

fn with_labels<'a>(metric: &'a mut MetricEncoder<'_>, labels: &'a Labels) -> Result<MetricEncoder<'a>, fmt::Error> {
    metric.encode_family::<Labels>(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_as_openmetrics_text() {
        let family = |name, unit, samples| Family { name, unit, help: "Helps", samples };
        let label = || vec![("a", Cow::from("x\"\n\\"))];
        let classes = Classes::new([0.5, 1.0], &[1, 2, 3], 9.5);
        let own = vec![
            family("c", None, Samples::Counter(vec![(Vec::new(), 3)])),
            family("g", Some(Unit::Bytes), Samples::Gauge(vec![(label(), 1.5)])),
            family("h", Some(Unit::Seconds), Samples::Histogram(vec![(Vec::new(), classes)])),
            family("i", None, Samples::Info(vec![("v", "1".into())])),
        ];
        let process = vec![family("process_cpu", Some(Unit::Seconds), Samples::Sum(vec![(Vec::new(), 0.25)]))];
        let text = encode(own, process).unwrap();
        let expected = "# HELP cellframe_vpn_c Helps\n# TYPE cellframe_vpn_c counter\ncellframe_vpn_c_total 3\n\
            # HELP cellframe_vpn_g_bytes Helps\n# TYPE cellframe_vpn_g_bytes gauge\n# UNIT cellframe_vpn_g_bytes bytes\n\
            cellframe_vpn_g_bytes{a=\"x\\\"\\n\\\\\"} 1.5\n\
            # HELP cellframe_vpn_h_seconds Helps\n# TYPE cellframe_vpn_h_seconds histogram\n\
            # UNIT cellframe_vpn_h_seconds seconds\ncellframe_vpn_h_seconds_sum 9.5\ncellframe_vpn_h_seconds_count 6\n\
            cellframe_vpn_h_seconds_bucket{le=\"0.5\"} 1\ncellframe_vpn_h_seconds_bucket{le=\"1.0\"} 3\n\
            cellframe_vpn_h_seconds_bucket{le=\"+Inf\"} 6\n\
            # HELP cellframe_vpn_i Helps\n# TYPE cellframe_vpn_i info\ncellframe_vpn_i_info{v=\"1\"} 1\n\
            # HELP process_cpu_seconds Helps\n# TYPE process_cpu_seconds counter\n\
            # UNIT process_cpu_seconds seconds\nprocess_cpu_seconds_total 0.25\n# EOF\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_quantile_is_the_bound_of_its_class() {
        let classes = Classes::new([1.0, 2.0], &[98, 1, 1], 0.0);
        assert_eq!([0.5, 0.98, 0.99, 1.0].map(|part| classes.quantile(part)), [1.0, 1.0, 2.0, f64::INFINITY].map(Some));
        assert_eq!(Classes::new([1.0], &[0, 0], 0.0).quantile(0.5), None);
    }
}
