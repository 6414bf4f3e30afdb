//! `numeric` in binary: digits of base 10,000, as PostgreSQL sends and receives them (`numeric_send`).

use bytes::{Buf, BufMut, Bytes, BytesMut};

const NEGATIVE: u16 = 0x4000;
/// Not a number, and the infinities.
const SPECIAL: u16 = 0xc000;
/// Digits of a number that is not refused, before and behind the point.
const DIGITS_MAX: usize = 38;

/// Writes `value / 10^scale`.
pub(super) fn send(out: &mut BytesMut, value: i128, scale: i8) {
    let digits = value.unsigned_abs().to_string();
    let places = usize::from(scale.max(0).unsigned_abs());
    let zeros = usize::from(scale.min(0).unsigned_abs());
    let whole = format!("{digits}{}", "0".repeat(zeros));
    let padded = format!("{whole:0>width$}", width = places + 1);
    let (before, behind) = padded.split_at(padded.len() - places);
    write(out, value < 0, before, behind);
}

/// Writes a number from its digits, as in `-12.50`.
pub(super) fn send_digits(out: &mut BytesMut, text: &str) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (before, behind) = text.split_once('.').unwrap_or((text, ""));
    write(out, negative, before, behind);
}

fn write(out: &mut BytesMut, negative: bool, before: &str, behind: &str) {
    let before = before.trim_start_matches('0');
    let head = before.len().div_ceil(4);
    let padded = format!("{before:0>width$}", width = head * 4);
    let tail = format!("{behind:0<width$}", width = behind.len().div_ceil(4) * 4);
    let all: Vec<i16> = [padded.as_bytes(), tail.as_bytes()]
        .concat()
        .chunks(4)
        .map(|four| four.iter().fold(0, |value, digit| value * 10 + i16::from(digit - b'0')))
        .collect();
    let first = all.iter().position(|digit| *digit != 0).unwrap_or(all.len());
    let last = all.iter().rposition(|digit| *digit != 0).map_or(first, |last| last + 1);
    let count = |count: usize| i16::try_from(count).unwrap_or(i16::MAX);
    let digits = &all[first..last];
    out.put_i16(count(digits.len()));
    out.put_i16(if digits.is_empty() { 0 } else { count(head) - count(first) - 1 });
    out.put_u16(if negative && !digits.is_empty() { NEGATIVE } else { 0 });
    out.put_i16(count(behind.len()));
    digits.iter().for_each(|digit| out.put_i16(*digit));
}

/// Reads a number as its digits, as in `-12.50`.
pub(super) fn receive(mut bytes: Bytes) -> Option<String> {
    if bytes.len() < 8 {
        return None;
    }
    let (count, weight) = (usize::from(bytes.get_u16()), i32::from(bytes.get_i16()));
    let (sign, places) = (bytes.get_u16(), usize::from(bytes.get_u16()));
    let fits = bytes.len() == 2 * count && count <= DIGITS_MAX && places <= DIGITS_MAX;
    if !fits || sign & SPECIAL == SPECIAL || weight.unsigned_abs() as usize > DIGITS_MAX {
        return None;
    }
    let digits: Vec<u16> = (0..count).map(|_| bytes.get_u16()).collect();
    if digits.iter().any(|digit| *digit > 9_999) {
        return None;
    }
    let at = |place: i32| {
        usize::try_from(weight - place).ok().and_then(|index| digits.get(index)).copied().unwrap_or(0)
    };
    let before: String = (0..=weight.max(0)).rev().map(|place| format!("{:04}", at(place))).collect();
    let groups = i32::try_from(places.div_ceil(4)).unwrap_or_default();
    let behind: String = (1..=groups).map(|place| format!("{:04}", at(-place))).collect();
    let before = before.trim_start_matches('0');
    let before = if before.is_empty() { "0" } else { before };
    let minus = if sign == NEGATIVE { "-" } else { "" };
    let point = if places > 0 { "." } else { "" };
    Some(format!("{minus}{before}{point}{}", &behind[..places]))
}

/// A number from its digits: the value without the point, and how many digits stand behind it.
pub(super) fn parse(text: &str) -> Option<(i128, i8)> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (before, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{before}{behind}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = i32::try_from(behind.len()).ok()?.checked_sub(exponent)?;
    let zeros = usize::try_from(scale.min(0).unsigned_abs()).ok().filter(|zeros| *zeros <= DIGITS_MAX)?;
    let all = format!("{}{}", all.trim_start_matches('0'), "0".repeat(zeros));
    if all.len() > DIGITS_MAX || scale > i32::try_from(DIGITS_MAX).ok()? {
        return None;
    }
    let value: i128 = if all.is_empty() { 0 } else { all.parse().ok()? };
    Some((if negative { -value } else { value }, i8::try_from(scale.max(0)).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_they_were_sent() {
        let sent = |value: i128, scale: i8| {
            let mut out = BytesMut::new();
            send(&mut out, value, scale);
            out.freeze()
        };
        assert_eq!(sent(12_345_678, 0).as_ref(), b"\0\x02\0\x01\0\0\0\0\x04\xd2\x16\x2e");
        assert_eq!(sent(0, 0).as_ref(), b"\0\0\0\0\0\0\0\0");
        assert_eq!(sent(10_000, 0).as_ref(), b"\0\x01\0\x01\0\0\0\0\0\x01");
        for (value, scale, text) in [
            (0, 0, "0"),
            (1, 0, "1"),
            (-1, 2, "-0.01"),
            (1_250, 2, "12.50"),
            (i128::from(u64::MAX), 0, "18446744073709551615"),
            (123_456_789, 5, "1234.56789"),
            (7, -3, "7000"),
            (10_001, 4, "1.0001"),
            (5, 8, "0.00000005"),
        ] {
            assert_eq!(receive(sent(value, scale)).as_deref(), Some(text));
            let (parsed, places) = parse(text).unwrap();
            assert_eq!(receive(sent(parsed, places)).as_deref(), Some(text));
            let mut digits = BytesMut::new();
            send_digits(&mut digits, text);
            assert_eq!(digits.freeze(), sent(parsed, places), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", ".", "1.2.3", "x", "1e", "1e99", "NaN", &"9".repeat(39)] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("1.5e3"), Some((1500, 0)));
        assert_eq!(parse(" +.5 "), Some((5, 1)));
        for bytes in [&b""[..], b"\0\x01\0\0\0\0\0\0", b"\0\0\0\0\xc0\0\0\0", b"\0\x01\x7f\xff\0\0\0\0\0\x01"]
        {
            assert_eq!(receive(Bytes::copy_from_slice(bytes)), None);
        }
    }
}
