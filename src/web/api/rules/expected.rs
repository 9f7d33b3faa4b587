//! The version that a change is for, by the headers of its request.

use axum::http::{HeaderMap, HeaderName, StatusCode, header};

use crate::desk::Error;
use crate::desk::rules::{self, View};
use crate::web::problem::Problem;

/// The version that a change is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// Nothing is in force yet.
    None,
    /// Any of these.
    Versions(Vec<i64>),
    /// Whichever is in force.
    Any,
}

impl Expected {
    /// By the headers; a change that has neither is refused.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim());
        match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
            (Some("*"), None) => Ok(Self::Any),
            (Some(tags), None) => {
                let tag = |tag: &str| tag.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok();
                let versions: Option<Vec<i64>> = tags.split(',').map(tag).collect();
                let wrong =
                    || Problem::bad_request("If-Match: must be a version in quotes, as the ETag of the rule has it.");
                versions.map(Self::Versions).ok_or_else(wrong)
            }
            (None, Some("*")) => Ok(Self::None),
            (None, Some(_)) => Err(Problem::bad_request("If-None-Match: must be *, for a new rule.")),
            (Some(_), Some(_)) => Err(Problem::bad_request("Give either If-Match or If-None-Match.")),
            (None, None) => Err(Problem::new(
                StatusCode::PRECONDITION_REQUIRED,
                "Which version is meant?",
                "Give the version that you saw: If-Match: \"VERSION\", as the ETag of the rule has it; for a new rule \
                 If-None-Match: *.",
            )),
        }
    }

    /// The version that its author saw, by the rules as they are now. A rule that never was can't be changed.
    pub(super) fn seen(&self, view: &View, id: &str) -> Result<Option<i64>, Error> {
        let version = view.version(id);
        if *self != Self::None && version.is_none() && view.changed_at(id).is_none() {
            return Err(rules::missing(id));
        }
        Ok(match self {
            Self::None => None,
            Self::Any => Some(version.ok_or_else(|| rules::missing(id))?),
            Self::Versions(versions) => {
                let found = versions.iter().find(|seen| Some(**seen) == version);
                found.or(versions.first()).copied()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn expected(given: &[(&'static str, &'static str)]) -> Result<Expected, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        Expected::of(&headers).map_err(|problem| problem.status)
    }

    #[test]
    fn a_change_says_which_version_it_is_for() {
        assert_eq!(expected(&[("if-match", "\"14\"")]), Ok(Expected::Versions(vec![14])));
        assert_eq!(
            expected(&[("if-match", "\"14\", \"15\"")]),
            Ok(Expected::Versions(vec![14, 15]))
        );
        assert_eq!(expected(&[("if-match", "*")]), Ok(Expected::Any));
        assert_eq!(expected(&[("if-none-match", "*")]), Ok(Expected::None));
        assert_eq!(expected(&[]), Err(428));
        for wrong in ["14", "W/\"14\"", "\"x\"", "\"14\",", ""] {
            assert_eq!(expected(&[("if-match", wrong)]), Err(400), "{wrong}");
        }
        assert_eq!(expected(&[("if-none-match", "\"14\"")]), Err(400));
        assert_eq!(expected(&[("if-match", "*"), ("if-none-match", "*")]), Err(400));
    }
}
