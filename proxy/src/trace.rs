//! W3C trace context (traceparent, version 00) and the hexadecimal form of ids.

use http::HeaderValue;

/// What a `traceparent` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parent {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub sampled: bool,
}

/// Reads a `traceparent`; none for a malformed one, which is then replaced as the standard says.
pub(crate) fn parse(value: &[u8]) -> Option<Parent> {
    let known = value.len() == 55 || (value.len() > 55 && value[55] == b'-' && &value[..2] != b"00");
    if !known || value[2] != b'-' || value[35] != b'-' || value[52] != b'-' || &value[..2] == b"ff" {
        return None;
    }
    unhex::<1>(&value[..2])?;
    let trace_id = unhex::<16>(&value[3..35])?;
    let span_id = unhex::<8>(&value[36..52])?;
    let flags = unhex::<1>(&value[53..55])?[0];
    (trace_id != [0; 16] && span_id != [0; 8]).then_some(Parent {
        trace_id,
        span_id,
        sampled: flags & 1 == 1,
    })
}

/// The text of a `traceparent`.
pub(crate) fn text(parent: &Parent) -> [u8; 55] {
    let mut text = *b"00-________________________________-________________-00";
    hex_into(&parent.trace_id, &mut text[3..35]);
    hex_into(&parent.span_id, &mut text[36..52]);
    text[54] = if parent.sampled { b'1' } else { b'0' };
    text
}

/// An id as 32 hexadecimal digits.
pub(crate) fn hex(id: &[u8; 16]) -> [u8; 32] {
    let mut text = [0; 32];
    hex_into(id, &mut text);
    text
}

/// The same as a header value.
pub(crate) fn id_value(id: &[u8; 16]) -> HeaderValue {
    HeaderValue::from_bytes(&hex(id)).expect("hexadecimal digits")
}

/// An id of 32 hexadecimal digits, with or without the dashes of a UUID.
pub(crate) fn parse_id(value: &[u8]) -> Option<[u8; 16]> {
    if value.len() == 32 {
        return unhex_any(value);
    }
    if value.len() != 36 {
        return None;
    }
    let digits: Vec<u8> = value.iter().copied().filter(|byte| *byte != b'-').collect();
    unhex_any(&digits)
}

fn unhex_any(value: &[u8]) -> Option<[u8; 16]> {
    unhex::<16>(&value.to_ascii_lowercase()).filter(|id| *id != [0; 16])
}

fn hex_into(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Lower-case digits only, as the standard has it.
fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_parents_are_read_and_written_alike() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = parse(text.as_bytes()).unwrap();
        assert!(parent.sampled);
        assert_eq!(super::text(&parent), text.as_bytes());
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn request_ids_may_be_uuids() {
        let id = parse_id(b"4BF92F35-77b3-4da6-a3ce-929d0e0e4736").unwrap();
        assert_eq!(id_value(&id), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(parse_id(b"nonsense"), None);
    }
}
