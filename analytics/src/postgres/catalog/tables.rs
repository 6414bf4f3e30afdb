//! The tables of `pg_catalog` and of the information schema that are filled.

use arrow::datatypes::{DataType, Field};
use event::columns::COLUMNS;

use super::sheet::{Cell, Sheet};
use super::{Inventory, Relation, information, number, schema_oid};
use crate::functions;
use crate::postgres::settings::Settings;
use crate::postgres::types::{self, LISTS, PgType, SCALARS};

/// The one database.
const DATABASE: &str = "tollhouse";
const DATABASE_OID: i64 = 16_000;
/// Who owns everything.
pub(super) const OWNER_OID: i64 = 10;
const PG_CLASS: i64 = 1259;

/// Types that are named and that no column has, with their numbers.
const OTHER_TYPES: [(i64, &str, i64, &str); 14] = [
    (18, "char", 1, "Z"),
    (19, "name", 64, "S"),
    (24, "regproc", 4, "N"),
    (26, "oid", 4, "N"),
    (705, "unknown", -2, "X"),
    (869, "inet", -1, "I"),
    (1042, "bpchar", -1, "S"),
    (1043, "varchar", -1, "S"),
    (2205, "regclass", 4, "N"),
    (2206, "regtype", 4, "N"),
    (2249, "record", -1, "P"),
    (2278, "void", 4, "P"),
    (2950, "uuid", 16, "U"),
    (3802, "jsonb", -1, "U"),
];

/// The name of such a type.
pub(super) fn other_type(oid: i64) -> Option<&'static str> {
    OTHER_TYPES.iter().find(|(known, ..)| *known == oid).map(|(_, name, ..)| *name)
}

/// Words that cannot be names without quotes, beyond those of the standard.
const KEYWORDS: [&str; 12] = [
    "analyse",
    "analyze",
    "concurrently",
    "do",
    "freeze",
    "ilike",
    "isnull",
    "limit",
    "notnull",
    "offset",
    "returning",
    "verbose",
];

/// All of them, by name.
pub(super) fn all(inventory: &Inventory) -> Vec<(String, Sheet)> {
    let user = &inventory.user;
    let mut all = vec![
        ("pg_class".to_owned(), classes(inventory)),
        ("pg_attribute".to_owned(), attributes(inventory)),
        ("pg_type".to_owned(), kinds()),
        ("pg_namespace".to_owned(), namespaces(inventory)),
        ("pg_proc".to_owned(), procedures()),
        ("pg_settings".to_owned(), settings()),
        ("pg_description".to_owned(), descriptions(inventory)),
        (information("columns"), columns(inventory)),
        (information("schemata"), schemata(inventory)),
    ];
    all.extend(relations(inventory));
    all.extend(databases(user));
    all
}

fn kind_of(relation: &Relation) -> &'static str {
    if relation.view { "v" } else { "r" }
}

fn classes(inventory: &Inventory) -> Sheet {
    let mut sheet = Sheet::new(
        "oid i, relname t, relnamespace i, reltype i, reloftype i, relowner i, relam i, relfilenode i, \
         reltablespace i, relpages i, reltuples f, relallvisible i, reltoastrelid i, relhasindex b, relisshared b, \
         relpersistence t, relkind t, relnatts i, relchecks i, relhasoids b, relhasrules b, relhastriggers b, \
         relhassubclass b, relrowsecurity b, relforcerowsecurity b, relispopulated b, relreplident t, \
         relispartition b, relrewrite i, relfrozenxid i, relminmxid i, xmin i, relacl L, reloptions L, \
         relpartbound T",
    );
    for relation in &inventory.relations {
        sheet.row(&[
            ("oid", relation.oid().into()),
            ("relname", relation.name.as_str().into()),
            ("relnamespace", schema_oid(&relation.schema).into()),
            ("relowner", OWNER_OID.into()),
            ("relam", if relation.view { 0.into() } else { 2.into() }),
            ("reltuples", Cell::Number(-1)),
            ("relpersistence", "p".into()),
            ("relkind", kind_of(relation).into()),
            ("relnatts", (relation.columns.fields().len() as i64).into()),
            ("relispopulated", true.into()),
            ("relreplident", "n".into()),
        ]);
    }
    sheet
}

fn attributes(inventory: &Inventory) -> Sheet {
    let mut sheet = Sheet::new(
        "attrelid i, attname t, atttypid i, attstattarget i, attlen i, attnum i, attndims i, attcacheoff i, \
         atttypmod i, attbyval b, attalign t, attstorage t, attcompression t, attnotnull b, atthasdef b, \
         atthasmissing b, attidentity t, attgenerated t, attisdropped b, attislocal b, attinhcount i, \
         attcollation i, attacl L, attoptions L, attfdwoptions L, attmissingval T",
    );
    for relation in &inventory.relations {
        for (index, field) in relation.columns.fields().iter().enumerate() {
            let kind = types::of(field.data_type());
            sheet.row(&[
                ("attrelid", relation.oid().into()),
                ("attname", field.name().as_str().into()),
                ("atttypid", i64::from(kind.oid).into()),
                ("attstattarget", Cell::Number(-1)),
                ("attlen", i64::from(kind.bytes).into()),
                ("attnum", (index as i64 + 1).into()),
                ("attndims", i64::from(kind.list == 0).into()),
                ("attcacheoff", Cell::Number(-1)),
                ("atttypmod", Cell::Number(-1)),
                ("attalign", "i".into()),
                ("attstorage", "p".into()),
                ("attnotnull", (!field.is_nullable()).into()),
                ("attislocal", true.into()),
            ]);
        }
    }
    sheet
}

/// What people may know of a kind of types (`pg_type.typcategory`).
fn category(kind: &PgType) -> &'static str {
    match kind.internal {
        "bool" => "B",
        "bytea" | "json" => "U",
        "date" | "time" | "timestamp" | "timestamptz" => "D",
        "interval" => "T",
        "text" => "S",
        _ if kind.list == 0 => "A",
        _ => "N",
    }
}

fn kinds() -> Sheet {
    let mut sheet = Sheet::new(
        "oid i, typname t, typnamespace i, typowner i, typlen i, typbyval b, typtype t, typcategory t, \
         typispreferred b, typisdefined b, typdelim t, typrelid i, typsubscript t, typelem i, typarray i, typinput t, \
         typoutput t, typreceive t, typsend t, typmodin t, typmodout t, typanalyze t, typalign t, typstorage t, \
         typnotnull b, typbasetype i, typtypmod i, typndims i, typcollation i, typdefaultbin T, typdefault T, typacl L",
    );
    let mut kind = |oid: i64, name: &str, bytes: i64, category: &str, element: i64, list: i64| {
        // Drivers look whether a type is read by `array_in`.
        let call = |of: &str| match element {
            0 => Cell::Text(format!("{name}{of}")),
            _ => Cell::Text(format!("array_{of}")),
        };
        sheet.row(&[
            ("oid", oid.into()),
            ("typname", name.into()),
            ("typnamespace", schema_oid("pg_catalog").into()),
            ("typowner", OWNER_OID.into()),
            ("typlen", bytes.into()),
            ("typtype", if category == "P" { "p" } else { "b" }.into()),
            ("typcategory", category.into()),
            ("typisdefined", true.into()),
            ("typdelim", ",".into()),
            ("typelem", element.into()),
            ("typarray", list.into()),
            ("typinput", call("in")),
            ("typoutput", call("out")),
            ("typreceive", call("recv")),
            ("typsend", call("send")),
            ("typalign", "i".into()),
            ("typstorage", "p".into()),
            ("typtypmod", Cell::Number(-1)),
        ]);
    };
    for (scalar, list) in SCALARS.iter().zip(&LISTS) {
        kind(
            scalar.oid.into(),
            scalar.internal,
            scalar.bytes.into(),
            category(scalar),
            0,
            scalar.list.into(),
        );
        kind(list.oid.into(), list.internal, list.bytes.into(), "A", scalar.oid.into(), 0);
    }
    for (oid, name, bytes, category) in OTHER_TYPES {
        kind(oid, name, bytes, category, 0, 0);
    }
    sheet
}

/// The schemas: those that have something, and PostgreSQL's own.
fn schemas(inventory: &Inventory) -> Vec<String> {
    let mut names: Vec<String> = inventory.relations.iter().map(|relation| relation.schema.clone()).collect();
    names.extend(["pg_catalog", "information_schema", "public"].map(str::to_owned));
    names.sort();
    names.dedup();
    names
}

fn namespaces(inventory: &Inventory) -> Sheet {
    let mut sheet = Sheet::new("oid i, nspname t, nspowner i, nspacl L, xmin i");
    for name in schemas(inventory) {
        let oid = schema_oid(&name);
        sheet.row(&[("oid", oid.into()), ("nspname", name.into()), ("nspowner", OWNER_OID.into())]);
    }
    sheet
}

fn schemata(inventory: &Inventory) -> Sheet {
    let mut sheet = Sheet::new(
        "catalog_name t, schema_name t, schema_owner t, default_character_set_catalog T, \
         default_character_set_schema T, default_character_set_name T, sql_path T",
    );
    for name in schemas(inventory) {
        sheet.row(&[
            ("catalog_name", DATABASE.into()),
            ("schema_name", name.into()),
            ("schema_owner", inventory.user.as_str().into()),
        ]);
    }
    sheet
}

fn procedures() -> Sheet {
    let mut sheet = Sheet::new(
        "oid i, proname t, pronamespace i, proowner i, prolang i, procost f, prorows f, provariadic i, prosupport t, \
         prokind t, prosecdef b, proleakproof b, proisstrict b, proretset b, provolatile t, proparallel t, pronargs i, \
         pronargdefaults i, prorettype i, proargtypes t, proallargtypes T, proargmodes T, proargnames T, \
         proargdefaults T, protrftypes T, prosrc t, probin T, prosqlbody T, proconfig L, proacl L",
    );
    for (name, kind) in functions() {
        sheet.row(&[
            ("oid", number(&format!("function {name}")).into()),
            ("proname", name.into()),
            ("pronamespace", schema_oid("public").into()),
            ("proowner", OWNER_OID.into()),
            ("prokind", kind.into()),
            ("provolatile", "i".into()),
            ("proparallel", "s".into()),
            ("prorettype", 2276.into()),
        ]);
    }
    sheet
}

/// The functions of the house, and whether they aggregate.
pub(super) fn functions() -> Vec<(String, &'static str)> {
    let aggregates = functions::aggregates().into_iter().map(|one| (one.name().to_owned(), "a"));
    let scalars = functions::scalars().into_iter().map(|one| (one.name().to_owned(), "f"));
    aggregates.chain(scalars).collect()
}

fn settings() -> Sheet {
    let mut sheet = Sheet::new(
        "name t, setting t, unit T, category t, short_desc t, extra_desc T, context t, vartype t, source t, min_val T, \
         max_val T, enumvals L, boot_val T, reset_val T, sourcefile T, sourceline I, pending_restart b",
    );
    for (name, value) in Settings::new().all() {
        sheet.row(&[
            ("name", name.into()),
            ("setting", value.into()),
            ("context", "internal".into()),
            ("vartype", "string".into()),
            ("source", "default".into()),
        ]);
    }
    sheet
}

/// What a column of `requests` holds.
pub(super) fn description(relation: &Relation, column: &str) -> Option<&'static str> {
    let described = relation.schema == "public" && relation.name == "requests";
    COLUMNS.iter().find(|known| described && known.name == column).map(|known| known.doc)
}

fn descriptions(inventory: &Inventory) -> Sheet {
    let mut sheet = Sheet::new("objoid i, classoid i, objsubid i, description t");
    for relation in &inventory.relations {
        for (index, field) in relation.columns.fields().iter().enumerate() {
            if let Some(text) = description(relation, field.name()) {
                sheet.row(&[
                    ("objoid", relation.oid().into()),
                    ("classoid", PG_CLASS.into()),
                    ("objsubid", (index as i64 + 1).into()),
                    ("description", text.into()),
                ]);
            }
        }
    }
    sheet
}

/// Digits before the point of a number that is no fraction.
fn precision(kind: &DataType) -> Cell {
    match types::of(kind).internal {
        "int2" => 16.into(),
        "int4" => 32.into(),
        "int8" => 64.into(),
        "float4" => 24.into(),
        "float8" => 53.into(),
        _ => Cell::Null,
    }
}

fn columns(inventory: &Inventory) -> Sheet {
    let mut sheet = Sheet::new(
        "table_catalog t, table_schema t, table_name t, column_name t, ordinal_position i, column_default T, \
         is_nullable t, data_type t, character_maximum_length I, character_octet_length I, numeric_precision I, \
         numeric_precision_radix I, numeric_scale I, datetime_precision I, interval_type T, collation_name T, \
         domain_name T, udt_catalog t, udt_schema t, udt_name t, is_self_referencing t, is_identity t, \
         is_generated t, identity_generation T, generation_expression T, is_updatable t",
    );
    for relation in &inventory.relations {
        for (index, field) in relation.columns.fields().iter().enumerate() {
            let kind = types::of(field.data_type());
            let whole = ["int2", "int4", "int8"].contains(&kind.internal);
            let time = category(&kind) == "D";
            sheet.row(&[
                ("table_catalog", DATABASE.into()),
                ("table_schema", relation.schema.as_str().into()),
                ("table_name", relation.name.as_str().into()),
                ("column_name", field.name().as_str().into()),
                ("ordinal_position", (index as i64 + 1).into()),
                ("is_nullable", if field.is_nullable() { "YES" } else { "NO" }.into()),
                ("data_type", if kind.list == 0 { "ARRAY" } else { kind.name }.into()),
                ("numeric_precision", precision(field.data_type())),
                ("numeric_precision_radix", radix(field)),
                ("numeric_scale", if whole { 0.into() } else { Cell::Null }),
                ("datetime_precision", if time { 6.into() } else { Cell::Null }),
                ("udt_catalog", DATABASE.into()),
                ("udt_schema", "pg_catalog".into()),
                ("udt_name", kind.internal.into()),
                ("is_self_referencing", "NO".into()),
                ("is_identity", "NO".into()),
                ("is_generated", "NEVER".into()),
                ("is_updatable", "NO".into()),
            ]);
        }
    }
    sheet
}

fn radix(field: &Field) -> Cell {
    match precision(field.data_type()) {
        Cell::Null => Cell::Null,
        _ => 2.into(),
    }
}

/// Lists of tables and views, each with a shape of its own.
fn relations(inventory: &Inventory) -> [(String, Sheet); 4] {
    let user = inventory.user.as_str();
    let mut all = Sheet::new(
        "table_catalog t, table_schema t, table_name t, table_type t, self_referencing_column_name T, \
         reference_generation T, is_insertable_into t, is_typed t, commit_action T",
    );
    let mut views = Sheet::new(
        "table_catalog t, table_schema t, table_name t, view_definition T, check_option t, is_updatable t, \
         is_insertable_into t",
    );
    let mut pg_tables = Sheet::new(
        "schemaname t, tablename t, tableowner t, tablespace T, hasindexes b, hasrules b, hastriggers b, \
         rowsecurity b",
    );
    let mut pg_views = Sheet::new("schemaname t, viewname t, viewowner t, definition T");
    for relation in &inventory.relations {
        let (schema, name): (Cell, Cell) = (relation.schema.as_str().into(), relation.name.as_str().into());
        all.row(&[
            ("table_catalog", DATABASE.into()),
            ("table_schema", schema.clone()),
            ("table_name", name.clone()),
            ("table_type", if relation.view { "VIEW" } else { "BASE TABLE" }.into()),
            ("is_insertable_into", "NO".into()),
            ("is_typed", "NO".into()),
        ]);
        if relation.view {
            views.row(&[
                ("table_catalog", DATABASE.into()),
                ("table_schema", schema.clone()),
                ("table_name", name.clone()),
                ("view_definition", relation.definition.clone().into()),
                ("check_option", "NONE".into()),
                ("is_updatable", "NO".into()),
                ("is_insertable_into", "NO".into()),
            ]);
            pg_views.row(&[
                ("schemaname", schema),
                ("viewname", name),
                ("viewowner", user.into()),
                ("definition", relation.definition.clone().into()),
            ]);
        } else {
            pg_tables.row(&[("schemaname", schema), ("tablename", name), ("tableowner", user.into())]);
        }
    }
    [
        (information("tables"), all),
        (information("views"), views),
        ("pg_tables".to_owned(), pg_tables),
        ("pg_views".to_owned(), pg_views),
    ]
}

/// What does not depend on tables.
fn databases(user: &str) -> Vec<(String, Sheet)> {
    let mut database = Sheet::new(
        "oid i, datname t, datdba i, encoding i, datlocprovider t, datistemplate b, datallowconn b, datconnlimit i, \
         datfrozenxid i, datminmxid i, dattablespace i, datcollate t, datctype t, daticulocale T, datlocale T, \
         daticurules T, datcollversion T, datacl L, xmin i, datlastsysoid i",
    );
    database.row(&[
        ("oid", DATABASE_OID.into()),
        ("datname", DATABASE.into()),
        ("datdba", OWNER_OID.into()),
        ("encoding", 6.into()),
        ("datlocprovider", "c".into()),
        ("datallowconn", true.into()),
        ("datconnlimit", Cell::Number(-1)),
        ("dattablespace", 1663.into()),
        ("datcollate", "C".into()),
        ("datctype", "C".into()),
    ]);
    let mut tablespace = Sheet::new("oid i, spcname t, spcowner i, spcacl L, spcoptions L, xmin i");
    tablespace.row(&[("oid", 1663.into()), ("spcname", "pg_default".into()), ("spcowner", OWNER_OID.into())]);
    let mut method = Sheet::new("oid i, amname t, amhandler t, amtype t");
    method.row(&[("oid", 2.into()), ("amname", "heap".into()), ("amtype", "t".into())]);
    let roles = |columns: &'static str, name: &'static str, oid: &'static str, login: &'static str| {
        let mut sheet = Sheet::new(columns);
        let mut cells = vec![(oid, Cell::Number(OWNER_OID)), (name, Cell::from(user))];
        if !login.is_empty() {
            cells.push((login, true.into()));
        }
        sheet.row(&cells);
        sheet
    };
    let role = "oid i, rolname t, rolsuper b, rolinherit b, rolcreaterole b, rolcreatedb b, rolcanlogin b, \
                rolreplication b, rolbypassrls b, rolconnlimit i, rolpassword T, rolvaliduntil T, rolconfig L";
    let mut keywords = Sheet::new("word t, catcode t, catdesc t");
    for word in KEYWORDS {
        keywords.row(&[("word", word.into()), ("catcode", "R".into()), ("catdesc", "reserved".into())]);
    }
    vec![
        ("pg_database".to_owned(), database),
        ("pg_tablespace".to_owned(), tablespace),
        ("pg_am".to_owned(), method),
        ("pg_keywords".to_owned(), keywords),
        ("pg_roles".to_owned(), roles(role, "rolname", "oid", "rolcanlogin")),
        ("pg_authid".to_owned(), roles(role, "rolname", "oid", "rolcanlogin")),
        (
            "pg_user".to_owned(),
            roles(
                "usename t, usesysid i, usecreatedb b, usesuper b, userepl b, usebypassrls b, passwd T, valuntil T, \
                 useconfig L",
                "usename",
                "usesysid",
                "",
            ),
        ),
    ]
}
