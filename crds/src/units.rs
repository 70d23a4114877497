//! Sizes, shares, durations and modes as people write them, with the meaning that they have in the agent's configuration.
//! What a schema's pattern lets pass can always be read.

use crate::{limits, schema};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration as Time;

/// So many digits and a unit that 2^64 can't be passed.
const SIZE: &str = "0|[1-9][0-9]{0,18}|[1-9][0-9]{0,15}Ki|[1-9][0-9]{0,12}Mi|[1-9][0-9]{0,9}Gi|[1-9][0-9]{0,6}Ti";
/// So many digits and a unit that a century isn't passed.
pub(crate) const DURATION: &str = "[0-9]{1,12}ms|[0-9]{1,9}s|[0-9]{1,7}m|[0-9]{1,5}h";
/// Permissions, with sticky and set-group-id, which mean something for directories.
const MODE: &str = "[0-3][0-7]{3}";

/// Why a text isn't what it should be: the text, and what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

/// A number of bytes: `1048576`, or with `Ki`, `Mi`, `Gi` or `Ti` (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

/// A part of a file system: a percentage of its size, or a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Share {
    /// Of its size, in percent, 0 to 100.
    Percent(u64),
    /// Bytes.
    Size(Size),
}

/// A share of which at least a tenth of the file system is left to the volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reserve(pub Share);

/// A whole number of milliseconds, written with `ms`, `s`, `m` or `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration(pub Time);

/// A whole number of hundredths, 0 to 100, rounded down: 100 means all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Percent(u8);

/// The permissions of a directory in octal, `0000` to `3777`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(u32);

/// What to write, for those who wrote something else.
const NO_SIZE: &str = "write a whole number of bytes, or one with Ki, Mi, Gi or Ti, like 20Gi";
const NO_SHARE: &str = "write a percentage from 0% to 100%, or a size like 5Gi";
const NO_PERCENT: &str = "write a percentage from 0% to 100%";
const NO_RESERVE: &str = "write a percentage from 0% to 90%, or a size like 5Gi";
const NO_DURATION: &str = "write a whole number with ms, s, m or h, like 720h";
const NO_MODE: &str = "write four octal digits in quotes, from \"0000\" to \"3777\"";

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let shift = match unit {
            "" => 0,
            "Ki" => 10,
            "Mi" => 20,
            "Gi" => 30,
            "Ti" => 40,
            _ => return None,
        };
        digits.parse::<u64>().ok()?.checked_mul(1 << shift).map(Self)
    }
}

impl Share {
    fn parse(text: &str, most: u64) -> Option<Self> {
        let Some(percent) = text.strip_suffix('%') else {
            return Size::parse(text).map(Self::Size);
        };
        let is_digits = percent.bytes().all(|byte| byte.is_ascii_digit());
        percent.parse().ok().filter(|percent| is_digits && *percent <= most).map(Self::Percent)
    }
}

impl Duration {
    /// The same, without what nobody reads in a column: three digits of milliseconds at most, then seconds, minutes and hours.
    pub fn coarse(self) -> Self {
        let ms = self.0.as_millis() as u64;
        let unit_ms = match ms {
            0..1000 => 1,
            1000..120_000 => 1000,
            120_000..7_200_000 => 60_000,
            _ => 3_600_000,
        };
        Self(Time::from_millis(ms / unit_ms * unit_ms))
    }
}

impl Percent {
    /// All of it.
    pub const ALL: Self = Self(100);

    /// The part that `some` is of `all`. It is 100 only if nothing is missing, and nothing of nothing is all.
    pub fn of(some: u64, all: u64) -> Self {
        match all {
            0 => Self::ALL,
            _ if some >= all => Self::ALL,
            _ => Self((u128::from(some) * 100 / u128::from(all)) as u8),
        }
    }
}

impl Mode {
    /// The number for `chmod`.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Default for Mode {
    /// Everybody may write, as pods of any user and a directory of root's have to meet.
    fn default() -> Self {
        Self(0o777)
    }
}

impl TryFrom<String> for Size {
    type Error = Unreadable;
    fn try_from(text: String) -> Result<Self, Unreadable> {
        Self::parse(&text).ok_or_else(|| unreadable(&text, "size", NO_SIZE))
    }
}

impl TryFrom<String> for Share {
    type Error = Unreadable;
    fn try_from(text: String) -> Result<Self, Unreadable> {
        Self::parse(&text, 100).ok_or_else(|| unreadable(&text, "share", NO_SHARE))
    }
}

impl TryFrom<String> for Reserve {
    type Error = Unreadable;
    fn try_from(text: String) -> Result<Self, Unreadable> {
        Share::parse(&text, limits::RESERVE_PERCENT).map(Self).ok_or_else(|| unreadable(&text, "reserve", NO_RESERVE))
    }
}

impl TryFrom<String> for Duration {
    type Error = Unreadable;
    fn try_from(text: String) -> Result<Self, Unreadable> {
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let unit_ms = match unit {
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            _ => None,
        };
        unit_ms
            .and_then(|unit_ms: u64| digits.parse::<u64>().ok()?.checked_mul(unit_ms))
            .map(|ms| Self(Time::from_millis(ms)))
            .ok_or_else(|| unreadable(&text, "duration", NO_DURATION))
    }
}

impl TryFrom<String> for Percent {
    type Error = Unreadable;
    fn try_from(text: String) -> Result<Self, Unreadable> {
        match Share::parse(&text, 100) {
            Some(Share::Percent(percent)) => Ok(Self(percent as u8)),
            _ => Err(unreadable(&text, "percentage", NO_PERCENT)),
        }
    }
}

impl TryFrom<String> for Mode {
    type Error = Unreadable;
    fn try_from(text: String) -> Result<Self, Unreadable> {
        let is_octal = text.len() == 4 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        u32::from_str_radix(&text, 8)
            .ok()
            .filter(|bits| is_octal && *bits <= 0o3777)
            .map(Self)
            .ok_or_else(|| unreadable(&text, "mode", NO_MODE))
    }
}

fn unreadable(text: &str, what: &str, instead: &str) -> Unreadable {
    Unreadable(format!("\"{}\" is no {what}: {instead}", text.escape_debug()))
}

impl fmt::Display for Size {
    /// In the largest unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")] {
            if self.0 >= 1 << shift && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Size(size) => size.fmt(f),
        }
    }
}

impl fmt::Display for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Duration {
    /// In the largest unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        for (unit_ms, unit) in [(3_600_000, "h"), (60_000, "m"), (1000, "s")] {
            if ms >= unit_ms && ms.is_multiple_of(unit_ms) {
                return write!(f, "{}{unit}", ms / unit_ms);
            }
        }
        write!(f, "{ms}ms")
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

impl From<Reserve> for String {
    fn from(reserve: Reserve) -> Self {
        reserve.to_string()
    }
}

impl From<Duration> for String {
    fn from(duration: Duration) -> Self {
        duration.to_string()
    }
}

impl From<Percent> for String {
    fn from(percent: Percent) -> Self {
        percent.to_string()
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        mode.to_string()
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema::advised(&format!("^({SIZE})$"), 19, NO_SIZE)
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema::advised(&format!("^(([0-9]|[1-9][0-9]|100)%|{SIZE})$"), 19, NO_SHARE)
    }
}

impl JsonSchema for Reserve {
    fn schema_name() -> Cow<'static, str> {
        "Reserve".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema::advised(&format!("^(([0-9]|[1-8][0-9]|90)%|{SIZE})$"), 19, NO_RESERVE)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema::advised(&format!("^({DURATION})$"), 14, NO_DURATION)
    }
}

impl JsonSchema for Percent {
    fn schema_name() -> Cow<'static, str> {
        "Percent".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema::advised("^([0-9]|[1-9][0-9]|100)%$", 4, NO_PERCENT)
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> Cow<'static, str> {
        "Mode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema::advised(&format!("^{MODE}$"), 4, NO_MODE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::string::string_regex;

    proptest! {
        #[test]
        fn what_the_schema_lets_pass_is_read_and_written_with_the_same_meaning(
            size in string_regex(SIZE).unwrap(),
            duration in string_regex(DURATION).unwrap(),
            mode in string_regex(MODE).unwrap(),
            percent in 0..=100u64,
        ) {
            let size = Size::try_from(size).unwrap();
            prop_assert_eq!(Size::try_from(size.to_string()), Ok(size));
            let duration = Duration::try_from(duration).unwrap();
            prop_assert_eq!(Duration::try_from(duration.to_string()), Ok(duration));
            prop_assert_eq!(Mode::try_from(mode.clone()).unwrap().to_string(), mode);
            let share = Share::try_from(format!("{percent}%")).unwrap();
            prop_assert_eq!(share, Share::Percent(percent));
            prop_assert_eq!(Reserve::try_from(share.to_string()).is_ok(), percent <= 90);
        }
    }

    #[test]
    fn a_part_is_all_only_if_nothing_is_missing() {
        assert_eq!(Percent::of(u64::MAX - 1, u64::MAX).to_string(), "99%");
        assert_eq!(Percent::of(0, 0), Percent::ALL);
        assert_eq!(Percent::of(3, 2), Percent::ALL);
    }

    #[test]
    fn a_lag_is_shown_in_a_unit_that_people_read() {
        let shown = |ms| Duration(Time::from_millis(ms)).coarse().to_string();
        assert_eq!(
            [3, 999, 1999, 119_999, 150_000, 7_199_999, 86_400_000].map(shown),
            ["3ms", "999ms", "1s", "119s", "2m", "119m", "24h"]
        );
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_an_example() {
        for bad in ["", "Mi", "64M", "-1", "1.5Gi", "+1", "17179869184Gi"] {
            assert!(Size::try_from(bad.to_owned()).unwrap_err().to_string().contains("like 20Gi"), "{bad}");
            assert!(Share::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        for bad in ["101%", "%", "+1%", "1.5%", " 5%"] {
            assert!(Share::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        for bad in ["", "50", "ms", "1d", "-1s", "1h30m", "99999999999999999h"] {
            assert!(Duration::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        for bad in ["", "777", "0778", "4777", "00777", "+777"] {
            assert!(Mode::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
