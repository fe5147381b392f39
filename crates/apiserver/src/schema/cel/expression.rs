//! What an expression needs: functions, names and fields that may be unknown here.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use kube_cel::KubeCelExt as _;
use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr, operators};
use kube_cel::cel::{Context, ExecutionError, Program};
use serde_json::{Value, json};

/// An expression that is understood.
pub(super) struct Expression {
    program: Program,
}

/// What an expression asks for that cannot be had, each as the definition's author wrote it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unknown {
    pub(super) functions: BTreeSet<String>,
    pub(super) names: BTreeSet<String>,
    /// Fields that the schema does not have.
    pub(super) fields: BTreeSet<String>,
}

impl Expression {
    /// Parses an expression; the error is one line for people.
    pub(super) fn parse(source: &str) -> Result<Self, String> {
        within_limits(source)?;
        let program = Program::compile(source).map_err(|error| {
            let text = error.to_string();
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
        })?;
        Ok(Expression { program })
    }

    pub(super) fn tree(&self) -> &IdedExpr {
        self.program.expression()
    }

    pub(super) fn mentions(&self, variable: &str) -> bool {
        self.program.references().has_variable(variable)
    }

    /// Functions, names and fields that nothing here provides, in a rule about values of this schema; of an object with its own metadata
    /// when the schema is that of a `whole` object.
    pub(super) fn unknown(&self, schema: &Value, whole: bool) -> Unknown {
        let mut walk = Walk {
            context: Context::default().with_all(),
            whole: whole.then_some(schema),
            bound: ["self", "oldSelf"].map(|name| (name.to_owned(), Some(schema))).into(),
            unknown: Unknown::default(),
        };
        walk.expression(self.program.expression());
        walk.unknown
    }
}

/// Runs `work` on a stack that parsing and evaluating an expression [`within_limits`] cannot exhaust: both recurse.
pub(super) fn with_room<T>(work: impl FnOnce() -> T) -> T {
    const STACK: usize = 128 << 20;
    stacker::grow(STACK, work)
}

/// Refuses texts that could make a deeper tree than the stack has room for. What stands in strings counts as well: where they
/// end is for the parser to say, which has not seen the text yet.
pub(super) fn within_limits(source: &str) -> Result<(), String> {
    // The parser's own bound on nesting is 96, beyond which it miscounts conditionals.
    const BRACKETS: usize = 90;
    const OPERATORS: usize = 1000;
    let count = |of: &str| source.chars().filter(|c| of.contains(*c)).count();
    if count("([{?") > BRACKETS || count(".!-+*/%<>=&|:,") > OPERATORS {
        return Err(format!(
            "ERROR: an expression may have at most {BRACKETS} brackets and conditionals and {OPERATORS} operators"
        ));
    }
    Ok(())
}

pub(super) fn children(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(c) => vec![&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Map(map) => map.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Expr::Struct(fields) => fields.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}

pub(super) fn parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// What of an object's own metadata rules may use.
pub(super) static METADATA: LazyLock<Value> = LazyLock::new(
    || json!({"type": "object", "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}}}),
);
pub(super) static TEXT: LazyLock<Value> = LazyLock::new(|| json!({"type": "string"}));

/// A property's name in expressions, as the evaluator spells it. (Kubernetes doubles no single underscore: there is no way to such a
/// property here, so rules that use one are refused.)
pub(super) fn escaped(property: &str) -> String {
    const RESERVED: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    if RESERVED.contains(&property) {
        return format!("__{property}__");
    }
    property.replace('_', "__").replace('.', "__dot__").replace('-', "__dash__").replace('/', "__slash__")
}

/// The schema of a list's items or of a map's values.
fn elements(of: &Value) -> Option<&Value> {
    let key = if is_list(of) { "items" } else { "additionalProperties" };
    of.get(key).filter(|schema| schema.is_object())
}

fn is_list(of: &Value) -> bool {
    of["type"] == "array"
}

struct Walk<'s> {
    context: Context<'static>,
    /// The schema of the whole object, in its own rules.
    whole: Option<&'s Value>,
    /// Variables in scope, with the schemas of their values where these are known.
    bound: Vec<(String, Option<&'s Value>)>,
    unknown: Unknown,
}

impl<'s> Walk<'s> {
    fn is_bound(&self, name: &str) -> bool {
        self.bound.iter().any(|(bound, _)| bound == name)
    }

    /// Walks through an expression; the schema of its value, where that can be told without evaluating it.
    fn expression(&mut self, expression: &IdedExpr) -> Option<&'s Value> {
        match &expression.expr {
            Expr::Ident(name) => {
                if let Some((_, schema)) = self.bound.iter().rev().find(|(bound, _)| bound == name) {
                    return *schema;
                }
                if !name.starts_with('@') {
                    self.unknown.names.insert(name.clone());
                }
                None
            }
            Expr::Select(select) => {
                let of = self.expression(&select.operand)?;
                self.field(of, &select.field)
            }
            Expr::Call(call) if call.func_name == operators::INDEX && call.args.len() == 2 => {
                let of = self.expression(&call.args[0]);
                self.expression(&call.args[1]);
                elements(of?)
            }
            Expr::Call(call) => {
                let space = call.target.as_deref().and_then(|target| match &target.expr {
                    // `sets.contains(…)`: the name of a library, not of a value.
                    Expr::Ident(name) if !self.is_bound(name) => Some(name.as_str()),
                    _ => None,
                });
                let name = match space {
                    Some(space) => format!("{space}.{}", call.func_name),
                    None => call.func_name.clone(),
                };
                if !self.provides(&name) {
                    self.unknown.functions.insert(name);
                }
                if space.is_none()
                    && let Some(target) = &call.target
                {
                    self.expression(target);
                }
                for argument in &call.args {
                    self.expression(argument);
                }
                None
            }
            Expr::Comprehension(c) => {
                let range = self.expression(&c.iter_range);
                self.expression(&c.accu_init);
                let outside = self.bound.len();
                let elements = range.and_then(elements);
                // One variable goes through the items of a list or the keys of a map; of two the second one through the values.
                let items = elements.filter(|_| c.iter_var2.is_none() && range.is_some_and(is_list));
                self.bound.extend([(c.iter_var.clone(), items), (c.accu_var.clone(), None)]);
                self.bound.extend(c.iter_var2.clone().map(|name| (name, elements)));
                for part in [&c.loop_cond, &c.loop_step, &c.result] {
                    self.expression(part);
                }
                self.bound.truncate(outside);
                None
            }
            _ => {
                for part in children(expression) {
                    self.expression(part);
                }
                None
            }
        }
    }

    /// The schema of a field, by its name in expressions.
    fn field(&mut self, of: &'s Value, name: &str) -> Option<&'s Value> {
        if of["type"] != "object" {
            return None;
        }
        if of.get("additionalProperties").is_some_and(Value::is_object) {
            return of.get("additionalProperties");
        }
        let is_whole = self.whole.is_some_and(|whole| std::ptr::eq(whole, of));
        if is_whole || of["x-kubernetes-embedded-resource"] == true {
            match name {
                "metadata" => return Some(&METADATA),
                "apiVersion" | "kind" => return Some(&TEXT),
                _ => {}
            }
        }
        let properties = of.get("properties").and_then(Value::as_object);
        let found = properties.into_iter().flatten().find(|(property, _)| escaped(property) == name);
        if found.is_none() && of["x-kubernetes-preserve-unknown-fields"] != true {
            self.unknown.fields.insert(name.to_owned());
        }
        found.map(|(_, schema)| schema)
    }

    /// Whether a function can be called. Operators, whose names are no identifiers, always can.
    fn provides(&self, name: &str) -> bool {
        // Makes a list of any length out of one number.
        if name == "lists.range" {
            return false;
        }
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') || name.starts_with('_') {
            return true;
        }
        // A call without arguments fails in either case, but not in the same way.
        let Ok(probe) = Program::compile(&format!("{name}()")) else { return false };
        let last = name.rsplit('.').next().unwrap_or(name);
        match probe.execute(&self.context) {
            Err(ExecutionError::UndeclaredReference(missing)) => {
                missing.as_str() != last && missing.as_str() != name && !name.starts_with(&format!("{missing}."))
            }
            _ => true,
        }
    }
}
