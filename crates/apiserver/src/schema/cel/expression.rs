//! What an expression needs: functions and names that may be unknown here, and how deep its loops nest.

use std::collections::BTreeSet;

use kube_cel::KubeCelExt as _;
use kube_cel::cel::common::ast::{EntryExpr, Expr, IdedExpr};
use kube_cel::cel::{Context, ExecutionError, Program};

/// An expression that is understood.
pub(super) struct Expression {
    program: Program,
}

/// What an expression asks for that cannot be had, each as the definition's author wrote it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unknown {
    pub(super) functions: BTreeSet<String>,
    pub(super) names: BTreeSet<String>,
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

    pub(super) fn mentions(&self, variable: &str) -> bool {
        self.program.references().has_variable(variable)
    }

    /// Functions and names beyond `variables` that nothing here provides.
    pub(super) fn unknown(&self, variables: &[&str]) -> Unknown {
        let mut walk = Walk { context: Context::default().with_all(), bound: Vec::new(), unknown: Unknown::default() };
        walk.bound.extend(variables.iter().map(|v| (*v).to_owned()));
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

/// How deep the loops of an expression nest; `None` when it cannot be parsed.
pub(super) fn loops(source: &str) -> Option<u32> {
    Some(depth(Expression::parse(source).ok()?.program.expression()))
}

fn depth(expression: &IdedExpr) -> u32 {
    let below = children(expression).into_iter().map(depth).max().unwrap_or(0);
    match &expression.expr {
        // The range is gone through once, before the loop.
        Expr::Comprehension(c) => {
            depth(&c.iter_range).max(1 + depth(&c.loop_step).max(depth(&c.loop_cond))).max(depth(&c.result))
        }
        _ => below,
    }
}

fn children(expression: &IdedExpr) -> Vec<&IdedExpr> {
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

fn parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

struct Walk {
    context: Context<'static>,
    /// Variables in scope.
    bound: Vec<String>,
    unknown: Unknown,
}

impl Walk {
    fn expression(&mut self, expression: &IdedExpr) {
        match &expression.expr {
            Expr::Ident(name) => {
                if !name.starts_with('@') && !self.bound.contains(name) {
                    self.unknown.names.insert(name.clone());
                }
            }
            Expr::Call(call) => {
                let space = call.target.as_deref().and_then(|target| match &target.expr {
                    // `sets.contains(…)`: the name of a library, not of a value.
                    Expr::Ident(name) if !self.bound.contains(name) => Some(name.as_str()),
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
                call.args.iter().for_each(|argument| self.expression(argument));
            }
            Expr::Comprehension(c) => {
                self.expression(&c.iter_range);
                self.expression(&c.accu_init);
                let outside = self.bound.len();
                self.bound.extend([c.iter_var.clone(), c.accu_var.clone()]);
                self.bound.extend(c.iter_var2.clone());
                [&c.loop_cond, &c.loop_step, &c.result].into_iter().for_each(|part| self.expression(part));
                self.bound.truncate(outside);
            }
            _ => children(expression).into_iter().for_each(|part| self.expression(part)),
        }
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
