//! The part of Kubernetes' JSONPath that printer columns use: fields, indices, slices, wildcards and filters.

use serde_json::Value;

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// Why a path cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not a JSON path this server can evaluate: {problem} at byte {at}")]
pub struct JsonPathError {
    problem: &'static str,
    at: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    Filter { path: JsonPath, test: Option<(Operator, Value)> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads `.a.b`, `.a\.b`, `['a.b']`, `[0]`, `[-1]`, `[1:3]`, `[*]`, `[?(@.type=='Ready')]`.
    pub fn parse(text: &str) -> Result<JsonPath, JsonPathError> {
        let text = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        let mut parser = Parser { text: text.as_bytes(), at: 0, filters: 0 };
        if parser.peek() == Some(b'$') {
            parser.at += 1;
        }
        let steps = parser.steps(false)?;
        if steps.is_empty() && text != "." && text != "$" {
            return Err(parser.error("an empty path"));
        }
        Ok(JsonPath { steps })
    }

    /// All values the path leads to.
    pub fn all<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        let mut current = vec![root];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in current {
                step.follow(value, &mut next);
            }
            current = next;
        }
        current
    }

    /// The first of them.
    pub fn first<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        self.all(root).into_iter().next()
    }
}

impl Step {
    fn follow<'v>(&self, value: &'v Value, out: &mut Vec<&'v Value>) {
        match (self, value) {
            (Step::Field(name), Value::Object(map)) => out.extend(map.get(name)),
            (Step::Index(index), Value::Array(list)) => {
                let at = if *index < 0 { index + list.len() as i64 } else { *index };
                out.extend(usize::try_from(at).ok().and_then(|at| list.get(at)));
            }
            (Step::Slice(from, to), Value::Array(list)) => {
                let length = list.len() as i64;
                let bound = |at: i64| (if at < 0 { at + length } else { at }).clamp(0, length) as usize;
                let (from, to) = (bound(from.unwrap_or(0)), bound(to.unwrap_or(length)));
                out.extend(list.iter().take(to).skip(from));
            }
            (Step::All, Value::Array(list)) => out.extend(list),
            (Step::All, Value::Object(map)) => out.extend(map.values()),
            (Step::Filter { path, test }, Value::Array(list)) => {
                out.extend(list.iter().filter(|item| holds(path, test.as_ref(), item)));
            }
            _ => {}
        }
    }
}

fn holds(path: &JsonPath, test: Option<&(Operator, Value)>, item: &Value) -> bool {
    let Some(found) = path.first(item) else { return false };
    let Some((operator, wanted)) = test else { return true };
    let order = match (found, wanted) {
        (Value::String(a), Value::String(b)) => a.as_str().partial_cmp(b.as_str()),
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::Bool(a), Value::Bool(b)) => a.partial_cmp(b),
        _ => None,
    };
    let Some(order) = order else { return *operator == Operator::NotEqual };
    match operator {
        Operator::Equal => order.is_eq(),
        Operator::NotEqual => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
    }
}

/// Filters within filters; what is deeper is not worth the stack.
const MAX_FILTERS: usize = 8;

struct Parser<'t> {
    text: &'t [u8],
    at: usize,
    /// Filters around the place.
    filters: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn error(&self, problem: &'static str) -> JsonPathError {
        JsonPathError { problem, at: self.at }
    }

    fn spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    fn expect(&mut self, wanted: u8, problem: &'static str) -> Result<(), JsonPathError> {
        if self.peek() == Some(wanted) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.error(problem))
        }
    }

    /// Steps up to the end, or inside a filter up to an operator or parenthesis.
    fn steps(&mut self, filter: bool) -> Result<Vec<Step>, JsonPathError> {
        let mut steps = Vec::new();
        loop {
            match self.peek() {
                None => return Ok(steps),
                Some(b'.') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'.') => return Err(self.error("recursive descent is not supported")),
                        Some(b'*') => {
                            self.at += 1;
                            steps.push(Step::All);
                        }
                        Some(b'[') => {}
                        None if steps.is_empty() => return Ok(steps),
                        _ => steps.push(Step::Field(self.name(filter)?)),
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    steps.push(self.bracket()?);
                }
                Some(_) if filter => return Ok(steps),
                Some(_) if steps.is_empty() => steps.push(Step::Field(self.name(filter)?)),
                Some(_) => return Err(self.error("expected '.' or '['")),
            }
        }
    }

    fn name(&mut self, filter: bool) -> Result<String, JsonPathError> {
        let mut name = Vec::new();
        while let Some(c) = self.peek() {
            match c {
                b'\\' => {
                    self.at += 1;
                    let escaped = self.peek().ok_or_else(|| self.error("nothing follows the backslash"))?;
                    name.push(escaped);
                }
                b'.' | b'[' => break,
                b' ' | b'=' | b'!' | b'<' | b'>' | b')' if filter => break,
                other => name.push(other),
            }
            self.at += 1;
        }
        if name.is_empty() {
            return Err(self.error("a field name is missing"));
        }
        String::from_utf8(name).map_err(|_| self.error("a field name is not UTF-8"))
    }

    fn bracket(&mut self) -> Result<Step, JsonPathError> {
        let step = match self.peek() {
            Some(b'*') => {
                self.at += 1;
                Step::All
            }
            Some(b'\'' | b'"') => Step::Field(self.quoted()?),
            Some(b'?') => {
                self.at += 1;
                return self.filter();
            }
            _ => {
                let from = self.number()?;
                if self.peek() == Some(b':') {
                    self.at += 1;
                    Step::Slice(from, self.number()?)
                } else {
                    Step::Index(from.ok_or_else(|| self.error("expected an index, '*', a quoted name or a filter"))?)
                }
            }
        };
        self.expect(b']', "expected ']'")?;
        Ok(step)
    }

    fn number(&mut self) -> Result<Option<i64>, JsonPathError> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit() || c == b'-') {
            self.at += 1;
        }
        let digits = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        if digits.is_empty() {
            return Ok(None);
        }
        digits.parse().map(Some).map_err(|_| self.error("expected a number"))
    }

    fn quoted(&mut self) -> Result<String, JsonPathError> {
        let quote = self.peek();
        self.at += 1;
        let mut out = Vec::new();
        loop {
            match self.peek() {
                None => return Err(self.error("a quote is not closed")),
                c if c == quote => {
                    self.at += 1;
                    return String::from_utf8(out).map_err(|_| self.error("a quoted text is not UTF-8"));
                }
                Some(b'\\') => {
                    self.at += 1;
                    out.extend(self.peek());
                }
                Some(c) => out.push(c),
            }
            self.at += 1;
        }
    }

    fn filter(&mut self) -> Result<Step, JsonPathError> {
        self.expect(b'(', "expected '(' after '?'")?;
        self.spaces();
        self.expect(b'@', "a filter starts with '@'")?;
        if self.filters == MAX_FILTERS {
            return Err(self.error("filters are nested too deeply"));
        }
        self.filters += 1;
        let path = JsonPath { steps: self.steps(true)? };
        self.filters -= 1;
        self.spaces();
        let operator = match (self.peek(), self.text.get(self.at + 1)) {
            (Some(b'='), Some(b'=')) => Some((Operator::Equal, 2)),
            (Some(b'!'), Some(b'=')) => Some((Operator::NotEqual, 2)),
            (Some(b'<'), Some(b'=')) => Some((Operator::LessOrEqual, 2)),
            (Some(b'>'), Some(b'=')) => Some((Operator::GreaterOrEqual, 2)),
            (Some(b'<'), _) => Some((Operator::Less, 1)),
            (Some(b'>'), _) => Some((Operator::Greater, 1)),
            _ => None,
        };
        let test = match operator {
            None => None,
            Some((operator, width)) => {
                self.at += width;
                self.spaces();
                Some((operator, self.literal()?))
            }
        };
        self.spaces();
        self.expect(b')', "expected ')'")?;
        self.expect(b']', "expected ']'")?;
        Ok(Step::Filter { path, test })
    }

    fn literal(&mut self) -> Result<Value, JsonPathError> {
        if matches!(self.peek(), Some(b'\'' | b'"')) {
            return Ok(Value::from(self.quoted()?));
        }
        let start = self.at;
        while self.peek().is_some_and(|c| !matches!(c, b')' | b' ')) {
            self.at += 1;
        }
        let word = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        match word {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => match word.parse::<f64>() {
                Ok(number) => Ok(Value::from(number)),
                Err(_) => Err(self.error("expected a quoted text, a number, true or false")),
            },
        }
    }
}
