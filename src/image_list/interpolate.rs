//! Variables in compose files: `$NAME`, `${NAME:-default}` and the other forms of the Compose specification,
//! "Interpolation".

use super::variables::Variables;

/// Deepest nesting of defaults.
const MAX_DEPTH: usize = 16;

/// Why a text has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InterpolationError {
    /// The variable has no value, and no default.
    #[error("the variable {name} has no value")]
    Unset { name: String },
    /// The variable is required, with this message.
    #[error("the variable {name} is required{}{message}", if message.is_empty() { "" } else { ": " })]
    Required { name: String, message: String },
    /// The text is malformed.
    #[error("not a variable: {0}; a dollar sign is written $$")]
    Malformed(&'static str),
    /// The result is too long.
    #[error("with its variables it is too long")]
    TooLong,
}

/// What a variable without a value and a default stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unset {
    /// It is an error.
    Refused,
    /// Nothing, as in `docker compose`, which warns of it.
    Empty,
}

/// Replaces the variables in a text. The result has at most `limit` bytes.
pub(super) fn interpolate(
    text: &str,
    variables: &Variables,
    unset: Unset,
    limit: usize,
) -> Result<String, InterpolationError> {
    let scope = Scope {
        variables,
        unset,
        limit,
    };
    scope.expand(text, 0)
}

struct Scope<'v> {
    variables: &'v Variables,
    unset: Unset,
    limit: usize,
}

impl Scope<'_> {
    fn expand(&self, text: &str, depth: usize) -> Result<String, InterpolationError> {
        use InterpolationError as E;
        if depth > MAX_DEPTH {
            return Err(E::Malformed("its defaults are nested too deep"));
        }
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            result.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                result.push('$');
                rest = after;
            } else if let Some(braced) = after.strip_prefix('{') {
                let end = closing(braced).ok_or(E::Malformed("`${` without `}`"))?;
                let (inside, after) = braced.split_at_checked(end).unwrap_or((braced, ""));
                result.push_str(&self.substitute(inside, depth)?);
                rest = after.strip_prefix('}').unwrap_or(after);
            } else {
                let name = name(after);
                if name.is_empty() {
                    return Err(E::Malformed("`$` without a name"));
                }
                result.push_str(self.value(name)?);
                rest = after.get(name.len()..).unwrap_or_default();
            }
            if result.len() > self.limit {
                return Err(E::TooLong);
            }
        }
        result.push_str(rest);
        match result.len() > self.limit {
            true => Err(E::TooLong),
            false => Ok(result),
        }
    }

    /// The value of what is between braces.
    fn substitute(&self, inside: &str, depth: usize) -> Result<String, InterpolationError> {
        use InterpolationError as E;
        let name = name(inside);
        if name.is_empty() {
            return Err(E::Malformed("`${` without a name"));
        }
        let rest = inside.get(name.len()..).unwrap_or_default();
        if rest.is_empty() {
            return self.value(name).map(Into::into);
        }
        // With a colon, an empty value counts as none.
        let (is_strict, operator) = match rest.strip_prefix(':') {
            Some(operator) => (true, operator),
            None => (false, rest),
        };
        let value = self
            .variables
            .get(name)
            .filter(|value| !is_strict || !value.is_empty());
        let operand = operator.get(1..).unwrap_or_default();
        match (operator.chars().next(), value) {
            (Some('-' | '?'), Some(value)) => Ok(value.into()),
            (Some('-'), None) | (Some('+'), Some(_)) => self.expand(operand, depth + 1),
            (Some('+'), None) => Ok(String::new()),
            (Some('?'), None) => Err(E::Required {
                name: name.into(),
                message: self.expand(operand, depth + 1)?,
            }),
            _ => Err(E::Malformed("after the name in `${...}` come `-`, `?` or `+`")),
        }
    }

    /// The value of a variable that has no default.
    fn value(&self, name: &str) -> Result<&str, InterpolationError> {
        match (self.variables.get(name), self.unset) {
            (Some(value), _) => Ok(value),
            (None, Unset::Empty) => Ok(""),
            (None, Unset::Refused) => Err(InterpolationError::Unset { name: name.into() }),
        }
    }
}

/// The position of the brace that closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut before = ' ';
    for (at, char) in text.char_indices() {
        match char {
            '{' if before == '$' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        before = char;
    }
    None
}

/// The name of a variable that a text begins with.
fn name(text: &str) -> &str {
    let is_first = |char: char| char.is_ascii_alphabetic() || char == '_';
    if !text.starts_with(is_first) {
        return "";
    }
    let end = text.find(|char| !is_first(char) && !char.is_ascii_digit());
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<String, String> {
        let variables = Variables::of([("TAG", "1.2"), ("EMPTY", ""), ("REG", "quay.io")]);
        interpolate(text, &variables, Unset::Refused, 1000).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_of_the_specification_is_known() {
        for (text, value) in [
            ("app", "app"),
            ("app:$TAG", "app:1.2"),
            ("app:${TAG}", "app:1.2"),
            ("$REG/app:${TAG}-slim", "quay.io/app:1.2-slim"),
            ("app:${NONE:-3}", "app:3"),
            ("app:${NONE-3}", "app:3"),
            ("app:${EMPTY:-3}", "app:3"),
            ("app:${EMPTY-3}x", "app:x"),
            ("app:${TAG:-3}", "app:1.2"),
            ("${NONE:-${ALSO:-${REG}}}/app", "quay.io/app"),
            ("${NONE:-$REG/x}/app", "quay.io/x/app"),
            ("app:${TAG:?needed}", "app:1.2"),
            ("app${TAG:+-tagged}", "app-tagged"),
            ("app${NONE+-tagged}", "app"),
            ("app${EMPTY:+-tagged}", "app"),
            ("app${EMPTY+-tagged}", "app-tagged"),
            ("a$$b$${TAG}", "a$b${TAG}"),
        ] {
            assert_eq!(with(text).as_deref(), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_has_no_value_is_named() {
        for (text, says) in [
            ("app:$NONE", "the variable NONE has no value"),
            ("app:${NONE}", "the variable NONE has no value"),
            ("${EMPTY:-$NONE}", "the variable NONE has no value"),
            ("${NONE:?set it}", "the variable NONE is required: set it"),
            ("${EMPTY:?}", "the variable EMPTY is required"),
            ("app:${TAG", "`${` without `}`"),
            ("app:$", "`$` without a name"),
            ("app:${}", "`${` without a name"),
            ("app:$1", "`$` without a name"),
            ("${TAG!x}", "come `-`, `?` or `+`"),
        ] {
            let error = with(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        let deep = format!("{}{}", "${N:-".repeat(1000), "}".repeat(1000));
        assert!(with(&deep).unwrap_err().contains("too deep"));
        assert!(with(&"$REG".repeat(10_000)).unwrap_err().contains("too long"));
    }
}
