//! The API under `/api/v1`: what all its resources share. Each resource has a room of its own below this one.
//!
//! Every refusal is a [`Problem`], also those of the framework: [`Json`], [`Query`] and [`Path`] stand in for its own
//! extractors. The OpenAPI document is made of the code; [`document`] adds to each operation the refusals that any may
//! give.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::Web;
use super::guard::read_body;
use super::problem::{Fault, Problem};
use crate::desk::page::{LIMIT_MAX, Page, Place};
use crate::text::file;
use crate::text::mask::{mask, mask_named};

mod audit;
mod dead_letters;
mod deliveries;
mod events;
mod inlets;
mod lanes;
mod reveal;
pub(super) mod rules;
pub(super) mod rules_many;
mod status;
pub(super) mod try_it;

/// Paths of the API begin so.
pub(super) const BASE: &str = "/api/v1";
const LIMIT: usize = 100;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
    /// Given as `after`, it asks for the next page; null at the end.
    pub(super) next: Option<String>,
}

impl<T> From<Page<T>> for List<T> {
    fn from(page: Page<T>) -> Self {
        Self {
            items: page.items,
            next: page.next.map(|place| place.to_string()),
        }
    }
}

/// Which page of a list is asked for.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// The most items of the answer.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<String>,
}

impl Which {
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        match self.limit.unwrap_or(LIMIT) {
            limit @ 1..=LIMIT_MAX => Ok(limit),
            _ => Err(Problem::bad_request(format!("limit: must be from 1 to {LIMIT_MAX}."))),
        }
    }

    /// The place that the page before ended at.
    pub(super) fn after(&self) -> Result<Option<Place>, Problem> {
        let read = |text: &String| {
            text.parse()
                .map_err(|error: crate::desk::Error| Problem::bad_request(error.to_string()))
        };
        self.after.as_ref().map(read).transpose()
    }

    /// The text that the page before gave, where a list goes by a name.
    pub(super) fn after_name(&self) -> Option<&str> {
        self.after.as_deref()
    }
}

/// An id as it is given: an e-mail address may be one, and is masked.
fn id(id: &str) -> String {
    mask_named("lead_id", id).into_owned()
}

/// A time of a query or a body, RFC 3339, in epoch milliseconds.
fn time(name: &str, given: Option<&str>) -> Result<Option<i64>, Problem> {
    let read = |text: &str| {
        let read = text.parse::<Timestamp>().map(Timestamp::as_millisecond);
        read.map_err(|_| Problem::bad_request(format!("{name}: must be a time such as 2026-03-05T15:16:00Z.")))
    };
    given.map(read).transpose()
}

/// A body of JSON.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Web>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(mut request: Request, _: &Arc<Web>) -> Result<Self, Problem> {
        if request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_none_or(|kind| !is_json(kind))
        {
            return Err(not_json());
        }
        let bytes = read_body(&mut request).await?;
        let text = file::utf8(Cow::Borrowed(&bytes));
        let text = text.map_err(|error| Problem::bad_request(format!("The body is no JSON: {error}.")))?;
        let mut reader = serde_json::Deserializer::from_slice(&text);
        let read: Result<T, _> = serde_path_to_error::deserialize(&mut reader);
        let read = read.map_err(|error| not_fitting(&error))?;
        reader
            .end()
            .map_err(|error| Problem::bad_request(format!("The body is no JSON: {error}.")))?;
        Ok(Self(read))
    }
}

fn is_json(kind: &HeaderValue) -> bool {
    let kind = kind.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

fn not_json() -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "Not JSON",
        "The body must be JSON, with the header Content-Type: application/json.",
    )
}

/// JSON that can't be read is 400; JSON of another form is 422, with the field.
fn not_fitting(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let (path, inner) = (error.path().to_string(), error.inner());
    match inner.classify() {
        serde_json::error::Category::Data => {
            let path = if path == "." { String::new() } else { path };
            Problem::invalid(
                vec![Fault {
                    path,
                    message: inner.to_string(),
                }],
                Vec::new(),
            )
        }
        _ => Problem::bad_request(format!("The body is no JSON: {inner}.")),
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The query of an address.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(rejection) => Err(of_query(&rejection)),
        }
    }
}

fn of_query(rejection: &QueryRejection) -> Problem {
    Problem::bad_request(rejection.body_text())
}

/// The named steps of a path.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(path)) => Ok(Self(path)),
            Err(rejection) => Err(of_path(&rejection)),
        }
    }
}

fn of_path(rejection: &PathRejection) -> Problem {
    Problem::bad_request(rejection.body_text())
}

/// The document, once it is made.
static DOCUMENT: OnceLock<Arc<OpenApi>> = OnceLock::new();

#[cfg(test)]
pub(super) fn document_made() -> Option<&'static Arc<OpenApi>> {
    DOCUMENT.get()
}

/// The API in the words of OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "status", responses((status = OK, description = "This document", body = Object)))]
async fn openapi() -> Response {
    match DOCUMENT.get() {
        Some(document) => axum::Json(&**document).into_response(),
        None => Problem::not_found("The document isn't made.").into_response(),
    }
}

/// The routes of the API.
pub(super) fn routes() -> axum::Router<Arc<Web>> {
    let (router, document) = open_api().split_for_parts();
    DOCUMENT.get_or_init(|| Arc::new(self::document(document)));
    router.route_layer(from_fn(takes))
}

/// Refuses what an operation doesn't take: a parameter of the query that the document doesn't name, and a write of another
/// kind than JSON. Nobody is to believe that a condition holds which was never looked at.
async fn takes(request: Request, next: Next) -> Response {
    let known = DOCUMENT.get().and_then(|document| parameters(document, &request));
    let query = request.uri().query().unwrap_or_default();
    let mut given = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
    if let Some(known) = known
        && let Some(name) = given.find(|name| !known.contains(&&**name))
    {
        let takes = match known.is_empty() {
            true => "this address takes no parameters".to_owned(),
            false => format!("this address takes {}", known.join(", ")),
        };
        return Problem::bad_request(format!("{}: is no parameter here; {takes}.", mask(&name))).into_response();
    }
    let kind = request.headers().get(header::CONTENT_TYPE);
    if !request.method().is_safe() && kind.is_some_and(|kind| !is_json(kind)) {
        return not_json().into_response();
    }
    next.run(request).await
}

/// The parameters of the query that the operation of a request takes; none where there is no such operation.
fn parameters<'d>(document: &'d OpenApi, request: &Request) -> Option<Vec<&'d str>> {
    let path = request.extensions().get::<MatchedPath>()?;
    let item = document.paths.paths.get(path.as_str())?;
    let operation = match *request.method() {
        Method::GET | Method::HEAD => item.get.as_ref(),
        Method::PUT => item.put.as_ref(),
        Method::POST => item.post.as_ref(),
        Method::DELETE => item.delete.as_ref(),
        _ => None,
    };
    let of_query = operation?
        .parameters
        .iter()
        .flatten()
        .filter_map(|parameter| match parameter {
            RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => Some(parameter.name.as_str()),
            _ => None,
        });
    Some(of_query.collect())
}

fn open_api() -> OpenApiRouter<Arc<Web>> {
    let resources = OpenApiRouter::new()
        .routes(utoipa_axum::routes!(openapi))
        .merge(audit::routes())
        .merge(dead_letters::routes())
        .merge(deliveries::routes())
        .merge(events::routes())
        .merge(inlets::routes())
        .merge(lanes::routes())
        .merge(reveal::routes())
        .merge(rules::routes())
        .merge(rules_many::routes())
        .merge(try_it::routes())
        .merge(status::routes());
    OpenApiRouter::new().nest(BASE, resources)
}

/// The refusals that any operation may give, each with what it means.
const ANY: [(&str, &str); 9] = [
    ("400", "The path, the query or the JSON can't be read"),
    ("401", "No token, or a wrong one"),
    (
        "403",
        "The role or the levels don't allow it, or another site's page asks",
    ),
    ("404", "Nothing is there"),
    ("405", "The address doesn't take the method"),
    ("421", "The host is no name of this desk"),
    ("429", "Too many wrong tokens from this address"),
    ("500", "The desk failed"),
    ("503", "Kafka is out of reach; Retry-After says when to ask again"),
];
/// That of operations that write.
const OF_WRITE: (&str, &str) = ("415", "The body isn't JSON");
/// Those of operations with a body.
const OF_BODY: [(&str, &str); 2] = [
    ("413", "The body is too large"),
    ("422", "The body isn't valid; errors says where"),
];

/// Adds what every operation shares.
fn document(mut document: OpenApi) -> OpenApi {
    document.info.title = "Leadlane's rule desk".to_owned();
    document.info.description = Some("Rules, events, deliveries, lanes and dead letters of Leadlane.".to_owned());
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(
        "token",
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some("A token of admin.tokens. An open desk asks for none."))
                .build(),
        ),
    );
    let (name, schema) = (Problem::name(), <Problem as utoipa::PartialSchema>::schema());
    components.schemas.insert(name.to_string(), schema);
    components
        .schemas
        .insert(Fault::name().to_string(), <Fault as utoipa::PartialSchema>::schema());
    let refusal = |words: &str| {
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name(name.as_ref())))
            .build();
        RefOr::T(
            ResponseBuilder::new()
                .description(words)
                .content("application/problem+json", content)
                .build(),
        )
    };
    for item in document.paths.paths.values_mut() {
        let all = [
            (&mut item.get, false),
            (&mut item.put, true),
            (&mut item.post, true),
            (&mut item.delete, true),
        ];
        for (operation, writes) in all {
            let Some(operation) = operation else { continue };
            let of_body = OF_BODY.iter().filter(|_| operation.request_body.is_some());
            for (status, words) in ANY.iter().chain(Some(&OF_WRITE).filter(|_| writes)).chain(of_body) {
                let responses = &mut operation.responses.responses;
                responses.entry((*status).to_owned()).or_insert_with(|| refusal(words));
            }
            operation.security = Some(vec![utoipa::openapi::SecurityRequirement::new::<_, [String; 0], _>(
                "token",
                [],
            )]);
        }
    }
    document
}

/// The state that handlers get.
pub(super) type Desk = State<Arc<Web>>;
