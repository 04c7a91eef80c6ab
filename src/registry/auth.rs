//! Proving who is asking: basic auth, and bearer tokens that are got from the realm which a registry names.
//!
//! Source: CNCF distribution, `docs/content/spec/auth`: token.md and oauth.md.
//!
//! A token is kept for each repository, used until shortly before it expires, and replaced when a registry
//! refuses it earlier. While one worker gets a token the others wait for it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};

use super::challenge::{self, Challenge};
use super::credentials::{Credential, Credentials};
use super::date;
use super::location::escape;
use super::mirror::Endpoint;
use super::retry::retry_after;
use super::secret::Secret;
use super::transport::{Request, Transport};
use super::trouble::{Said, Trouble};
use crate::escape::Escaped;
use crate::oci::json;
use crate::progress::Progress;

/// Lifetime of a token that does not say it: token.md, "expires_in".
const DEFAULT_LIFETIME: u64 = 60;
/// A token is replaced this long before it expires, or a quarter of its lifetime if that is less.
const MARGIN: Duration = Duration::from_secs(30);
/// Largest answer of a token server that is read, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// What is needed to authenticate to one registry for one repository.
pub(super) struct Context<'a> {
    pub(super) transport: &'a Transport,
    pub(super) endpoint: &'a Endpoint,
    pub(super) credentials: &'a Credentials,
    pub(super) progress: &'a dyn Progress,
    /// Whether the registry itself is spoken to in plain HTTP.
    pub(super) is_plain: bool,
}

/// How to authenticate for one repository of one registry, as far as it is known.
#[derive(Default)]
pub(super) struct Login(Mutex<State>);

#[derive(Default)]
struct State {
    /// Goes up whenever `method` changes.
    generation: u64,
    method: Way,
    /// Whether the registry has accepted what `method` says.
    accepted: bool,
    /// `Some` once it was looked for.
    credential: Option<Option<Credential>>,
}

#[derive(Default)]
enum Way {
    /// Nothing was asked for yet.
    #[default]
    None,
    Basic(HeaderValue),
    /// A bearer token that was given and cannot be renewed.
    Fixed(HeaderValue),
    Token {
        header: HeaderValue,
        refresh_at: Instant,
        bearer: Bearer,
    },
}

/// Where tokens are got, and for what.
#[derive(Clone)]
struct Bearer {
    realm: String,
    service: Option<String>,
    scopes: Vec<String>,
}

/// What to send with a request.
pub(super) struct Grant {
    pub(super) header: Option<HeaderValue>,
    generation: u64,
}

impl Login {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to send now; gets a new token where the old one is about to expire.
    pub(super) fn grant(&self, context: &Context<'_>) -> Result<Grant, Trouble> {
        let mut state = self.state();
        if let Way::Token {
            refresh_at, bearer, ..
        } = &state.method
            && Instant::now() >= *refresh_at
        {
            let bearer = bearer.clone();
            state.renew(context, bearer)?;
        }
        let header = match &state.method {
            Way::None => None,
            Way::Basic(header) | Way::Fixed(header) | Way::Token { header, .. } => Some(header.clone()),
        };
        Ok(Grant {
            header,
            generation: state.generation,
        })
    }

    /// Notes that a registry took what was sent.
    pub(super) fn accepted(&self, grant: &Grant) {
        let mut state = self.state();
        if state.generation == grant.generation {
            state.accepted = true;
        }
    }

    /// Takes in that a registry answered 401 to what was sent: the same request may be made again if this
    /// gives no trouble.
    pub(super) fn challenged(
        &self,
        context: &Context<'_>,
        grant: &Grant,
        headers: &HeaderMap,
        mut said: Said,
    ) -> Result<(), Trouble> {
        let mut state = self.state();
        if state.generation != grant.generation {
            // Another worker has renewed it meanwhile.
            return Ok(());
        }
        let challenges = parse_all(context, headers)?;
        let offered = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let credential = state.credential(context)?;
        keep_out(&mut said, credential.as_ref());
        let said = &said;
        if let Some(challenge) = offered("bearer") {
            if let Some(Credential::Bearer(token)) = &credential {
                if matches!(state.method, Way::Fixed(_)) {
                    return Err(rejected(context, said));
                }
                let header = bearer_header(context, token)?;
                state.change(Way::Fixed(header));
                return Ok(());
            }
            if matches!(state.method, Way::Token { .. }) && !state.accepted {
                return Err(fresh_token_refused(
                    context,
                    challenge,
                    credential.is_some(),
                    said,
                ));
            }
            let bearer = Bearer::of(context, challenge)?;
            return state.renew(context, bearer);
        }
        if offered("basic").is_some() {
            let Some(Credential::Password { username, password }) = &credential else {
                return Err(denied(context, said));
            };
            if matches!(state.method, Way::Basic(_)) {
                return Err(rejected(context, said));
            }
            let header = basic_header(context, username, password)?;
            state.change(Way::Basic(header));
            return Ok(());
        }
        let schemes: Vec<&str> = challenges.iter().map(|c| c.scheme.as_str()).collect();
        let problem = if schemes.is_empty() {
            "asks for authentication without saying how".to_string()
        } else {
            format!("asks for authentication by {}", Escaped(&schemes.join(", ")))
        };
        Err(Trouble::end(context.endpoint, "", problem, None))
    }
}

impl State {
    fn change(&mut self, method: Way) {
        self.method = method;
        self.generation += 1;
        self.accepted = false;
    }

    fn renew(&mut self, context: &Context<'_>, bearer: Bearer) -> Result<(), Trouble> {
        let credential = self.credential(context)?;
        let token = get_token(context, &bearer, credential.as_ref())?;
        self.change(Way::Token {
            header: bearer_header(context, &token.secret)?,
            refresh_at: Instant::now() + token.usable,
            bearer,
        });
        Ok(())
    }

    fn credential(&mut self, context: &Context<'_>) -> Result<Option<Credential>, Trouble> {
        if let Some(known) = &self.credential {
            return Ok(known.clone());
        }
        let endpoint = context.endpoint;
        let lookup = context
            .credentials
            .find(&endpoint.account, &endpoint.path)
            .map_err(Trouble::End)?;
        for note in &lookup.notes {
            context
                .progress
                .note(&format!("{}: going on without: {note}", endpoint.name));
        }
        self.credential = Some(lookup.credential.clone());
        Ok(lookup.credential)
    }
}

fn parse_all(context: &Context<'_>, headers: &HeaderMap) -> Result<Vec<Challenge>, Trouble> {
    let mut challenges = Vec::new();
    for value in headers.get_all(header::WWW_AUTHENTICATE) {
        let parsed = value
            .to_str()
            .map_err(|_| "WWW-Authenticate is not text".to_string())
            .and_then(|text| challenge::parse(text).map_err(|error| error.to_string()));
        match parsed {
            Ok(list) => challenges.extend(list),
            Err(reason) => {
                let problem = format!("asks for authentication in a malformed way: {reason}");
                return Err(Trouble::end(context.endpoint, "", problem, None));
            }
        }
    }
    Ok(challenges)
}

impl Bearer {
    fn of(context: &Context<'_>, challenge: &Challenge) -> Result<Bearer, Trouble> {
        let refuse = |problem: String| Err(Trouble::end(context.endpoint, "", problem, None));
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
            _ => return refuse(format!("names a token server that is no URL: {}", Escaped(realm))),
        }
        let scope = challenge.parameter("scope").unwrap_or_default().trim();
        Ok(Bearer {
            realm: realm.to_string(),
            service: challenge.parameter("service").map(ToOwned::to_owned),
            scopes: if scope.is_empty() {
                // Quay and Nexus leave it out.
                vec![format!("repository:{}:pull", context.endpoint.path)]
            } else {
                scope.split_whitespace().map(ToOwned::to_owned).collect()
            },
        })
    }
}

struct Token {
    secret: Secret,
    usable: Duration,
}

#[derive(serde::Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<serde_json::Value>,
    issued_at: Option<serde_json::Value>,
}

fn get_token(
    context: &Context<'_>,
    bearer: &Bearer,
    credential: Option<&Credential>,
) -> Result<Token, Trouble> {
    let request = token_request(context, bearer, credential)?;
    let answer = context
        .transport
        .fetch(&request)
        .map_err(|failure| Trouble::of(failure, context.endpoint, "getting a token"))?;
    let status = answer.status;
    if status.is_success() {
        let now = answer
            .header(header::DATE)
            .and_then(date::http)
            .unwrap_or_else(SystemTime::now);
        return read_token(&answer.text(MAX_ANSWER), now).ok_or_else(|| {
            let problem = format!("the token server at {} gave no token", Escaped(&bearer.realm));
            Trouble::end(context.endpoint, "", problem, None)
        });
    }
    let wait = retry_after(&answer.headers, SystemTime::now());
    let mut said = Said::read(answer);
    keep_out(&mut said, credential);
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
            Err(if credential.is_some() {
                rejected(context, &said)
            } else {
                denied(context, &said)
            })
        }
        _ => {
            let problem = format!(
                "the token server at {} answered {status}{}",
                Escaped(&bearer.realm),
                said.suffix()
            );
            Err(Trouble::of_status(status, wait, context.endpoint, "", problem))
        }
    }
}

fn token_request(
    context: &Context<'_>,
    bearer: &Bearer,
    credential: Option<&Credential>,
) -> Result<Request, Trouble> {
    let no_url = || {
        let problem = format!("names a token server that is no URL: {}", Escaped(&bearer.realm));
        Trouble::end(context.endpoint, "", problem, None)
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
            form: Some(query.join("&")),
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

/// Reads a token server's answer; `now` is its own clock where it told.
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
    let lifetime = Duration::from_secs(lifetime);
    let age = answer
        .issued_at
        .and_then(|value| date::rfc3339(value.as_str()?))
        .and_then(|issued| now.duration_since(issued).ok())
        // A token that seems to be over already comes from a wrong clock.
        .filter(|age| *age < lifetime)
        .unwrap_or_default();
    let left = lifetime.saturating_sub(age);
    Some(Token {
        secret: Secret::new(secret),
        usable: left.saturating_sub(MARGIN.min(left / 4)),
    })
}

fn bearer_header(context: &Context<'_>, token: &Secret) -> Result<HeaderValue, Trouble> {
    sensitive(context, &format!("Bearer {}", token.expose()))
}

fn basic_header(context: &Context<'_>, username: &str, password: &Secret) -> Result<HeaderValue, Trouble> {
    let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
    sensitive(context, &format!("Basic {pair}"))
}

fn sensitive(context: &Context<'_>, text: &str) -> Result<HeaderValue, Trouble> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        let problem = "a token has characters that no token may have".to_string();
        Trouble::end(context.endpoint, "", problem, None)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn keep_out(said: &mut Said, credential: Option<&Credential>) {
    match credential {
        Some(
            Credential::Password { password: secret, .. }
            | Credential::Identity(secret)
            | Credential::Bearer(secret),
        ) => said.keep_out(secret),
        None => {}
    }
}

/// Credentials were sent and not taken.
fn rejected(context: &Context<'_>, said: &Said) -> Trouble {
    let account = &context.endpoint.account;
    Trouble::end(
        context.endpoint,
        &context.endpoint.path,
        format!("the credentials for {account} were rejected{}", said.suffix()),
        Some(format!(
            "log in again with `docker login {account}` or `podman login {account}`"
        )),
    )
}

/// Nothing was sent as nothing is known.
fn denied(context: &Context<'_>, said: &Said) -> Trouble {
    let account = &context.endpoint.account;
    Trouble::end(
        context.endpoint,
        &context.endpoint.path,
        format!(
            "access denied, and there are no credentials for {account}: the repository is private or does \
             not exist{}",
            said.suffix()
        ),
        Some(format!(
            "log in with `docker login {account}` or `podman login {account}`"
        )),
    )
}

/// A token that was only just got was refused.
fn fresh_token_refused(
    context: &Context<'_>,
    challenge: &Challenge,
    has_credential: bool,
    said: &Said,
) -> Trouble {
    let trouble = if has_credential {
        let problem = format!(
            "access denied with the credentials for {}: they lack the right to pull, or the repository does \
             not exist{}",
            context.endpoint.account,
            said.suffix()
        );
        Trouble::end(context.endpoint, &context.endpoint.path, problem, None)
    } else {
        denied(context, said)
    };
    // Docker Hub's servers refuse a token for a moment when their clocks differ (moby issue 22158).
    if challenge.parameter("error") == Some("invalid_token") {
        trouble.again()
    } else {
        trouble
    }
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
