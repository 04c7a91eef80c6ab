//! Bearer tokens: where to fetch them, how to ask, how long they last.
//!
//! Source: CNCF distribution, `docs/content/spec/auth`: token.md and oauth.md.

use std::time::{Duration, SystemTime};

use ureq::http::{Method, StatusCode, Uri, header};

use super::auth::{Context, basic_header, denied, keep_out, rejected};
use super::challenge::Challenge;
use super::credentials::Credential;
use super::location::escape;
use super::retry_after::retry_after;
use super::secret::Secret;
use super::transport::{Content, Request};
use crate::date;
use crate::escape::Escaped;
use crate::oci::json;
use crate::registry::request_error::{ErrorBody, RequestError};

/// Default lifetime of a token: token.md, "expires_in".
const DEFAULT_LIFETIME: u64 = 60;
/// Longest lifetime that is accepted, in seconds: a day. A server may send more than a clock can represent.
const MAX_LIFETIME: u64 = 24 * 60 * 60;
/// A token is replaced this long before it expires, or a quarter of its lifetime if that is less.
const MARGIN: Duration = Duration::from_secs(30);
/// Largest answer of a token server that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// Where to fetch a token, and for what.
#[derive(Clone)]
pub(super) struct Bearer {
    realm: String,
    service: Option<String>,
    scopes: Vec<String>,
}

impl Bearer {
    pub(super) fn of(context: &Context<'_>, challenge: &Challenge) -> Result<Bearer, RequestError> {
        let refuse = |problem: String| Err(RequestError::end(context.endpoint, "", problem, None));
        let Some(realm) = challenge.parameter("realm") else {
            return refuse("asks for a token without saying where to get it".into());
        };
        let url: Option<Uri> = realm
            .parse()
            .ok()
            .filter(|url: &Uri| url.authority().is_some_and(|a| !a.as_str().contains('@')));
        match url.as_ref().and_then(Uri::scheme_str) {
            Some("https") => {}
            Some("http") if context.is_plain => {}
            Some("http") => {
                return refuse(format!(
                    "wants tokens to be got in plain HTTP from {}, which is refused",
                    Escaped(realm)
                ));
            }
            _ => {
                return refuse(format!(
                    "names a token server that is not a URL: {}",
                    Escaped(realm)
                ));
            }
        }
        let asked = challenge.parameter("scope").unwrap_or_default();
        Ok(Bearer {
            realm: realm.to_string(),
            service: challenge.parameter("service").map(ToOwned::to_owned),
            scopes: context.access.scopes(&context.endpoint.path, asked),
        })
    }
}

/// A token and its lifetime.
pub(super) struct Token {
    pub(super) secret: Secret,
    pub(super) usable: Duration,
}

#[derive(serde::Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<serde_json::Value>,
    issued_at: Option<serde_json::Value>,
}

/// Fetches a token with a credential, or without one.
pub(super) fn get_token(
    context: &Context<'_>,
    bearer: &Bearer,
    credential: Option<&Credential>,
) -> Result<Token, RequestError> {
    let request = token_request(context, bearer, credential)?;
    let answer = context
        .transport
        .fetch(&request)
        .map_err(|failure| RequestError::of(failure, context.endpoint, "getting a token"))?;
    let status = answer.status;
    if status.is_success() {
        let now = answer
            .header(header::DATE)
            .and_then(date::http)
            .unwrap_or_else(SystemTime::now);
        return read_token(&answer.text(MAX_ANSWER), now).ok_or_else(|| {
            let problem = format!("the token server at {} gave no token", Escaped(&bearer.realm));
            RequestError::end(context.endpoint, "", problem, None)
        });
    }
    let wait = retry_after(&answer.headers, SystemTime::now());
    let mut body = ErrorBody::read(answer);
    keep_out(&mut body, credential);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
            Err(if credential.is_some() {
                rejected(context, &body)
            } else {
                denied(context, &body)
            })
        }
        _ => {
            let problem = format!(
                "the token server at {} answered {status}{}",
                Escaped(&bearer.realm),
                body.suffix()
            );
            Err(RequestError::of_status(
                status,
                wait,
                context.endpoint,
                "",
                problem,
            ))
        }
    }
}

fn token_request(
    context: &Context<'_>,
    bearer: &Bearer,
    credential: Option<&Credential>,
) -> Result<Request, RequestError> {
    let no_url = || {
        let problem = format!(
            "names a token server that is not a URL: {}",
            Escaped(&bearer.realm)
        );
        RequestError::end(context.endpoint, "", problem, None)
    };
    let mut query: Vec<String> = Vec::new();
    if let Some(service) = &bearer.service {
        query.push(format!("service={}", escape(service)));
    }
    if let Some(Credential::Identity(token)) = credential {
        query.push("grant_type=refresh_token".into());
        query.push("client_id=sealift".into());
        query.push(format!("scope={}", escape(&bearer.scopes.join(" "))));
        query.push(format!("refresh_token={}", escape(token.expose())));
        let url = bearer.realm.parse().map_err(|_| no_url())?;
        return Ok(Request {
            method: Method::POST,
            content: Content::Form(query.join("&")),
            ..Request::get(url, "application/json")
        });
    }
    query.extend(
        bearer
            .scopes
            .iter()
            .map(|scope| format!("scope={}", escape(scope))),
    );
    let separator = if bearer.realm.contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}{}", bearer.realm, query.join("&"))
        .parse()
        .map_err(|_| no_url())?;
    let authorization = match credential {
        Some(Credential::Password { username, password }) => Some(basic_header(context, username, password)?),
        _ => None,
    };
    Ok(Request {
        authorization,
        ..Request::get(url, "application/json")
    })
}

/// Reads a token server's response; `now` is its own clock if it sent the time.
fn read_token(bytes: &[u8], now: SystemTime) -> Option<Token> {
    let answer: TokenAnswer = json::from_slice(bytes).ok()?;
    let secret = answer
        .token
        .filter(|token| !token.is_empty())
        .or(answer.access_token)
        .filter(|token| !token.is_empty())?;
    let lifetime = answer
        .expires_in
        .and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()))
        .unwrap_or(DEFAULT_LIFETIME);
    let lifetime = Duration::from_secs(lifetime.min(MAX_LIFETIME));
    let age = answer
        .issued_at
        .and_then(|value| date::rfc3339(value.as_str()?))
        .and_then(|issued| now.duration_since(issued).ok())
        // A token that seems to have expired already comes from a wrong clock.
        .filter(|age| *age < lifetime)
        .unwrap_or_default();
    let left = lifetime.saturating_sub(age);
    Some(Token {
        secret: Secret::new(secret),
        usable: left.saturating_sub(MARGIN.min(left / 4)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_every_form() {
        let now = date::rfc3339("2024-01-01T00:01:00Z").unwrap();
        for (text, expected) in [
            (r#"{"token":"t"}"#, Some(("t", 45))),
            (r#"{"access_token":"a","expires_in":300}"#, Some(("a", 270))),
            (
                r#"{"token":"t","access_token":"a","expires_in":300,"issued_at":"2024-01-01T00:00:00Z"}"#,
                Some(("t", 210)),
            ),
            (
                r#"{"token":"t","expires_in":300,"issued_at":"2023-01-01T00:00:00Z"}"#,
                Some(("t", 270)),
            ),
            (
                r#"{"token":"t","expires_in":300,"issued_at":"2025-01-01T00:00:00Z"}"#,
                Some(("t", 270)),
            ),
            (
                r#"{"token":"t","expires_in":"40","issued_at":null}"#,
                Some(("t", 30)),
            ),
            (
                r#"{"token":"t","expires_in":18446744073709551615}"#,
                Some(("t", 86_370)),
            ),
            (r#"{"token":"","access_token":""}"#, None),
            (r#"{"token":"a","token":"b"}"#, None),
            ("<html>", None),
        ] {
            let found = read_token(text.as_bytes(), now);
            let found = found
                .as_ref()
                .map(|token| (token.secret.expose(), token.usable.as_secs()));
            assert_eq!(found, expected, "{text}");
        }
    }
}
