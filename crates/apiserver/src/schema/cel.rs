//! `x-kubernetes-validations`: rules in CEL that say of a value what the schema's other words cannot.
//!
//! kube-cel compiles and evaluates them. Which value a rule is about, the value it had before, and what of an old mistake an update
//! may keep, is decided here as a real kube-apiserver decides it. What kube-cel cannot evaluate is refused with the definition, by
//! [`check()`], so that a rule which is stored is also enforced.

mod check;
mod cost;
mod expression;

use kube_cel::{CompiledSchema, ErrorKind, ValidationError, Validator, compile_schema};
use serde_json::Value;

pub(super) use check::check;

use super::Cause;
use super::validate::type_of;

const RULES: &str = "x-kubernetes-validations";

/// The rules of a custom schema.
#[derive(Debug)]
pub(crate) struct CelRules {
    places: Vec<Place>,
}

/// One place of a schema that has rules.
#[derive(Debug)]
struct Place {
    /// The way there from the root.
    steps: Box<[Step]>,
    /// The schema below, with the rules of this place only.
    compiled: CompiledSchema,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(Box<str>),
    /// The values of a map.
    Values,
    /// The items of a list, with the keys of a list of type map: only there is it known which item was which.
    Items(Box<[Box<str>]>),
}

thread_local! {
    /// Holds the functions of CEL and of Kubernetes; making it is not cheap.
    static VALIDATOR: Validator = Validator::new();
}

impl CelRules {
    /// The rules of an `openAPIV3Schema`; `None` when it has none.
    pub(crate) fn of(schema: &Value) -> Option<CelRules> {
        expression::with_room(|| Self::compile(schema))
    }

    fn compile(schema: &Value) -> Option<CelRules> {
        let mut places = Vec::new();
        visit(schema, &mut Vec::new(), &mut |steps, schema, rules| {
            let mut own = without_rules(schema);
            if let Some(map) = own.as_object_mut() {
                map.insert(RULES.into(), rules.iter().map(bounded).collect());
            }
            places.push(Place { steps: steps.into(), compiled: compile_schema(&own) });
        });
        (!places.is_empty()).then_some(CelRules { places })
    }

    /// What the rules find wrong with an object; `old` is the stored one on updates.
    pub(crate) fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        expression::with_room(|| {
            let mut found = Found { causes: Vec::new(), budget: Some(cost::OBJECT) };
            for place in &self.places {
                place.visit(&place.steps, object, old, String::new(), &mut found);
            }
            found.causes
        })
    }
}

/// What the rules have found so far.
struct Found {
    causes: Vec<Cause>,
    /// What they may still cost; `None` when that was too much, and no further rule is evaluated.
    budget: Option<u64>,
}

impl Place {
    fn visit(&self, steps: &[Step], value: &Value, old: Option<&Value>, path: String, found: &mut Found) {
        let Some((step, rest)) = steps.split_first() else {
            return self.evaluate(value, old, &path, found);
        };
        match (step, value) {
            (Step::Field(name), Value::Object(map)) => {
                if let Some(value) = map.get(&**name) {
                    let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
                    self.visit(rest, value, old.and_then(|o| o.get(&**name)), path, found);
                }
            }
            (Step::Values, Value::Object(map)) => {
                for (key, value) in map {
                    self.visit(rest, value, old.and_then(|o| o.get(key)), format!("{path}[{key}]"), found);
                }
            }
            (Step::Items(keys), Value::Array(list)) => {
                for (i, value) in list.iter().enumerate() {
                    self.visit(rest, value, same_item(keys, value, old), format!("{path}[{i}]"), found);
                }
            }
            _ => {}
        }
    }

    fn evaluate(&self, value: &Value, old: Option<&Value>, path: &str, found: &mut Found) {
        let old = old.filter(|o| !o.is_null());
        let Some(budget) = found.budget.filter(|_| !value.is_null()) else { return };
        found.budget = budget.checked_sub(self.cost(value, old));
        if found.budget.is_none() {
            let detail = "validation failed due to running out of cost budget, no further validation rules will be run";
            found.causes.push(Cause::invalid(path, &Value::from(type_of(value)), detail));
            return;
        }
        let outcome = VALIDATOR.with(|validator| validator.validate_compiled(&self.compiled, value, old));
        let unchanged = old == Some(value);
        for error in outcome.err().into_iter().flatten() {
            // What was wrong before and is not touched does not stand in the way of an update.
            if !unchanged || self.compares(&error.rule) {
                found.causes.push(cause(&error, value, path));
            }
        }
    }

    /// What the rules of this place may cost at most for a value.
    fn cost(&self, value: &Value, old: Option<&Value>) -> u64 {
        let rules = self.compiled.validations.iter().flatten().filter(|rule| old.is_some() || !rule.is_transition_rule);
        let programs = rules.flat_map(|rule| [Some(&rule.program), rule.message_program.as_ref()]).flatten();
        programs.map(|program| cost::of_value(program.expression(), value, old)).fold(0, u64::saturating_add)
    }

    /// Whether a rule of this place speaks of `oldSelf`.
    fn compares(&self, rule: &str) -> bool {
        self.compiled
            .validations
            .iter()
            .flatten()
            .any(|compiled| compiled.is_transition_rule && compiled.rule.rule == rule)
    }
}

/// The old item with the same keys.
fn same_item<'v>(keys: &[Box<str>], item: &Value, old: Option<&'v Value>) -> Option<&'v Value> {
    if keys.is_empty() {
        return None;
    }
    old?.as_array()?.iter().find(|other| keys.iter().all(|key| other.get(&**key) == item.get(&**key)))
}

fn cause(error: &ValidationError, value: &Value, path: &str) -> Cause {
    let below = error.field_path.trim_start_matches('.');
    let field = match (path, below) {
        (path, "") => path.to_owned(),
        ("", below) => below.to_owned(),
        (path, below) if below.starts_with('[') => format!("{path}{below}"),
        (path, below) => format!("{path}.{below}"),
    };
    if error.kind != ErrorKind::ValidationFailure {
        let why = std::error::Error::source(error).map_or_else(|| error.message.clone(), lower_case);
        let detail = format!("{why} evaluating rule: {}", error.rule.trim());
        return Cause::invalid(path, &Value::from(type_of(value)), &detail);
    }
    let detail = error.message.trim();
    match error.reason.as_deref() {
        Some("FieldValueForbidden") => Cause::forbidden(field, detail),
        Some("FieldValueRequired") => Cause::required(field, detail),
        Some("FieldValueDuplicate") if !is_large(value) => Cause::duplicate(field, value),
        Some("FieldValueDuplicate") => Cause::duplicate_value(field),
        _ if is_large(value) => Cause::invalid_value(field, detail),
        _ => Cause::invalid(field, value, detail),
    }
}

/// Whether a value is left out of messages.
fn is_large(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

fn lower_case(error: &(dyn std::error::Error + 'static)) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// The rule, unless it is one that [`check()`] refuses for its size: then one that lets nothing pass.
fn bounded(rule: &Value) -> Value {
    let texts = ["rule", "messageExpression"].map(|key| rule[key].as_str().unwrap_or_default());
    if texts.iter().all(|text| expression::within_limits(text).is_ok()) {
        return rule.clone();
    }
    serde_json::json!({"rule": "false", "message": "the rule is too large to be evaluated"})
}

/// Calls `found` for every place that has rules, outermost first.
fn visit<'s>(schema: &'s Value, steps: &mut Vec<Step>, found: &mut impl FnMut(&[Step], &'s Value, &'s [Value])) {
    if let Some(rules) = schema.get(RULES).and_then(Value::as_array).filter(|rules| !rules.is_empty()) {
        found(steps, schema, rules);
    }
    let mut below = |step: Step, schema: &'s Value| {
        steps.push(step);
        visit(schema, steps, found);
        steps.pop();
    };
    for (name, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        below(Step::Field(name.as_str().into()), schema);
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        below(Step::Values, values);
    }
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        below(Step::Items(list_keys(schema)), items);
    }
}

/// The keys of a list of type map; none for other lists.
fn list_keys(schema: &Value) -> Box<[Box<str>]> {
    if schema.get("x-kubernetes-list-type").and_then(Value::as_str) != Some("map") {
        return Box::default();
    }
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    keys.into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
}

/// A schema that only says what the values are: rules elsewhere have places of their own, and defaults are filled in already.
fn without_rules(schema: &Value) -> Value {
    let Some(map) = schema.as_object() else { return schema.clone() };
    let mut out = serde_json::Map::new();
    for (word, value) in map {
        let kept = match word.as_str() {
            RULES | "default" | "description" | "allOf" | "anyOf" | "oneOf" | "not" => continue,
            "items" | "additionalProperties" => without_rules(value),
            "properties" => {
                let fields = value.as_object().into_iter().flatten();
                Value::Object(fields.map(|(name, schema)| (name.clone(), without_rules(schema))).collect())
            }
            _ => value.clone(),
        };
        out.insert(word.clone(), kept);
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests;
