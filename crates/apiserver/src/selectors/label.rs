//! Label selectors: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`, `a>1`, `a<1`, joined by commas.

use crate::schema::names;

/// A parsed selector: all requirements hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LabelSelector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

impl LabelSelector {
    /// Parses a selector; the error is the text for the client.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: lex(text), at: 0 };
        let mut requirements = Vec::new();
        if parser.peek() == &Token::End {
            return Ok(LabelSelector::default());
        }
        loop {
            requirements.push(parser.requirement()?);
            match parser.next() {
                Token::End => return Ok(LabelSelector(requirements)),
                Token::Comma => {}
                other => {
                    return Err(parse_error(&format!("found '{}', expected: ',' or 'end of string'", other.text())));
                }
            }
        }
    }

    /// Whether everything matches.
    pub(crate) fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub(crate) fn matches(&self, labels: &[(Box<str>, Box<str>)]) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.iter().find(|(k, _)| **k == *requirement.key).map(|(_, v)| &**v);
            requirement.test.matches(value)
        })
    }
}

impl Test {
    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self {
            Test::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
            Test::NotIn(values) => value.is_none_or(|v| !values.iter().any(|x| x == v)),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::Greater(bound) => number().is_some_and(|v| v > *bound),
            Test::Less(bound) => number().is_some_and(|v| v < *bound),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Equal,
    DoubleEqual,
    NotEqual,
    Not,
    Greater,
    Less,
    Comma,
    Open,
    Close,
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Word(word) => word,
            Token::Equal => "=",
            Token::DoubleEqual => "==",
            Token::NotEqual => "!=",
            Token::Not => "!",
            Token::Greater => ">",
            Token::Less => "<",
            Token::Comma => ",",
            Token::Open => "(",
            Token::Close => ")",
            Token::End => "",
        }
    }
}

fn lex(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let followed_by_equal = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| chars.next_if_eq(&'=').is_some();
        tokens.push(match c {
            c if c.is_ascii_whitespace() => continue,
            '=' if followed_by_equal(&mut chars) => Token::DoubleEqual,
            '=' => Token::Equal,
            '!' if followed_by_equal(&mut chars) => Token::NotEqual,
            '!' => Token::Not,
            '>' => Token::Greater,
            '<' => Token::Less,
            ',' => Token::Comma,
            '(' => Token::Open,
            ')' => Token::Close,
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| !c.is_ascii_whitespace() && !"=!><,()".contains(*c)) {
                    word.push(c);
                }
                Token::Word(word)
            }
        });
    }
    tokens.push(Token::End);
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

fn parse_error(what: &str) -> String {
    format!("unable to parse requirement: {what}")
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek() == &Token::Not;
        if negated {
            self.at += 1;
        }
        let key = match self.next() {
            Token::Word(word) => word,
            other => return Err(parse_error(&format!("found '{}', expected: identifier", other.text()))),
        };
        if let Some(problem) = names::qualified_name(&key).first() {
            return Err(parse_error(&format!("<nil>: Invalid value: {key:?}: {problem}")));
        }
        if negated {
            return Ok(Requirement { key, test: Test::Absent });
        }
        let test = match self.peek().clone() {
            Token::End | Token::Comma => Test::Exists,
            operator => {
                self.at += 1;
                self.test(&key, &operator)?
            }
        };
        Ok(Requirement { key, test })
    }

    fn test(&mut self, key: &str, operator: &Token) -> Result<Test, String> {
        Ok(match operator {
            Token::Equal | Token::DoubleEqual => Test::In(vec![self.value(key)?]),
            Token::NotEqual => Test::NotIn(vec![self.value(key)?]),
            Token::Greater => Test::Greater(self.number(key, "Gt")?),
            Token::Less => Test::Less(self.number(key, "Lt")?),
            Token::Word(word) if word == "in" => Test::In(self.values(key)?),
            Token::Word(word) if word == "notin" => Test::NotIn(self.values(key)?),
            other => {
                let expected = "expected: in, notin, =, ==, !=, gt, lt";
                return Err(parse_error(&format!("found '{}', {expected}", other.text())));
            }
        })
    }

    fn value(&mut self, key: &str) -> Result<String, String> {
        match self.peek().clone() {
            Token::Word(word) => {
                self.at += 1;
                checked_value(key, word)
            }
            Token::End | Token::Comma => Ok(String::new()),
            other => Err(parse_error(&format!("found '{}', expected: identifier", other.text()))),
        }
    }

    fn number(&mut self, key: &str, operator: &str) -> Result<i64, String> {
        let value = self.value(key)?;
        value.parse().map_err(|_| {
            parse_error(&format!(
                "values[0][{key}]: Invalid value: {value:?}: for '{operator}' operator, the value must be an integer"
            ))
        })
    }

    fn values(&mut self, key: &str) -> Result<Vec<String>, String> {
        let open = self.next();
        if open != Token::Open {
            return Err(parse_error(&format!("found '{}' expected: '('", open.text())));
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                Token::Word(word) => {
                    values.push(checked_value(key, word)?);
                    match self.next() {
                        Token::Comma => {}
                        Token::Close => return Ok(values),
                        other => {
                            return Err(parse_error(&format!("found '{}', expected: ',' or ')'", other.text())));
                        }
                    }
                }
                Token::Comma => values.push(String::new()),
                Token::Close => {
                    values.push(String::new());
                    return Ok(values);
                }
                other => {
                    return Err(parse_error(&format!("found '{}', expected: ',', ')' or identifier", other.text())));
                }
            }
        }
    }
}

fn checked_value(key: &str, value: String) -> Result<String, String> {
    match names::label_value(&value).first() {
        Some(problem) => Err(parse_error(&format!("values[0][{key}]: Invalid value: {value:?}: {problem}"))),
        None => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels: Vec<(Box<str>, Box<str>)> = labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        LabelSelector::parse(selector).unwrap().matches(&labels)
    }

    #[test]
    fn every_operator_selects() {
        let labels = &[("a", "1"), ("tier", "web"), ("x.io/y", "")];
        for yes in [
            "",
            "a",
            "a=1",
            "a==1",
            "a = 1 , tier in (web, db)",
            "tier notin (db)",
            "!b",
            "b!=1",
            "b notin (x)",
            "a>0",
            "a<2",
            "x.io/y=",
            "x.io/y in ()",
        ] {
            assert!(selects(yes, labels), "{yes}");
        }
        for no in ["b", "a=2", "a!=1", "!a", "tier in (db)", "a>1", "a<1", "tier>1", "b in (x)", "a=1,b"] {
            assert!(!selects(no, labels), "{no}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in
            ["=a", "a=b=c", "a in", "a in (", "a in (b", "a in b", ",", "a,", "a b", "a>b", "A B=", "a=/", "!", "()"]
        {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,40}") {
            let _ = LabelSelector::parse(&text);
        }
    }
}
