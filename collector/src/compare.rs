//! Comparison of the short values of events.

/// Whether two values are the same. They are short: a few words compared in place cost less than a call of `memcmp`.
#[inline]
pub(crate) fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let (a_words, a_rest) = a.as_chunks::<8>();
    let (b_words, b_rest) = b.as_chunks::<8>();
    let differ = |a: &[u8; 8], b: &[u8; 8]| u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
    if a_words.iter().zip(b_words).any(|(a, b)| differ(a, b) != 0) {
        return false;
    }
    match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        // The last word, which may overlap the one before, covers the rest.
        (Some(a), Some(b)) => differ(a, b) == 0,
        _ => a_rest.iter().zip(b_rest).all(|(a, b)| a == b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_slices_compare() {
        let bytes: Vec<u8> = (0..40).collect();
        for length in 0..bytes.len() {
            let (value, mut other) = (&bytes[..length], bytes[..length].to_vec());
            assert!(is_same(value, &other));
            assert!(!is_same(value, &bytes[..length + 1]));
            for place in 0..length {
                other[place] ^= 1;
                assert!(!is_same(value, &other), "{length} bytes, the one at {place} differs");
                other[place] ^= 1;
            }
        }
    }
}
