//! `trusted_ips`: networks whose word about the client is believed.

use std::net::IpAddr;

/// Networks in CIDR notation, IPv4 mapped into IPv6.
#[derive(Debug, Default)]
pub(crate) struct TrustedNetworks(Vec<(u128, u32)>);

impl TrustedNetworks {
    /// Adds `address` or `address/prefix`; false when it is neither.
    pub fn add(&mut self, text: &str) -> bool {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let Ok(address) = address.parse::<IpAddr>() else { return false };
        let offset = if address.is_ipv4() { 96 } else { 0 };
        let bits = match prefix.map(str::parse::<u32>) {
            None => 128,
            Some(Ok(bits)) if bits + offset <= 128 => bits + offset,
            Some(_) => return false,
        };
        self.0.push((number(address) & mask(bits), bits));
        true
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        !self.0.is_empty() && self.0.iter().any(|(network, bits)| number(address) & mask(*bits) == *network)
    }
}

fn number(address: IpAddr) -> u128 {
    u128::from_be_bytes(event::ip_bytes(address))
}

fn mask(bits: u32) -> u128 {
    u128::MAX.checked_shl(128 - bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_what_they_should() {
        let mut trusted = TrustedNetworks::default();
        assert!(trusted.add("10.0.0.0/8") && trusted.add("192.168.1.7") && trusted.add("fd00::/8"));
        for (address, held) in [
            ("10.9.8.7", true),
            ("11.0.0.1", false),
            ("192.168.1.7", true),
            ("192.168.1.8", false),
            ("fd12::1", true),
        ] {
            assert_eq!(trusted.contains(address.parse().unwrap()), held, "{address}");
        }
        assert!(!trusted.add("10.0.0.0/33") && !trusted.add("host") && !trusted.add("::/129"));
        let mut all = TrustedNetworks::default();
        assert!(all.add("0.0.0.0/0"));
        assert!(all.contains("1.2.3.4".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
    }
}
