//! The nearest known name to one that was mistyped.

/// Whatever is longer was not meant to be a name.
const GIVEN_BYTES_MAX: usize = 64;

/// The known name most like `given`, if one is so near that it was probably meant.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > GIVEN_BYTES_MAX {
        return None;
    }
    let flat = |name: &str| name.to_lowercase().replace(['-', ' '], "_");
    let wanted = flat(given);
    known
        .into_iter()
        .map(|name| {
            let known = flat(name);
            // In a short word one slip (`ulr`) weighs too much for the likeness, so slips are counted too.
            let one_slip = wanted.len() > 2 && strsim::damerau_levenshtein(&wanted, &known) == 1;
            let likeness = strsim::jaro_winkler(&wanted, &known);
            (if one_slip { likeness.max(0.9) } else { likeness }, name)
        })
        // 0.8 takes a dropped, doubled or swapped letter and a wrong plural, but not another word.
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn typos_find_their_word_and_other_words_find_none() {
        let known = ["listen", "listeners", "upstream_timeout_ms", "services"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("service", known), Some("services"));
        assert_eq!(nearest("Upstream-Timeout-Ms", known), Some("upstream_timeout_ms"));
        assert_eq!(nearest("ulr", ["id", "name", "url"]), Some("url"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"services".repeat(1 << 20), known), None, "which would take hours to compare");
    }
}
