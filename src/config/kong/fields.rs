//! What becomes of the fields of a Kong file that a native file does not have. Every other field goes on as it is: the
//! native schema knows it, or refuses it as unknown.

/// Lists of a Kong file that a native file may not have, and what to do without them.
pub(super) const LISTS: &[(&str, &str)] = &[
    ("acls", "the plugin acl is not in this version"),
    ("basicauth_credentials", "the plugin basic-auth is not in this version; key-auth is"),
    ("consumer_group_consumers", "plugins of consumer groups are not in this version"),
    ("consumer_group_plugins", "plugins of consumer groups are not in this version"),
    ("consumer_groups", "plugins of consumer groups are not in this version"),
    ("custom_plugins", "plugins written in Lua cannot run here"),
    ("degraphql_routes", "the plugin degraphql is not in this version"),
    ("filter_chains", "WebAssembly filters are not in this version"),
    ("graphql_ratelimiting_advanced_cost_decoration", "the plugin is not in this version"),
    ("hmacauth_credentials", "the plugin hmac-auth is not in this version; key-auth is"),
    ("jwt_secrets", "the plugin jwt is not in this version; key-auth is"),
    ("key_sets", "the plugins that use key sets are not in this version"),
    ("keys", "the plugins that use keys are not in this version"),
    ("licenses", "there is no licence: leave it out"),
    ("mtls_auth_credentials", "the plugin mtls-auth is not in this version; key-auth is"),
    ("oauth2_credentials", "the plugin oauth2 is not in this version; key-auth is"),
    ("parameters", "leave it out"),
    ("partials", "write the settings out at each plugin"),
    ("rbac_roles", "roles belong to an Admin API, which is not in this version"),
    ("rbac_users", "roles belong to an Admin API, which is not in this version"),
    ("workspaces", "run one gateway for each workspace"),
];

/// Fields, and what to do without them.
pub(super) const FIELDS: &[(&str, &str, &str)] = &[
    ("services", "tls_sans", "the name that is verified is that of the host"),
    ("services", "client_certificate_id", "leave it out"),
    ("services", "filter_chains", "WebAssembly filters are not in this version"),
    (
        "routes",
        "expression",
        "the expressions router is not in this version: write hosts, paths, methods, headers",
    ),
    ("routes", "priority", "belongs to the expressions router: order routes by their attributes"),
    ("routes", "filter_chains", "WebAssembly filters are not in this version"),
    ("upstreams", "client_certificate", "give it at the services"),
    ("consumers", "acls", "the plugin acl is not in this version"),
    ("consumers", "basicauth_credentials", "the plugin basic-auth is not in this version; key-auth is"),
    ("consumers", "groups", "plugins of consumer groups are not in this version"),
    ("consumers", "hmacauth_credentials", "the plugin hmac-auth is not in this version; key-auth is"),
    ("consumers", "jwt_secrets", "the plugin jwt is not in this version; key-auth is"),
    ("consumers", "mtls_auth_credentials", "the plugin mtls-auth is not in this version; key-auth is"),
    ("consumers", "oauth2_credentials", "the plugin oauth2 is not in this version; key-auth is"),
    ("consumers", "plugins", "no plugin that can belong to a consumer is in this version"),
    ("keyauth_credentials", "ttl", "keys do not end by themselves: take it out of the file when it is over"),
    ("certificates", "cert_alt", "a certificate has one key: ECDSA or RSA"),
    ("certificates", "key_alt", "a certificate has one key: ECDSA or RSA"),
    ("certificates", "passphrase", "keys are read as they are: keep them in a vault of the environment"),
    ("plugins", "consumer_group", "plugins of consumer groups are not in this version"),
    ("plugins", "ordering", "plugins run in Kong's order"),
    ("plugins", "partials", "write the settings out at the plugin"),
    ("plugins", "condition", "bind the plugin to a route"),
    ("plugins", "_config", "write the settings out at the plugin"),
    ("plugins", "run_on", "there is no service mesh: leave it out"),
];

/// Values of fields that say what holds without them; dumps write them out.
pub(super) const INERT: &[(&str, &str, &str)] = &[
    ("routes", "response_buffering", "true"),
    ("routes", "response_buffering", "false"),
    ("plugins", "run_on", "first"),
];

/// What Kong keeps about its own book-keeping; nothing that a request meets depends on it.
pub(super) const BOOK_KEEPING: [&str; 5] = ["created_at", "updated_at", "_comment", "_ignore", "ws_id"];

/// What to do without a field.
pub(super) fn way_out(entity: &str, field: &str) -> Option<&'static str> {
    let known = FIELDS.iter().find(|(of, name, _)| *of == entity && *name == field);
    known.map(|(_, _, hint)| *hint)
}

/// Whether a value says what holds anyway.
pub(super) fn is_inert(entity: &str, field: &str, value: &str) -> bool {
    INERT.contains(&(entity, field, value))
}
