//! `pg_catalog` and the information schema of PostgreSQL: what there is, in the tables and functions that clients ask.
//!
//! They are made when a statement names one, of the tables that the session of that statement has: what a caller may not
//! see is in none of them. A table's number is made of its name, so that it is the same in the next statement.

mod functions;

mod sheet;

mod tables;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{CatalogProvider, MemorySchemaProvider, SchemaProvider};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::TableType;

/// The schema.
pub(crate) const SCHEMA: &str = "pg_catalog";

/// Tables of `pg_catalog` in which there never is anything, with the columns that are asked for beside others.
const ALWAYS_EMPTY: &[(&str, &str)] = &[
    ("pg_aggregate", "aggfnoid i, aggkind t"),
    ("pg_attrdef", "oid i, adrelid i, adnum i, adbin t, adsrc t"),
    ("pg_auth_members", "roleid i, member i, grantor i, admin_option b"),
    ("pg_available_extensions", "name t, default_version t, installed_version t, comment t"),
    ("pg_cast", "oid i, castsource i, casttarget i, castfunc i, castcontext t, castmethod t"),
    (
        "pg_collation",
        "oid i, collname t, collnamespace i, collowner i, collprovider t, collencoding i, collcollate t, collctype t",
    ),
    ("pg_db_role_setting", "setdatabase i, setrole i, setconfig t"),
    (
        "pg_constraint",
        "oid i, conname t, connamespace i, contype t, condeferrable b, condeferred b, convalidated b, conrelid i, \
         contypid i, conindid i, conparentid i, confrelid i, confupdtype t, confdeltype t, confmatchtype t, conkey t, \
         confkey t, conbin t",
    ),
    ("pg_conversion", "oid i, conname t, connamespace i"),
    ("pg_cursors", "name t, statement t"),
    ("pg_default_acl", "oid i, defaclrole i, defaclnamespace i, defaclobjtype t, defaclacl t"),
    ("pg_depend", "classid i, objid i, objsubid i, refclassid i, refobjid i, refobjsubid i, deptype t"),
    ("pg_enum", "oid i, enumtypid i, enumsortorder f, enumlabel t"),
    ("pg_event_trigger", "oid i, evtname t, evtevent t, evtowner i, evtenabled t, evttags t, evtfoid i"),
    (
        "pg_extension",
        "oid i, extname t, extowner i, extnamespace i, extrelocatable b, extversion t, extconfig t",
    ),
    (
        "pg_foreign_data_wrapper",
        "oid i, fdwname t, fdwowner i, fdwhandler i, fdwvalidator i, fdwacl t, fdwoptions t",
    ),
    (
        "pg_foreign_server",
        "oid i, srvname t, srvowner i, srvfdw i, srvtype t, srvversion t, srvacl t, srvoptions t",
    ),
    ("pg_foreign_table", "ftrelid i, ftserver i, ftoptions t"),
    (
        "pg_index",
        "indexrelid i, indrelid i, indnatts i, indisunique b, indisprimary b, indisexclusion b, indimmediate b, \
         indisclustered b, indisvalid b, indisready b, indislive b, indisreplident b, indkey t, indcollation t, \
         indclass t, indoption t, indexprs t, indpred t",
    ),
    ("pg_indexes", "schemaname t, tablename t, indexname t, tablespace t, indexdef t"),
    ("pg_inherits", "inhrelid i, inhparent i, inhseqno i, inhdetachpending b"),
    ("pg_language", "oid i, lanname t, lanowner i, lanispl b, lanpltrusted b"),
    ("pg_locks", "locktype t, database i, relation i, pid i, mode t, granted b"),
    (
        "pg_matviews",
        "schemaname t, matviewname t, matviewowner t, tablespace t, hasindexes b, ispopulated b, definition t",
    ),
    ("pg_opclass", "oid i, opcmethod i, opcname t, opcnamespace i, opcowner i"),
    ("pg_operator", "oid i, oprname t, oprnamespace i, oprowner i"),
    ("pg_partitioned_table", "partrelid i, partstrat t, partnatts i, partdefid i"),
    ("pg_policies", "schemaname t, tablename t, policyname t, cmd t"),
    (
        "pg_policy",
        "oid i, polname t, polrelid i, polcmd t, polpermissive b, polroles t, polqual t, polwithcheck t",
    ),
    ("pg_prepared_statements", "name t, statement t"),
    ("pg_prepared_xacts", "transaction i, gid t, owner t, database t"),
    ("pg_publication", "oid i, pubname t, pubowner i, puballtables b"),
    ("pg_publication_namespace", "oid i, pnpubid i, pnnspid i"),
    ("pg_publication_rel", "oid i, prpubid i, prrelid i, prqual t, prattrs t"),
    ("pg_range", "rngtypid i, rngsubtype i, rngmultitypid i"),
    ("pg_replication_slots", "slot_name t, plugin t, slot_type t, database t, active b"),
    (
        "pg_rewrite",
        "oid i, rulename t, ev_class i, ev_type t, ev_enabled t, is_instead b, ev_qual t, ev_action t",
    ),
    ("pg_rules", "schemaname t, tablename t, rulename t, definition t"),
    ("pg_seclabel", "objoid i, classoid i, objsubid i, provider t, label t"),
    (
        "pg_sequence",
        "seqrelid i, seqtypid i, seqstart i, seqincrement i, seqmax i, seqmin i, seqcache i, seqcycle b",
    ),
    ("pg_sequences", "schemaname t, sequencename t, sequenceowner t, last_value i"),
    ("pg_shdepend", "dbid i, classid i, objid i, refclassid i, refobjid i, deptype t"),
    ("pg_shdescription", "objoid i, classoid i, description t"),
    ("pg_stat_activity", "datid i, datname t, pid i, usename t, application_name t, state t, query t"),
    ("pg_stat_all_tables", "relid i, schemaname t, relname t, n_live_tup i, n_dead_tup i"),
    ("pg_stat_database", "datid i, datname t, numbackends i, xact_commit i, xact_rollback i"),
    ("pg_stat_gssapi", "pid i, gss_authenticated b, principal t, encrypted b"),
    ("pg_stat_ssl", "pid i, ssl b, version t, cipher t, bits i"),
    ("pg_stat_user_tables", "relid i, schemaname t, relname t, n_live_tup i, n_dead_tup i"),
    ("pg_statio_user_tables", "relid i, schemaname t, relname t"),
    (
        "pg_statistic_ext",
        "oid i, stxrelid i, stxname t, stxnamespace i, stxowner i, stxkind t, stxstattarget i",
    ),
    ("pg_stats", "schemaname t, tablename t, attname t, n_distinct f"),
    ("pg_subscription", "oid i, subdbid i, subname t, subowner i"),
    (
        "pg_trigger",
        "oid i, tgrelid i, tgparentid i, tgname t, tgfoid i, tgtype i, tgenabled t, tgisinternal b, tgconstraint i",
    ),
    ("pg_ts_config", "oid i, cfgname t, cfgnamespace i"),
    ("pg_user_mappings", "umid i, srvid i, srvname t, umuser i, usename t"),
];

/// Those of the information schema.
const INFORMATION_EMPTY: &[(&str, &str)] = &[
    ("check_constraints", "constraint_catalog t, constraint_schema t, constraint_name t, check_clause t"),
    (
        "constraint_column_usage",
        "table_catalog t, table_schema t, table_name t, column_name t, constraint_catalog t, constraint_schema t, constraint_name t",
    ),
    (
        "key_column_usage",
        "constraint_catalog t, constraint_schema t, constraint_name t, table_catalog t, table_schema t, table_name t, column_name t, ordinal_position i, position_in_unique_constraint i",
    ),
    (
        "referential_constraints",
        "constraint_catalog t, constraint_schema t, constraint_name t, unique_constraint_catalog t, unique_constraint_schema t, unique_constraint_name t, match_option t, update_rule t, delete_rule t",
    ),
    ("sequences", "sequence_catalog t, sequence_schema t, sequence_name t, data_type t"),
    (
        "table_constraints",
        "constraint_catalog t, constraint_schema t, constraint_name t, table_catalog t, table_schema t, table_name t, constraint_type t, is_deferrable t, initially_deferred t",
    ),
    ("triggers", "trigger_catalog t, trigger_schema t, trigger_name t, event_object_table t"),
];

/// Tables that are filled.
const FILLED: [&str; 16] = [
    "pg_am",
    "pg_attribute",
    "pg_authid",
    "pg_class",
    "pg_database",
    "pg_description",
    "pg_keywords",
    "pg_namespace",
    "pg_proc",
    "pg_roles",
    "pg_settings",
    "pg_tables",
    "pg_tablespace",
    "pg_type",
    "pg_user",
    "pg_views",
];
const INFORMATION_FILLED: [&str; 4] = ["columns", "schemata", "tables", "views"];

/// Whether `pg_catalog` has a table.
pub(super) fn has(table: &str) -> bool {
    FILLED.contains(&table) || is_always_empty(table)
}

/// Whether there never is anything in one.
pub(super) fn is_always_empty(table: &str) -> bool {
    let information = table.strip_prefix("information_schema_");
    ALWAYS_EMPTY.iter().any(|(name, _)| *name == table)
        || information.is_some_and(|table| INFORMATION_EMPTY.iter().any(|(name, _)| *name == table))
}

/// The columns of a table in which there never is anything.
pub(super) fn columns_of_empty(table: &str) -> Option<Vec<String>> {
    let (_, columns) = ALWAYS_EMPTY.iter().find(|(name, _)| *name == table)?;
    Some(columns.split(',').filter_map(|column| Some(column.trim().split_once(' ')?.0.to_owned())).collect())
}

/// Whether the information schema has a table here; the rest of it is the engine's.
pub(super) fn has_information(table: &str) -> bool {
    INFORMATION_FILLED.contains(&table) || INFORMATION_EMPTY.iter().any(|(name, _)| *name == table)
}

/// The name of a table of the information schema within `pg_catalog`.
pub(super) fn information(table: &str) -> String {
    format!("information_schema_{table}")
}

/// A table that a caller may ask.
struct Relation {
    schema: String,
    name: String,
    /// A view if there is a definition.
    definition: Option<String>,
    view: bool,
    columns: SchemaRef,
}

/// The number of a thing, made of its name (FNV-1a); numbers below 16,384 are PostgreSQL's own.
fn number(name: &str) -> i64 {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i64::from(hash & 0x3fff_ffff) + 16_384
}

impl Relation {
    fn oid(&self) -> i64 {
        number(&format!("{}.{}", self.schema, self.name))
    }
}

/// The number of a schema.
fn schema_oid(schema: &str) -> i64 {
    match schema {
        "pg_catalog" => 11,
        "public" => 2200,
        "information_schema" => 13_000,
        other => number(other),
    }
}

/// What there is in a session.
struct Inventory {
    relations: Vec<Relation>,
    user: String,
}

async fn inventory(catalog: &dyn CatalogProvider, user: &str) -> Result<Inventory> {
    let mut relations = Vec::new();
    let mut schemas = catalog.schema_names();
    schemas.sort();
    for schema in schemas {
        let Some(tables) = catalog.schema(&schema).filter(|_| schema != SCHEMA) else { continue };
        let mut names = tables.table_names();
        names.sort();
        for name in names {
            let Some(table) = tables.table(&name).await? else { continue };
            relations.push(Relation {
                definition: table.get_table_definition().map(str::to_owned),
                view: table.table_type() == TableType::View,
                columns: table.schema(),
                schema: schema.clone(),
                name,
            });
        }
    }
    Ok(Inventory { relations, user: user.to_owned() })
}

/// Puts tables and functions into a session, for a caller; of the tables only if the session is to have them.
pub(crate) async fn install(session: &mut SessionState, user: &str, with_tables: bool) -> Result<()> {
    let [catalog] = session.catalog_list().catalog_names().try_into().map_err(|names: Vec<String>| {
        DataFusionError::Internal(format!("a session has one catalog, not {}", names.len()))
    })?;
    let Some(catalog) = session.catalog_list().catalog(&catalog) else { return Ok(()) };
    let inventory = Arc::new(inventory(catalog.as_ref(), user).await?);
    for function in functions::all(&inventory) {
        session.register_udf(Arc::new(function))?;
    }
    if !with_tables {
        return Ok(());
    }
    let schema = MemorySchemaProvider::new();
    for (name, columns) in ALWAYS_EMPTY {
        schema.register_table((*name).to_owned(), Arc::new(sheet::Sheet::new(columns).table()?))?;
    }
    for (name, columns) in INFORMATION_EMPTY {
        schema.register_table(information(name), Arc::new(sheet::Sheet::new(columns).table()?))?;
    }
    for (name, sheet) in tables::all(&inventory) {
        schema.register_table(name, Arc::new(sheet.table()?))?;
    }
    catalog.register_schema(SCHEMA, Arc::new(schema))?;
    Ok(())
}
