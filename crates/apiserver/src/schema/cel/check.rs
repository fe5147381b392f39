//! What of a definition's rules is refused.

use serde_json::{Value, json};

use super::expression::{Expression, with_room};
use super::{RULES, Step, list_keys, visit};
use crate::schema::Cause;

const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// Everything wrong with the rules of a schema that is structural. `path` is where the schema stands, such as
/// `spec.versions[0].schema.openAPIV3Schema`.
pub(in crate::schema) fn check(schema: &Value, path: &str) -> Vec<Cause> {
    with_room(|| {
        let mut causes = Vec::new();
        visit(schema, &mut Vec::new(), &mut |steps, values, rules| {
            let place = spell(path, steps);
            let lost = uncorrelated(schema, path, steps);
            for (i, rule) in rules.iter().enumerate() {
                let about = About { values, whole: steps.is_empty(), lost: lost.as_deref() };
                one(rule, &format!("{place}.{RULES}[{i}]"), about, &mut causes);
            }
        });
        causes
    })
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
}

fn one(rule: &Value, at: &str, about: About<'_>, causes: &mut Vec<Cause>) {
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
    expression(source, &format!("{at}.rule"), rule, about, causes);
    if !template.trim().is_empty() {
        expression(template, &format!("{at}.messageExpression"), rule, about, causes);
    }
}

fn expression(source: &str, at: &str, rule: &Value, about: About<'_>, causes: &mut Vec<Cause>) {
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
        node = match step {
            Step::Field(name) => node.get("properties")?.get(&**name)?,
            Step::Values => node.get("additionalProperties")?,
            Step::Items(_) => node.get("items")?,
        };
    }
    None
}
