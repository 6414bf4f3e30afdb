//! Names of targets: which records are asked for, and what their answers mean.

use crate::config::RecordKind;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, Resolver, TokioResolver, system_conf};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Where glibc asks when it is told nothing.
const LOCAL_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 53);

/// How names are looked up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DnsPlan {
    /// Name servers; none for those of the system.
    pub resolvers: Vec<SocketAddr>,
    pub order: Vec<RecordKind>,
    pub timeout: Duration,
    pub attempts: usize,
    pub ttl_min: Duration,
    pub ttl_max: Duration,
    pub retry_interval: Duration,
    pub addresses_max: usize,
}

/// What is known of a target's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Waiting,
    Failed,
    Addresses(Vec<Address>),
}

/// An address, and what an SRV record says of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub addr: SocketAddr,
    pub weight: Option<u32>,
    pub host: Option<String>,
}

/// Addresses of a name, and until when they are good.
pub(super) struct Answer {
    pub addresses: Vec<Address>,
    pub valid_until: Instant,
}

/// Asks name servers.
pub(super) struct Names {
    resolver: TokioResolver,
    hosts: Hosts,
}

impl Names {
    /// To be called on a runtime.
    pub fn new(plan: &DnsPlan) -> Result<Self, NetError> {
        let (mut config, mut options) = if plan.resolvers.is_empty() {
            system_conf::read_system_conf().unwrap_or_default()
        } else {
            (ResolverConfig::default(), ResolverOpts::default())
        };
        if config.name_servers().is_empty() {
            let local = [LOCAL_SERVER];
            for server in if plan.resolvers.is_empty() { &local[..] } else { &plan.resolvers } {
                config.add_name_server(name_server(*server));
            }
        }
        options.timeout = plan.timeout;
        options.attempts = plan.attempts;
        // Answers are kept here, by their TTL.
        options.cache_size = 0;
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        Ok(Self { resolver: builder.build()?, hosts: Hosts::from_system().unwrap_or_default() })
    }

    /// The addresses of a name: the hosts file's, else those of the first kind of record that it has.
    pub async fn lookup(&self, plan: &DnsPlan, host: &str, port: u16) -> Result<Answer, NetError> {
        if let Some(answer) = self.listed_in_hosts(host, port) {
            return Ok(answer);
        }
        let mut missing = NetError::from("no kind of record is asked for");
        for kind in &plan.order {
            let found = match kind {
                RecordKind::Srv => self.services(plan, host).await,
                RecordKind::A => self.addresses(host, port, RecordType::A).await,
                RecordKind::Aaaa => self.addresses(host, port, RecordType::AAAA).await,
            };
            match found {
                Ok(mut answer) if !answer.addresses.is_empty() => {
                    answer.addresses.sort_unstable();
                    answer.addresses.dedup_by_key(|address| address.addr);
                    answer.addresses.truncate(plan.addresses_max);
                    return Ok(answer);
                }
                Ok(_) => {}
                // A server that does not answer will not do so for another kind.
                Err(error) if !error.is_no_records_found() => return Err(error),
                Err(error) => missing = error,
            }
        }
        Err(missing)
    }

    fn listed_in_hosts(&self, host: &str, port: u16) -> Option<Answer> {
        let mut name = Name::from_utf8(host).ok()?;
        name.set_fqdn(true);
        let kinds = [RecordType::A, RecordType::AAAA];
        let found = kinds
            .into_iter()
            .find_map(|kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind)))?;
        Some(addresses_in(&found, port))
    }

    async fn addresses(&self, host: &str, port: u16, kind: RecordType) -> Result<Answer, NetError> {
        Ok(addresses_in(&self.resolver.lookup(host, kind).await?, port))
    }

    /// SRV (RFC 2782): the records of the lowest priority, each with its own port and weight.
    async fn services(&self, plan: &DnsPlan, host: &str) -> Result<Answer, NetError> {
        let found = self.resolver.lookup(host, RecordType::SRV).await?;
        let services = || {
            found.answers().iter().filter_map(|record| match &record.data {
                RData::SRV(service) => Some(service),
                _ => None,
            })
        };
        let mut answer = Answer { addresses: Vec::new(), valid_until: found.valid_until() };
        let first = services().map(|service| service.priority).min();
        let chosen = services().filter(|service| Some(service.priority) == first);
        for service in chosen.take(plan.addresses_max) {
            let host = service.target.to_utf8();
            for kind in [RecordType::A, RecordType::AAAA] {
                match self.addresses(&host, service.port, kind).await {
                    Ok(found) if !found.addresses.is_empty() => {
                        answer.valid_until = answer.valid_until.min(found.valid_until);
                        // As Kong has it: a weight of 0 would take nothing at all.
                        let weight = u32::from(service.weight).max(1);
                        let of = |found: Address| Address {
                            weight: Some(weight),
                            host: Some(host.clone()),
                            ..found
                        };
                        answer.addresses.extend(found.addresses.into_iter().map(of));
                        break;
                    }
                    Ok(_) => {}
                    Err(error) if error.is_no_records_found() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(answer)
    }
}

fn addresses_in(found: &Lookup, port: u16) -> Answer {
    let ips = found.answers().iter().filter_map(|record| match &record.data {
        RData::A(v4) => Some(IpAddr::V4(v4.0)),
        RData::AAAA(v6) => Some(IpAddr::V6(v6.0)),
        _ => None,
    });
    Answer {
        addresses: ips
            .map(|ip| Address { addr: SocketAddr::new(ip, port), weight: None, host: None })
            .collect(),
        valid_until: found.valid_until(),
    }
}

fn name_server(addr: SocketAddr) -> NameServerConfig {
    let at_port = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = addr.port();
        connection
    };
    NameServerConfig::new(addr.ip(), true, [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(at_port).to_vec())
}
