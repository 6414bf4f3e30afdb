//! What there is: tables with their columns as the caller sees them, types, and what this service can do.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetTables, Nullable, Searchable, SqlInfo, SqlSupportedTransaction,
    XdbcDataType,
};
use tonic::Status;

use super::status::status;
use super::types;
use crate::error::QueryError;
use crate::query::{Engine, Question};

/// The one catalogue.
pub(super) const CATALOG: &str = "tollhouse";
/// Kinds of tables.
pub(super) const TABLE_TYPES: [&str; 2] = ["TABLE", "VIEW"];

const TABLES: &str = "SELECT table_schema, table_name, table_type FROM information_schema.tables";

/// A table.
struct Named {
    schema: String,
    name: String,
    kind: &'static str,
}

/// The tables that a caller sees; `question` says who it is.
async fn tables(engine: &Engine, question: &Question) -> Result<Vec<Named>, QueryError> {
    let mut answer = engine.ask(Question { sql: TABLES.into(), ..question.clone() }).await?;
    let schema = types::schema(&answer.schema);
    let mut all = Vec::new();
    while let Some(batch) = answer.next().await? {
        let batch = types::batch(&batch, &schema)
            .inspect_err(|error| answer.fail(&QueryError::Encode(error.to_string())))?;
        let column = |index: usize| batch.column(index).as_string::<i32>();
        let (schemas, names, kinds) = (column(0), column(1), column(2));
        all.extend((0..batch.num_rows()).map(|row| Named {
            schema: schemas.value(row).to_owned(),
            name: names.value(row).to_owned(),
            kind: if kinds.value(row) == "VIEW" { "VIEW" } else { "TABLE" },
        }));
    }
    answer.finish();
    Ok(all)
}

/// An answer to [`CommandGetDbSchemas`].
pub(super) async fn schemas(
    engine: &Engine,
    question: &Question,
    command: CommandGetDbSchemas,
) -> Result<RecordBatch, Status> {
    let mut names: Vec<String> = tables(engine, question)
        .await
        .map_err(|error| status(&error))?
        .into_iter()
        .map(|table| table.schema)
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut builder = command.into_builder();
    names.iter().for_each(|name| builder.append(CATALOG, name));
    builder.build().map_err(failed)
}

/// An answer to [`CommandGetTables`].
pub(super) async fn table_list(
    engine: &Engine,
    question: &Question,
    command: CommandGetTables,
) -> Result<RecordBatch, Status> {
    let all = tables(engine, question).await.map_err(|error| status(&error))?;
    let mut builder = CommandGetTables { include_schema: false, ..command.clone() }.into_builder();
    for table in &all {
        builder.append(CATALOG, &table.schema, &table.name, table.kind, &Schema::empty()).map_err(failed)?;
    }
    let chosen = builder.build().map_err(failed)?;
    if !command.include_schema {
        return Ok(chosen);
    }
    // Columns are looked at of those only that were asked for.
    let mut columns: HashMap<(&str, &str), SchemaRef> = HashMap::new();
    let (schemas, names) = (chosen.column(1).as_string::<i32>(), chosen.column(2).as_string::<i32>());
    for (schema, name) in schemas.iter().flatten().zip(names.iter().flatten()) {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let sql = format!("SELECT * FROM {}.{}", quoted(schema), quoted(name));
        let question = Question { sql, ..question.clone() };
        let described = engine.describe(question, Vec::new()).await.map_err(|error| status(&error))?;
        columns.insert((schema, name), types::schema(&described.schema));
    }
    let mut builder = command.into_builder();
    for table in &all {
        if let Some(schema) = columns.get(&(table.schema.as_str(), table.name.as_str())) {
            builder.append(CATALOG, &table.schema, &table.name, table.kind, schema).map_err(failed)?;
        }
    }
    builder.build().map_err(failed)
}

/// What this service can do.
///
/// # Errors
/// Never with these values, which are fixed.
pub(super) fn info() -> Result<SqlInfoData, ArrowError> {
    let mut builder = SqlInfoDataBuilder::new();
    builder.append(SqlInfo::FlightSqlServerName, "Tollhouse");
    builder.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    builder.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    builder.append(SqlInfo::FlightSqlServerReadOnly, true);
    builder.append(SqlInfo::FlightSqlServerSql, true);
    builder.append(SqlInfo::FlightSqlServerSubstrait, false);
    builder.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    builder.append(SqlInfo::FlightSqlServerCancel, true);
    builder.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    builder.append(SqlInfo::SqlDdlCatalog, false);
    builder.append(SqlInfo::SqlDdlSchema, false);
    builder.append(SqlInfo::SqlDdlTable, false);
    builder.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    builder.build().map_err(arrow)
}

/// Types of columns, as ODBC and JDBC number them.
///
/// # Errors
/// Never with these values, which are fixed.
pub(super) fn type_info() -> Result<XdbcTypeInfoData, ArrowError> {
    use XdbcDataType as X;
    let mut builder = XdbcTypeInfoDataBuilder::new();
    let types = [
        ("boolean", X::XdbcBit, 1, None),
        ("tinyint", X::XdbcTinyint, 3, Some(10)),
        ("smallint", X::XdbcSmallint, 5, Some(10)),
        ("integer", X::XdbcInteger, 10, Some(10)),
        ("bigint", X::XdbcBigint, 19, Some(10)),
        ("real", X::XdbcReal, 24, Some(2)),
        ("double precision", X::XdbcDouble, 53, Some(2)),
        ("decimal", X::XdbcDecimal, 38, Some(10)),
        ("text", X::XdbcVarchar, i32::MAX, None),
        ("bytea", X::XdbcVarbinary, i32::MAX, None),
        ("date", X::XdbcDate, 10, None),
        ("time", X::XdbcTime, 15, None),
        ("timestamp", X::XdbcTimestamp, 29, None),
    ];
    for (name, kind, size, radix) in types {
        let quoted = radix.is_none() && name != "boolean";
        builder.append(XdbcTypeInfo {
            type_name: name.into(),
            data_type: kind,
            column_size: Some(size),
            literal_prefix: quoted.then(|| "'".into()),
            literal_suffix: quoted.then(|| "'".into()),
            create_params: None,
            nullable: Nullable::NullabilityNullable,
            case_sensitive: name == "text",
            searchable: Searchable::Full,
            unsigned_attribute: radix.map(|_| false),
            fixed_prec_scale: false,
            auto_increment: Some(false),
            local_type_name: Some(name.into()),
            minimum_scale: None,
            maximum_scale: None,
            sql_data_type: kind,
            datetime_subcode: None,
            num_prec_radix: radix,
            interval_precision: None,
        });
    }
    builder.build().map_err(arrow)
}

/// An answer about primary keys, of which there are none.
pub(super) fn no_primary_keys() -> RecordBatch {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let columns = vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        text("key_name", true),
        Field::new("key_sequence", DataType::Int32, false),
    ];
    RecordBatch::new_empty(Arc::new(Schema::new(columns)))
}

/// An answer about foreign keys, of which there are none.
pub(super) fn no_foreign_keys() -> RecordBatch {
    let mut columns = Vec::new();
    for side in ["pk", "fk"] {
        let text = |name: &str, nullable| Field::new(format!("{side}_{name}"), DataType::Utf8, nullable);
        columns.extend([text("catalog_name", true), text("db_schema_name", true)]);
        columns.extend([text("table_name", false), text("column_name", false)]);
    }
    columns.push(Field::new("key_sequence", DataType::Int32, false));
    columns.extend(["fk_key_name", "pk_key_name"].map(|name| Field::new(name, DataType::Utf8, true)));
    columns.extend(["update_rule", "delete_rule"].map(|name| Field::new(name, DataType::UInt8, false)));
    RecordBatch::new_empty(Arc::new(Schema::new(columns)))
}

pub(super) fn failed(error: FlightError) -> Status {
    Status::internal(error.to_string())
}

fn arrow(error: FlightError) -> ArrowError {
    ArrowError::ExternalError(Box::new(error))
}
