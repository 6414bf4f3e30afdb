//! The entities that a configuration puts in force, as rows for people: what is nested stands by itself, what is left out has
//! its default, and of secrets it is said that they are there.

use event::in_force::{Entities, Entity, InForce, Version};
use event::layout::DataFolder;
use proxy::config::{Certificate, Consumer, Plugin, Route, Service, Upstream};
use serde::Serialize;
use serde_json::{Value, json};

use crate::config::{Config, Loaded};

/// Notes for `config.*` what is in force since a moment, and what of it is new. A gateway serves without it as well.
pub fn note(folder: &DataFolder, loaded: &Loaded<Config>, version: u64, since_us: i64) {
    let source = loaded.file().unwrap_or("no file").to_owned();
    let began = Version { version, since_us, source, ..Version::default() };
    let bounds = &loaded.value.reload;
    let mut now = InForce::load(folder).unwrap_or_else(|error| {
        tracing::warn!(%error, "what was in force before is not known");
        InForce::default()
    });
    let entities = entities(&loaded.value);
    now.succeed(began, entities, bounds.versions_max as usize, bounds.changes_max as usize);
    if let Err(error) = now.store(folder) {
        tracing::warn!(%error, "what is in force cannot be written for `config.*`");
    }
}

/// All entities, by kind. Of the section `gateway` there is one.
fn entities(config: &Config) -> Entities {
    let services = &config.services;
    let routes = config.routes.iter().map(|one| (one, None));
    let nested =
        services.iter().flat_map(|service| service.routes.iter().map(move |one| (one, Some(service))));
    let routes: Vec<(&Route, Option<&Service>)> = routes.chain(nested).collect();
    let plugins = config.plugins.iter().map(|one| plugin(one, None));
    let of_services = services.iter().flat_map(|service| {
        service
            .plugins
            .iter()
            .map(move |one| plugin(one, Some(("service", named(&service.name, &service.id)))))
    });
    let of_routes = routes.iter().flat_map(|(route, _)| {
        route.plugins.iter().map(move |one| plugin(one, Some(("route", named(&route.name, &route.id)))))
    });
    let mut gateway = row(&config.gateway);
    gateway.insert("name".to_owned(), json!("gateway"));
    let all = [
        ("services", services.iter().map(service).collect()),
        ("routes", routes.iter().map(|(one, service)| route(one, *service)).collect()),
        ("upstreams", config.upstreams.iter().map(upstream).collect()),
        ("targets", config.upstreams.iter().flat_map(targets).collect()),
        ("consumers", config.consumers.iter().map(consumer).collect()),
        ("credentials", config.consumers.iter().flat_map(credentials).collect()),
        ("plugins", plugins.chain(of_services).chain(of_routes).collect()),
        ("certificates", config.certificates.iter().map(|one| certificate(one, config)).collect()),
        ("gateway", vec![gateway]),
    ];
    all.into_iter().map(|(kind, rows): (&str, Vec<Entity>)| (kind.to_owned(), rows)).collect()
}

/// What is said, without what is not.
fn row(entity: &impl Serialize) -> Entity {
    let Ok(Value::Object(mut row)) = serde_json::to_value(entity) else { return Entity::new() };
    row.retain(|_, value| match value {
        Value::Null => false,
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    });
    row
}

/// The same with what holds where nothing is said.
fn with_defaults<const N: usize>(mut row: Entity, defaults: [(&str, Value); N]) -> Entity {
    for (field, value) in defaults {
        row.entry(field).or_insert(value);
    }
    row
}

fn named(name: &Option<String>, id: &Option<String>) -> Value {
    json!(name.as_ref().or(id.as_ref()))
}

/// A reference as the name or id that it gives.
fn flatten(row: &mut Entity, field: &str) {
    if let Some(Value::Object(reference)) = row.get(field) {
        let key = reference.get("name").filter(|name| !name.is_null()).or_else(|| reference.get("id"));
        let key = key.cloned().unwrap_or_default();
        row.insert(field.to_owned(), key);
    }
}

fn service(service: &Service) -> Entity {
    let mut row = row(service);
    for left in ["url", "routes", "plugins"] {
        row.remove(left);
    }
    let uri = service.url.as_deref().and_then(|url| url.parse::<http::Uri>().ok());
    if let Some(uri) = uri {
        // Its host alone: whoever may stand before it is nobody's business.
        let parts =
            [("protocol", json!(uri.scheme_str())), ("host", json!(uri.host())), ("path", json!(uri.path()))];
        row.extend(parts.map(|(field, value)| (field.to_owned(), value)));
        row.extend(uri.port_u16().map(|port| ("port".to_owned(), json!(port))));
    }
    for side in ["connect", "write", "read"] {
        let said = row.remove(&format!("{side}_timeout"));
        row.insert(format!("{side}_timeout_ms"), said.unwrap_or(json!(60_000)));
    }
    flatten(&mut row, "client_certificate");
    let mut row = with_defaults(row, [("protocol", json!("http")), ("path", json!("/"))]);
    let tls = matches!(row["protocol"].as_str(), Some("https" | "grpcs" | "tls"));
    row.entry("port").or_insert(json!(if tls { 443 } else { 80 }));
    let name = named(&service.name, &service.id);
    let name = if name.is_null() { row.get("host").cloned().unwrap_or_default() } else { name };
    with_defaults(row, [("name", name), ("retries", json!(5)), ("enabled", json!(true))])
}

fn route(route: &Route, service: Option<&Service>) -> Entity {
    let mut row = row(route);
    row.remove("plugins");
    match service {
        Some(service) => {
            row.insert("service".to_owned(), named(&service.name, &service.id));
        }
        None => flatten(&mut row, "service"),
    }
    with_defaults(
        row,
        [
            ("protocols", json!(["http", "https"])),
            ("strip_path", json!(true)),
            ("preserve_host", json!(false)),
            ("path_handling", json!("v0")),
            ("regex_priority", json!(0)),
        ],
    )
}

fn upstream(upstream: &Upstream) -> Entity {
    let mut row = row(upstream);
    row.remove("targets");
    // Checks may carry what a target lets nobody in without.
    if let Some(headers) =
        row.get_mut("healthchecks").and_then(|checks| checks.pointer_mut("/active/headers"))
        && let Value::Object(headers) = headers
    {
        headers.values_mut().for_each(|values| *values = json!("(not shown)"));
    }
    with_defaults(row, [("algorithm", json!("round-robin")), ("hash_on", json!("none"))])
}

fn targets(upstream: &Upstream) -> Vec<Entity> {
    let targets = upstream.targets.iter().map(|target| {
        let mut row = row(target);
        row.insert("upstream".to_owned(), json!(upstream.name));
        with_defaults(row, [("weight", json!(100)), ("failover", json!(false))])
    });
    targets.collect()
}

fn consumer(consumer: &Consumer) -> Entity {
    let mut row = row(consumer);
    let keys = consumer.keyauth_credentials.len();
    row.remove("keyauth_credentials");
    row.insert("credentials".to_owned(), json!(keys));
    row
}

/// Whose they are and what events call them; never what they are.
fn credentials(consumer: &Consumer) -> Vec<Entity> {
    let owner = consumer.username.as_ref().or(consumer.custom_id.as_ref()).or(consumer.id.as_ref());
    let keys = consumer.keyauth_credentials.iter().enumerate().map(|(at, key)| {
        let mut row = row(key);
        row.remove("key");
        let fallback = format!("{}/{at}", owner.map_or("", String::as_str));
        with_defaults(row, [("id", json!(fallback)), ("consumer", json!(owner)), ("kind", json!("key-auth"))])
    });
    keys.collect()
}

fn plugin(plugin: &Plugin, place: Option<(&str, Value)>) -> Entity {
    let mut row = row(plugin);
    for scope in ["service", "route", "consumer"] {
        flatten(&mut row, scope);
    }
    row.extend(place.map(|(field, name)| (field.to_owned(), name)));
    with_defaults(row, [("enabled", json!(true))])
}

fn certificate(certificate: &Certificate, config: &Config) -> Entity {
    let mut row = row(certificate);
    for left in ["cert", "key"] {
        row.remove(left);
    }
    let own = certificate.snis.iter().map(|sni| sni.name().to_owned());
    let others = config.snis.iter().filter(|sni| Some(sni.certificate.key()) == certificate.id.as_deref());
    let names: Vec<String> = own.chain(others.map(|sni| sni.name.clone())).collect();
    row.insert("snis".to_owned(), json!(names));
    row
}
