//! Functions that clients of PostgreSQL call about its catalogue and their session. They look at a row at a time: there are
//! few rows.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use super::tables::{self, OWNER_OID};
use super::{Inventory, Relation, number, schema_oid};
use crate::postgres::params;
use crate::postgres::settings::{SERVER_VERSION, Settings};
use crate::postgres::types;

/// What a function makes of its arguments.
type Body = Arc<dyn Fn(&[ScalarValue]) -> Result<ScalarValue> + Send + Sync>;

/// One of them.
struct Call {
    name: &'static str,
    returns: DataType,
    signature: Signature,
    body: Body,
}

impl fmt::Debug for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name)
    }
}

impl PartialEq for Call {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Call {}

impl Hash for Call {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Call {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let at = |row: usize| {
            let values: Result<Vec<_>> =
                arrays.iter().map(|array| ScalarValue::try_from_array(array, row)).collect();
            (self.body)(&values?)
        };
        if constant {
            // Without arguments there is one row of them, and with constants all are the same.
            let values: Vec<ScalarValue> = args
                .args
                .iter()
                .filter_map(|arg| match arg {
                    ColumnarValue::Scalar(value) => Some(value.clone()),
                    ColumnarValue::Array(_) => None,
                })
                .collect();
            return Ok(ColumnarValue::Scalar((self.body)(&values)?));
        }
        let rows = (0..args.number_rows).map(at).collect::<Result<Vec<_>>>()?;
        if rows.is_empty() {
            return Ok(ColumnarValue::Array(arrow::array::new_empty_array(&self.returns)));
        }
        Ok(ColumnarValue::Array(ScalarValue::iter_to_array(rows)?))
    }
}

/// A list as it is, or of texts from its text: clients send a list whose type nobody named as text.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ListOfText(Signature);

impl ScalarUDFImpl for ListOfText {
    fn name(&self) -> &str {
        "list_of_text"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match types.first() {
            Some(kind) if kind.is_nested() => kind.clone(),
            _ => list(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let value = args.args.into_iter().next();
        match value {
            Some(ColumnarValue::Scalar(value)) if !value.data_type().is_nested() => {
                let text = string(&[value], 0);
                let elements = text.as_deref().map(params::elements);
                Ok(ColumnarValue::Scalar(match elements {
                    None => ScalarValue::try_from(&list())?,
                    Some(Some(elements)) => {
                        let values: Vec<ScalarValue> = elements.into_iter().map(maybe).collect();
                        ScalarValue::List(ScalarValue::new_list_nullable(&values, &DataType::Utf8))
                    }
                    Some(None) => return datafusion::common::exec_err!("malformed array literal"),
                }))
            }
            Some(value) if value.data_type().is_nested() => Ok(value),
            _ => datafusion::common::exec_err!("a list is wanted"),
        }
    }
}

fn call(
    name: &'static str,
    returns: DataType,
    body: impl Fn(&[ScalarValue]) -> Result<ScalarValue> + Send + Sync + 'static,
) -> ScalarUDF {
    // What they say holds for one session.
    let signature =
        Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], Volatility::Stable);
    ScalarUDF::from(Call { name, returns, signature, body: Arc::new(body) })
}

fn text(value: impl Into<String>) -> ScalarValue {
    ScalarValue::Utf8(Some(value.into()))
}

fn maybe(value: Option<String>) -> ScalarValue {
    ScalarValue::Utf8(value)
}

/// An argument as a number.
fn int(values: &[ScalarValue], index: usize) -> Option<i64> {
    match values.get(index)?.cast_to(&DataType::Int64).ok()? {
        ScalarValue::Int64(value) => value,
        _ => None,
    }
}

/// An argument as text.
fn string(values: &[ScalarValue], index: usize) -> Option<String> {
    match values.get(index)?.cast_to(&DataType::Utf8).ok()? {
        ScalarValue::Utf8(value) => value,
        _ => None,
    }
}

fn texts(values: &[&str]) -> ScalarValue {
    let values: Vec<ScalarValue> = values.iter().map(|value| text(*value)).collect();
    ScalarValue::List(ScalarValue::new_list_nullable(&values, &DataType::Utf8))
}

fn list() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))
}

/// Functions that say the same whatever they are asked: those of things that there are not here, and of the right to read
/// what is shown.
const NULL_TEXTS: &[&str] = &[
    "pg_get_constraintdef",
    "pg_get_expr",
    "pg_get_function_sqlbody",
    "pg_get_functiondef",
    "pg_get_indexdef",
    "pg_get_partkeydef",
    "pg_get_ruledef",
    "pg_get_serial_sequence",
    "pg_get_statisticsobjdef_columns",
    "pg_get_triggerdef",
    "pg_tablespace_location",
    "shobj_description",
    "inet_client_addr",
    "inet_server_addr",
];
const ZEROS: &[&str] = &[
    "pg_database_size",
    "pg_indexes_size",
    "pg_relation_size",
    "pg_stat_get_numscans",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "pg_backend_pid",
    "inet_server_port",
];
const TRUTHS: &[&str] = &[
    "pg_collation_is_visible",
    "pg_function_is_visible",
    "pg_opclass_is_visible",
    "pg_operator_is_visible",
    "pg_type_is_visible",
];
const UNTRUTHS: &[&str] = &["pg_is_in_recovery", "pg_is_other_temp_schema", "pg_relation_is_publishable"];
const PRIVILEGES: &[&str] = &[
    "has_any_column_privilege",
    "has_column_privilege",
    "has_database_privilege",
    "has_function_privilege",
    "has_schema_privilege",
    "has_table_privilege",
    "has_tablespace_privilege",
    "has_type_privilege",
    "pg_has_role",
];
/// All of them, for what there is in a session.
pub(super) fn all(inventory: &Arc<Inventory>) -> Vec<ScalarUDF> {
    let mut all: Vec<ScalarUDF> = Vec::new();
    all.extend(NULL_TEXTS.iter().map(|name| call(name, DataType::Utf8, |_| Ok(maybe(None)))));
    all.extend(ZEROS.iter().map(|name| call(name, DataType::Int64, |_| Ok(ScalarValue::Int64(Some(0))))));
    let truth = |value: bool| move |_: &[ScalarValue]| Ok(ScalarValue::Boolean(Some(value)));
    all.extend(TRUTHS.iter().map(|name| call(name, DataType::Boolean, truth(true))));
    all.extend(UNTRUTHS.iter().map(|name| call(name, DataType::Boolean, truth(false))));
    all.extend(PRIVILEGES.iter().map(|name| call(name, DataType::Boolean, privilege)));
    all.extend(of_session(inventory));
    all.extend(of_things(inventory));
    all.extend(of_text());
    all.push(ScalarUDF::from(ListOfText(Signature::any(1, Volatility::Immutable))));
    all
}

/// Reading is allowed of what is shown, and nothing else.
fn privilege(values: &[ScalarValue]) -> Result<ScalarValue> {
    let wanted = string(values, values.len().saturating_sub(1)).unwrap_or_default().to_uppercase();
    let reads = wanted
        .split(',')
        .any(|one| ["SELECT", "USAGE", "CONNECT", "EXECUTE", "MEMBER"].contains(&one.trim()));
    Ok(ScalarValue::Boolean(Some(reads)))
}

fn of_session(inventory: &Arc<Inventory>) -> Vec<ScalarUDF> {
    let user = |name: &'static str| {
        let user = inventory.user.clone();
        call(name, DataType::Utf8, move |_| Ok(text(user.clone())))
    };
    let fixed =
        |name: &'static str, value: &'static str| call(name, DataType::Utf8, move |_| Ok(text(value)));
    let version = format!("PostgreSQL {SERVER_VERSION}");
    vec![
        user("current_user"),
        user("session_user"),
        user("user"),
        user("current_role"),
        fixed("current_catalog", "tollhouse"),
        fixed("current_database", "tollhouse"),
        fixed("current_schema", "public"),
        fixed("pg_encoding_to_char", "UTF8"),
        call("version", DataType::Utf8, move |_| Ok(text(version.clone()))),
        call("current_schemas", list(), |values| {
            let implicit = matches!(values.first(), Some(ScalarValue::Boolean(Some(true))));
            Ok(if implicit { texts(&["pg_catalog", "public"]) } else { texts(&["public"]) })
        }),
        call("current_setting", DataType::Utf8, |values| {
            let name = string(values, 0).unwrap_or_default();
            let missing_ok = matches!(values.get(1), Some(ScalarValue::Boolean(Some(true))));
            match Settings::new().get(&name) {
                Some(value) => Ok(text(value)),
                None if missing_ok => Ok(maybe(None)),
                None => datafusion::common::exec_err!("unrecognized configuration parameter \"{name}\""),
            }
        }),
        // It sets nothing, as nothing hangs on it.
        call("set_config", DataType::Utf8, |values| Ok(maybe(string(values, 1)))),
        {
            let user = inventory.user.clone();
            call("pg_get_userbyid", DataType::Utf8, move |values| {
                let owner = int(values, 0) == Some(OWNER_OID);
                Ok(maybe(owner.then(|| user.clone())))
            })
        },
    ]
}

/// A table by its name, with its schema before it or not.
fn relation<'a>(inventory: &'a Inventory, name: &str) -> Option<&'a Relation> {
    let name = name.replace('"', "");
    let (schema, table) = name.rsplit_once('.').unwrap_or(("public", &name));
    inventory.relations.iter().find(|relation| relation.schema == schema && relation.name == table)
}

fn regclass(inventory: &Inventory, name: &str) -> Option<i64> {
    let known = match name.strip_prefix("pg_catalog.").unwrap_or(name) {
        "pg_class" => 1259,
        "pg_type" => 1247,
        "pg_proc" => 1255,
        "pg_attribute" => 1249,
        "pg_namespace" => 2615,
        "pg_database" => 1262,
        "pg_constraint" => 2606,
        "pg_attrdef" => 2604,
        "pg_authid" => 1260,
        _ => return relation(inventory, name).map(Relation::oid),
    };
    Some(known)
}

fn of_things(inventory: &Arc<Inventory>) -> Vec<ScalarUDF> {
    let inventory = || Arc::clone(inventory);
    let by_oid = |inventory: &Inventory, oid: i64| {
        inventory.relations.iter().position(|relation| relation.oid() == oid)
    };
    let oid_of = |name: &'static str| {
        let inventory = inventory();
        call(name, DataType::Int64, move |values| {
            let oid = string(values, 0).and_then(|name| regclass(&inventory, &name));
            Ok(ScalarValue::Int64(oid))
        })
    };
    let arguments = |name: &'static str, of: fn(&str) -> String| {
        call(name, DataType::Utf8, move |values| {
            let oid = int(values, 0);
            let found = tables::functions()
                .into_iter()
                .find(|(name, _)| Some(number(&format!("function {name}"))) == oid);
            Ok(maybe(found.map(|(name, _)| of(&name))))
        })
    };
    let (visible, columns, names, views) = (inventory(), inventory(), inventory(), inventory());
    vec![
        oid_of("to_regclass"),
        oid_of("to_regclass_oid"),
        arguments("pg_get_function_arguments", |_| "\"any\"".to_owned()),
        arguments("pg_get_function_identity_arguments", |_| "\"any\"".to_owned()),
        arguments("pg_get_function_result", |_| "\"any\"".to_owned()),
        call("pg_table_is_visible", DataType::Boolean, move |values| {
            let at = int(values, 0).and_then(|oid| by_oid(&visible, oid));
            Ok(ScalarValue::Boolean(Some(at.is_some_and(|at| visible.relations[at].schema == "public"))))
        }),
        call("regclass_name", DataType::Utf8, move |values| {
            let oid = int(values, 0);
            let found = oid.and_then(|oid| by_oid(&names, oid)).map(|at| &names.relations[at]);
            Ok(maybe(match found {
                Some(found) if found.schema == "public" => Some(found.name.clone()),
                Some(found) => Some(format!("{}.{}", found.schema, found.name)),
                None => string(values, 0),
            }))
        }),
        call("pg_get_viewdef", DataType::Utf8, move |values| {
            let at = int(values, 0).and_then(|oid| by_oid(&views, oid));
            Ok(maybe(at.and_then(|at| views.relations[at].definition.clone())))
        }),
        call("col_description", DataType::Utf8, move |values| {
            let at = int(values, 0).and_then(|oid| by_oid(&columns, oid));
            let column = int(values, 1).and_then(|number| usize::try_from(number).ok()?.checked_sub(1));
            let found = at.zip(column).and_then(|(at, column)| {
                let relation = &columns.relations[at];
                let field = relation.columns.fields().get(column)?;
                tables::description(relation, field.name())
            });
            Ok(maybe(found.map(str::to_owned)))
        }),
        call("obj_description", DataType::Utf8, |_| Ok(maybe(None))),
        call("regnamespace_name", DataType::Utf8, |values| {
            let known = ["pg_catalog", "public", "information_schema", "system", "config"];
            let found = known.into_iter().find(|name| Some(schema_oid(name)) == int(values, 0));
            Ok(maybe(found.map(str::to_owned)))
        }),
        call("to_regnamespace_oid", DataType::Int64, |values| {
            Ok(ScalarValue::Int64(string(values, 0).map(|name| schema_oid(&name))))
        }),
        type_number("to_regtype"),
        type_number("to_regtype_oid"),
        call("format_type", DataType::Utf8, |values| {
            let oid = int(values, 0);
            let known = oid.and_then(|oid| types::by_oid(u32::try_from(oid).ok()?));
            Ok(maybe(oid.map(|oid| match (known, oid) {
                (Some(kind), _) => kind.name.to_owned(),
                (None, 0) => "-".to_owned(),
                (None, 2276) => "\"any\"".to_owned(),
                (None, _) => tables::other_type(oid).unwrap_or("???").to_owned(),
            })))
        }),
    ]
}

/// The number of a type by its name.
fn type_number(name: &'static str) -> ScalarUDF {
    call(name, DataType::Int64, |values| {
        let name = string(values, 0).unwrap_or_default().to_lowercase();
        let name = name.strip_prefix("pg_catalog.").unwrap_or(&name);
        let mut known = types::SCALARS.iter().chain(&types::LISTS);
        let found = known.find(|kind| kind.internal == name || kind.name == name);
        Ok(ScalarValue::Int64(found.map(|kind| kind.oid.into())))
    })
}

/// A name as it must be written.
fn quoted(name: &str) -> String {
    let plain =
        |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_';
    let first = |character: char| character.is_ascii_lowercase() || character == '_';
    if name.starts_with(first) && name.chars().all(plain) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The parts of a name: `a."b c"` are `a` and `b c`.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut inside = false;
    for character in name.chars() {
        match character {
            '"' => inside = !inside,
            '.' if !inside => parts.push(String::new()),
            other => {
                let written = if inside { other.to_string() } else { other.to_lowercase().to_string() };
                parts.last_mut().into_iter().for_each(|part| part.push_str(&written));
            }
        }
    }
    parts
}

fn of_text() -> Vec<ScalarUDF> {
    vec![
        call("quote_ident", DataType::Utf8, |values| Ok(maybe(string(values, 0).map(|name| quoted(&name))))),
        call("quote_literal", DataType::Utf8, |values| {
            Ok(maybe(string(values, 0).map(|text| format!("'{}'", text.replace('\'', "''")))))
        }),
        call("parse_ident", list(), |values| {
            let parts = parts(&string(values, 0).unwrap_or_default());
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            Ok(texts(&parts))
        }),
        call("array_lower", DataType::Int64, |values| {
            let none = values.first().is_none_or(ScalarValue::is_null);
            Ok(ScalarValue::Int64((!none).then_some(1)))
        }),
        call("pg_size_pretty", DataType::Utf8, |values| {
            Ok(maybe(int(values, 0).map(|bytes| format!("{bytes} bytes"))))
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own() {
        let inventory = Arc::new(Inventory { relations: Vec::new(), user: "me".into() });
        let all = all(&inventory);
        let names: std::collections::HashSet<&str> = all.iter().map(ScalarUDF::name).collect();
        assert_eq!(names.len(), all.len());
        assert!(names.contains("format_type"));
    }

    #[test]
    fn names_are_quoted_and_taken_apart() {
        assert_eq!(quoted("requests"), "requests");
        assert_eq!(quoted("Re\"q"), "\"Re\"\"q\"");
        assert_eq!(parts("Public.\"Re q\""), ["public", "Re q"]);
    }
}
