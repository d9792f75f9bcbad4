//! The middle of repeated measurements: what a busy machine does to some of them does not move it.

/// 0 where there is none.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (Some(upper), 0) => (upper + sorted.get(middle - 1).unwrap_or(upper)) / 2.0,
        (Some(middle), _) => *middle,
        (None, _) => 0.0,
    }
}
