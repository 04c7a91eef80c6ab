//! What a registry's response means for the request: final, or to be retried.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::http::{HeaderValue, StatusCode, header};

use super::failure::Failure;
use super::mirror::Endpoint;
use super::secret::Secret;
use super::storage_fault::StorageFault;
use super::transport::Answer;
use crate::error::{Error, Hint, Remedy};
use crate::escape::Escaped;

/// Largest part of an error's body that is read, in bytes.
const MAX_BODY: u64 = 64 << 10;
/// Largest part of a server's message that is shown, in characters.
const MAX_MESSAGE: usize = 200;

/// Why a request failed.
#[derive(Debug)]
pub(super) enum RequestError {
    /// A retry would give the same.
    End(Error),
    /// A retry may help.
    Again {
        error: Error,
        /// How long the server asks to wait.
        wait: Option<Duration>,
        /// Whether nothing answered.
        is_absence: bool,
    },
}

impl RequestError {
    pub(super) fn end(
        endpoint: &Endpoint,
        subject: &str,
        problem: String,
        hint: Option<Hint>,
    ) -> RequestError {
        RequestError::End(Error::Registry {
            registry: endpoint.name.clone(),
            subject: subject.into(),
            problem,
            hint,
            transient: false,
        })
    }

    pub(super) fn of(failure: Failure, endpoint: &Endpoint, subject: &str) -> RequestError {
        let is_absence = failure.is_absence();
        let is_transient = failure.is_transient();
        let error = failure.into_error(&endpoint.name, subject, is_transient);
        if is_transient {
            RequestError::Again {
                error,
                wait: None,
                is_absence,
            }
        } else {
            RequestError::End(error)
        }
    }

    pub(super) fn of_status(
        status: StatusCode,
        wait: Option<Duration>,
        endpoint: &Endpoint,
        subject: &str,
        problem: String,
    ) -> RequestError {
        let hint = (status == StatusCode::TOO_MANY_REQUESTS).then(|| Remedy::AvoidRateLimit.into());
        let error = RequestError::end(endpoint, subject, problem, hint);
        match error {
            RequestError::End(error) if matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504) => {
                RequestError::Again {
                    error: marked(error, true),
                    wait,
                    is_absence: false,
                }
            }
            other => other,
        }
    }

    /// The same with more advice.
    pub(super) fn and_hint(self, hint: Hint) -> RequestError {
        match self {
            RequestError::End(error) => RequestError::End(error.and_hint(hint)),
            RequestError::Again {
                error,
                wait,
                is_absence,
            } => RequestError::Again {
                error: error.and_hint(hint),
                wait,
                is_absence,
            },
        }
    }

    /// The same, but worth a retry.
    pub(super) fn again(self) -> RequestError {
        match self {
            RequestError::End(error) => RequestError::Again {
                error: marked(error, true),
                wait: None,
                is_absence: false,
            },
            other => other,
        }
    }
}

/// The same error with its `transient` set.
pub(super) fn marked(error: Error, is_transient: bool) -> Error {
    match error {
        Error::Registry {
            registry,
            subject,
            problem,
            hint,
            ..
        } => Error::Registry {
            registry,
            subject,
            problem,
            hint,
            transient: is_transient,
        },
        other => other,
    }
}

/// A server's error message: the first of its `errors`, by the distribution specification, "Error Codes".
#[derive(Debug, Default)]
pub(super) struct ErrorBody {
    pub(super) code: String,
    pub(super) message: String,
    /// What keeps the registry from writing to its own storage, if it says that.
    pub(super) storage: Option<StorageFault>,
    /// Whether the body was a web page.
    pub(super) is_html: bool,
    /// Whether the body had the form of the specification.
    pub(super) is_specified: bool,
}

#[derive(serde::Deserialize)]
struct Body {
    errors: Vec<Entry>,
}

#[derive(serde::Deserialize)]
struct Entry {
    #[serde(default)]
    code: serde_json::Value,
    #[serde(default)]
    message: serde_json::Value,
    #[serde(default)]
    detail: serde_json::Value,
}

impl ErrorBody {
    /// Reads an error's body. A message that contains what was sent as authorization is dropped.
    pub(super) fn read(answer: Answer) -> ErrorBody {
        let secrets = answer.authorization.as_ref().map_or_else(Vec::new, secrets_in);
        let is_html_type = answer
            .header(header::CONTENT_TYPE)
            .is_some_and(|text| text.starts_with("text/html"));
        let bytes = answer.text(MAX_BODY);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim();
        let mut body = ErrorBody {
            is_html: is_html_type || text.starts_with('<'),
            ..ErrorBody::default()
        };
        if let Ok(parsed) = serde_json::from_str::<Body>(text) {
            body.is_specified = true;
            if let Some(first) = parsed.errors.first() {
                body.code = first.code.as_str().unwrap_or_default().to_string();
                body.message = first.message.as_str().unwrap_or_default().to_string();
                body.storage = StorageFault::of_detail(&first.detail);
            }
        } else if !body.is_html && text.len() <= MAX_MESSAGE && !text.contains(['{', '\n']) {
            body.message = text.to_string();
        }
        for secret in &secrets {
            body.keep_out(secret);
        }
        body
    }

    /// Drops the message if it contains a secret: a server may send back what it received.
    pub(super) fn keep_out(&mut self, secret: &Secret) {
        let secret = secret.expose();
        if !secret.is_empty() && (self.message.contains(secret) || self.code.contains(secret)) {
            self.message.clear();
            self.code.clear();
        }
    }

    /// The message, as an addition to another one.
    pub(super) fn suffix(&self) -> String {
        let text = if self.message.is_empty() {
            &self.code
        } else {
            &self.message
        };
        if text.is_empty() {
            return String::new();
        }
        let short: String = text.chars().take(MAX_MESSAGE).collect();
        format!(" ({})", Escaped(&short))
    }
}

/// The parts of a header that must not be shown: a token, or a password in either form.
fn secrets_in(header: &HeaderValue) -> Vec<Secret> {
    let Some((_, sent)) = header.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return Vec::new();
    };
    let pair = STANDARD
        .decode(sent)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let password = pair.as_deref().and_then(|pair| pair.split_once(':'));
    let password = password.map(|(_, password)| Secret::new(password));
    std::iter::once(Secret::new(sent)).chain(password).collect()
}
