//! Sizes and durations as people write them.

use crate::limits;
use std::fmt;
use std::time::Duration;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// Reads a plain number of bytes, or one with `Ki`, `Mi`, `Gi` or `Ti` (powers of 1024), without space or sign;
    /// else says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let shift = match unit {
            "" => 0,
            "Ki" => 10,
            "Mi" => 20,
            "Gi" => 30,
            "Ti" => 40,
            _ => return Err(no_size(text)),
        };
        let count: u64 = digits.parse().map_err(|_| no_size(text))?;
        match count.checked_mul(1 << shift) {
            Some(bytes) => Ok(Self(bytes)),
            None => Err(format!("the size \"{text}\" is more than 2^64 bytes: write a smaller one")),
        }
    }
}

/// A part of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Of its size, in percent.
    Percent(u64),
    /// Bytes.
    Size(Size),
}

impl Share {
    /// Reads a percentage up to `most`, like `10%`, or a size as [`Size::parse`] does; else says what to write.
    pub fn parse(text: &str, most: u64) -> Result<Self, String> {
        let Some(percent) = text.strip_suffix('%') else {
            let no_share = |why| format!("{why}, or a percentage like \"5%\"");
            return Size::parse(text).map(Self::Size).map_err(no_share);
        };
        match percent.parse::<u64>() {
            Ok(percent) if percent <= most && text.as_bytes()[0].is_ascii_digit() => Ok(Self::Percent(percent)),
            _ => Err(format!("\"{}\" doesn't fit: write a whole number from 0% to {most}%", text.escape_debug())),
        }
    }
}

fn no_size(text: &str) -> String {
    format!(
        "\"{}\" is no size: write a number of bytes, or a whole number with Ki, Mi, Gi or Ti, like \"64Mi\"",
        text.escape_debug()
    )
}

impl fmt::Display for Size {
    /// The shortest form that `parse` reads back to the same number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")] {
            if self.0 >= 1 << shift && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// Reads a whole number with its unit `ms`, `s`, `m` or `h`, up to ten years; else says what to write.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let refuse = || {
        format!(
            "\"{}\" is no duration: write a whole number with ms, s, m or h, like \"50ms\", \"10s\", \"5m\" or \"720h\"",
            text.escape_debug()
        )
    };
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(refuse()),
    };
    let count: u64 = digits.parse().map_err(|_| refuse())?;
    count
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .filter(|duration| *duration <= limits::DURATION)
        .ok_or_else(|| format!("the duration \"{text}\" is more than ten years: write a shorter one"))
}

/// Writes a duration in the largest unit that divides it, as `parse_duration` reads it. Less than a millisecond is cut.
pub fn show_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit_ms, unit) in [(3_600_000, "h"), (60_000, "m"), (1000, "s")] {
        if ms >= unit_ms && ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_take_binary_units_or_plain_numbers() {
        assert_eq!(Size::parse("64Mi"), Ok(Size(64 << 20)));
        assert_eq!(Size::parse("0"), Ok(Size(0)));
        assert_eq!(Size::parse("3Ti"), Ok(Size(3 << 40)));
        for bad in ["", "Mi", "64M", "64 Mi", "-1", "1.5Gi", "64mi", "+1", "99999999999999999999", "17179869184Gi"] {
            assert!(Size::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_are_percentages_or_sizes() {
        assert_eq!(Share::parse("5%", 90), Ok(Share::Percent(5)));
        assert_eq!(Share::parse("0%", 90), Ok(Share::Percent(0)));
        assert_eq!(Share::parse("5Gi", 90), Ok(Share::Size(Size(5 << 30))));
        for bad in ["91%", "%", "-1%", "+1%", "5 %", "1.5%", "5percent", ""] {
            assert!(Share::parse(bad, 90).is_err(), "{bad}");
        }
        assert!(Share::parse("5", 90).is_ok_and(|share| share == Share::Size(Size(5))));
        assert!(Share::parse("x", 90).unwrap_err().contains("like \"5%\""));
    }

    #[test]
    fn durations_take_a_number_and_a_unit() {
        assert_eq!(parse_duration("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(parse_duration("720h"), Ok(Duration::from_secs(720 * 3600)));
        for bad in ["", "50", "ms", "1d", "5 m", "-1s", "1.5s", "1h30m", "100000h", "99999999999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_size_that_is_shown_reads_back_as_itself(bytes: u64, zeros in 0u32..50) {
            let size = Size(bytes << zeros);
            prop_assert_eq!(Size::parse(&size.to_string()), Ok(size));
        }

        #[test]
        fn a_duration_that_is_shown_reads_back_as_itself(ms in 0..3650u64 * 24 * 3_600_000, round in 0u32..4) {
            let unit = [1, 1000, 60_000, 3_600_000][round as usize];
            let duration = Duration::from_millis(ms / unit * unit);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
    }
}
