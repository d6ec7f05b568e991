//! Medians with their spread.

/// The median, the smallest and the largest.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        Self {
            median: values[values.len() / 2],
            min: values[0],
            max: values[values.len() - 1],
        }
    }

    /// As `median (min–max)`.
    pub(crate) fn show(self, digits: usize) -> String {
        let show = |n: f64| {
            if digits == 0 {
                grouped(n)
            } else {
                format!("{n:.digits$}")
            }
        };
        format!("{} ({}–{})", show(self.median), show(self.min), show(self.max))
    }
}

/// A whole number with its thousands apart.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The value that so large a share (0 to 1) of sorted ones does not exceed.
pub(crate) fn percentile<T: Copy>(sorted: &[T], share: f64) -> T {
    let last = sorted.len() - 1;
    sorted[((sorted.len() as f64 * share).ceil() as usize)
        .saturating_sub(1)
        .min(last)]
}
