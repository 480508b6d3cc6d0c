//! Durations, sizes and modes as people write them, and back.
//!
//! A duration and a size carry a unit: a bare number is refused, because nobody can tell what it
//! counts. A mode is octal text. What is shown reads back as the same value.

use std::time::Duration;

use super::fault::Expected;

/// Units of a duration with their milliseconds, largest first.
const TIME_UNITS: &[(&str, u64)] =
    &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of a size with their bytes.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

const DURATION: Expected =
    Expected::fixed(r#"a whole number with a unit (ms, s, m, h or d) such as "250ms", "1s" or "5m""#);
const SIZE: Expected = Expected::fixed(
    r#"a whole number with a unit (B, kB, MB, GB, TB, KiB, MiB, GiB or TiB) such as "128MiB", or "0""#,
);
const MODE: Expected = Expected::fixed(r#"three or four octal digits in quotes, at most "0777""#);

/// Reads a duration such as `250ms`, `1s`, `5m`, `1h` or `30d`.
///
/// # Errors
///
/// Without a unit, with a sign, a fraction or spaces, or too large to be counted in milliseconds.
pub fn duration(text: &str) -> Result<Duration, Expected> {
    let (number, unit) = split_number(text).ok_or(DURATION)?;
    let (_, millis) = TIME_UNITS.iter().find(|(name, _)| *name == unit).ok_or(DURATION)?;
    let millis = number.checked_mul(*millis).ok_or(DURATION)?;
    Ok(Duration::from_millis(millis))
}

/// Reads a size such as `128MiB`, `10MB` or `0`, in bytes.
///
/// # Errors
///
/// Without a unit (unless zero), with a sign, a fraction or spaces, or more than 2^64 bytes.
pub fn size(text: &str) -> Result<u64, Expected> {
    let (number, unit) = split_number(text).ok_or(SIZE)?;
    if number == 0 && unit.is_empty() {
        return Ok(0);
    }
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or(SIZE)?;
    number.checked_mul(*bytes).ok_or(SIZE)
}

/// Reads the permission bits of a mode: `0644`, `755`.
///
/// # Errors
///
/// Anything but three octal digits, or four of which the first is 0: neither set-uid nor sticky bits
/// belong on a map.
pub fn mode(text: &str) -> Result<u32, Expected> {
    let digits = match text.len() {
        3 => text,
        4 => text.strip_prefix('0').ok_or(MODE)?,
        _ => return Err(MODE),
    };
    if !digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit)) {
        return Err(MODE);
    }
    u32::from_str_radix(digits, 8).map_err(|_| MODE)
}

/// Writes a duration with the largest unit that divides it.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let (unit, size) = TIME_UNITS
        .iter()
        .map(|(unit, size)| (*unit, u128::from(*size)))
        .find(|(_, size)| millis.is_multiple_of(*size))
        .expect("the smallest unit, one millisecond, divides every number of milliseconds");
    format!("{}{unit}", millis / size)
}

/// Writes a size with the largest unit that divides it.
pub fn show_size(bytes: u64) -> String {
    if bytes == 0 {
        return "0".to_owned();
    }
    let (unit, size) = SIZE_UNITS
        .iter()
        .find(|(_, size)| bytes.is_multiple_of(*size))
        .expect("the smallest unit, one byte, divides every number of bytes");
    format!("{}{unit}", bytes / size)
}

/// Writes permission bits as four octal digits.
pub fn show_mode(mode: u32) -> String {
    format!("{mode:04o}")
}

/// Splits `128MiB` into 128 and `MiB`.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_carry_a_unit() {
        for (text, millis) in [("0s", 0), ("250ms", 250), ("5m", 300_000), ("30d", 2_592_000_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        let expected =
            r#"expected a whole number with a unit (ms, s, m, h or d) such as "250ms", "1s" or "5m""#;
        for text in "|0|1|s|1 s| 1s|1.5s|-1s|+1s|1S|1min|18446744073709551615h".split('|') {
            assert_eq!(duration(text).expect_err(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn sizes_carry_a_unit_unless_zero() {
        let (units, edges) =
            ([("4kB", 4_000), ("4KB", 4_000), ("128MiB", 128 << 20)], [("0", 0), ("0B", 0), ("1B", 1)]);
        for (text, bytes) in units.into_iter().chain(edges) {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        let expected = "expected a whole number with a unit (B, kB, MB, GB, TB, KiB, MiB, GiB or TiB) such as \
                        \"128MiB\", or \"0\"";
        for text in "|1|128M|128 MiB|MiB|1.5GiB|-1B|128mib|18446744073709551615KiB".split('|') {
            assert_eq!(size(text).expect_err(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn modes_are_octal_permission_bits() {
        for (text, bits) in [("0644", 0o644), ("755", 0o755), ("0000", 0), ("0777", 0o777)] {
            assert_eq!(mode(text), Ok(bits), "{text}");
        }
        for text in ["", "7", "0o644", "1755", "0888", "+64", "00644", "6é"] {
            let refused = mode(text).expect_err(text).to_string();
            assert_eq!(refused, "expected three or four octal digits in quotes, at most \"0777\"", "{text}");
        }
    }

    #[test]
    fn what_is_shown_uses_the_largest_unit_that_fits() {
        assert_eq!(show_duration(Duration::from_secs(90)), "90s");
        assert_eq!(show_duration(Duration::from_secs(7_200)), "2h");
        assert_eq!(show_duration(Duration::ZERO), "0s");
        assert_eq!(show_size(134_217_728), "128MiB");
        assert_eq!(show_size(10_000_000), "10MB");
        assert_eq!(show_size(1), "1B");
        assert_eq!(show_size(0), "0");
        assert_eq!(show_mode(0o44), "0044");
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>()) {
            let _ = (duration(&text), size(&text), mode(&text));
        }

        #[test]
        fn numbers_with_units_are_exact_or_refused(number in any::<u64>(), t in 0..TIME_UNITS.len(), s in 0..SIZE_UNITS.len()) {
            let (unit, millis) = TIME_UNITS[t];
            let exact = number.checked_mul(millis).map(Duration::from_millis);
            prop_assert_eq!(duration(&format!("{number}{unit}")).ok(), exact);
            let (unit, bytes) = SIZE_UNITS[s];
            prop_assert_eq!(size(&format!("{number}{unit}")).ok(), number.checked_mul(bytes));
        }

        #[test]
        fn what_is_shown_reads_back_the_same(number in any::<u64>(), bits in 0..0o1000_u32) {
            let time = Duration::from_millis(number);
            prop_assert_eq!(duration(&show_duration(time)), Ok(time));
            prop_assert_eq!(size(&show_size(number)), Ok(number));
            prop_assert_eq!(mode(&show_mode(bits)), Ok(bits));
        }
    }
}
