//! The `WWW-Authenticate` header: RFC 9110, section 11.6.1.
//!
//! One header may have several challenges, each with several parameters, all separated by commas. Quoted scopes
//! contain commas too. The header comes from outside and is parsed strictly, with one exception: an unquoted
//! value may contain `/` and `:`, because some registries send scopes and realms unquoted.

/// Longest header that is read, in bytes.
const MAX_LENGTH: usize = 16 << 10;
/// Most challenges in one header.
const MAX_CHALLENGES: usize = 16;

/// One authentication scheme that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme in lower case, such as `bearer` or `basic`.
    pub scheme: String,
    /// The text after the scheme in place of parameters, if any.
    pub token: Option<String>,
    /// Names in lower case, values without quotes; each name once.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Why a header is not a list of challenges, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at byte {position} of WWW-Authenticate")]
pub struct ChallengeError {
    /// What is wrong.
    pub reason: &'static str,
    /// Where, counted in bytes from 0.
    pub position: usize,
}

/// Parses one `WWW-Authenticate` header's value.
///
/// # Errors
///
/// The error says what is wrong and where; nothing of a malformed header is used.
pub fn parse(header: &str) -> Result<Vec<Challenge>, ChallengeError> {
    let mut parser = Parser {
        bytes: header.as_bytes(),
        at: 0,
    };
    if header.len() > MAX_LENGTH {
        return Err(parser.error("longer than 16 KiB"));
    }
    let mut challenges: Vec<Challenge> = Vec::new();
    loop {
        parser.skip(b" \t,");
        let Some(_) = parser.peek() else {
            return Ok(challenges);
        };
        let start = parser.at;
        let word = parser
            .token("expected a scheme or a parameter")?
            .to_ascii_lowercase();
        let spaces = parser.skip(b" \t");
        match (parser.peek(), challenges.last_mut()) {
            (Some(b'='), Some(challenge)) => {
                if challenge.token.is_some() {
                    return Err(parser.error_at(start, "a parameter after a token"));
                }
                parser.at += 1;
                parser.skip(b" \t");
                let value = parser.value()?;
                if challenge.parameter(&word).is_some() {
                    return Err(parser.error_at(start, "the same parameter twice"));
                }
                challenge.parameters.push((word, value));
            }
            (Some(b'='), None) => return Err(parser.error_at(start, "a parameter without a scheme")),
            (None | Some(b','), _) => challenges.push(bare(word)),
            (Some(_), _) if spaces > 0 => {
                let mut challenge = bare(word);
                challenge.token = parser.token68();
                challenges.push(challenge);
                if challenges.last().is_some_and(|c| c.token.is_none()) {
                    // The first parameter follows the scheme without a comma.
                    continue;
                }
            }
            (Some(_), _) => return Err(parser.error("unexpected character")),
        }
        if challenges.len() > MAX_CHALLENGES {
            return Err(parser.error_at(start, "more than 16 challenges"));
        }
        parser.skip(b" \t");
        match parser.peek() {
            None | Some(b',') => {}
            Some(_) => return Err(parser.error("expected a comma")),
        }
    }
}

fn bare(scheme: String) -> Challenge {
    Challenge {
        scheme,
        token: None,
        parameters: Vec::new(),
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn error(&self, reason: &'static str) -> ChallengeError {
        self.error_at(self.at, reason)
    }

    fn error_at(&self, position: usize, reason: &'static str) -> ChallengeError {
        ChallengeError { reason, position }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Skips any characters of `set`; returns their number.
    fn skip(&mut self, set: &[u8]) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| set.contains(&byte)) {
            self.at += 1;
        }
        self.at - start
    }

    fn take(&mut self, allowed: impl Fn(u8) -> bool) -> String {
        let start = self.at;
        while self.peek().is_some_and(&allowed) {
            self.at += 1;
        }
        let taken = self.bytes.get(start..self.at).unwrap_or_default();
        String::from_utf8_lossy(taken).into_owned()
    }

    fn token(&mut self, reason: &'static str) -> Result<String, ChallengeError> {
        let token = self.take(is_token);
        if token.is_empty() {
            return Err(self.error(reason));
        }
        Ok(token)
    }

    /// The text in place of parameters: base64 or the like, up to a comma or the end.
    fn token68(&mut self) -> Option<String> {
        let start = self.at;
        let mut token = self.take(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
        token.push_str(&self.take(|byte| byte == b'='));
        let end = self.at;
        self.skip(b" \t");
        if !token.is_empty() && matches!(self.peek(), None | Some(b',')) {
            self.at = end;
            return Some(token);
        }
        self.at = start;
        None
    }

    fn value(&mut self) -> Result<String, ChallengeError> {
        if self.peek() != Some(b'"') {
            let value = self.take(|byte| byte.is_ascii_graphic() && !b"\",\\;".contains(&byte));
            if value.is_empty() {
                return Err(self.error("a parameter without a value"));
            }
            return Ok(value);
        }
        self.at += 1;
        let mut value = Vec::new();
        loop {
            let byte = self.peek().ok_or_else(|| self.error("no closing quote"))?;
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => {
                    let escaped = self.peek().ok_or_else(|| self.error("no closing quote"))?;
                    if !is_text(escaped) {
                        return Err(self.error("a control character"));
                    }
                    self.at += 1;
                    value.push(escaped);
                }
                byte if is_text(byte) => value.push(byte),
                _ => return Err(self.error_at(self.at - 1, "a control character")),
            }
        }
        String::from_utf8(value).map_err(|_| self.error("a value that is not UTF-8"))
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn challenge(scheme: &str, parameters: &[(&str, &str)]) -> Challenge {
        Challenge {
            scheme: scheme.into(),
            token: None,
            parameters: parameters
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
        }
    }

    #[test]
    fn reads_what_registries_send() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                vec![challenge(
                    "bearer",
                    &[
                        ("realm", "https://auth.docker.io/token"),
                        ("service", "registry.docker.io"),
                        ("scope", "repository:a/b:pull,push"),
                    ],
                )],
            ),
            (
                r#"Basic realm="a", Bearer realm="b" , service="c""#,
                vec![
                    challenge("basic", &[("realm", "a")]),
                    challenge("bearer", &[("realm", "b"), ("service", "c")]),
                ],
            ),
            (
                r#"BEARER Realm = "a \"b\" \\c","#,
                vec![challenge("bearer", &[("realm", r#"a "b" \c"#)])],
            ),
            ("Negotiate", vec![challenge("negotiate", &[])]),
            (
                "Negotiate, Basic realm=x",
                vec![challenge("negotiate", &[]), challenge("basic", &[("realm", "x")])],
            ),
            (
                "Negotiate YWJj==, Basic realm=x",
                vec![
                    Challenge {
                        token: Some("YWJj==".into()),
                        ..challenge("negotiate", &[])
                    },
                    challenge("basic", &[("realm", "x")]),
                ],
            ),
            (
                r#"Bearer realm=https://q.io/v2/auth,scope=repository:a/b:pull"#,
                vec![challenge(
                    "bearer",
                    &[
                        ("realm", "https://q.io/v2/auth"),
                        ("scope", "repository:a/b:pull"),
                    ],
                )],
            ),
            ("", vec![]),
            (" , ,", vec![]),
        ] {
            assert_eq!(parse(header), Ok(expected), "{header}");
        }
    }

    #[test]
    fn refuses_what_it_would_have_to_guess() {
        for (header, reason, position) in [
            (r#"realm="x""#, "a parameter without a scheme", 0),
            (r#"Bearer realm="x"#, "no closing quote", 15),
            (r#"Bearer realm="x" service="y""#, "expected a comma", 17),
            (r#"Bearer realm="x",realm="y""#, "the same parameter twice", 17),
            (r#"Bearer a="b",realm="#, "a parameter without a value", 19),
            ("Bearer realm=\"a\u{1}b\"", "a control character", 15),
            ("Bearer realm=\"a\\\u{1}\"", "a control character", 16),
            (r#"Basic abc==, x="y""#, "a parameter after a token", 13),
            ("(x)", "expected a scheme or a parameter", 0),
            ("Basic/x", "unexpected character", 5),
        ] {
            assert_eq!(
                parse(header),
                Err(ChallengeError { reason, position }),
                "{header}"
            );
        }
        assert!(parse(&"a".repeat(MAX_LENGTH + 1)).is_err());
        assert!(parse(&"Basic,".repeat(MAX_CHALLENGES + 1)).is_err());
        assert!(parse(&"Basic,".repeat(MAX_CHALLENGES)).is_ok());
    }

    proptest! {
        #[test]
        fn never_panics(header: String, bytes in "[ -~\t,=\"\\\\]{0,60}") {
            let _ = parse(&header);
            let _ = parse(&bytes);
        }

        #[test]
        fn reads_what_is_written(
            list in proptest::collection::vec(("[a-z]{1,8}", "[ !-~]{0,20}", "[ !-~]{0,20}"), 1..5)
        ) {
            let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let header: Vec<String> = list
                .iter()
                .map(|(scheme, a, b)| format!("{scheme} realm=\"{}\", scope=\"{}\"", quote(a), quote(b)))
                .collect();
            let expected: Vec<Challenge> = list
                .iter()
                .map(|(scheme, a, b)| challenge(scheme, &[("realm", a), ("scope", b)]))
                .collect();
            prop_assert_eq!(parse(&header.join(", ")), Ok(expected));
        }
    }
}
