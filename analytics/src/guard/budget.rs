//! How much a statement may mean. A short text can stand for an enormous plan; these bounds are looked at before
//! anything is planned, and the first of them before anything is parsed.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, GroupByExpr, ObjectName, Query, Select};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::Refused;

/// Most operators. `1 + 1 + ...` and `a OR b OR ...` are trees as deep as they are long, and whoever walks or drops
/// such a tree needs stack for it.
const OPERATORS_MAX: usize = 2_000;
/// Most tables that are read, each mention of a common table expression counted as what it stands for.
const RELATIONS_MAX: u64 = 64;
/// Most groupings of one SELECT: CUBE of n columns are 2^n.
const GROUPINGS_MAX: u64 = 256;

/// Counts the operators of a text without parsing it.
pub(super) fn operators(text: &str) -> Result<(), Refused> {
    // What is no SQL is the parser's to explain.
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize() else { return Ok(()) };
    match tokens.iter().filter(|token| deepens(token)).count() {
        count if count > OPERATORS_MAX => Err(Refused::TooMuch("operators", OPERATORS_MAX as u64)),
        _ => Ok(()),
    }
}

/// Whether a token may make the syntax tree one deeper without a parenthesis. All that does not for sure does.
fn deepens(token: &Token) -> bool {
    use Keyword as K;
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            K::AND
                | K::OR
                | K::XOR
                | K::NOT
                | K::IS
                | K::IN
                | K::LIKE
                | K::ILIKE
                | K::SIMILAR
                | K::BETWEEN
                | K::UNION
                | K::EXCEPT
                | K::INTERSECT
                | K::MINUS
                | K::JOIN
                | K::COLLATE
                | K::AT
                | K::DIV
                | K::OVERLAPS
                | K::REGEXP
                | K::RLIKE
                | K::ESCAPE
                | K::NOTNULL
        ),
        Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::EscapedStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::Placeholder(_)
        | Token::Comma
        | Token::Period
        | Token::SemiColon
        | Token::LParen
        | Token::RParen
        | Token::RBracket
        | Token::Whitespace(_)
        | Token::EOF => false,
        _ => true,
    }
}

/// Counts the tables behind a statement while its queries are visited.
#[derive(Debug, Default)]
pub(super) struct Relations {
    /// What each common table expression stands for.
    named: HashMap<String, u64>,
    /// Bodies of common table expressions that are to be visited, by their place in memory.
    bodies: HashMap<*const Query, String>,
    /// Of each query that is being visited, the innermost last.
    counts: Vec<u64>,
}

impl Relations {
    pub(super) fn enter(&mut self, query: &Query) {
        self.counts.push(0);
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.bodies.insert(&raw const *table.query, table.alias.name.value.to_lowercase());
        }
    }

    pub(super) fn table(&mut self, name: &ObjectName) {
        let name = name.0.last().map(|part| part.to_string().trim_matches('"').to_lowercase());
        let weight = name.and_then(|name| self.named.get(&name)).copied().unwrap_or(1);
        if let Some(count) = self.counts.last_mut() {
            *count = count.saturating_add(weight);
        }
    }

    pub(super) fn leave(&mut self, query: &Query) -> ControlFlow<Refused> {
        let count = self.counts.pop().unwrap_or(0);
        if count > RELATIONS_MAX {
            return ControlFlow::Break(Refused::TooMuch("tables", RELATIONS_MAX));
        }
        match self.bodies.remove(&(&raw const *query)) {
            // It costs where it is named, but at least once.
            Some(name) => {
                self.named.insert(name, count.max(1));
            }
            None => {
                if let Some(outer) = self.counts.last_mut() {
                    *outer = outer.saturating_add(count);
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// Counts the groupings of a SELECT.
pub(super) fn groupings(select: &Select) -> ControlFlow<Refused> {
    let GroupByExpr::Expressions(keys, _) = &select.group_by else { return ControlFlow::Continue(()) };
    let sets = keys.iter().fold(1_u64, |sets, key| {
        sets.saturating_mul(match key {
            Expr::Cube(columns) => 1_u64.checked_shl(columns.len() as u32).unwrap_or(u64::MAX),
            Expr::Rollup(columns) => columns.len() as u64 + 1,
            Expr::GroupingSets(sets) => sets.len() as u64,
            _ => 1,
        })
    });
    match sets > GROUPINGS_MAX {
        true => ControlFlow::Break(Refused::TooMuch("groupings", GROUPINGS_MAX)),
        false => ControlFlow::Continue(()),
    }
}
