//! Who a client is, by SCRAM-SHA-256 (RFC 5802 and 7677, as PostgreSQL uses them): no secret passes the wire, and who
//! listens learns nothing to log in with. A user that there is not takes the same steps as one with a wrong password.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use event::Secret;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;

use crate::access::Caller;

/// The mechanism.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";
/// Iterations of the key derivation, of which only a client that guesses has the cost.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 18;
/// Longest nonce of a client.
const NONCE_CHARS_MAX: usize = 256;

type Hash = [u8; digest::SHA256_OUTPUT_LEN];

/// The exchange is not the one of the standard, or does not prove anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// Words that are none of the exchange.
    #[error("malformed SCRAM message")]
    Malformed,
    /// The client wants its TLS connection to be part of the proof.
    #[error("channel binding is not offered: SCRAM-SHA-256 without -PLUS is")]
    Binding,
    /// The proof is none.
    #[error("wrong password")]
    Wrong,
}

/// What a user's password is checked against.
#[derive(Clone)]
struct Verifier {
    salt: [u8; SALT_BYTES],
    stored_key: Hash,
    server_key: Hash,
}

impl Verifier {
    fn of(secret: &Secret, salt: [u8; SALT_BYTES]) -> Self {
        let mut salted: Hash = Hash::default();
        // Secrets are visible ASCII, which SASLprep leaves as it is.
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ITERATIONS,
            &salt,
            secret.reveal().as_bytes(),
            &mut salted,
        );
        let client_key = sign(&salted, b"Client Key");
        Self { salt, stored_key: hash(&client_key), server_key: sign(&salted, b"Server Key") }
    }
}

/// All who may log in.
pub(super) struct Users {
    known: HashMap<String, (Arc<Caller>, Verifier)>,
    /// Gives each unknown name a salt that stays the same.
    unknown: hmac::Key,
    random: SystemRandom,
}

impl Users {
    /// Derives the keys of each.
    pub(super) fn new<'a>(callers: impl Iterator<Item = (&'a Secret, &'a Arc<Caller>)>) -> Self {
        let random = SystemRandom::new();
        let known = callers.map(|(secret, caller)| {
            (caller.name.clone(), (Arc::clone(caller), Verifier::of(secret, bytes(&random))))
        });
        Self {
            known: known.collect(),
            unknown: hmac::Key::new(hmac::HMAC_SHA256, &bytes::<32>(&random)),
            random,
        }
    }

    /// Answers the first word of a client that says to be `user`.
    pub(super) fn begin(&self, user: &str, first: &[u8]) -> Result<Exchange, Failure> {
        let first = std::str::from_utf8(first).map_err(|_| Failure::Malformed)?;
        let (binding, rest) = first.split_once(',').ok_or(Failure::Malformed)?;
        match binding {
            // It cannot, or thinks that this side cannot.
            "n" | "y" => {}
            other if other.starts_with("p=") => return Err(Failure::Binding),
            _ => return Err(Failure::Malformed),
        }
        // Nobody acts for somebody else.
        let bare = rest.strip_prefix(',').ok_or(Failure::Malformed)?;
        // The name stands in the start-up message; here it is ignored, as PostgreSQL does.
        let (_, nonce) =
            bare.strip_prefix("n=").and_then(|rest| rest.split_once(',')).ok_or(Failure::Malformed)?;
        let nonce = nonce.strip_prefix("r=").ok_or(Failure::Malformed)?;
        let nonce = nonce.split(',').next().unwrap_or_default();
        let plain = |byte: u8| (0x21..0x7f).contains(&byte);
        if nonce.is_empty() || nonce.len() > NONCE_CHARS_MAX || !nonce.bytes().all(plain) {
            return Err(Failure::Malformed);
        }
        let nonce = format!("{nonce}{}", BASE64_STANDARD.encode(bytes::<NONCE_BYTES>(&self.random)));
        let (caller, verifier) = match self.known.get(user) {
            Some((caller, verifier)) => (Some(Arc::clone(caller)), verifier.clone()),
            None => (None, self.nobody(user)),
        };
        let said = format!("r={nonce},s={},i={ITERATIONS}", BASE64_STANDARD.encode(verifier.salt));
        Ok(Exchange { header: format!("{binding},,"), bare: bare.to_owned(), nonce, said, caller, verifier })
    }

    /// A verifier that no proof meets.
    fn nobody(&self, user: &str) -> Verifier {
        let tag = hmac::sign(&self.unknown, user.as_bytes());
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&tag.as_ref()[..SALT_BYTES]);
        Verifier { salt, stored_key: bytes(&self.random), server_key: bytes(&self.random) }
    }
}

/// An exchange whose last word is awaited.
pub(super) struct Exchange {
    header: String,
    bare: String,
    nonce: String,
    /// What the server has said first.
    pub(super) said: String,
    caller: Option<Arc<Caller>>,
    verifier: Verifier,
}

impl Exchange {
    /// Checks the proof: who it is, and what proves the server to the client.
    pub(super) fn finish(self, last: &[u8]) -> Result<(Arc<Caller>, String), Failure> {
        let last = std::str::from_utf8(last).map_err(|_| Failure::Malformed)?;
        let (unproved, proof) = last.rsplit_once(",p=").ok_or(Failure::Malformed)?;
        let (channel, rest) =
            unproved.strip_prefix("c=").and_then(|rest| rest.split_once(",r=")).ok_or(Failure::Malformed)?;
        let nonce = rest.split(',').next().unwrap_or_default();
        if channel != BASE64_STANDARD.encode(&self.header) || nonce != self.nonce {
            return Err(Failure::Malformed);
        }
        let proof = BASE64_STANDARD.decode(proof).ok().and_then(|proof| Hash::try_from(proof).ok());
        let mut client_key = proof.ok_or(Failure::Malformed)?;
        let words = format!("{},{},{unproved}", self.bare, self.said);
        let signature = sign(&self.verifier.stored_key, words.as_bytes());
        client_key.iter_mut().zip(signature).for_each(|(key, signed)| *key ^= signed);
        let proved = bool::from(hash(&client_key).ct_eq(&self.verifier.stored_key));
        let server = sign(&self.verifier.server_key, words.as_bytes());
        match self.caller {
            Some(caller) if proved => Ok((caller, format!("v={}", BASE64_STANDARD.encode(server)))),
            _ => Err(Failure::Wrong),
        }
    }
}

/// Random bytes of the system.
pub(super) fn bytes<const N: usize>(random: &SystemRandom) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes).expect("the system has random numbers once it is up");
    bytes
}

fn sign(key: &Hash, text: &[u8]) -> Hash {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn hash(bytes: &[u8]) -> Hash {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AnalyticsConfig;
    use crate::access::{Access, TokenConfig};

    const SECRET: &str = "0123456789abcdef";

    fn users() -> Users {
        let token = TokenConfig { name: "grafana".into(), secret: SECRET.into(), ..TokenConfig::default() };
        let config = AnalyticsConfig { tokens: vec![token], ..AnalyticsConfig::default() };
        let access = Access::new(&config);
        Users::new(access.named())
    }

    /// A client that knows a password.
    fn answer(said: &str, header: &str, bare: &str, password: &str) -> String {
        let part = |name: &str| said.split(',').find_map(|part| part.strip_prefix(name)).unwrap().to_owned();
        let salt = BASE64_STANDARD.decode(part("s=")).unwrap();
        let verifier_salt: [u8; SALT_BYTES] = salt.try_into().unwrap();
        let mut salted = Hash::default();
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            part("i=").parse().unwrap(),
            &verifier_salt,
            password.as_bytes(),
            &mut salted,
        );
        let client_key = sign(&salted, b"Client Key");
        let unproved = format!("c={},r={}", BASE64_STANDARD.encode(header), part("r="));
        let signature = sign(&hash(&client_key), format!("{bare},{said},{unproved}").as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(signature).map(|(key, signed)| key ^ signed).collect();
        format!("{unproved},p={}", BASE64_STANDARD.encode(proof))
    }

    #[test]
    fn only_who_knows_the_secret_of_its_name_is_let_in() {
        let users = users();
        let ask = |user: &str, header: &str, password: &str| {
            let bare = "n=,r=abc";
            let exchange = users.begin(user, format!("{header}{bare}").as_bytes()).unwrap();
            let last = answer(&exchange.said, header, bare, password);
            exchange.finish(last.as_bytes()).map(|(caller, _)| caller.name.clone())
        };
        assert_eq!(ask("grafana", "n,,", SECRET), Ok("grafana".to_owned()));
        assert_eq!(ask("grafana", "y,,", SECRET), Ok("grafana".to_owned()));
        assert_eq!(ask("grafana", "n,,", "0123456789abcdeF"), Err(Failure::Wrong));
        assert_eq!(ask("nobody", "n,,", SECRET), Err(Failure::Wrong));
        assert_eq!(ask("", "n,,", ""), Err(Failure::Wrong));
    }

    #[test]
    fn an_unknown_user_looks_like_a_known_one() {
        let users = users();
        let said = |user: &str| users.begin(user, b"n,,n=,r=abc").unwrap().said;
        let salt = |user: &str| said(user).split(',').nth(1).unwrap().to_owned();
        assert_eq!(salt("nobody"), salt("nobody"), "the same salt each time");
        assert_eq!(salt("grafana"), salt("grafana"));
        assert_ne!(salt("nobody"), salt("somebody"));
        assert_eq!(said("nobody").len(), said("grafana").len());
        assert_ne!(said("grafana"), said("grafana"), "a nonce is used once");
    }

    #[test]
    fn an_exchange_that_is_not_the_standards_is_refused() {
        let users = users();
        for (first, failure) in [
            ("p=tls-server-end-point,,n=,r=abc", Failure::Binding),
            ("n,a=root,n=,r=abc", Failure::Malformed),
            ("n,,n=,r=", Failure::Malformed),
            ("n,,r=abc", Failure::Malformed),
            ("n,,n=,m=x,r=abc", Failure::Malformed),
            ("", Failure::Malformed),
        ] {
            assert_eq!(users.begin("grafana", first.as_bytes()).err(), Some(failure), "{first}");
        }
        let begin = || users.begin("grafana", b"n,,n=,r=abc").unwrap();
        let good = |exchange: &Exchange| answer(&exchange.said, "n,,", "n=,r=abc", SECRET);
        let exchange = begin();
        let replayed = good(&exchange);
        assert!(exchange.finish(replayed.as_bytes()).is_ok());
        assert_eq!(begin().finish(replayed.as_bytes()).err(), Some(Failure::Malformed), "another nonce");
        let exchange = begin();
        let downgraded = good(&exchange).replace("c=biws", "c=eSws");
        assert_eq!(exchange.finish(downgraded.as_bytes()).err(), Some(Failure::Malformed));
        assert_eq!(begin().finish(b"c=biws").err(), Some(Failure::Malformed));
    }
}
