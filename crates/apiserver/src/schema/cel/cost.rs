//! What evaluating an expression may cost, before it is evaluated.
//!
//! With a definition the sizes are those that its schema allows, and the sums are Kubernetes' own: a rule that a kube-apiserver would
//! refuse as too expensive is refused in the same words. With an object the sizes are those of its values, and what this evaluator does
//! beyond (it copies what a loop collects at every step, and compiles a pattern each time it is used) is counted as well, so that no rule,
//! whenever it was stored, keeps a thread busy for long.

mod shape;

use kube_cel::cel::common::ast::{ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};
use serde_json::Value;

use super::expression::{children, parts};
use shape::Shape;

/// Most that one expression of a definition may cost.
pub(super) const EXPRESSION: u64 = 10_000_000;
/// Most that all expressions of a version's schema may cost.
pub(super) const DEFINITION: u64 = 100_000_000;
/// Most that all rules may cost that judge one object. (A kube-apiserver stops at a third of it, but counts what was evaluated; these
/// are estimates, of the worst that can happen.)
pub(super) const OBJECT: u64 = 30_000_000;

/// What an expression costs for values of a schema; `times` is how many such values an object may have, if the lists and maps around
/// them say so.
pub(super) fn of_schema(expression: &IdedExpr, schema: &Value, times: Option<u64>) -> u64 {
    let own = Shape::declared(schema);
    let cost = Estimate::new(own.clone(), own, false).total(expression);
    cost.saturating_mul(times.unwrap_or_else(|| shape::most(schema)))
}

/// What an expression costs for a value.
pub(super) fn of_value(expression: &IdedExpr, value: &Value, old: Option<&Value>) -> u64 {
    let old = old.map(Shape::seen).unwrap_or_default();
    Estimate::new(Shape::seen(value), old, true).total(expression)
}

/// The factor by which a list or map multiplies what is in it; `None` without a bound.
pub(super) fn multiplies(schema: &Value) -> Option<u64> {
    let bound = |word: &str| schema.get(word).and_then(Value::as_u64);
    match schema["type"].as_str() {
        Some("array") => bound("maxItems"),
        Some("object") if !matches!(schema.get("additionalProperties"), None | Some(Value::Null)) => {
            bound("maxProperties")
        }
        _ => Some(1),
    }
}

/// The message about a cost beyond its limit.
pub(super) fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength \
         where arrays, maps, and strings are declared)"
    )
}

struct Estimate<'v> {
    /// Variables in scope.
    bound: Vec<(String, Shape<'v>)>,
    /// Whether sizes are those of values, and the costs those of this evaluator.
    real: bool,
    work: usize,
}

/// What copying a byte of a text costs, beside that of copying a value.
const COPIED: f64 = 1.0 / 64.0;

/// So many parts of the size, rounded up.
fn share(size: u64, factor: f64) -> u64 {
    // Beyond the range of integers the cast stays at the largest.
    (size as f64 * factor).ceil() as u64
}

/// Going through a text once.
fn traverse(size: u64) -> u64 {
    share(size, 0.1)
}

impl<'v> Estimate<'v> {
    fn new(own: Shape<'v>, old: Shape<'v>, real: bool) -> Self {
        Estimate { bound: vec![("self".into(), own), ("oldSelf".into(), old)], real, work: 0 }
    }

    fn total(mut self, expression: &IdedExpr) -> u64 {
        let (cost, _) = self.expression(expression);
        if self.work > shape::MOST { u64::MAX } else { cost }
    }

    /// The cost of an expression, and what it makes.
    fn expression(&mut self, expression: &IdedExpr) -> (u64, Shape<'v>) {
        if self.work > shape::MOST {
            return (u64::MAX, Shape::default());
        }
        let (cost, shape) = match &expression.expr {
            Expr::Literal(literal) => (0, literal_shape(literal)),
            Expr::Ident(name) => {
                let known = self.bound.iter().rev().find(|(bound, _)| bound == name);
                (1, known.map(|(_, shape)| shape.clone()).unwrap_or_default())
            }
            Expr::Select(select) => {
                let (cost, of) = self.expression(&select.operand);
                if select.test {
                    (cost, Shape::scalar())
                } else {
                    let found = of.field(&select.field);
                    let copied = self.copies(std::iter::once(&found));
                    (cost.saturating_add(copied).saturating_add(1), found)
                }
            }
            Expr::Call(call) => {
                let (target_cost, target) = match &call.target {
                    Some(target) => {
                        let (cost, shape) = self.expression(target);
                        (cost, Some(shape))
                    }
                    None => (0, None),
                };
                let (costs, shapes): (Vec<u64>, Vec<Shape<'v>>) = call.args.iter().map(|a| self.expression(a)).unzip();
                let pattern = call.args.last().filter(|_| self.real && PATTERNS.contains(&call.func_name.as_str()));
                let compiled = pattern.map_or(0, compiles);
                let (own, made) = self.call(&call.func_name, target.as_ref(), &shapes);
                // Of two branches only one is taken.
                let arguments = match (call.func_name.as_str(), &costs[..]) {
                    (operators::CONDITIONAL, [condition, yes, no]) => condition.saturating_add(*yes.max(no)),
                    _ => costs.iter().fold(0u64, |sum, cost| sum.saturating_add(*cost)),
                };
                let given = shapes.iter().chain(&target);
                let copied = if is_operator(&call.func_name) { 0 } else { self.copies(given) };
                let cost = [own, arguments, target_cost, compiled, copied].into_iter().fold(0u64, u64::saturating_add);
                (cost, made)
            }
            Expr::Comprehension(comprehension) => self.repeat(comprehension),
            Expr::List(list) => {
                let (cost, elements) = self.all(list.elements.iter());
                let copied = self.copies(std::iter::once(&elements)).saturating_mul(list.elements.len() as u64);
                (cost.saturating_add(copied).saturating_add(10), Shape::made(list.elements.len() as u64, elements))
            }
            Expr::Map(map) => {
                let (cost, elements) = self.all(map.entries.iter().flat_map(|entry| parts(&entry.expr)));
                let copied = self.copies(std::iter::once(&elements)).saturating_mul(map.entries.len() as u64);
                (cost.saturating_add(copied).saturating_add(30), Shape::made(map.entries.len() as u64, elements))
            }
            Expr::Struct(_) | Expr::Unspecified => {
                let (cost, elements) = self.all(children(expression).into_iter());
                (cost.saturating_add(40), elements)
            }
        };
        self.work += 1 + shape.len();
        (cost, shape)
    }

    /// What copying values costs, which this evaluator does for fields, lists, maps and calls of functions.
    fn copies<'a>(&self, values: impl Iterator<Item = &'a Shape<'v>>) -> u64
    where
        'v: 'a,
    {
        let weights = values.filter(|_| self.real).map(|shape| shape.weight(COPIED));
        share(weights.fold(0, u64::saturating_add), 0.5)
    }

    fn all<'e>(&mut self, expressions: impl Iterator<Item = &'e IdedExpr>) -> (u64, Shape<'v>) {
        let (mut cost, mut shape) = (0u64, Shape::default());
        for expression in expressions {
            let (more, other) = self.expression(expression);
            cost = cost.saturating_add(more);
            shape = shape.or(other);
        }
        (cost, shape)
    }

    fn repeat(&mut self, c: &ComprehensionExpr) -> (u64, Shape<'v>) {
        let (range_cost, range) = self.expression(&c.iter_range);
        let (init_cost, init) = self.expression(&c.accu_init);
        let outside = self.bound.len();
        self.bound.push((c.accu_var.clone(), init));
        let items = range.range();
        self.work += items.len();
        self.bound.push((c.iter_var.clone(), items));
        if let Some(name) = &c.iter_var2 {
            self.bound.push((name.clone(), range.elements()));
        }
        let (condition, _) = self.expression(&c.loop_cond);
        let (step, stepped) = self.expression(&c.loop_step);
        self.bound.truncate(outside + 1);
        let (result, _) = self.expression(&c.result);
        self.bound.truncate(outside);

        let count = range.size();
        let collects = matches!(c.accu_init.expr, Expr::List(_) | Expr::Map(_));
        let elements = if collects { stepped.elements() } else { Shape::default() };
        let mut round = condition.saturating_add(step);
        let mut copies = 0;
        if self.real {
            // Each item once, and at every step what was collected before: half of the outcome on average.
            copies = share(range.weight(COPIED), 0.5);
            if collects {
                round = round.saturating_add(share(count.saturating_mul(elements.weight(COPIED).max(1)), 0.25));
            }
        }
        let cost = [count.saturating_mul(round), range_cost, init_cost, result, copies];
        let cost = cost.into_iter().fold(0u64, u64::saturating_add);
        (cost, if collects { Shape::made(count, elements) } else { Shape::scalar() })
    }

    /// What a function costs beside its arguments, and what it makes.
    fn call(&self, name: &str, target: Option<&Shape<'v>>, arguments: &[Shape<'v>]) -> (u64, Shape<'v>) {
        use operators::{ADD, CONDITIONAL, EQUALS, GREATER, GREATER_EQUALS, IN, INDEX, LESS, LESS_EQUALS};
        use operators::{LOGICAL_AND, LOGICAL_OR, NOT_EQUALS};
        let size = |i: usize| arguments.get(i).map_or(0, Shape::size);
        // Of methods the target, of functions the first argument.
        let target = target.filter(|shape| shape.len() > 0);
        let subject = target.or(arguments.first());
        let length = subject.map_or(0, Shape::size);
        let argument = if target.is_some() { size(0) } else { size(1) };
        match name {
            LOGICAL_AND | LOGICAL_OR => (0, Shape::scalar()),
            CONDITIONAL => {
                let branches = arguments.iter().skip(1).cloned().fold(Shape::default(), Shape::or);
                (0, branches)
            }
            EQUALS | NOT_EQUALS | LESS | LESS_EQUALS | GREATER | GREATER_EQUALS => {
                let measure = |shape: &Shape<'v>| if self.real { shape.weight(1.0) } else { shape.size() };
                (traverse(arguments.iter().map(measure).min().unwrap_or(0)), Shape::scalar())
            }
            IN => (size(1), Shape::scalar()),
            INDEX => (1, arguments.first().map(Shape::elements).unwrap_or_default()),
            ADD => {
                let sum = size(0).saturating_add(size(1));
                let elements = arguments.iter().map(Shape::elements).fold(Shape::default(), Shape::or);
                // Lists of known elements are joined, numbers and texts added.
                let cost = if elements.len() > 0 { 1 } else { traverse(sum).max(1) };
                (cost, Shape::made(sum, elements))
            }
            "startsWith" | "endsWith" => (traverse(argument), Shape::scalar()),
            // `sets.contains`
            "contains" if target.is_none() => (length.saturating_mul(argument), Shape::scalar()),
            "contains" => (traverse(length).saturating_mul(traverse(argument)), Shape::scalar()),
            "matches" | "find" | "findAll" => {
                let cost = traverse(length.saturating_add(1)).saturating_mul(share(argument, 0.25));
                let made = if name == "matches" { Shape::scalar() } else { Shape::made(length, Shape::text(length)) };
                (cost, made)
            }
            "validate" => (share(traverse(length.max(argument)), 32.0), Shape::scalar()),
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
                let each = subject.map(Shape::elements).unwrap_or_default();
                let cost =
                    if each.len() > 0 { length.saturating_mul(1 + traverse(each.size())) } else { traverse(length) };
                (cost, each.or(Shape::scalar()))
            }
            "replace" => {
                // In the worst case around every character.
                let with = if target.is_some() { size(1) } else { size(2) };
                let made = length.saturating_add(1).saturating_mul(with).saturating_add(length);
                let made = if argument > 0 && with <= 1 { length } else { made };
                (share(length, 0.2), Shape::text(made))
            }
            "split" => (share(length, 0.2), Shape::made(length, Shape::text(length))),
            "join" => {
                let each = subject.map(Shape::elements).unwrap_or_default().size();
                let made = length.saturating_mul(each.saturating_add(argument));
                (traverse(made), Shape::text(made))
            }
            "format" => {
                let given = arguments.iter().map(|shape| shape.weight(1.0)).fold(0u64, u64::saturating_add);
                let made = length.saturating_mul(given.max(1));
                (traverse(length), Shape::text(if self.real { made } else { length.saturating_add(given) }))
            }
            "substring"
            | "lowerAscii"
            | "upperAscii"
            | "trim"
            | "url"
            | "jsonpatch.escapeKey"
            | "reverse"
            | "bytes" => {
                let elements = subject.map(Shape::elements).unwrap_or_default();
                (traverse(length), Shape::made(length, elements))
            }
            "string" | "strings.quote" | "quote" | "encode" | "decode" => {
                let made = length.saturating_mul(2).saturating_add(32);
                (traverse(length).max(1), Shape::text(made))
            }
            // Compared with one another.
            "distinct" | "sort" | "intersects" | "equivalent" => {
                let elements = subject.map(Shape::elements).unwrap_or_default();
                let cost = length.saturating_mul(length.max(argument).max(size(1)));
                (cost.max(1), Shape::made(length, elements))
            }
            "slice" | "first" | "last" | "flatten" | "value" | "orValue" | "or" | "dyn" => {
                let all = subject.cloned().unwrap_or_default();
                let inner = all.elements();
                let nested = length.saturating_mul(inner.size().max(1));
                let deeper = inner.elements();
                let made = Shape::made(if name == "flatten" { nested } else { length }, inner.clone());
                (1, made.or(inner).or(deeper).or(arguments.iter().cloned().fold(Shape::default(), Shape::or)))
            }
            "cidr" | "ip" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" | "isURL" => {
                (traverse(length), Shape::scalar())
            }
            "getHost" | "getHostname" | "getEscapedPath" | "getScheme" | "getPort" | "getQuery" => {
                (1, Shape::text(length))
            }
            _ => (1, Shape::scalar()),
        }
    }
}

fn is_operator(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// Functions whose last argument is a pattern, which they compile each time.
const PATTERNS: [&str; 3] = ["matches", "find", "findAll"];

/// What compiling a pattern costs. It grows with each counted repetition, and classes of characters are large.
fn compiles(pattern: &IdedExpr) -> u64 {
    const UNKNOWN: u64 = 500_000;
    const MOST: u64 = 2_000_000;
    let Expr::Literal(LiteralValue::String(text)) = &pattern.expr else { return UNKNOWN };
    let text = text.inner();
    let repeated = text.split('{').skip(1).filter_map(|rest| {
        let counts = rest.split_once('}')?.0;
        counts.rsplit(',').chain(counts.split(',')).filter_map(|count| count.trim().parse::<u64>().ok()).max()
    });
    let times = repeated.fold(1u64, |product, count| product.saturating_mul(count.max(1)));
    let classes = text.matches('\\').count() as u64 + text.matches("(?i").count() as u64;
    (text.len() as u64 + 20 * classes).saturating_mul(times).saturating_mul(20).min(MOST)
}

fn literal_shape<'v>(literal: &LiteralValue) -> Shape<'v> {
    match literal {
        LiteralValue::String(text) => Shape::text(text.inner().chars().count() as u64),
        LiteralValue::Bytes(bytes) => Shape::text(bytes.inner().len() as u64),
        _ => Shape::scalar(),
    }
}
