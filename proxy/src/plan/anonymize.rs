//! Rules of `gateway.anonymize`, checked and given to the services that they are for; and what they do to an event.

use super::ServicePlan;
use crate::config::Anonymize;
use event::{Draft, Problem, Text};

/// How much of an address is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    ipv4_prefix: u8,
    ipv6_prefix: u8,
}

/// How IPv4 addresses begin that are mapped into IPv6 (RFC 4291, section 2.5.5.2).
const MAPPED: u128 = 0xffff << 32;
const MAPPED_BITS: u8 = 96;

impl Kept {
    /// Cuts the addresses of the client, and leaves out what it claims about others.
    pub fn apply(self, draft: &mut Draft) {
        draft.head.client_ip = self.cut(draft.head.client_ip);
        draft.head.peer_ip = self.cut(draft.head.peer_ip);
        draft.forget(Text::ForwardedFor);
    }

    fn cut(self, address: [u8; 16]) -> [u8; 16] {
        let address = u128::from_be_bytes(address);
        let kept =
            if address >> 32 == MAPPED >> 32 { MAPPED_BITS + self.ipv4_prefix } else { self.ipv6_prefix };
        let mask = u128::MAX.checked_shl(128 - u32::from(kept)).unwrap_or_default();
        (address & mask).to_be_bytes()
    }
}

/// Gives each service the first rule that is for it; returns that for requests without a service.
pub(super) fn check(
    rules: &[Anonymize],
    services: &mut [ServicePlan],
    problems: &mut Vec<Problem>,
) -> Option<Kept> {
    let mut without = None;
    for (at, rule) in rules.iter().enumerate() {
        let path = format!("gateway.anonymize[{at}]");
        for (field, prefix, most) in
            [("ipv4_prefix", rule.ipv4_prefix, 32), ("ipv6_prefix", rule.ipv6_prefix, 128)]
        {
            if prefix > most {
                problems.push(Problem::new(format!("{path}.{field}"), format!("must be at most {most}")));
            }
        }
        for (place, name) in rule.services.iter().enumerate() {
            if !services.iter().any(|service| service.name == *name) {
                problems.push(Problem::new(
                    format!("{path}.services[{place}]"),
                    format!("there is no service `{name}`"),
                ));
            }
        }
        let kept = Kept { ipv4_prefix: rule.ipv4_prefix, ipv6_prefix: rule.ipv6_prefix };
        for service in services.iter_mut() {
            if rule.services.is_empty() || rule.services.contains(&service.name) {
                service.kept.get_or_insert(kept);
            }
        }
        if rule.services.is_empty() {
            without.get_or_insert(kept);
        }
    }
    without
}

#[cfg(test)]
mod tests {
    use super::*;
    use event::{ip_bytes, ip_from_bytes};

    fn cut(address: &str, ipv4_prefix: u8, ipv6_prefix: u8) -> Option<String> {
        let kept = Kept { ipv4_prefix, ipv6_prefix };
        ip_from_bytes(kept.cut(ip_bytes(address.parse().unwrap()))).map(|address| address.to_string())
    }

    #[test]
    fn the_first_bits_of_an_address_are_kept() {
        for (address, kept) in [
            ("203.0.113.77", "203.0.113.0"),
            ("::ffff:203.0.113.77", "203.0.113.0"),
            ("2001:db8:1234:5678::9", "2001:db8:1234::"),
        ] {
            assert_eq!(cut(address, 24, 48).as_deref(), Some(kept), "{address}");
        }
        assert_eq!(cut("203.0.113.77", 32, 0).as_deref(), Some("203.0.113.77"));
        assert_eq!(cut("203.0.113.77", 0, 0).as_deref(), Some("0.0.0.0"));
        assert_eq!(cut("203.0.113.77", 9, 0).as_deref(), Some("203.0.0.0"));
        assert_eq!(cut("2001:db8::1", 0, 128).as_deref(), Some("2001:db8::1"));
        assert_eq!(cut("2001:db8::1", 0, 0), None);
    }
}
