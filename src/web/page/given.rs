//! What an address asks for.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::desk::page::Place;

/// What an address asks for behind its `?`. What a page doesn't know it leaves aside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::web) struct Given(Vec<(String, String)>);

impl Given {
    /// The first value of that name that isn't blank.
    pub(in crate::web) fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(given, _)| given == name);
        values.find_map(|(_, value)| Some(value.trim()).filter(|value| !value.is_empty()))
    }

    /// The same, to be kept.
    pub(in crate::web) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// The place that the page before ended at. One that is none asks for the first page.
    pub(in crate::web) fn after(&self) -> Option<Place> {
        self.get("after")?.parse().ok()
    }

    /// The address of the page behind this one, of the same question.
    pub(in crate::web) fn next(&self, path: &str, next: Option<Place>) -> Option<String> {
        let next = next?.to_string();
        let kept = self.0.iter().filter(|(name, _)| name != "after");
        let kept = kept.map(|(name, value)| (name.as_str(), value.as_str()));
        let all: Vec<_> = kept.chain([("after", next.as_str())]).collect();
        Some(super::words::address(path, &all))
    }
}

impl<S: Sync> FromRequestParts<S> for Given {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or_default().as_bytes();
        Ok(Self(form_urlencoded::parse(query).into_owned().collect()))
    }
}
