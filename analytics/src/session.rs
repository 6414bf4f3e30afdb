//! The one place that owns the engine: runtime, memory pool, spill folder, caches, functions. A query gets a cheap
//! session of its own over one snapshot.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider,
};
use datafusion::common::Result;
use datafusion::datasource::ViewTable;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::optimizer::{Analyzer, Optimizer, OptimizerRule};
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as Sql;
use event::connections::ConnectionStates;
use event::layout::{DataFolder, Ledger};
use event::rollup::{Grouping, Resolution};
use event::upstreams::UpstreamStates;

use crate::access::{Caller, Role, SharePool};
use crate::bucket::{Follower, ReadOnly};
use crate::catalog::{Catalog, Snapshot};
use crate::cluster::{self, EngineKind};
use crate::config::{AnalyticsConfig, Plan};
use crate::config_tables::{self, Wanted};
use crate::disk::Disk;
use crate::error::QueryError;
use crate::groups::GroupCache;
use crate::growth::BoundGrowth;
use crate::ids::IdsInText;
use crate::looks_up::LooksUp;
use crate::once::ReadOnce;
use crate::postgres::catalog as pg_catalog;
use crate::query::Protocol;
use crate::rolled::AnswerFromRollups;
use crate::system::{self, History};
use crate::table::{Rows, bucket_url};
use crate::unreadable::table_or;
use crate::{connections, functions, reports, traffic, upstreams, views};

/// Footers and page indexes that stay parsed, in bytes.
const METADATA_CACHE_BYTES: usize = 128 << 20;
const CATALOG: &str = "tollhouse";
const SCHEMA: &str = "public";
/// What everybody may read of the schemas `system` and `config`: one's own queries, and what plans cost.
const OPEN: [(&str, &str); 2] = [("system", "queries"), ("config", "plans")];

/// Makes sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// Functions, rules, options and runtime of each role, without any table. A query clones one: to build one registers some
    /// three hundred functions.
    local: Vec<SessionState>,
    /// The same for queries that may go to a cluster; none without one.
    remote: Vec<SessionState>,
    pub(crate) settings: AnalyticsConfig,
    pub(crate) catalog: Arc<Catalog>,
    groups: Arc<GroupCache>,
    pub(crate) history: Arc<History>,
    pub(crate) bucket: Option<Arc<Follower>>,
}

impl Sessions {
    pub(crate) fn new(plan: &Plan, folder: &DataFolder, roles: &[Arc<Role>]) -> Result<Self> {
        let spill = folder.state().join("spill");
        // What an earlier process left behind belongs to nobody.
        if spill.exists() {
            std::fs::remove_dir_all(&spill)?;
        }
        std::fs::create_dir_all(&spill)?;
        let memory = usize::try_from(plan.config.memory_bytes_max).unwrap_or(usize::MAX);
        let consumers = std::num::NonZeroUsize::new(5).expect("five is not zero");
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(TrackConsumersPool::new(FairSpillPool::new(memory), consumers)))
            .with_temp_file_path(spill)
            .with_max_temp_directory_size(plan.config.spill_bytes_max)
            .with_metadata_cache_limit(METADATA_CACHE_BYTES.min(memory / 4))
            .build_arc()?;
        runtime.register_object_store(ObjectStoreUrl::local_filesystem().as_ref(), Arc::new(Disk::default()));
        let bucket = plan.bucket.clone().map(|plan| Arc::new(Follower::new(plan, folder.clone())));
        if let Some(bucket) = &bucket {
            runtime.register_object_store(bucket_url()?.as_ref(), Arc::new(ReadOnly(Arc::clone(bucket))));
        }
        let mut config = SessionConfig::new()
            .with_target_partitions(plan.threads)
            .with_information_schema(true)
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_collect_statistics(true);
        let groups = Arc::new(GroupCache::new(plan.config.rollup_cache_bytes_max));
        config.set_extension(Arc::clone(&groups));
        let options = config.options_mut();
        options.execution.parquet.pushdown_filters = true;
        options.execution.parquet.reorder_filters = true;
        options.execution.time_zone = Some("UTC".into());
        // Of unions the two kinds of plan keep other metadata of the same schema; its types are checked as it runs.
        options.execution.skip_physical_aggregate_schema_check = true;
        options.sql_parser.collect_spans = true;
        options.sql_parser.map_string_types_to_utf8view = true;
        options.sql_parser.dialect = datafusion::config::Dialect::PostgreSQL;
        // One memory, of which each role has its share.
        let shares = roles.iter().map(|role| {
            let bytes_max = usize::try_from(role.memory_bytes_max).unwrap_or(usize::MAX);
            let share = SharePool::new(bytes_max, Arc::clone(&runtime.memory_pool));
            Arc::new(RuntimeEnv { memory_pool: Arc::new(share), ..runtime.as_ref().clone() })
        });
        let shares: Vec<Arc<RuntimeEnv>> = shares.collect();
        let states = |config: SessionConfig| -> Result<Vec<SessionState>> {
            shares.iter().map(|share| base(config.clone(), Arc::clone(share), &plan.config)).collect()
        };
        let remote = plan.cluster.as_ref();
        let remote = remote.map(|common| cluster::session_config(&config, &plan.config.ballista, common));
        Ok(Self {
            remote: remote.map(states).transpose()?.unwrap_or_default(),
            local: states(config)?,
            groups,
            settings: plan.config.clone(),
            catalog: Arc::new(
                Catalog::new(folder.clone()).with_bucket(bucket.clone(), plan.cluster.is_some()),
            ),
            history: Arc::new(History::new(plan.config.history_max as usize)),
            bucket,
        })
    }

    /// Whether a statement may be run by a cluster: it names a table of requests.
    pub(crate) fn may_be_remote(&self, statement: &Statement) -> Result<bool> {
        let Some(state) = self.remote.first() else { return Ok(false) };
        let own = |schema: Option<&str>| schema.is_none_or(|schema| schema == SCHEMA);
        let tables = state.resolve_table_references(statement)?;
        let reads = tables.iter().any(|table| own(table.schema()));
        Ok(reads && matches!(statement, Statement::Statement(sql) if matches!(sql.as_ref(), Sql::Query(_))))
    }

    /// A session over one snapshot. Of views and system tables only those are made that the statement names, or all
    /// of them when it asks what there is.
    pub(crate) async fn open(
        &self,
        snapshot: Arc<Snapshot>,
        statement: &Statement,
        caller: &Caller,
        (protocol, engine): (Protocol, EngineKind),
    ) -> Result<SessionState, QueryError> {
        self.groups.follow(&snapshot.sealed);
        let schema = || Arc::new(MemorySchemaProvider::new());
        let (public, system, config) = (schema(), schema(), schema());
        let schemas = [(SCHEMA, &public), ("system", &system), ("config", &config)];
        let mut session = self.session(&schemas, caller, engine)?;
        let requests = Rows::requests(Arc::clone(&snapshot), caller.scope.clone());
        public.register_table("requests".into(), Arc::new(requests))?;

        let named = named(&session, statement)?;
        let sees_system = caller.sees_system();
        let shown = |schema: &str, table: &str| {
            sees_system || !["system", "config"].contains(&schema) || OPEN.contains(&(schema, table))
        };
        if let Some((schema, table)) = named.tables.iter().find(|(schema, table)| !shown(schema, table)) {
            return Err(QueryError::Forbidden(format!("`{}` may not read {schema}.{table}", caller.name)));
        }
        let asks = |schema: &str, table: &str| named.tables.contains(&(schema.to_owned(), table.to_owned()));
        let wants =
            |schema: &str, table: &str| shown(schema, table) && (named.everything || asks(schema, table));
        if wants("system", "ledger") {
            let ledger = Ledger::load(self.catalog.folder()).map_err(Arc::new);
            system.register_table("ledger".into(), table_or(&ledger, system::ledger)?)?;
        }
        if wants("system", "upstreams") || wants("system", "circuits") {
            let states = UpstreamStates::load(self.catalog.folder()).map_err(Arc::new);
            system.register_table("upstreams".into(), table_or(&states, upstreams::table)?)?;
            system.register_table("circuits".into(), table_or(&states, upstreams::circuits)?)?;
        }
        if wants("system", "connections") {
            let states = ConnectionStates::load(self.catalog.folder()).map_err(Arc::new);
            system.register_table("connections".into(), table_or(&states, connections::table)?)?;
        }
        if wants("system", "files") {
            system.register_table("files".into(), Arc::new(system::files(&snapshot)?))?;
        }
        if wants("system", "erasures") {
            system.register_table("erasures".into(), Arc::new(system::erasures(&snapshot)?))?;
        }
        if wants("system", "queries") {
            let user = (!sees_system).then_some(caller.name.as_str());
            system.register_table("queries".into(), Arc::new(system::queries(&self.history, user)?))?;
        }
        if wants("system", "settings") {
            system.register_table("settings".into(), Arc::new(system::settings(&self.settings)?))?;
        }
        if wants("config", "plans") {
            config.register_table("plans".into(), Arc::new(reports::plans(&self.settings.plans)?))?;
        }
        let of_config = |table: &str| match (wants("config", table), asks("config", table)) {
            (false, _) => Wanted::No,
            (true, true) => Wanted::Rows,
            (true, false) => Wanted::Columns,
        };
        for (name, table) in config_tables::tables(self.catalog.folder(), of_config)? {
            config.register_table(name.into(), table)?;
        }
        for (name, sql) in views::all() {
            if wants(SCHEMA, name) {
                let plan = session.create_logical_plan(&sql).await?;
                public.register_table(name.into(), Arc::new(ViewTable::new(plan, Some(sql))))?;
            }
        }
        for resolution in Resolution::ALL {
            let name = traffic::name(resolution);
            if wants(SCHEMA, name) {
                public.register_table(name.into(), self.traffic(&snapshot, resolution, caller).await?)?;
            }
        }
        if protocol == Protocol::Postgresql {
            pg_catalog::install(&mut session, &caller.name, named.everything).await?;
        }
        Ok(session)
    }

    /// A session with tables of some schemas.
    fn session(
        &self,
        schemas: &[(&str, &Arc<MemorySchemaProvider>)],
        caller: &Caller,
        engine: EngineKind,
    ) -> Result<SessionState> {
        let states = match engine {
            EngineKind::Ballista if !self.remote.is_empty() => &self.remote,
            _ => &self.local,
        };
        let mut session = states[caller.role.index].clone();
        let catalog = MemoryCatalogProvider::new();
        for (name, tables) in schemas {
            catalog.register_schema(name, Arc::<MemorySchemaProvider>::clone(tables))?;
        }
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        session.register_catalog_list(Arc::new(catalogs));
        // When `now()` is.
        session.mark_start_execution();
        Ok(session)
    }

    /// A table of traffic. What it is made of has names in a session of its own only: nobody else sees them.
    async fn traffic(
        &self,
        snapshot: &Arc<Snapshot>,
        resolution: Resolution,
        caller: &Caller,
    ) -> Result<Arc<ViewTable>> {
        let parts = Arc::new(MemorySchemaProvider::new());
        let session = self.session(&[(SCHEMA, &parts)], caller, EngineKind::Local)?;
        let (sealed, hot) = (
            Rows::rollups(Arc::clone(snapshot), (resolution, Grouping::All), caller.scope.clone()),
            Rows::live(Arc::clone(snapshot), caller.scope.clone()),
        );
        parts.register_table(traffic::SEALED.into(), Arc::new(sealed))?;
        parts.register_table(traffic::HOT.into(), Arc::new(hot))?;
        let plan = session.create_logical_plan(&traffic::sql(resolution)).await?;
        Ok(Arc::new(ViewTable::new(plan, None)))
    }
}

fn base(config: SessionConfig, runtime: Arc<RuntimeEnv>, settings: &AnalyticsConfig) -> Result<SessionState> {
    let mut rules = Analyzer::new().rules;
    // Before types are coerced, and after.
    rules.insert(0, Arc::new(IdsInText));
    let bytes_max = usize::try_from(settings.text_bytes_max).unwrap_or(usize::MAX);
    rules.push(Arc::new(BoundGrowth { bytes_max }));
    let state = SessionStateBuilder::new_with_default_features()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_analyzer_rules(rules)
        .with_optimizer_rules(optimizer_rules(settings))
        .with_physical_optimizer_rule(Arc::new(ReadOnce))
        .with_physical_optimizer_rule(Arc::new(LooksUp));
    let mut state = state.build();
    state.register_expr_planner(Arc::new(IdsInText))?;
    functions::register(&mut state)?;
    Ok(state)
}

/// The engine's rules, and ours behind those that make conditions simple: what they put in the place of rows is then gone
/// over by all that follow.
fn optimizer_rules(settings: &AnalyticsConfig) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = Optimizer::new().rules;
    let simple = rules.iter().position(|rule| rule.name() == "simplify_expressions");
    let mut ours: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![Arc::new(functions::ShareSketches::new())];
    if settings.use_rollups {
        ours.push(Arc::new(AnswerFromRollups::new(settings.rollup_group_requests_min.into())));
    }
    let at = simple.map_or(rules.len(), |place| place + 1);
    rules.splice(at..at, ours);
    rules
}

struct Named {
    everything: bool,
    tables: HashSet<(String, String)>,
}

fn named(session: &SessionState, statement: &Statement) -> Result<Named> {
    let mut named = Named { everything: false, tables: HashSet::new() };
    for reference in session.resolve_table_references(statement)? {
        let schema = reference.schema().unwrap_or(SCHEMA).to_owned();
        named.everything |= schema == "information_schema" || schema == pg_catalog::SCHEMA;
        named.tables.insert((schema, reference.table().to_owned()));
    }
    if let Statement::Statement(sql) = statement {
        named.everything |= !matches!(sql.as_ref(), Sql::Query(_) | Sql::Explain { .. });
    }
    Ok(named)
}
