//! Types of columns as clients of PostgreSQL know them, by the numbers of its catalogue (`pg_type.dat`).
//!
//! Unsigned integers take the next larger signed type; those of 64 bits are `numeric`. Ids are text of hexadecimal digits,
//! as everywhere. What has no type of its own there (a list of structures, a map) is `json`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};

use super::dialect;
use super::reply::Described;

/// Number and size of a type; -1 for those without a fixed size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PgType {
    pub(crate) oid: u32,
    pub(crate) bytes: i16,
    /// The name that people write.
    pub(crate) name: &'static str,
    /// The name in `pg_type`.
    pub(crate) internal: &'static str,
    /// The type of lists of it, 0 for a list.
    pub(crate) list: u32,
}

const fn pg(oid: u32, bytes: i16, internal: &'static str, name: &'static str, list: u32) -> PgType {
    PgType { oid, bytes, name, internal, list }
}

pub(crate) const BOOL: PgType = pg(16, 1, "bool", "boolean", 1000);
pub(crate) const BYTEA: PgType = pg(17, -1, "bytea", "bytea", 1001);
pub(crate) const INT8: PgType = pg(20, 8, "int8", "bigint", 1016);
pub(crate) const INT2: PgType = pg(21, 2, "int2", "smallint", 1005);
pub(crate) const INT4: PgType = pg(23, 4, "int4", "integer", 1007);
pub(crate) const TEXT: PgType = pg(25, -1, "text", "text", 1009);
pub(crate) const JSON: PgType = pg(114, -1, "json", "json", 199);
pub(crate) const FLOAT4: PgType = pg(700, 4, "float4", "real", 1021);
pub(crate) const FLOAT8: PgType = pg(701, 8, "float8", "double precision", 1022);
pub(crate) const DATE: PgType = pg(1082, 4, "date", "date", 1182);
pub(crate) const TIME: PgType = pg(1083, 8, "time", "time without time zone", 1183);
pub(crate) const TIMESTAMP: PgType = pg(1114, 8, "timestamp", "timestamp without time zone", 1115);
pub(crate) const TIMESTAMPTZ: PgType = pg(1184, 8, "timestamptz", "timestamp with time zone", 1185);
pub(crate) const INTERVAL: PgType = pg(1186, 16, "interval", "interval", 1187);
pub(crate) const NUMERIC: PgType = pg(1700, -1, "numeric", "numeric", 1231);

/// Types of columns.
pub(crate) const SCALARS: [PgType; 15] = [
    BOOL,
    BYTEA,
    INT8,
    INT2,
    INT4,
    TEXT,
    JSON,
    FLOAT4,
    FLOAT8,
    DATE,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    INTERVAL,
    NUMERIC,
];

/// Types of lists, which are named after what they hold.
pub(crate) const LISTS: [PgType; 15] = [
    pg(1000, -1, "_bool", "boolean[]", 0),
    pg(1001, -1, "_bytea", "bytea[]", 0),
    pg(1016, -1, "_int8", "bigint[]", 0),
    pg(1005, -1, "_int2", "smallint[]", 0),
    pg(1007, -1, "_int4", "integer[]", 0),
    pg(1009, -1, "_text", "text[]", 0),
    pg(199, -1, "_json", "json[]", 0),
    pg(1021, -1, "_float4", "real[]", 0),
    pg(1022, -1, "_float8", "double precision[]", 0),
    pg(1182, -1, "_date", "date[]", 0),
    pg(1183, -1, "_time", "time without time zone[]", 0),
    pg(1115, -1, "_timestamp", "timestamp without time zone[]", 0),
    pg(1185, -1, "_timestamptz", "timestamp with time zone[]", 0),
    pg(1187, -1, "_interval", "interval[]", 0),
    pg(1231, -1, "_numeric", "numeric[]", 0),
];

/// A type by its number, of columns and lists.
pub(crate) fn by_oid(oid: u32) -> Option<PgType> {
    SCALARS.iter().chain(&LISTS).find(|kind| kind.oid == oid).copied()
}

/// The type of a column.
pub(crate) fn of(kind: &DataType) -> PgType {
    match kind {
        DataType::Boolean => BOOL,
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => INT2,
        DataType::UInt16 | DataType::Int32 => INT4,
        DataType::UInt32 | DataType::Int64 => INT8,
        DataType::UInt64
        | DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => NUMERIC,
        DataType::Float16 | DataType::Float32 => FLOAT4,
        DataType::Float64 => FLOAT8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => BYTEA,
        DataType::Date32 | DataType::Date64 => DATE,
        DataType::Time32(_) | DataType::Time64(_) => TIME,
        DataType::Timestamp(_, None) => TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => TIMESTAMPTZ,
        DataType::Interval(_) | DataType::Duration(_) => INTERVAL,
        DataType::Dictionary(_, values) => of(values),
        DataType::RunEndEncoded(_, values) => of(values.data_type()),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
            if !item.data_type().is_nested() =>
        {
            let list = of(item.data_type()).list;
            by_oid(list).unwrap_or(JSON)
        }
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Struct(_)
        | DataType::Map(..)
        | DataType::Union(..) => JSON,
        // Text, ids, and a null of no type.
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::FixedSizeBinary(_)
        | DataType::Null => TEXT,
    }
}

/// The columns of an answer to a statement.
pub(super) fn describe(schema: &Schema, sql: &str) -> Vec<Described> {
    let names = dialect::column_names(sql);
    let column = |(index, field): (usize, &Arc<Field>)| Described {
        name: names
            .get(index)
            .cloned()
            .flatten()
            .unwrap_or_else(|| dialect::unmarked(field.name()).to_owned()),
        kind: of(field.data_type()),
    };
    schema.fields().iter().enumerate().map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_the_table_has_a_type_and_so_has_a_list_of_it() {
        let kinds: Vec<&str> = event::columns::COLUMNS
            .iter()
            .filter(|column| {
                ["time", "core", "sequence", "trace_id", "sampled", "duration_us", "extra", "attempts"]
                    .contains(&column.name)
            })
            .map(|column| of(&column.kind.data_type()).internal)
            .collect();
        assert_eq!(kinds, ["timestamptz", "int4", "numeric", "text", "bool", "json", "int8", "json"]);
        for (scalar, list) in SCALARS.iter().zip(&LISTS) {
            assert_eq!(scalar.list, list.oid);
            assert_eq!(list.internal, format!("_{}", scalar.internal));
            assert_eq!(list.name, format!("{}[]", scalar.name));
        }
    }
}
