//! Values of parameters as clients send them, in text and in binary, by the types that they name.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalMonthDayNano};
use bytes::{Buf, Bytes};
use datafusion::common::ScalarValue;

use super::calendar;
use super::encode::arrow_type;
use super::numeric;
use super::sqlstate::Report;
use super::types;

/// Most elements of a list.
const ELEMENTS_MAX: usize = 65_536;

/// Types of text that have no place among the types of columns: `"char"`, `name`, `xml`, `bpchar`, `varchar`, `inet`,
/// `uuid`, `jsonb` and what is not known yet.
const TEXTS: [u32; 9] = [18, 19, 142, 705, 869, 1042, 1043, 2950, 3802];
/// `oid` and its kind.
const OIDS: [u32; 5] = [26, 24, 2205, 2206, 4089];
/// Lists of text of another kind, of which each holds one of `TEXTS`: `name[]`, `bpchar[]`, `varchar[]`, `uuid[]`.
const TEXT_LISTS: [u32; 4] = [1003, 1014, 1015, 2951];

/// A type that a client may name for a parameter.
fn known(oid: u32) -> Option<DataType> {
    match oid {
        _ if TEXTS.contains(&oid) => Some(DataType::Utf8View),
        _ if OIDS.contains(&oid) => Some(DataType::Int64),
        _ if TEXT_LISTS.contains(&oid) => arrow_type(types::TEXT.list),
        1028 => arrow_type(types::INT8.list),
        _ => arrow_type(oid),
    }
}

/// One parameter. A type of 0 is not known: its place says what its text is.
pub(super) fn value(oid: u32, format: i16, bytes: Option<Bytes>) -> Result<ScalarValue, Report> {
    let Some(kind) = known(if oid == 0 { 705 } else { oid }) else {
        return Err(Report::error("0A000", format!("parameters of the type {oid} are not understood")));
    };
    let null = || ScalarValue::try_from(&kind).map_err(|_| wrong(oid));
    match (bytes, format) {
        // A null of a type that nobody named fits everywhere.
        (None, _) if oid == 0 || oid == 705 => Ok(ScalarValue::Null),
        (None, _) => null(),
        (Some(bytes), 0) => {
            let text = std::str::from_utf8(&bytes).map_err(|_| {
                Report::error("22021", "invalid byte sequence for encoding \"UTF8\" in a parameter")
            })?;
            from_text(oid, &kind, text)
        }
        (Some(bytes), 1) => from_binary(oid, &kind, bytes).ok_or_else(|| wrong(oid)),
        (_, format) => Err(Report::error("08P01", format!("there is no format {format}"))),
    }
}

fn wrong(oid: u32) -> Report {
    Report::error("22P03", format!("incorrect binary data format for a parameter of type {oid}"))
}

fn from_text(oid: u32, kind: &DataType, text: &str) -> Result<ScalarValue, Report> {
    let refused = || {
        let name = types::by_oid(oid).map_or("that", |kind| kind.name);
        Report::error("22P02", format!("invalid input syntax for type {name}: \"{}\"", short(text)))
    };
    let value = match kind {
        DataType::Utf8View => Some(text_value(oid, text)),
        DataType::Boolean => boolean(text).map(|value| ScalarValue::Boolean(Some(value))),
        DataType::BinaryView => bytea(text).map(|value| ScalarValue::BinaryView(Some(value))),
        DataType::Decimal128(..) => decimal(text),
        DataType::List(item) => {
            let items = elements(text).ok_or_else(refused)?;
            let oid = item_oid(oid);
            let values: Result<Vec<_>, Report> = items
                .into_iter()
                .map(|text| match text {
                    Some(text) => from_text(oid, item.data_type(), &text),
                    None => ScalarValue::try_from(item.data_type()).map_err(|_| refused()),
                })
                .collect();
            Some(list(item, &values?))
        }
        kind => {
            // The offset of a zone may be written as hours alone, which is read too.
            ScalarValue::Utf8View(Some(text.trim().to_owned())).cast_to(kind).ok()
        }
    };
    value.ok_or_else(refused)
}

/// Text whose type was named is `Utf8`, other text takes the type of its place.
fn text_value(oid: u32, text: &str) -> ScalarValue {
    let text = Some(text.to_owned());
    if oid == 0 || oid == 705 { ScalarValue::Utf8View(text) } else { ScalarValue::Utf8(text) }
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "on" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn bytea(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    if digits.len() % 2 != 0 {
        return None;
    }
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok())
        .collect()
}

fn decimal(text: &str) -> Option<ScalarValue> {
    let (value, scale) = numeric::parse(text)?;
    // Whole numbers are such in comparisons and limits, too.
    match i64::try_from(value) {
        Ok(value) if scale == 0 => Some(ScalarValue::Int64(Some(value))),
        _ => Some(ScalarValue::Decimal128(Some(value), 38, scale)),
    }
}

fn item_oid(list: u32) -> u32 {
    let place = types::LISTS.iter().position(|kind| kind.oid == list);
    place.map_or(types::TEXT.oid, |place| types::SCALARS[place].oid)
}

fn list(item: &Arc<Field>, values: &[ScalarValue]) -> ScalarValue {
    // Items are of what they are made: a whole `numeric` is one of 64 bits.
    let kind = values
        .iter()
        .find(|value| !value.is_null())
        .map_or_else(|| item.data_type().clone(), ScalarValue::data_type);
    let values: Vec<ScalarValue> =
        values.iter().map(|value| value.cast_to(&kind).unwrap_or(ScalarValue::Null)).collect();
    ScalarValue::List(ScalarValue::new_list_nullable(&values, &kind))
}

/// The elements of `{a,"b c",NULL}`; lists of lists are not understood.
pub(super) fn elements(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut elements = Vec::new();
    let mut rest = inner.chars().peekable();
    if inner.trim().is_empty() {
        return Some(elements);
    }
    loop {
        if elements.len() >= ELEMENTS_MAX {
            return None;
        }
        while rest.next_if(|character| character.is_whitespace()).is_some() {}
        let (mut text, mut quoted) = (String::new(), false);
        if rest.next_if_eq(&'"').is_some() {
            quoted = true;
            loop {
                match rest.next()? {
                    '"' => break,
                    '\\' => text.push(rest.next()?),
                    other => text.push(other),
                }
            }
            while rest.next_if(|character| character.is_whitespace()).is_some() {}
        } else {
            while let Some(character) = rest.next_if(|character| *character != ',') {
                match character {
                    '{' | '}' | '"' => return None,
                    '\\' => text.push(rest.next()?),
                    other => text.push(other),
                }
            }
            text.truncate(text.trim_end().len());
            if text.is_empty() {
                return None;
            }
        }
        let null = !quoted && text.eq_ignore_ascii_case("null");
        elements.push((!null).then_some(text));
        match rest.next() {
            None => return Some(elements),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

/// A fixed number of bytes, and no more.
fn fixed<const N: usize>(bytes: &Bytes) -> Option<[u8; N]> {
    bytes.as_ref().try_into().ok()
}

fn from_binary(oid: u32, kind: &DataType, mut bytes: Bytes) -> Option<ScalarValue> {
    Some(match kind {
        DataType::Utf8View if oid == 2950 => {
            let id: String = fixed::<16>(&bytes)?.iter().map(|byte| format!("{byte:02x}")).collect();
            ScalarValue::Utf8(Some(id))
        }
        DataType::Utf8View => {
            // `jsonb` has its version before it.
            if oid == 3802 && !bytes.is_empty() {
                bytes.advance(1);
            }
            text_value(oid, std::str::from_utf8(&bytes).ok()?)
        }
        DataType::Boolean => ScalarValue::Boolean(Some(fixed::<1>(&bytes)? != [0])),
        DataType::BinaryView => ScalarValue::BinaryView(Some(bytes.to_vec())),
        DataType::Int16 => ScalarValue::Int16(Some(i16::from_be_bytes(fixed(&bytes)?))),
        DataType::Int32 => ScalarValue::Int32(Some(i32::from_be_bytes(fixed(&bytes)?))),
        DataType::Int64 if OIDS.contains(&oid) => {
            ScalarValue::Int64(Some(u32::from_be_bytes(fixed(&bytes)?).into()))
        }
        DataType::Int64 => ScalarValue::Int64(Some(i64::from_be_bytes(fixed(&bytes)?))),
        DataType::Float32 => ScalarValue::Float32(Some(f32::from_be_bytes(fixed(&bytes)?))),
        DataType::Float64 => ScalarValue::Float64(Some(f64::from_be_bytes(fixed(&bytes)?))),
        DataType::Decimal128(..) => decimal(&numeric::receive(bytes)?)?,
        DataType::Date32 => {
            let days = i32::from_be_bytes(fixed(&bytes)?).checked_add(calendar::EPOCH_DAYS)?;
            ScalarValue::Date32(Some(days))
        }
        DataType::Time64(_) => {
            let us = i64::from_be_bytes(fixed(&bytes)?);
            (0..=calendar::DAY_US).contains(&us).then_some(ScalarValue::Time64Microsecond(Some(us)))?
        }
        DataType::Timestamp(_, zone) => {
            let us = i64::from_be_bytes(fixed(&bytes)?).checked_add(calendar::EPOCH_US)?;
            ScalarValue::TimestampMicrosecond(Some(us), zone.clone())
        }
        DataType::Interval(_) => {
            let parts = fixed::<16>(&bytes)?;
            let mut parts = parts.as_slice();
            let nanoseconds = parts.get_i64().checked_mul(1_000)?;
            let (days, months) = (parts.get_i32(), parts.get_i32());
            ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months, days, nanoseconds }))
        }
        DataType::List(item) => binary_list(item, bytes)?,
        _ => return None,
    })
}

/// Takes a number of four bytes.
fn int(bytes: &mut Bytes) -> Option<i32> {
    (bytes.len() >= 4).then(|| bytes.get_i32())
}

fn binary_list(item: &Arc<Field>, mut bytes: Bytes) -> Option<ScalarValue> {
    let (dimensions, _nulls) = (int(&mut bytes)?, int(&mut bytes)?);
    let oid = int(&mut bytes)?.cast_unsigned();
    if dimensions == 0 && bytes.is_empty() {
        return Some(list(item, &[]));
    }
    let (count, _lower) = (usize::try_from(int(&mut bytes)?).ok()?, int(&mut bytes)?);
    // Each element has a length of four bytes at least.
    if dimensions != 1 || count > ELEMENTS_MAX || count > bytes.len() / 4 {
        return None;
    }
    let kind = known(oid).filter(|kind| !kind.is_nested())?;
    let mut values = Vec::with_capacity(count);
    for _ in 0..count {
        values.push(match int(&mut bytes)? {
            -1 => ScalarValue::try_from(&kind).ok()?,
            length => {
                let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
                from_binary(oid, &kind, bytes.split_to(length))?
            }
        });
    }
    bytes.is_empty().then(|| list(item, &values))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(oid: u32, text: &'static str) -> Result<ScalarValue, Report> {
        value(oid, 0, Some(Bytes::from_static(text.as_bytes())))
    }

    #[test]
    fn texts_are_read_by_their_type() {
        assert_eq!(text(23, "7"), Ok(ScalarValue::Int32(Some(7))));
        assert_eq!(text(0, "7"), Ok(ScalarValue::Utf8View(Some("7".into()))));
        assert_eq!(text(1043, "7"), Ok(ScalarValue::Utf8(Some("7".into()))));
        assert_eq!(text(16, "on"), Ok(ScalarValue::Boolean(Some(true))));
        assert_eq!(text(17, "\\x00fF"), Ok(ScalarValue::BinaryView(Some(vec![0, 255]))));
        assert_eq!(text(1700, "12.50"), Ok(ScalarValue::Decimal128(Some(1_250), 38, 2)));
        assert_eq!(text(1700, "12"), Ok(ScalarValue::Int64(Some(12))));
        let noon = ScalarValue::TimestampMicrosecond(Some(1_764_504_000_000_000), Some("UTC".into()));
        for written in ["2025-11-30 12:00:00+00", "2025-11-30T12:00:00Z", "2025-11-30 13:00:00+01"] {
            assert_eq!(text(1184, written), Ok(noon.clone()), "{written}");
        }
        for (oid, wrong) in
            [(23, "x"), (23, "99999999999"), (16, "maybe"), (17, "00"), (1184, "noon"), (1700, "x")]
        {
            assert_eq!(text(oid, wrong).map_err(|report| report.code), Err("22P02"), "{wrong}");
        }
        assert_eq!(text(600, "(1,2)").map_err(|report| report.code), Err("0A000"));
        assert_eq!(value(23, 0, None), Ok(ScalarValue::Int32(None)));
        assert_eq!(value(0, 0, None), Ok(ScalarValue::Null));
    }

    #[test]
    fn lists_are_read() {
        let numbers = |numbers: &[i64]| {
            let values: Vec<_> = numbers.iter().map(|number| ScalarValue::Int64(Some(*number))).collect();
            ScalarValue::List(ScalarValue::new_list_nullable(&values, &DataType::Int64))
        };
        assert_eq!(text(1016, "{1,2, 3}"), Ok(numbers(&[1, 2, 3])));
        assert_eq!(text(1016, "{}"), Ok(numbers(&[])));
        let all = elements("{a,\"b \\\" c\",NULL,\"NULL\", d }").unwrap();
        let named: Vec<Option<&str>> = all.iter().map(Option::as_deref).collect();
        assert_eq!(named, [Some("a"), Some("b \" c"), None, Some("NULL"), Some("d")]);
        for wrong in ["", "{", "{a,}", "{{1},{2}}", "{\"a}", "{a}b", "{\"a\"b}"] {
            assert_eq!(elements(wrong), None, "{wrong}");
        }
        let sent = b"\0\0\0\x01\0\0\0\0\0\0\0\x14\0\0\0\x02\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x08\0\0\0\0\0\0\0\x02";
        assert_eq!(value(1016, 1, Some(Bytes::from_static(sent))), Ok(numbers(&[1, 2])));
        for end in 0..sent.len() {
            assert!(value(1016, 1, Some(Bytes::copy_from_slice(&sent[..end]))).is_err(), "{end}");
        }
    }

    #[test]
    fn binary_is_read_by_its_type_and_nothing_else() {
        let binary = |oid: u32, bytes: &'static [u8]| value(oid, 1, Some(Bytes::from_static(bytes)));
        assert_eq!(binary(23, b"\0\0\0\x07"), Ok(ScalarValue::Int32(Some(7))));
        assert_eq!(binary(1082, b"\0\0\0\0"), Ok(ScalarValue::Date32(Some(10_957))));
        for (oid, wrong) in [(23, &b"\0"[..]), (20, b"\0\0\0\x07"), (25, b"\xff"), (1184, b""), (16, b"")] {
            assert_eq!(binary(oid, wrong).map_err(|report| report.code), Err("22P03"), "{oid}");
        }
        let code = value(23, 7, Some(Bytes::new())).map_err(|report| report.code);
        assert_eq!(code, Err("08P01"));
    }
}
