//! Numbers and texts in little room. What a request reads of its route lies in two lines of the cache: with ten thousand
//! routes that are asked for by chance, each further line is a wait for memory.

use std::num::NonZero;

/// Bytes of a text that lie with its owner.
const LABEL_BYTES: usize = 30;

/// A number in four bytes, also where there may be none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(NonZero<u32>);

impl Number {
    pub fn new(number: usize) -> Self {
        let above = u32::try_from(number).ok().and_then(|number| NonZero::new(number.wrapping_add(1)));
        Self(above.expect("memory does not hold 2^32 of what is numbered"))
    }

    pub fn get(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A text, which lies with its owner where it is short.
#[derive(Debug)]
pub(crate) enum Label {
    Short { length: u8, bytes: [u8; LABEL_BYTES] },
    Long(Box<[u8]>),
}

impl Label {
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; LABEL_BYTES];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(begin), Ok(length)) => {
                begin.copy_from_slice(text.as_bytes());
                Self::Short { length, bytes }
            }
            _ => Self::Long(text.as_bytes().into()),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl Default for Label {
    fn default() -> Self {
        Self::new("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out() {
        assert_eq!(size_of::<Label>(), 32);
        for length in [0, 1, LABEL_BYTES - 1, LABEL_BYTES, LABEL_BYTES + 1, 255, 256, 70_000] {
            let text = "x".repeat(length);
            let label = Label::new(&text);
            assert_eq!(label.as_bytes(), text.as_bytes());
            assert_eq!(matches!(label, Label::Short { .. }), length <= LABEL_BYTES);
        }
        assert_eq!(size_of::<Option<Number>>(), 4);
        for number in [0, 1, 4_294_967_294] {
            assert_eq!(Number::new(number).get(), number);
        }
    }
}
