//! Prometheus' text format, as far as the cases compare it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

/// Samples by name and labels.
#[derive(Debug)]
pub struct Metrics(Vec<(String, BTreeMap<String, String>, f64)>);

impl Metrics {
    /// Reads all samples.
    ///
    /// # Errors
    /// A line is no sample.
    pub fn parse(text: &str) -> Result<Self> {
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        samples.map(|line| sample(line).with_context(|| format!("no sample: {line:?}"))).collect::<Result<_>>().map(Self)
    }

    /// The sum over all samples of that name which have these labels.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |found: &BTreeMap<String, String>| labels.iter().all(|(label, value)| found.get(*label).is_some_and(|is| is == value));
        self.0.iter().filter(|(found, with, _)| found == name && has(with)).map(|(_, _, value)| value).sum()
    }

    /// The greatest sample of that name.
    #[must_use]
    pub fn greatest(&self, name: &str) -> Option<f64> {
        self.0.iter().filter(|(found, _, _)| found == name).map(|(_, _, value)| *value).reduce(f64::max)
    }

    /// Whether there is a sample of that name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(found, _, _)| found == name)
    }
}

fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else { return Some((series.to_owned(), BTreeMap::new(), value)) };
    let labels = labels.strip_suffix('}')?;
    // None of the values that are compared holds a comma or an escape.
    let pairs = labels.split("\",").filter_map(|pair| pair.split_once("=\""));
    Some((name.to_owned(), pairs.map(|(label, value)| (label.to_owned(), value.trim_end_matches('"').to_owned())).collect(), value))
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn sums_go_over_the_other_labels() -> anyhow::Result<()> {
        let metrics = Metrics::parse("# TYPE a counter\na{x=\"1\",y=\"p\"} 2\na{x=\"1\",y=\"q\"} 3\na{x=\"2\",y=\"q\"} 4\nb 0.5\n")?;
        assert_eq!(metrics.sum("a", &[("x", "1")]), 5.0);
        assert_eq!(metrics.sum("a", &[]), 9.0);
        assert_eq!(metrics.sum("b", &[]), 0.5);
        assert!(!metrics.has("c"));
        Ok(())
    }
}
