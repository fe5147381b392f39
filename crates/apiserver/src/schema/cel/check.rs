//! What of a definition's rules is refused.

use serde_json::{Value, json};

use super::cost;
use super::expression::{Expression, with_room};
use super::{RULES, Step, list_keys, visit};
use crate::schema::Cause;

const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Everything wrong with the rules of a schema that is structural. `path` is where the schema stands, such as
/// `spec.versions[0].schema.openAPIV3Schema`. What the rules of a `stored` schema, which is not changed, cost each is no reason any more.
pub(in crate::schema) fn check(schema: &Value, path: &str, stored: bool) -> Vec<Cause> {
    with_room(|| {
        let mut found = Found { causes: Vec::new(), costs: Vec::new(), stored };
        visit(schema, &mut Vec::new(), &mut |steps, values, rules| {
            let place = spell(path, steps);
            let lost = uncorrelated(schema, path, steps);
            let times = times(schema, steps);
            for (i, rule) in rules.iter().enumerate() {
                let about = About { values, whole: steps.is_empty(), lost: lost.as_deref(), times };
                one(rule, &format!("{place}.{RULES}[{i}]"), about, &mut found);
            }
        });
        found.total(path);
        found.causes
    })
}

struct Found {
    causes: Vec<Cause>,
    /// Where expressions stand, and what each may cost.
    costs: Vec<(String, u64)>,
    stored: bool,
}

impl Found {
    /// Judges the sum of all costs.
    fn total(&mut self, path: &str) {
        let total = self.costs.iter().fold(0u64, |sum, (_, cost)| sum.saturating_add(*cost));
        if total <= cost::DEFINITION {
            return;
        }
        self.costs.retain(|(_, cost)| *cost >= cost::DEFINITION / 100);
        self.costs.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
        self.causes.extend(self.costs.iter().take(4).map(|(at, _)| Cause::forbidden(at, detail)));
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        self.causes.push(Cause::forbidden(path, &cost::exceeds(what, total, cost::DEFINITION)));
    }
}

/// What a rule is about.
#[derive(Clone, Copy)]
struct About<'s> {
    /// The schema of its values.
    values: &'s Value,
    /// Whether they are whole objects.
    whole: bool,
    /// The place below which nobody knows what a value was before.
    lost: Option<&'s str>,
    /// How many values an object may have; `None` without a bound.
    times: Option<u64>,
}

fn one(rule: &Value, at: &str, about: About<'_>, found: &mut Found) {
    let causes = &mut found.causes;
    let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or_default();
    let (source, message) = (text("rule").trim(), text("message"));
    let breaks = |text: &str| text.trim().contains(['\n', '\r']);
    if source.is_empty() {
        causes.push(Cause::required(format!("{at}.rule"), "rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        causes.push(Cause::invalid(format!("{at}.message"), &json!(message), "must be non-empty if specified"));
    } else if breaks(message) {
        causes.push(Cause::invalid(format!("{at}.message"), &json!(message), "must not contain line breaks"));
    } else if breaks(source) && message.trim().is_empty() {
        causes.push(Cause::required(format!("{at}.message"), "message must be specified if rule contains line breaks"));
    }
    let template = text("messageExpression");
    if !template.is_empty() && template.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        causes.push(Cause::required(format!("{at}.messageExpression"), detail));
    }
    if let Some(reason) = rule.get("reason").filter(|reason| !reason.is_null())
        && !reason.as_str().is_some_and(|reason| REASONS.contains(&reason))
    {
        causes.push(Cause::not_supported(format!("{at}.reason"), reason, &REASONS.map(str::to_owned)));
    }
    let field = text("fieldPath");
    if !field.is_empty() && field.trim().is_empty() {
        causes.push(Cause::invalid(format!("{at}.fieldPath"), &json!(field), "must be non-empty if specified"));
    } else if breaks(field) {
        causes.push(Cause::invalid(format!("{at}.fieldPath"), &json!(field), "must not contain line breaks"));
    }
    if source.is_empty() {
        return;
    }
    if rule.get("optionalOldSelf").is_some_and(|value| !value.is_null()) {
        let detail = "not supported yet by Ferrovirt: leave it out, and the rule applies to updates only";
        causes.push(Cause::forbidden(format!("{at}.optionalOldSelf"), detail));
    }
    expression(source, &format!("{at}.rule"), rule, about, found);
    if !template.trim().is_empty() {
        // It is evaluated at most once for each time the rule is broken, and its cost counted once.
        expression(template, &format!("{at}.messageExpression"), rule, About { times: Some(1), ..about }, found);
    }
}

fn expression(source: &str, at: &str, rule: &Value, about: About<'_>, found: &mut Found) {
    let causes = &mut found.causes;
    let parsed = match Expression::parse(source) {
        Ok(parsed) => parsed,
        Err(error) => {
            return causes.push(Cause::invalid(at, rule, &format!("compilation failed: {error}")));
        }
    };
    let unknown = parsed.unknown(about.values, about.whole);
    for name in unknown.names {
        let detail = format!("compilation failed: ERROR: undeclared reference to '{name}' (in container '')");
        causes.push(Cause::invalid(at, rule, &detail));
    }
    for name in unknown.functions {
        let detail = format!("compilation failed: ERROR: the function or macro '{name}' is not supported by Ferrovirt");
        causes.push(Cause::invalid(at, rule, &detail));
    }
    for name in unknown.fields {
        let detail = format!("compilation failed: ERROR: undefined field '{name}'");
        causes.push(Cause::invalid(at, rule, &detail));
    }
    let cost = cost::of_schema(parsed.tree(), about.values, about.times);
    if !found.stored && cost > cost::EXPRESSION {
        let what = if at.ends_with(".rule") { "estimated rule cost" } else { "estimated messageExpression cost" };
        causes.push(Cause::forbidden(at, &cost::exceeds(what, cost, cost::EXPRESSION)));
    }
    found.costs.push((at.to_owned(), cost));
    if let Some(lost) = about.lost
        && parsed.mentions("oldSelf")
    {
        let detail = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}");
        causes.push(Cause::invalid(at, &json!(source), &detail));
    }
}

/// Where a place stands, as paths of definitions are spelt.
fn spell(path: &str, steps: &[Step]) -> String {
    steps.iter().fold(path.to_owned(), |path, step| match step {
        Step::Field(name) => format!("{path}.properties[{name}]"),
        Step::Values => format!("{path}.additionalProperties"),
        Step::Items(_) => format!("{path}.items"),
    })
}

/// How many values an object may have at a place: the product of the bounds of all lists and maps on the way.
fn times(schema: &Value, steps: &[Step]) -> Option<u64> {
    let mut node = schema;
    steps.iter().try_fold(1u64, |product, step| {
        let factor = cost::multiplies(node)?;
        node = below(node, step)?;
        Some(product.saturating_mul(factor))
    })
}

fn below<'s>(node: &'s Value, step: &Step) -> Option<&'s Value> {
    match step {
        Step::Field(name) => node.get("properties")?.get(&**name),
        Step::Values => node.get("additionalProperties"),
        Step::Items(_) => node.get("items"),
    }
}

/// The first place on the way below which nobody knows what a value was before: a list that is not of type map, an atomic map.
fn uncorrelated(schema: &Value, path: &str, steps: &[Step]) -> Option<String> {
    let mut node = schema;
    for (i, step) in steps.iter().enumerate() {
        let atomic = node.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic");
        let lost = match step {
            Step::Items(_) => list_keys(node).is_empty(),
            Step::Field(_) | Step::Values => atomic,
        };
        if lost {
            return Some(spell(path, &steps[..i]));
        }
        node = below(node, step)?;
    }
    None
}
