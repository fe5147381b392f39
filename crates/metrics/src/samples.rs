//! Samples of facts as they are at one moment.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::labels::value;
use crate::{Definition, Kind};

/// Samples of counters and gauges, by metric. A series that is pushed twice counts once: the first.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    families: BTreeMap<&'static str, (Definition, BTreeMap<Vec<(String, String)>, f64>)>,
}

impl Samples {
    /// Adds a sample; `values` are those of the definition's labels.
    pub fn push(&mut self, of: &Definition, values: &[&str], amount: f64) {
        self.push_with(of, values, &[], amount);
    }

    /// Adds a sample with more labels than the definition has.
    pub fn push_with(&mut self, of: &Definition, values: &[&str], more: &[(String, String)], amount: f64) {
        self.series(of, values, more).or_insert(amount);
    }

    /// Adds to what the series has so far.
    pub fn add(&mut self, of: &Definition, values: &[&str], amount: f64) {
        *self.series(of, values, &[]).or_default() += amount;
    }

    /// The place of a series. Labels without a value are left out, which means the same.
    fn series(
        &mut self,
        of: &Definition,
        values: &[&str],
        more: &[(String, String)],
    ) -> Entry<'_, Vec<(String, String)>, f64> {
        debug_assert_eq!(of.labels.len(), values.len(), "{}", of.name);
        let named = of.labels.iter().zip(values).map(|(name, text)| ((*name).to_owned(), value(text)));
        let labels = named.chain(more.iter().cloned()).filter(|(_, text)| !text.is_empty()).collect();
        let (_, series) = self.families.entry(of.name).or_insert_with(|| (*of, BTreeMap::new()));
        series.entry(labels)
    }

    /// Takes over everything of another.
    pub fn extend(&mut self, other: Samples) {
        for (name, (definition, series)) in other.families {
            let (_, all) = self.families.entry(name).or_insert_with(|| (definition, BTreeMap::new()));
            for (labels, amount) in series {
                all.entry(labels).or_insert(amount);
            }
        }
    }

    /// One line a sample, without help and types: for tests.
    pub fn lines(&self) -> Vec<String> {
        let text = crate::text::encode(&self.families());
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    pub(crate) fn families(&self) -> Vec<MetricFamily> {
        self.families.values().map(|(definition, series)| family(definition, series)).collect()
    }
}

fn family(definition: &Definition, series: &BTreeMap<Vec<(String, String)>, f64>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(definition.name.to_owned());
    family.set_help(definition.help.to_owned());
    family.set_field_type(match definition.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge | Kind::Histogram => MetricType::GAUGE,
    });
    let metrics = series.iter().map(|(labels, amount)| metric(definition.kind, labels, *amount));
    family.set_metric(metrics.collect());
    family
}

fn metric(kind: Kind, labels: &[(String, String)], amount: f64) -> Metric {
    let pairs = labels.iter().map(|(name, text)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.clone());
        pair.set_value(text.clone());
        pair
    });
    let mut metric = Metric::from_label(pairs.collect());
    if kind == Kind::Counter {
        let mut counter = Counter::default();
        counter.set_value(amount);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(amount);
        metric.set_gauge(gauge);
    }
    metric
}
