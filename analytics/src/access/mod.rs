//! Who may ask, and what of: one model for every door.
//!
//! A token names a [`Caller`]: a role with limits, and a [`Scope`] of rows that the caller's tables are made of. Without any
//! token configured everybody is the same caller who may see everything, which is why the service then listens on loopback
//! only, unless told otherwise.

mod config;

mod memory;

mod scope;

use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

pub use config::{RoleConfig, TokenConfig};
pub(crate) use config::{open_to_all, problems};
pub(crate) use memory::SharePool;
pub(crate) use scope::{Scope, ScopedSource, choose};

use crate::AnalyticsConfig;
use event::Secret;

/// What callers without a token are called.
const NOBODY: &str = "anonymous";

/// Someone who asks.
#[derive(Debug)]
pub struct Caller {
    /// The name of the token; `anonymous` without one.
    pub name: String,
    /// The rows that there are for this caller.
    pub(crate) scope: Scope,
    pub(crate) role: Arc<Role>,
}

/// Limits that some callers have together.
#[derive(Debug)]
pub(crate) struct Role {
    /// Its place among the roles.
    pub(crate) index: usize,
    pub(crate) system: bool,
    pub(crate) timeout: Duration,
    pub(crate) rows_max: u64,
    pub(crate) memory_bytes_max: u64,
    pub(crate) turns: Arc<Semaphore>,
}

impl Caller {
    /// Whether the schemas `system` and `config` are shown, beyond the caller's own queries and the plans.
    pub(crate) fn sees_system(&self) -> bool {
        self.role.system && self.scope.is_all()
    }
}

/// All who may ask.
#[derive(Debug)]
pub(crate) struct Access {
    callers: Vec<(Secret, Arc<Caller>)>,
    nobody: Option<Arc<Caller>>,
    pub(crate) roles: Vec<Arc<Role>>,
}

impl Access {
    pub(crate) fn new(config: &AnalyticsConfig) -> Self {
        let role = |index: usize, role: &RoleConfig| {
            let concurrency =
                role.concurrency_max.unwrap_or(config.concurrency_max).min(config.concurrency_max);
            Arc::new(Role {
                index,
                system: role.system,
                timeout: Duration::from_millis(
                    role.timeout_ms.unwrap_or(config.timeout_ms).min(config.timeout_ms),
                ),
                rows_max: role.rows_max.unwrap_or(config.rows_max).min(config.rows_max),
                memory_bytes_max: role.memory_bytes_max.unwrap_or(u64::MAX).min(config.memory_bytes_max),
                turns: Arc::new(Semaphore::new(concurrency.into())),
            })
        };
        // The first has the limits of the service.
        let mut roles = vec![role(0, &RoleConfig::default())];
        roles.extend((1..).zip(config.roles.values()).map(|(index, named)| role(index, named)));
        let role_of = |token: &TokenConfig| {
            let place =
                token.role.as_ref().and_then(|name| config.roles.keys().position(|known| known == name));
            Arc::clone(&roles[place.map_or(0, |place| place + 1)])
        };
        let callers = config.tokens.iter().map(|token| {
            let scope = Scope { consumer: token.consumer.clone(), workspace: token.workspace.clone() };
            let caller = Caller { name: token.name.clone(), scope, role: role_of(token) };
            (token.secret.clone(), Arc::new(caller))
        });
        let callers = callers.collect();
        let open = config.tokens.is_empty();
        let nobody = open.then(|| Caller {
            name: NOBODY.into(),
            scope: Scope::default(),
            role: Arc::clone(&roles[0]),
        });
        Self { callers, nobody: nobody.map(Arc::new), roles }
    }

    /// Who asks without a token, where none is needed.
    pub(crate) fn anonymous(&self) -> Option<Arc<Caller>> {
        self.nobody.clone()
    }

    /// All who have a token, each with it.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&Secret, &Arc<Caller>)> {
        self.callers.iter().map(|(secret, caller)| (secret, caller))
    }

    /// Who has a token. Takes as long for one that is nearly right as for any other.
    pub(crate) fn by_token(&self, token: &[u8]) -> Option<Arc<Caller>> {
        let mut found = None;
        for (secret, caller) in &self.callers {
            if bool::from(secret.reveal().as_bytes().ct_eq(token)) {
                found = Some(Arc::clone(caller));
            }
        }
        found
    }
}
