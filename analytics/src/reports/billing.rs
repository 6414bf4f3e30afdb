//! What consumers are billed for, from the rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BooleanArray, Decimal128Array};
use datafusion::catalog::MemTable;
use datafusion::common::Result;
use event::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Report;
use crate::system::{numbers, table, texts};
use crate::views::failed;

/// Digits behind the point of a price.
const SCALE: u32 = 6;
/// Digits of a price in all.
const PRECISION: u8 = 18;

/// Prices. Amounts are decimal numbers as text, as in `"0.25"`, with at most six digits behind the point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlanConfig {
    /// The currency, as ISO 4217 names it.
    pub currency: String,
    /// What a month costs, whatever is asked.
    pub base_fee: String,
    /// Requests of a month that cost nothing more.
    pub included_requests: u64,
    /// What each thousand of further requests costs; a part of a thousand costs its part.
    pub price_per_thousand: String,
    /// Bytes of bodies of a month, both ways, that cost nothing more.
    pub included_bytes: u64,
    /// What each further GiB of them costs.
    pub price_per_gib: String,
    /// Whether requests that failed by the service's fault are counted like others.
    pub bill_errors: bool,
}

impl Default for PlanConfig {
    fn default() -> Self {
        Self {
            currency: "EUR".into(),
            base_fee: "0".into(),
            included_requests: 0,
            price_per_thousand: "0".into(),
            included_bytes: 0,
            price_per_gib: "0".into(),
            bill_errors: false,
        }
    }
}

/// A price in millionths.
fn price(text: &str) -> Option<i128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let fits = !whole.is_empty() && whole.len() <= 12 && part.len() <= SCALE as usize;
    if !fits || !digits(whole) || !digits(part) || text.ends_with('.') {
        return None;
    }
    format!("{whole}{part:0<6}").parse().ok()
}

/// What cannot be used of the plans.
pub(crate) fn problems(plans: &BTreeMap<String, PlanConfig>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, plan) in plans {
        let fields = [
            ("base_fee", &plan.base_fee),
            ("price_per_thousand", &plan.price_per_thousand),
            ("price_per_gib", &plan.price_per_gib),
        ];
        for (field, text) in fields {
            if price(text).is_none() {
                let problem =
                    Problem::new(format!("analytics.plans.{name}.{field}"), format!("`{text}` is no price"));
                problems.push(problem.hint("write it as \"0.25\", with at most six digits behind the point"));
            }
        }
        if plan.currency.len() != 3 || !plan.currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            let path = format!("analytics.plans.{name}.currency");
            problems
                .push(Problem::new(path, format!("`{}` is no currency", plan.currency)).hint("as in EUR"));
        }
    }
    problems
}

/// `config.plans`.
pub(crate) fn plans(plans: &BTreeMap<String, PlanConfig>) -> Result<MemTable> {
    let prices = |of: fn(&PlanConfig) -> &str| -> Result<arrow::array::ArrayRef> {
        let values = plans.values().map(|plan| price(of(plan)).unwrap_or_default());
        let array = Decimal128Array::from_iter_values(values);
        Ok(Arc::new(array.with_precision_and_scale(PRECISION, SCALE as i8)?))
    };
    table(vec![
        ("name", texts(plans.keys())),
        ("currency", texts(plans.values().map(|plan| &plan.currency))),
        ("base_fee", prices(|plan| &plan.base_fee)?),
        ("included_requests", numbers(plans.values().map(|plan| plan.included_requests))),
        ("price_per_thousand", prices(|plan| &plan.price_per_thousand)?),
        ("included_bytes", numbers(plans.values().map(|plan| plan.included_bytes))),
        ("price_per_gib", prices(|plan| &plan.price_per_gib)?),
        ("bill_errors", Arc::new(BooleanArray::from_iter(plans.values().map(|plan| Some(plan.bill_errors))))),
    ])
}

/// `billing(plan, month)`.
pub(super) const BILLING: Report =
    Report { name: "billing", parameters: &[("plan", None), ("month", None)], sql: billing };

/// Every request of the month is in one row, those of nobody too, so that the sum of `requests` is their number.
fn billing() -> String {
    let beyond = |what: &str, included: &str| {
        format!("CAST(greatest({what} - CAST({included} AS BIGINT), 0) AS DECIMAL(20, 0))")
    };
    format!(
        "SELECT coalesce(consumer, 'anonymous') AS consumer, plan, requests, errors, billable, bytes, \
         CAST(CASE WHEN consumer IS NULL THEN 0 ELSE round(base_fee + {} * price_per_thousand / 1000 \
         + {} * price_per_gib / 1073741824, 2) END AS DECIMAL(20, 2)) AS amount, currency \
         FROM (SELECT u.consumer, p.name AS plan, u.requests, u.errors, u.bytes, p.base_fee, p.included_requests, \
         p.price_per_thousand, p.included_bytes, p.price_per_gib, p.currency, \
         CASE WHEN p.bill_errors THEN u.requests ELSE u.requests - u.errors END AS billable \
         FROM (SELECT r.consumer, count(*) AS requests, count(*) FILTER (WHERE {}) AS errors, \
         CAST(sum(r.request_bytes) AS BIGINT) + CAST(sum(r.response_bytes) AS BIGINT) AS bytes FROM requests r \
         WHERE r.time >= to_timestamp($month || '-01T00:00:00Z') \
         AND r.time < to_timestamp($month || '-01T00:00:00Z') + INTERVAL '1 month' GROUP BY 1) u \
         CROSS JOIN (SELECT * FROM config.plans c WHERE c.name = $plan) p)",
        beyond("billable", "included_requests"),
        beyond("bytes", "included_bytes"),
        failed(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_a_decimal_number() {
        for (text, millionths) in [("0", 0), ("12", 12_000_000), ("0.25", 250_000), ("7.000001", 7_000_001)] {
            assert_eq!(price(text), Some(millionths), "{text}");
        }
        for text in ["", ".5", "1.", "-1", "1e3", "0.0000001", "1,5", "1234567890123", "\u{0661}"] {
            assert_eq!(price(text), None, "{text}");
        }
    }
}
