//! Tokens and other texts that only their owners may read.

use crate::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// Fewest bytes of a token.
const TOKEN_BYTES_MIN: usize = 16;

/// A text that no log, error, table or debug output shows.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text, for who sends or compares it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Why it is no token: what cannot be guessed and goes through a header as it is.
    pub fn token_problem(&self, path: &str) -> Option<Problem> {
        let message = match self.reveal() {
            "" => "missing",
            text if text.len() < TOKEN_BYTES_MIN => "shorter than 16 bytes",
            text if !text.bytes().all(|byte| (0x21..0x7f).contains(&byte)) => {
                "holds blanks or characters beyond ASCII"
            }
            _ => return None,
        };
        Some(Problem::new(path, message).hint("a random text, as of `openssl rand -hex 32`"))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // What a reload compares: another text is seen to be another one, by this process only.
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        match self.0.as_str() {
            "" => serializer.serialize_str(""),
            text => serializer.collect_str(&format_args!("***{:016x}", KEY.hash_one(text))),
        }
    }
}
