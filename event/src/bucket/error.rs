//! What can go wrong with a bucket, in words that say what to do. Nothing of a request is in them: it may hold secrets.

use std::error::Error;
use std::fmt;

/// Why something was not done in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketError {
    /// What was tried, as in `read`.
    pub doing: &'static str,
    /// The object, behind the prefix; empty for the bucket itself.
    pub object: String,
    /// The URL of the bucket.
    pub bucket: String,
    /// Why.
    pub cause: Cause,
}

/// Kinds of causes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// There is no such object.
    Missing,
    /// There is no such bucket.
    NoBucket,
    /// The store refuses the credentials, or what they may do is too little.
    Refused(String),
    /// It does not answer, or with an error of its own.
    Unavailable(String),
    /// It has no conditional writes.
    Unconditional,
    /// What was read is not what was written.
    Damaged(String),
    /// Anything else.
    Other(String),
}

impl BucketError {
    pub(super) fn new(doing: &'static str, object: &str, bucket: &str, error: &object_store::Error) -> Self {
        Self { doing, object: object.to_owned(), bucket: bucket.to_owned(), cause: Cause::of(error) }
    }

    /// The one that another error came of, however deep.
    #[must_use]
    pub fn within<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        let mut at = Some(error);
        while let Some(error) = at {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            at = error.source();
        }
        None
    }
}

impl Error for BucketError {}

impl fmt::Display for BucketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { doing, object, bucket, cause } = self;
        match object.as_str() {
            "" => write!(f, "cannot {doing} the bucket {bucket}: {cause}"),
            object => write!(f, "cannot {doing} {object} in the bucket {bucket}: {cause}"),
        }
    }
}

impl Cause {
    fn of(error: &object_store::Error) -> Self {
        use object_store::Error as Store;
        let text = error.to_string();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        match error {
            _ if says(&["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"]) => {
                Self::NoBucket
            }
            Store::NotFound { .. } => Self::Missing,
            Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => Self::Refused(said(error)),
            Store::NotImplemented { .. } => Self::Unconditional,
            Store::Generic { .. } if says(&["501 Not Implemented"]) => Self::Unconditional,
            Store::Generic { .. } => Self::Unavailable(said(error)),
            _ => Self::Other(root(error)),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is not there"),
            Self::NoBucket => f.write_str("there is no such bucket: create it, or correct object_store.url"),
            Self::Refused(said) => write!(
                f,
                "the store refuses the credentials ({said}): look at object_store.options; they must allow to read, \
                 write, list and delete"
            ),
            Self::Unavailable(said) => write!(
                f,
                "the store does not answer as it should ({said}): is it up, and do object_store.url and the option \
                 `endpoint` lead to it?"
            ),
            Self::Unconditional => f.write_str(
                "the store has no conditional writes (If-Match), without which collectors cannot share it",
            ),
            Self::Damaged(reason) => write!(f, "it is damaged: {reason}"),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

/// What an answer of a store says, as the code in its XML if there is one.
fn said(error: &object_store::Error) -> String {
    let text = error.to_string();
    let code = text.split_once("<Code>").and_then(|(_, rest)| Some(rest.split_once("</Code>")?.0.to_owned()));
    let plain = |code: &String| code.len() < 100 && code.chars().all(|letter| letter.is_ascii_alphanumeric());
    code.filter(plain).unwrap_or_else(|| without_body(root(error)))
}

/// An answer by its status alone: what comes behind it depends on what was asked, and an answer to HEAD has nothing.
fn without_body(said: String) -> String {
    match said.split_once("status code: ") {
        Some((_, answer)) => answer.split(':').next().unwrap_or_default().to_owned(),
        None => said,
    }
}

/// The innermost cause, in one line.
pub(super) fn root(error: &dyn Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string().lines().next().unwrap_or_default().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_one_cause_whatever_was_asked() {
        let of = |body: &str| {
            let said = format!("Server returned non-2xx status code: 503 Service Unavailable: {body}");
            Cause::of(&object_store::Error::Generic { store: "S3", source: said.into() })
        };
        assert_eq!(of(""), Cause::Unavailable("503 Service Unavailable".into()));
        assert_eq!(of("<html>\n<p>soon</p>"), of(""));
        assert_eq!(of("<Error><Code>SlowDown</Code></Error>"), Cause::Unavailable("SlowDown".into()));
    }
}
