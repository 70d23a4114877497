//! Quantities, as claims have them, in bytes. Kubernetes' own library for them is in Go.

/// The bytes of a quantity, rounded up; none if it is no quantity, or more than 2^64 bytes. See "Quantity" in Kubernetes' API reference.
pub fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    // One number without its point, over a power of ten.
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (factor, power) = factor(suffix)?;
    let power = power.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let scaled = digits.checked_mul(factor)?;
    let ten = |power: i32| 10_u128.checked_pow(power.unsigned_abs());
    let bytes = if power >= 0 { scaled.checked_mul(ten(power)?)? } else { scaled.div_ceil(ten(power)?) };
    u64::try_from(bytes).ok()
}

/// What a suffix multiplies by: a number, and a power of ten.
fn factor(suffix: &str) -> Option<(u128, i32)> {
    let binary = |shift: u32| Some((1_u128 << shift, 0));
    let decimal = |power: i32| Some((1, power));
    match suffix {
        "" => decimal(0),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        exponent => {
            let power = exponent.strip_prefix(['e', 'E'])?;
            decimal(power.parse().ok().filter(|power| (-18..=18).contains(power))?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        let known = [
            ("1048576", 1 << 20),
            ("20Gi", 20 << 30),
            ("1.5Gi", 3 << 29),
            ("20G", 20_000_000_000),
            ("0.5", 1),
            ("100m", 1),
            ("1500m", 2),
            ("2e3", 2000),
            ("1E", 1_000_000_000_000_000_000),
            ("12E2", 1200),
            (".5Ki", 512),
            ("5.", 5),
        ];
        for (text, expected) in known {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_or_too_much_is_none() {
        for text in [
            "",
            ".",
            "Gi",
            "-1",
            "+1",
            "1.2.3",
            "1 Gi",
            "16Ei",
            "1e99",
            "1Kib",
            "999999999999999999999999999999999999999999",
        ] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
