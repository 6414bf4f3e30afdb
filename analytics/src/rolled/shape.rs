//! Which questions roll-ups can answer.

use std::collections::BTreeSet;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr::{AggregateFunction, InList, ScalarFunction};
use datafusion::logical_expr::logical_plan::Aggregate;
use datafusion::logical_expr::utils::{split_binary, split_conjunction};
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, LogicalPlan, Operator, ident};
use event::rollup::{Grouping, NAMES, Resolution};

use super::spans::Spans;
use super::terms::{Sum, Wanted, failures};
use crate::functions;
use crate::table::Rows;

const MINUTE_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MINUTE_US;
/// Most expressions, those within others counted, that a question is followed down with.
const NODES_MAX: usize = 10_000;

/// An aggregate over `requests` that knows of rows only what groups know.
pub(super) struct Shape {
    pub(super) rows: Rows,
    /// Over names and whole minutes.
    pub(super) keys: Vec<Expr>,
    /// What is asked.
    pub(super) wanted: Vec<Wanted>,
    /// Conditions on names.
    pub(super) conditions: Vec<Expr>,
    pub(super) span: Spans,
    /// Whether all keys are the same within an hour.
    hourly: bool,
}

impl Shape {
    /// The shape of an aggregate; none if it asks for what only rows know.
    pub(super) fn of(aggregate: &Aggregate) -> Result<Option<Self>> {
        let (keys, sums) = (aggregate.group_expr.len(), aggregate.aggr_expr.len());
        if aggregate.group_expr.iter().any(|key| matches!(key, Expr::GroupingSet(_))) || keys + sums == 0 {
            return Ok(None);
        }
        let asked = aggregate.group_expr.iter().chain(&aggregate.aggr_expr).cloned().collect();
        let Some(Below { rows, asked, conditions }) = down(asked, aggregate.input.as_ref())? else {
            return Ok(None);
        };
        let mut shape = Self {
            rows,
            keys: asked[..keys].to_vec(),
            wanted: Vec::new(),
            conditions: Vec::new(),
            span: Spans::all(),
            hourly: true,
        };
        for expr in &asked[keys..] {
            let Some(wanted) = wanted(expr) else { return Ok(None) };
            shape.wanted.push(wanted);
        }
        for key in &shape.keys {
            let Some(step_us) = step(key)? else { return Ok(None) };
            shape.hourly &= step_us % HOUR_US == 0;
        }
        for condition in conditions.iter().flat_map(split_conjunction) {
            if let Some(span) = span(condition) {
                shape.span = shape.span.and(&span);
            } else if of_names(condition) {
                shape.conditions.push(condition.clone());
            } else {
                return Ok(None);
            }
        }
        Ok(Some(shape))
    }

    /// The kinds of groups that are fine enough, those first of which there are fewest.
    pub(super) fn kinds(&self) -> Vec<(Resolution, Grouping)> {
        let expressions = self.keys.iter().chain(&self.conditions);
        let mut names: BTreeSet<&str> =
            expressions.flat_map(Expr::column_refs).map(|column| column.name.as_str()).collect();
        names.extend(self.rows.scope.columns());
        let tells_apart = |grouping: &Grouping| {
            NAMES.iter().zip(grouping.keeps()).all(|(name, keeps)| keeps || !names.contains(name))
        };
        let groupings = [Grouping::Workspaces, Grouping::Services, Grouping::Consumers, Grouping::All];
        let resolutions: &[Resolution] =
            if self.hourly { &[Resolution::Hour, Resolution::Minute] } else { &[Resolution::Minute] };
        let kinds = resolutions.iter().flat_map(|one| groupings.map(|other| (*one, other)));
        kinds.filter(|(_, grouping)| tells_apart(grouping)).collect()
    }

    /// What keys and sums are called between the parts of an answer.
    pub(super) fn names(&self) -> (Vec<String>, Vec<String>) {
        let named = |kind: &str, count: usize| (0..count).map(|n| format!("{kind}{n}")).collect();
        (named("key", self.keys.len()), named("sum", self.wanted.len()))
    }
}

/// What a plan reads, and expressions over it in terms of the columns of `requests`.
struct Below {
    rows: Rows,
    asked: Vec<Expr>,
    conditions: Vec<Expr>,
}

/// What is below some expressions over a plan, with the conditions that rows meet on their way up; none if it is not
/// `requests` alone.
fn down(mut asked: Vec<Expr>, mut plan: &LogicalPlan) -> Result<Option<Below>> {
    let count = asked.len();
    loop {
        match plan {
            LogicalPlan::Projection(projection) => {
                // A text that is doubled by each of thirty projections must not be written out.
                let longest = projection.expr.iter().map(size).max().unwrap_or_default();
                let columns: usize = asked.iter().map(columns).sum();
                if asked.iter().map(size).sum::<usize>() + columns.saturating_mul(longest) > NODES_MAX {
                    return Ok(None);
                }
                asked = replaced(asked, plan, |place| projection.expr[place].clone().unalias())?;
                plan = &projection.input;
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let below: Vec<Expr> = alias.input.schema().columns().into_iter().map(Expr::Column).collect();
                asked = replaced(asked, plan, |place| below[place].clone())?;
                plan = &alias.input;
            }
            LogicalPlan::Filter(filter) => {
                asked.push(filter.predicate.clone());
                plan = &filter.input;
            }
            LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
                let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
                let Some(rows) = provider.downcast_ref::<Rows>().filter(|rows| rows.is_requests()) else {
                    return Ok(None);
                };
                let fields = scan.projected_schema.fields();
                asked = replaced(asked, plan, |place| ident(fields[place].name()))?;
                let conditions = asked.split_off(count);
                return Ok(Some(Below { rows: rows.clone(), asked, conditions }));
            }
            _ => return Ok(None),
        }
    }
}

/// Of how many expressions one is made.
fn size(expr: &Expr) -> usize {
    count(expr, |_| true)
}

/// How often it names a column.
fn columns(expr: &Expr) -> usize {
    count(expr, |expr| matches!(expr, Expr::Column(_)))
}

fn count(expr: &Expr, counts: impl Fn(&Expr) -> bool) -> usize {
    let mut found = 0;
    let counted = expr.apply(|expr| {
        found += usize::from(counts(expr));
        Ok(TreeNodeRecursion::Continue)
    });
    // Nothing in it fails; were it so, nothing would be rolled up.
    counted.map_or(usize::MAX / 4, |_| found)
}

/// Expressions with the columns of a plan's answer replaced.
fn replaced(asked: Vec<Expr>, plan: &LogicalPlan, by: impl Fn(usize) -> Expr) -> Result<Vec<Expr>> {
    let one = |expr: Expr| {
        let found = expr.transform(|expr| match &expr {
            Expr::Column(column) => Ok(Transformed::yes(by(plan.schema().index_of_column(column)?))),
            _ => Ok(Transformed::no(expr)),
        });
        found.map(|found| found.data)
    };
    asked.into_iter().map(one).collect()
}

fn is_column(expr: &Expr, name: &str) -> bool {
    matches!(expr, Expr::Column(column) if column.name == name)
}

/// Whether an expression is the same for all rows of a group, whatever their times.
fn of_names(expr: &Expr) -> bool {
    let names = expr.column_refs().into_iter().all(|column| NAMES.contains(&column.name.as_str()));
    names && is_plain(expr)
}

/// Whether it gives the same for the same, and asks no other table.
fn is_plain(expr: &Expr) -> bool {
    let inside = |expr: &Expr| {
        Ok(matches!(
            expr,
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::OuterReferenceColumn(..)
        ))
    };
    !expr.is_volatile() && !expr.exists(inside).unwrap_or(true)
}

/// What an aggregate asks of a sum.
fn wanted(expr: &Expr) -> Option<Wanted> {
    let Expr::AggregateFunction(AggregateFunction { func, params }) = expr.clone().unalias() else {
        return None;
    };
    if params.distinct || !params.order_by.is_empty() || params.null_treatment.is_some() {
        return None;
    }
    let (first, filter) = (params.args.first()?, params.filter.as_deref());
    let times = |expr: &Expr| match bare(expr) {
        column if is_column(column, "duration_us") => Some(Sum::Durations),
        column if is_column(column, "gateway_us") => Some(Sum::GatewayTimes),
        _ => None,
    };
    let whole = |sum| Some(Wanted::Whole(sum));
    match (func.name(), filter) {
        ("count", None) if counts_all(&params.args) => whole(Sum::Requests),
        ("count", Some(filter)) if counts_all(&params.args) && is_failure(filter) => whole(Sum::Errors),
        ("sum", None) if is_column(first, "request_bytes") => whole(Sum::RequestBytes),
        ("sum", None) if is_column(first, "response_bytes") => whole(Sum::ResponseBytes),
        ("latency_sketch", None) => whole(times(first)?),
        ("latency_percentile", None) => {
            let p = params.args.get(1).filter(|p| functions::is_share(p))?;
            Some(Wanted::Percentile(times(first)?, p.clone()))
        }
        ("distinct_sketch", None) if is_column(first, "client_ip") => whole(Sum::Clients),
        _ => None,
    }
}

/// A number without the casts around it, which no bucket of a sketch depends on.
fn bare(mut expr: &Expr) -> &Expr {
    while let Expr::Cast(cast) = expr
        && matches!(cast.field.data_type(), DataType::UInt64 | DataType::Int64 | DataType::Float64)
    {
        expr = &cast.expr;
    }
    expr
}

/// Whether each row counts.
fn counts_all(args: &[Expr]) -> bool {
    let always = |expr: &Expr| match expr {
        Expr::Literal(value, _) => !value.is_null(),
        Expr::Column(column) => {
            event::columns::schema().field_with_name(&column.name).is_ok_and(|field| !field.is_nullable())
        }
        _ => false,
    };
    args.iter().all(always)
}

/// Whether a condition is the one that roll-ups count errors by: `views::failed`.
fn is_failure(filter: &Expr) -> bool {
    let mut outcomes = BTreeSet::new();
    let mut by_status = false;
    for part in split_binary(filter, Operator::Or) {
        match part {
            Expr::InList(InList { expr, list, negated: false }) if is_column(expr, "outcome") => {
                let words = list.iter().map(text).collect::<Option<Vec<_>>>();
                let Some(words) = words else { return false };
                outcomes.extend(words);
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (op, integer(right)) {
                (Operator::GtEq, Some(500)) | (Operator::Gt, Some(499))
                    if is_column(bare_status(left), "status") =>
                {
                    by_status = true;
                }
                (Operator::Eq, None) if is_column(left, "outcome") => {
                    let Some(word) = text(right) else { return false };
                    outcomes.insert(word);
                }
                _ => return false,
            },
            _ => return false,
        }
    }
    by_status && outcomes == failures().map(str::to_owned).collect()
}

fn bare_status(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(Cast { expr, field }) if field.data_type().is_integer() => expr,
        expr => expr,
    }
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(str::to_owned),
        _ => None,
    }
}

fn integer(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(value, _) if value.data_type().is_integer() => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(number)) => number,
            _ => None,
        },
        _ => None,
    }
}

/// How much time has the same value of a key: a multiple of a minute, of which only whether it is one of an hour matters.
/// None if it is less than a minute.
fn step(key: &Expr) -> Result<Option<i64>> {
    let (mut step_us, mut fits) = (HOUR_US, is_plain(key));
    key.apply(|expr| {
        if let Some(found) = aligned(expr) {
            fits &= found % MINUTE_US == 0 && found > 0;
            if found % HOUR_US != 0 {
                step_us = MINUTE_US;
            }
            return Ok(TreeNodeRecursion::Jump);
        }
        if let Expr::Column(column) = expr {
            fits &= NAMES.contains(&column.name.as_str());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(fits.then_some(step_us))
}

/// The step of a function that cuts `time` down to whole steps since an hour began.
fn aligned(expr: &Expr) -> Option<i64> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return None };
    match (func.name(), args.as_slice()) {
        ("date_bin" | "time_bucket", [step, time]) if is_time(time) => interval_us(step),
        ("date_bin" | "time_bucket", [step, time, origin]) if is_time(time) => {
            let (step, origin) = (interval_us(step)?, timestamp_us(origin, Round::Down)?);
            (timestamp_us(&args[2], Round::Up)? == origin).then(|| gcd(step, origin.rem_euclid(step)))
        }
        ("date_trunc", [unit, time]) if is_time(time) => match text(unit)?.to_lowercase().as_str() {
            "minute" => Some(MINUTE_US),
            "hour" | "day" | "week" | "month" | "quarter" | "year" => Some(HOUR_US),
            _ => None,
        },
        ("date_part", [unit, time]) if is_time(time) => match text(unit)?.to_lowercase().as_str() {
            "minute" => Some(MINUTE_US),
            "hour" | "day" | "dow" | "doy" | "isodow" | "week" | "month" | "quarter" | "year" => {
                Some(HOUR_US)
            }
            _ => None,
        },
        // floor(extract(epoch FROM time) / 300), as Grafana groups by time.
        ("floor", [Expr::BinaryExpr(BinaryExpr { left, op: Operator::Divide, right })]) => {
            let Expr::ScalarFunction(ScalarFunction { func, args }) = left.as_ref() else { return None };
            let epoch = func.name() == "date_part"
                && text(args.first()?)?.eq_ignore_ascii_case("epoch")
                && is_time(args.get(1)?);
            let Expr::Literal(seconds, _) = right.as_ref() else { return None };
            let ScalarValue::Float64(Some(seconds)) = seconds.cast_to(&DataType::Float64).ok()? else {
                return None;
            };
            let whole = epoch && seconds.fract() == 0.0 && (1.0..1e9).contains(&seconds);
            whole.then_some(seconds as i64 * 1_000_000)
        }
        _ => None,
    }
}

fn gcd(one: i64, other: i64) -> i64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

/// `time`, or the same in finer units.
fn is_time(expr: &Expr) -> bool {
    match expr {
        Expr::Cast(Cast { expr, field }) => {
            let finer = matches!(field.data_type(), DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, Some(zone)) if is_utc(zone));
            finer && is_column(expr, "time")
        }
        expr => is_column(expr, "time"),
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "Z")
}

/// A constant interval; of months, which begin with an hour, an hour.
fn interval_us(expr: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    let day_us = 24 * HOUR_US;
    match value {
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            let us = i64::from(interval.days) * day_us + interval.nanoseconds / 1_000;
            match (interval.months, interval.nanoseconds % 1_000) {
                (0, 0) => Some(us),
                (_, 0) if us == 0 => Some(HOUR_US),
                _ => None,
            }
        }
        ScalarValue::IntervalDayTime(Some(interval)) => {
            Some(i64::from(interval.days) * day_us + i64::from(interval.milliseconds) * 1_000)
        }
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Round {
    Down,
    Up,
}

fn timestamp_us(expr: &Expr, round: Round) -> Option<i64> {
    let Expr::Literal(value, _) = expr else { return None };
    match value {
        ScalarValue::TimestampSecond(Some(s), _) => s.checked_mul(1_000_000),
        ScalarValue::TimestampMillisecond(Some(ms), _) => ms.checked_mul(1_000),
        ScalarValue::TimestampMicrosecond(Some(us), _) => Some(*us),
        ScalarValue::TimestampNanosecond(Some(ns), _) => {
            let up = round == Round::Up && ns.rem_euclid(1_000) != 0;
            Some(ns.div_euclid(1_000) + i64::from(up))
        }
        _ => None,
    }
}

/// The time that a condition leaves; none if it is no bound of `time`.
fn span(condition: &Expr) -> Option<Spans> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (op, bound) = match (is_time(left), is_time(right)) {
                (true, false) => (*op, right.as_ref()),
                (false, true) => (op.swap()?, left.as_ref()),
                _ => return None,
            };
            match op {
                Operator::GtEq => Some(Spans::one(timestamp_us(bound, Round::Up)?, i64::MAX)),
                Operator::Gt => {
                    Some(Spans::one(timestamp_us(bound, Round::Down)?.saturating_add(1), i64::MAX))
                }
                Operator::Lt => Some(Spans::one(i64::MIN, timestamp_us(bound, Round::Up)?)),
                Operator::LtEq => {
                    Some(Spans::one(i64::MIN, timestamp_us(bound, Round::Down)?.saturating_add(1)))
                }
                _ => None,
            }
        }
        Expr::Between(Between { expr, negated: false, low, high }) if is_time(expr) => Some(Spans::one(
            timestamp_us(low, Round::Up)?,
            timestamp_us(high, Round::Down)?.saturating_add(1),
        )),
        _ => None,
    }
}
