//! Authentication: basic auth, and bearer tokens from the realm that a registry names.
//!
//! A token is kept for each repository and what is done with it. It is used until shortly before it expires, and replaced when a
//! registry refuses it earlier. While one worker fetches a token, the others wait for it.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::http::{HeaderMap, HeaderValue, header};

use super::access::Access;
use super::challenge::{self, Challenge};
use super::credentials::{Credential, Credentials};
use super::mirror::Endpoint;
use super::secret::Secret;
use super::token::{Bearer, get_token};
use super::transport::Transport;
use crate::error::Hint;
use crate::escape::Escaped;
use crate::progress::Progress;
use crate::registry::request_error::{ErrorBody, RequestError};

/// What is needed to authenticate to one registry for one repository, and what is to be done with it.
pub(super) struct Context<'a> {
    pub(super) transport: &'a Transport,
    pub(super) endpoint: &'a Endpoint,
    pub(super) access: &'a Access,
    pub(super) credentials: &'a Credentials,
    pub(super) progress: &'a dyn Progress,
    /// Whether the registry uses plain HTTP.
    pub(super) is_plain: bool,
}

/// How to authenticate for one repository of one registry, as far as it is known.
#[derive(Default)]
pub(super) struct Login(Mutex<State>);

#[derive(Default)]
struct State {
    /// Incremented whenever `method` changes.
    generation: u64,
    method: AuthMethod,
    /// Whether the registry has accepted `method`.
    accepted: bool,
    /// `Some` once it was looked up.
    credential: Option<Option<Credential>>,
}

#[derive(Default)]
enum AuthMethod {
    /// Not known yet.
    #[default]
    None,
    Basic(HeaderValue),
    /// A bearer token from the configuration, which cannot be renewed.
    Fixed(HeaderValue),
    Token {
        header: HeaderValue,
        refresh_at: Instant,
        bearer: Bearer,
    },
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

    /// What to send now. Fetches a new token if the old one is about to expire.
    pub(super) fn grant(&self, context: &Context<'_>) -> Result<Grant, RequestError> {
        let mut state = self.state();
        if let AuthMethod::Token {
            refresh_at, bearer, ..
        } = &state.method
            && Instant::now() >= *refresh_at
        {
            let bearer = bearer.clone();
            state.renew(context, bearer)?;
        }
        let header = match &state.method {
            AuthMethod::None => None,
            AuthMethod::Basic(header) | AuthMethod::Fixed(header) | AuthMethod::Token { header, .. } => {
                Some(header.clone())
            }
        };
        Ok(Grant {
            header,
            generation: state.generation,
        })
    }

    /// Notes that a registry accepted what was sent.
    pub(super) fn accepted(&self, grant: &Grant) {
        let mut state = self.state();
        if state.generation == grant.generation {
            state.accepted = true;
        }
    }

    /// Fetches a new token in place of one that was accepted before and is refused now: GHCR answers 403 to an
    /// expired token, without a challenge. False if nothing more can be tried.
    pub(super) fn renewed(&self, context: &Context<'_>, grant: &Grant) -> Result<bool, RequestError> {
        let mut state = self.state();
        if state.generation != grant.generation {
            return Ok(true);
        }
        match &state.method {
            AuthMethod::Token { bearer, .. } if state.accepted => {
                let bearer = bearer.clone();
                state.renew(context, bearer)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Handles a 401: the same request can be repeated if this returns no error.
    pub(super) fn challenged(
        &self,
        context: &Context<'_>,
        grant: &Grant,
        headers: &HeaderMap,
        mut body: ErrorBody,
    ) -> Result<(), RequestError> {
        let mut state = self.state();
        if state.generation != grant.generation {
            // Another worker has renewed it in the meantime.
            return Ok(());
        }
        let challenges = parse_all(context, headers)?;
        let offered = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let credential = state.credential(context)?;
        keep_out(&mut body, credential.as_ref());
        let body = &body;
        if let Some(challenge) = offered("bearer") {
            if let Some(Credential::Bearer(token)) = &credential {
                if matches!(state.method, AuthMethod::Fixed(_)) {
                    return Err(rejected(context, body));
                }
                let header = bearer_header(context, token)?;
                state.change(AuthMethod::Fixed(header));
                return Ok(());
            }
            if matches!(state.method, AuthMethod::Token { .. }) && !state.accepted {
                return Err(fresh_token_refused(
                    context,
                    challenge,
                    credential.is_some(),
                    body,
                ));
            }
            let bearer = Bearer::of(context, challenge)?;
            return state.renew(context, bearer);
        }
        if offered("basic").is_some() {
            let Some(Credential::Password { username, password }) = &credential else {
                return Err(denied(context, body));
            };
            if matches!(state.method, AuthMethod::Basic(_)) {
                return Err(rejected(context, body));
            }
            let header = basic_header(context, username, password)?;
            state.change(AuthMethod::Basic(header));
            return Ok(());
        }
        let schemes: Vec<&str> = challenges.iter().map(|c| c.scheme.as_str()).collect();
        let problem = if schemes.is_empty() {
            "asks for authentication without saying how".to_string()
        } else {
            format!("asks for authentication by {}", Escaped(&schemes.join(", ")))
        };
        Err(RequestError::end(context.endpoint, "", problem, None))
    }
}

impl State {
    fn change(&mut self, method: AuthMethod) {
        self.method = method;
        self.generation += 1;
        self.accepted = false;
    }

    fn renew(&mut self, context: &Context<'_>, bearer: Bearer) -> Result<(), RequestError> {
        let credential = self.credential(context)?;
        let token = get_token(context, &bearer, credential.as_ref())?;
        self.change(AuthMethod::Token {
            header: bearer_header(context, &token.secret)?,
            refresh_at: Instant::now() + token.usable,
            bearer,
        });
        Ok(())
    }

    fn credential(&mut self, context: &Context<'_>) -> Result<Option<Credential>, RequestError> {
        if let Some(known) = &self.credential {
            return Ok(known.clone());
        }
        let endpoint = context.endpoint;
        let lookup = context
            .credentials
            .find(&endpoint.account, &endpoint.path)
            .map_err(RequestError::End)?;
        for note in &lookup.notes {
            context
                .progress
                .note(&format!("{}: continuing without: {note}", endpoint.name));
        }
        self.credential = Some(lookup.credential.clone());
        Ok(lookup.credential)
    }
}

fn parse_all(context: &Context<'_>, headers: &HeaderMap) -> Result<Vec<Challenge>, RequestError> {
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
                return Err(RequestError::end(context.endpoint, "", problem, None));
            }
        }
    }
    Ok(challenges)
}

fn bearer_header(context: &Context<'_>, token: &Secret) -> Result<HeaderValue, RequestError> {
    sensitive(context, &format!("Bearer {}", token.expose()))
}

pub(super) fn basic_header(
    context: &Context<'_>,
    username: &str,
    password: &Secret,
) -> Result<HeaderValue, RequestError> {
    let pair = STANDARD.encode(format!("{username}:{}", password.expose()));
    sensitive(context, &format!("Basic {pair}"))
}

fn sensitive(context: &Context<'_>, text: &str) -> Result<HeaderValue, RequestError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        let problem = "a token has characters that no token may have".to_string();
        RequestError::end(context.endpoint, "", problem, None)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

pub(super) fn keep_out(body: &mut ErrorBody, credential: Option<&Credential>) {
    match credential {
        Some(
            Credential::Password { password: secret, .. }
            | Credential::Identity(secret)
            | Credential::Bearer(secret),
        ) => body.keep_out(secret),
        None => {}
    }
}

/// Credentials were sent and refused.
pub(super) fn rejected(context: &Context<'_>, body: &ErrorBody) -> RequestError {
    let account = &context.endpoint.account;
    RequestError::end(
        context.endpoint,
        &context.endpoint.path,
        format!("the credentials for {account} were rejected{}", body.suffix()),
        Some(format!("log in again with `docker login {account}` or `podman login {account}`").into()),
    )
}

/// No credentials were sent, because none are known.
pub(super) fn denied(context: &Context<'_>, body: &ErrorBody) -> RequestError {
    let account = &context.endpoint.account;
    let why = match context.access {
        Access::Pull => "the repository is private or does not exist",
        Access::Push | Access::Mount(_) | Access::Delete => "a push needs an account",
    };
    RequestError::end(
        context.endpoint,
        &context.endpoint.path,
        format!(
            "access denied, and there are no credentials for {account}: {why}{}",
            body.suffix()
        ),
        Some(format!("log in with `docker login {account}` or `podman login {account}`").into()),
    )
}

/// The hint for an account that may not push.
pub(super) fn may_push(endpoint: &Endpoint) -> Hint {
    let account = &endpoint.account;
    format!(
        "log in with an account that may push to {}: `docker login {account}` or `podman login {account}`",
        endpoint.path
    )
    .into()
}

/// A new token was refused.
fn fresh_token_refused(
    context: &Context<'_>,
    challenge: &Challenge,
    has_credential: bool,
    body: &ErrorBody,
) -> RequestError {
    let error = if has_credential {
        let problem = format!(
            "access denied with the credentials for {}: they lack the right to {}, or the repository does \
             not exist{}",
            context.endpoint.account,
            context.access.verb(),
            body.suffix()
        );
        let hint = match context.access {
            Access::Pull => None,
            Access::Push | Access::Mount(_) | Access::Delete => Some(may_push(context.endpoint)),
        };
        RequestError::end(context.endpoint, &context.endpoint.path, problem, hint)
    } else {
        denied(context, body)
    };
    // Docker Hub's servers refuse a token for a moment when their clocks differ (moby issue 22158).
    if challenge.parameter("error") == Some("invalid_token") {
        error.again()
    } else {
        error
    }
}
