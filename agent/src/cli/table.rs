//! Tables for people: columns as wide as their widest cell, numbers with units.

/// Lines of cells under a headline. Control characters in cells are escaped, empty cells become `-`.
pub fn table(headline: &[&str], rows: &[Vec<String>]) -> String {
    let headline: Vec<String> = headline.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: Vec<Vec<String>> =
        std::iter::once(&headline).chain(rows).map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headline.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A text that can't play with the terminal.
pub fn clean(text: &str) -> String {
    if text.is_empty() {
        return "-".into();
    }
    text.chars()
        .map(|char| if char.is_control() { char.escape_default().to_string() } else { char.to_string() })
        .collect()
}

/// Bytes in the largest unit of which there is one at least, with three digits.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        // 999.5 would be shown as 1000.
        if value < 999.5 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    match value {
        _ if unit == "B" => format!("{bytes} B"),
        ..10.0 => format!("{value:.2} {unit}"),
        ..100.0 => format!("{value:.1} {unit}"),
        _ => format!("{value:.0} {unit}"),
    }
}

/// A time span in its two largest units.
pub fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1_000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_terminals_are_safe() {
        let rows = vec![vec!["a".into(), "\u{1b}[31m".into()], vec!["längst".into(), String::new()]];
        assert_eq!(table(&["NAME", "MESSAGE"], &rows), "NAME    MESSAGE\na       \\u{1b}[31m\nlängst  -\n");
    }

    #[test]
    fn sizes_and_spans_are_short() {
        let sizes = [0, 999, 1_000, 1_536, 34_567_890, 1 << 40, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "999 B", "0.98 KiB", "1.50 KiB", "33.0 MiB", "1.00 TiB", "16384 PiB"]);
        let spans = [0, 999, 59_999, 61_000, 3_700_000, 90_000_000].map(span);
        assert_eq!(spans, ["0 ms", "999 ms", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }
}
