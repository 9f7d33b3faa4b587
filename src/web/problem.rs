//! Refusals, as the API gives them: `application/problem+json` (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::desk::{self, Error};

/// When to ask again while Kafka is away, in seconds.
const RETRY_AFTER: u32 = 5;

/// Why a request isn't done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Problem {
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    pub(super) status: u16,
    /// The kind of problem, in a few words.
    pub(super) title: String,
    /// What is wrong here, and the cure.
    pub(super) detail: String,
    /// What is wrong with which field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) errors: Vec<Fault>,
    /// What looks wrong and isn't refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<Fault>,
    /// What is in force, where another version was expected. In a box, as most problems are of another kind.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(super) in_force: Option<Box<InForce>>,
    #[serde(skip)]
    pub(super) retry_after: Option<u32>,
}

/// What somebody else put in force meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct InForce {
    /// None where it was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) who: Option<String>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) when: Option<String>,
}

/// A fault of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Fault {
    /// The field, such as `filters.price.between`; empty for the request as a whole.
    pub(super) path: String,
    pub(super) message: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, title: &str, detail: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            title: title.to_owned(),
            detail: detail.into(),
            errors: Vec::new(),
            warnings: Vec::new(),
            in_force: None,
            retry_after: None,
        }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "The request can't be read", detail)
    }

    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Nobody known asks", detail)
    }

    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Not allowed", detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self {
            retry_after: Some(RETRY_AFTER),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "Out of reach for now", detail)
        }
    }

    /// Several faults of what was sent.
    pub(super) fn invalid(errors: Vec<Fault>, warnings: Vec<Fault>) -> Self {
        let lines: Vec<String> = errors.iter().map(Fault::line).collect();
        Self {
            errors,
            warnings,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Not valid", lines.join("\n"))
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl Fault {
    fn line(&self) -> String {
        match self.path.as_str() {
            "" => self.message.clone(),
            path => format!("{path}: {}", self.message),
        }
    }
}

impl From<desk::Problem> for Fault {
    fn from(problem: desk::Problem) -> Self {
        Self {
            path: problem.place,
            message: problem.message,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::NotFound(_) => Self::not_found(detail),
            Error::Invalid(problems) => Self::invalid(problems.into_iter().map(Fault::from).collect(), Vec::new()),
            Error::Unavailable(_) | Error::Stopped(_) => Self::unavailable(detail),
            Error::Conflict(conflicts) => {
                // Of another version somebody knows whose it is; a take-over is nobody's version.
                let of_version = conflicts
                    .iter()
                    .find(|conflict| conflict.version.is_some() || conflict.when.is_some());
                let status = match of_version {
                    Some(_) => StatusCode::PRECONDITION_FAILED,
                    None => StatusCode::CONFLICT,
                };
                Self {
                    in_force: of_version.map(|conflict| {
                        Box::new(InForce {
                            version: conflict.version,
                            who: conflict.who.clone(),
                            when: conflict.when.map(crate::dates::time_text),
                        })
                    }),
                    ..Self::new(status, "Somebody else was first", detail)
                }
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.status(), self.retry_after);
        let version = self.in_force.as_ref().and_then(|in_force| in_force.version);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(tag) = version.and_then(|version| HeaderValue::from_str(&format!("\"{version}\"")).ok()) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}
