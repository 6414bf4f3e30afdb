//! Who calls: a bearer token, or the name of a token with its secret as the password (RFC 7617), in the metadata of every
//! call.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::access::Caller;
use crate::query::Engine;

/// Base64 with or without its padding: drivers written in Go leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The metadata.
pub(super) const AUTHORIZATION: &str = "authorization";

/// Who calls, and the bearer token to say so from here on.
pub(super) struct Entered {
    pub(super) caller: Arc<Caller>,
    pub(super) bearer: String,
}

/// Who calls.
///
/// # Errors
/// When nobody is known by what came with the call.
pub(super) fn enter(engine: &Engine, metadata: &MetadataMap) -> Result<Entered, Status> {
    let access = engine.access();
    let Some(given) = metadata.get(AUTHORIZATION) else {
        let missing =
            "a token is needed: authorization: Bearer TOKEN, or user and password (analytics.tokens)";
        return match access.anonymous() {
            Some(caller) => Ok(Entered { bearer: caller.name.clone(), caller }),
            None => Err(Status::unauthenticated(missing)),
        };
    };
    let (scheme, rest) = given.to_str().ok().and_then(|given| given.split_once(' ')).unwrap_or_default();
    let said = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some((None, rest.trim().to_owned())),
        "basic" => basic(rest.trim()).map(|(user, password)| (Some(user), password)),
        _ => None,
    };
    // The name must be the token's own: who has mixed two of them up is told.
    let known = said.and_then(|(user, secret)| {
        let caller = access.by_token(secret.as_bytes())?;
        let right = user.is_none_or(|user| user == caller.name);
        right.then_some(Entered { caller, bearer: secret })
    });
    let nobody = || access.anonymous().map(|caller| Entered { bearer: caller.name.clone(), caller });
    known
        .or_else(nobody)
        .ok_or_else(|| Status::unauthenticated("the token, or user and password, is not known"))
}

/// User and password of a basic authorization.
fn basic(encoded: &str) -> Option<(String, String)> {
    let pair = String::from_utf8(BASE64.decode(encoded).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}
