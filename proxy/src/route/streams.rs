//! Which route a TCP or TLS stream takes, by the server name that its client asks for and by its two ends, in Kong's
//! order: more kinds of attributes first, then name before source before destination.

use crate::plan::TrustedNetworks;
use foldhash::fast::FixedState;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::SocketAddr;

/// One route of streams.
#[derive(Debug, Default)]
pub(crate) struct StreamRoute {
    pub name: String,
    pub service: usize,
    /// `tcp`: any bytes.
    pub tcp: bool,
    /// `tls`: TLS that is ended here.
    pub tls: bool,
    /// `tls_passthrough`: TLS that goes on as it is.
    pub passthrough: bool,
}

/// What a route asks of a stream.
#[derive(Debug, Default)]
pub(crate) struct StreamMatches {
    pub snis: Vec<String>,
    pub sources: Vec<Side>,
    pub destinations: Vec<Side>,
    pub created_at: Option<u64>,
}

/// One end, as far as it is asked for.
#[derive(Debug, Default)]
pub(crate) struct Side {
    pub network: Option<TrustedNetworks>,
    pub port: Option<u16>,
}

impl Side {
    fn holds(&self, addr: SocketAddr) -> bool {
        self.port.is_none_or(|port| port == addr.port())
            && self.network.as_ref().is_none_or(|network| network.contains(addr.ip()))
    }
}

/// What a stream shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamAsked<'a> {
    /// Whether it begins with TLS.
    pub tls: bool,
    /// Whether the listener can end it.
    pub ends_tls: bool,
    pub sni: Option<&'a str>,
    pub from: SocketAddr,
    pub to: SocketAddr,
}

/// All routes of streams, in order.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub routes: Vec<StreamRoute>,
    matches: Vec<StreamMatches>,
    /// Places of the routes of each name, and of those without names.
    named: HashMap<Box<str>, Vec<usize>, FixedState>,
    unnamed: Vec<usize>,
}

impl Streams {
    pub fn new(mut all: Vec<(StreamRoute, StreamMatches)>) -> Self {
        // Stable: of equals the first of the file.
        all.sort_by_key(|(_, asks)| {
            let kinds = [!asks.snis.is_empty(), !asks.sources.is_empty(), !asks.destinations.is_empty()];
            let count = kinds.iter().filter(|asked| **asked).count();
            (Reverse((count, kinds)), asks.created_at.unwrap_or(u64::MAX))
        });
        let mut streams = Self::default();
        for (at, (route, asks)) in all.into_iter().enumerate() {
            for name in &asks.snis {
                streams.named.entry(name.as_str().into()).or_default().push(at);
            }
            if asks.snis.is_empty() {
                streams.unnamed.push(at);
            }
            streams.routes.push(route);
            streams.matches.push(asks);
        }
        streams
    }

    /// The first route that takes a stream.
    pub fn find(&self, asked: &StreamAsked<'_>) -> Option<&StreamRoute> {
        let first = |places: &[usize]| places.iter().copied().find(|at| self.holds(*at, asked));
        let named = asked.sni.and_then(|name| first(self.named.get(name)?));
        let unnamed = first(&self.unnamed);
        named.into_iter().chain(unnamed).min().map(|at| &self.routes[at])
    }

    fn holds(&self, at: usize, asked: &StreamAsked<'_>) -> bool {
        let (route, asks) = (&self.routes[at], &self.matches[at]);
        let kind = if asked.tls { route.passthrough || (route.tls && asked.ends_tls) } else { route.tcp };
        let one = |sides: &[Side], addr| sides.is_empty() || sides.iter().any(|side| side.holds(addr));
        kind && one(&asks.sources, asked.from) && one(&asks.destinations, asked.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(network: &str, port: Option<u16>) -> Side {
        let mut networks = TrustedNetworks::default();
        assert!(network.is_empty() || networks.add(network));
        Side { network: (!network.is_empty()).then_some(networks), port }
    }

    fn route(name: &str, kinds: &str) -> StreamRoute {
        let has = |kind| kinds.split(' ').any(|one| one == kind);
        StreamRoute {
            name: name.into(),
            service: 0,
            tcp: has("tcp"),
            tls: has("tls"),
            passthrough: has("tls_passthrough"),
        }
    }

    #[test]
    fn more_kinds_come_first_then_names_before_sources_before_destinations() {
        let asks = |snis: &[&str], sources: Vec<Side>, destinations: Vec<Side>| StreamMatches {
            snis: snis.iter().map(|name| (*name).to_owned()).collect(),
            sources,
            destinations,
            created_at: None,
        };
        let streams = Streams::new(vec![
            (route("port", "tcp tls"), asks(&[], vec![], vec![side("", Some(9000))])),
            (route("network", "tcp tls"), asks(&[], vec![side("10.0.0.0/8", None)], vec![])),
            (route("both", "tcp"), asks(&[], vec![side("10.1.0.0/16", None)], vec![side("", Some(9000))])),
            (route("name", "tls"), asks(&["a.x", "b.x"], vec![], vec![])),
            (route("through", "tls_passthrough"), asks(&["c.x"], vec![], vec![])),
            (route("later", "tls_passthrough"), asks(&["c.x"], vec![], vec![])),
        ]);
        let find = |tls, sni, from: &str, port| {
            let (from, to) =
                (SocketAddr::new(from.parse().unwrap(), 1), SocketAddr::new([1, 1, 1, 1].into(), port));
            let asked = StreamAsked { tls, ends_tls: true, sni, from, to };
            streams.find(&asked).map_or("", |route| &route.name)
        };
        assert_eq!(find(false, None, "10.1.2.3", 9000), "both");
        assert_eq!(find(false, None, "10.2.2.3", 9000), "network");
        assert_eq!(find(false, None, "11.2.2.3", 9000), "port");
        assert_eq!(find(false, None, "11.2.2.3", 9001), "");
        assert_eq!(find(true, Some("b.x"), "10.1.2.3", 9000), "name");
        assert_eq!(find(true, Some("c.x"), "10.1.2.3", 9000), "through");
        assert_eq!(find(true, Some("d.x"), "10.1.2.3", 9000), "network");
        assert_eq!(find(true, None, "11.1.2.3", 9000), "port");
        let (from, to) = ("11.0.0.1:1".parse().unwrap(), "1.1.1.1:1".parse().unwrap());
        let asked = StreamAsked { tls: true, ends_tls: false, sni: Some("a.x"), from, to };
        assert!(streams.find(&asked).is_none(), "where nobody ends it");
    }
}
