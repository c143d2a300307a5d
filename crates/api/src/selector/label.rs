//! Label selectors, as query strings and as `metav1.LabelSelector`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;

use crate::kinds::names;
use crate::object::Object;
use crate::status::Status;

/// All requirements must hold. Without any, everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What must hold.
    pub operator: Operator,
    /// Operands, sorted; one for `Gt` and `Lt`, none for `Exists` and `DoesNotExist`.
    pub values: Vec<String>,
}

/// What a [`Requirement`] asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The label is there with one of the values (also `=` and `==`).
    In,
    /// The label is not there, or has none of the values (also `!=`).
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// The label is a whole number above the value.
    Gt,
    /// The label is a whole number below the value.
    Lt,
}

impl LabelSelector {
    /// Matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches nothing.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Reads a query parameter: `app=web,tier in (a,b),!gone`.
    ///
    /// # Errors
    ///
    /// 400 with Kubernetes' words.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let tokens = scan(text);
        let mut parser = Parser {
            tokens: &tokens,
            at: 0,
        };
        match parser.selector() {
            Ok(requirements) => Ok(Self {
                requirements,
                nothing: false,
            }),
            Err(why) => Err(Status::bad_request(why)),
        }
    }

    /// Takes up a selector of an object. None matches nothing, an empty one everything.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn from_meta(selector: Option<&meta::LabelSelector>) -> Result<Self, String> {
        let Some(selector) = selector else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::In, vec![value.clone()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{other:?} is not a valid label selector operator")),
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::new(&expression.key, operator, values)?);
        }
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    /// The same with one condition more.
    pub fn and(mut self, requirement: Requirement) -> Self {
        self.requirements.push(requirement);
        self
    }

    /// The conditions.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether it matches whatever there is.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Judges labels, given as a look-up.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.holds(label(&r.key)))
    }

    /// Judges a type's `metadata.labels`.
    pub fn matches_labels(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches(|key| labels.and_then(|l| l.get(key)).map(String::as_str))
    }

    /// Judges an object.
    pub fn matches_object(&self, object: &Object) -> bool {
        self.matches(|key| object.label(key))
    }
}

impl std::fmt::Display for LabelSelector {
    /// The query-string form, as `scale`'s status gives it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, r) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let key = &r.key;
            match (r.operator, r.values.as_slice()) {
                (Operator::In, [one]) => write!(f, "{key}={one}")?,
                (Operator::In, many) => write!(f, "{key} in ({})", many.join(","))?,
                (Operator::NotIn, many) => write!(f, "{key} notin ({})", many.join(","))?,
                (Operator::Exists, _) => write!(f, "{key}")?,
                (Operator::DoesNotExist, _) => write!(f, "!{key}")?,
                (Operator::Gt, many) => write!(f, "{key}>{}", many.join(""))?,
                (Operator::Lt, many) => write!(f, "{key}<{}", many.join(""))?,
            }
        }
        Ok(())
    }
}

impl Requirement {
    /// A checked condition.
    ///
    /// # Errors
    ///
    /// What is wrong with the key or the values.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, String> {
        if let Some(why) = names::qualified_name(key).first() {
            return Err(format!("key: Invalid value: {key:?}: {why}"));
        }
        let fault = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::Gt | Operator::Lt if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            _ => None,
        };
        if let Some(why) = fault {
            return Err(format!("values: Invalid value: {values:?}: {why}"));
        }
        for (index, value) in values.iter().enumerate() {
            let compares = matches!(operator, Operator::Gt | Operator::Lt);
            if compares && value.parse::<i64>().is_err() {
                return Err(format!(
                    "values[{index}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                ));
            }
            if let Some(why) = names::label_value(value).first() {
                return Err(format!(
                    "values[{index}][{key}]: Invalid value: {value:?}: {why}"
                ));
            }
        }
        values.sort();
        Ok(Self {
            key: key.to_owned(),
            operator,
            values,
        })
    }

    fn holds(&self, label: Option<&str>) -> bool {
        let among = |value: &str| self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::In => label.is_some_and(among),
            Operator::NotIn => !label.is_some_and(among),
            Operator::Exists => label.is_some(),
            Operator::DoesNotExist => label.is_none(),
            Operator::Gt | Operator::Lt => {
                let number = label.and_then(|l| l.parse::<i64>().ok());
                let bound = self.values.first().and_then(|v| v.parse::<i64>().ok());
                match (number, bound) {
                    (Some(number), Some(bound)) if self.operator == Operator::Gt => number > bound,
                    (Some(number), Some(bound)) => number < bound,
                    _ => false,
                }
            }
        }
    }
}

/// A symbol or a word of a selector.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Symbol(&'static str),
    Word(String),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Symbol(text) => text,
            Self::Word(text) => text,
            Self::End => "",
        }
    }
}

/// Longer symbols first.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", ">", "<", "(", ")", ","];

fn scan(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            tokens.push(Token::Symbol(symbol));
            rest = rest[symbol.len()..].trim_start();
            continue;
        }
        let ends = |c: char| c.is_whitespace() || "=!<>(),".contains(c);
        let (word, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
        tokens.push(Token::Word(word.to_owned()));
        rest = after.trim_start();
    }
    tokens
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        if *self.peek() == Token::End {
            return Ok(requirements);
        }
        loop {
            let requirement = self.requirement();
            requirements
                .push(requirement.map_err(|why| format!("unable to parse requirement: {why}"))?);
            match self.next() {
                Token::End => return Ok(requirements),
                Token::Symbol(",") => match self.peek() {
                    Token::Word(_) | Token::Symbol("!") => {}
                    other => {
                        return Err(format!(
                            "found '{}', expected: identifier after ','",
                            other.text()
                        ));
                    }
                },
                other => {
                    return Err(format!(
                        "found '{}', expected: ',' or 'end of string'",
                        other.text()
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = *self.peek() == Token::Symbol("!");
        if negated {
            self.at += 1;
        }
        let key = self.word()?;
        let ends = matches!(self.peek(), Token::End | Token::Symbol(","));
        if negated || ends {
            let operator = if negated {
                Operator::DoesNotExist
            } else {
                Operator::Exists
            };
            return Requirement::new(&key, operator, Vec::new());
        }
        let token = self.next();
        let operator = match token.text() {
            "=" | "==" | "in" => Operator::In,
            "!=" | "notin" => Operator::NotIn,
            ">" => Operator::Gt,
            "<" => Operator::Lt,
            other => {
                return Err(format!(
                    "found '{other}', expected: in, notin, =, ==, !=, gt, lt"
                ));
            }
        };
        let values = match token {
            Token::Word(_) => self.values()?,
            _ => vec![self.value()?],
        };
        Requirement::new(&key, operator, values)
    }

    fn word(&mut self) -> Result<String, String> {
        match self.next() {
            Token::Word(word) => Ok(word),
            other => Err(format!("found '{}', expected: identifier", other.text())),
        }
    }

    /// A value after `=`; nothing means the empty one.
    fn value(&mut self) -> Result<String, String> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            _ => self.word(),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(format!("found '{}' expected: '('", other.text())),
        }
        let mut values = Vec::new();
        if *self.peek() == Token::Symbol(")") {
            self.at += 1;
            return Ok(values);
        }
        loop {
            let value = match self.peek() {
                Token::Symbol(",") | Token::Symbol(")") => String::new(),
                _ => self.word()?,
            };
            if !values.contains(&value) {
                values.push(value);
            }
            match self.next() {
                Token::Symbol(",") => {}
                Token::Symbol(")") => return Ok(values),
                other => return Err(format!("found '{}', expected: ',' or ')'", other.text())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn operators() {
        let web = labels(&[("app", "web"), ("n", "5"), ("empty", "")]);
        let table = [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app = web , n", true),
            ("app!=web", false),
            ("app!=db", true),
            ("gone!=x", true),
            ("app in (db, web)", true),
            ("app in (db)", false),
            ("app notin (db)", true),
            ("gone notin (x)", true),
            ("app", true),
            ("gone", false),
            ("!gone", true),
            ("!app", false),
            ("n>4", true),
            ("n<5", false),
            ("app>1", false),
            ("empty=", true),
            ("empty in (,x)", true),
            ("in=x", false),
            ("app=web,app=db", false),
        ];
        for (text, expected) in table {
            let selector = LabelSelector::parse(text).expect(text);
            assert_eq!(selector.matches_labels(Some(&web)), expected, "{text}");
            let again = LabelSelector::parse(&selector.to_string()).expect(text);
            assert_eq!(again, selector, "{text}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let table = [
            (
                "a===b",
                "unable to parse requirement: found '=', expected: identifier",
            ),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "a in b",
                "unable to parse requirement: found 'b' expected: '('",
            ),
            ("a,", "found '', expected: identifier after ','"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ];
        for (text, message) in table {
            let status = LabelSelector::parse(text).expect_err(text);
            assert_eq!((status.code, status.message.as_str()), (400, message));
        }
        for bad in [
            "a in ()",
            "-a",
            "a=-",
            "a>x",
            "a in (b",
            "(",
            ")",
            "!",
            "a in (b c)",
            "é=ü",
            ",a",
        ] {
            assert_eq!(LabelSelector::parse(bad).expect_err(bad).code, 400);
        }
    }

    #[test]
    fn selectors_of_objects() {
        assert!(
            !LabelSelector::from_meta(None)
                .expect("none")
                .matches_labels(None)
        );
        let all = meta::LabelSelector::default();
        assert!(
            LabelSelector::from_meta(Some(&all))
                .expect("all")
                .matches_labels(None)
        );
        let bad = meta::LabelSelector {
            match_expressions: Some(vec![meta::LabelSelectorRequirement {
                key: "a".into(),
                operator: "Perhaps".into(),
                values: None,
            }]),
            ..Default::default()
        };
        assert!(LabelSelector::from_meta(Some(&bad)).is_err());
    }
}
