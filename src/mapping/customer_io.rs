//! The calls of Customer.io's Track API. Each is read as the call of `track` that says the same, so that one rule holds
//! for both.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::lead;

/// What stands before the id that a call is given, in the route that is kept with it.
const ID: &str = "?id=";

/// A call, by the path that it came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call<'r> {
    /// Percent-encoded; none for an event of somebody without a name.
    customer: Option<&'r str>,
    is_event: bool,
    /// Names the call where it has no id of its own.
    id: &'r str,
}

impl<'r> Call<'r> {
    /// The call of a route such as `api/v1/customers/7/events`; none where it is another's.
    pub(super) fn of(route: &'r str) -> Option<Self> {
        let (path, id) = route.split_once(ID).unwrap_or((route, ""));
        let mut steps = path.strip_prefix("api/v1/")?.split('/');
        let (customer, is_event) = match [steps.next(), steps.next(), steps.next(), steps.next()] {
            [Some("events"), None, ..] => (None, true),
            [Some("customers"), Some(customer), None, _] if !customer.is_empty() => (Some(customer), false),
            [Some("customers"), Some(customer), Some("events"), None] if !customer.is_empty() => (Some(customer), true),
            _ => return None,
        };
        Some(Self { customer, is_event, id })
    }

    /// The method that it comes with.
    pub(super) fn method(&self) -> &'static str {
        if self.is_event { "POST" } else { "PUT" }
    }

    /// The call as one of `track`.
    pub(super) fn read(&self, body: Value) -> Result<Value, String> {
        let Value::Object(mut body) = body else {
            return Err("the body is no JSON object".to_owned());
        };
        let mut call = Map::new();
        let mut set = |name: &str, value: Option<Value>| value.map(|value| call.insert(name.to_owned(), value));
        if let Some(customer) = self.customer {
            let customer = percent_decode_str(customer).decode_utf8();
            let customer = customer.map_err(|_| "the customer's id in the path is no UTF-8".to_owned())?;
            set("userId", Some(customer.into()));
        }
        if !self.is_event {
            set("type", Some("identify".into()));
            set("messageId", Some(self.id.into()));
            set("traits", Some(Value::Object(body)));
            return Ok(Value::Object(call));
        }
        let kind = match body.get("type").and_then(Value::as_str) {
            Some("page") => "page",
            Some("screen") => "screen",
            _ => "track",
        };
        set("type", Some(kind.into()));
        let own = body.shift_remove("id");
        let is_id = |own: &Value| lead::Value::of_json(own).is_some_and(|own| !own.to_text().trim().is_empty());
        set("messageId", own.filter(is_id).or_else(|| Some(self.id.into())));
        set("anonymousId", body.shift_remove("anonymous_id"));
        let name = if kind == "track" { "event" } else { "name" };
        set(name, body.shift_remove("name"));
        set("properties", body.shift_remove("data"));
        set("timestamp", body.shift_remove("timestamp"));
        Ok(Value::Object(call))
    }
}

/// A route with the id that its call is given.
pub(super) fn named(route: &str, id: &str) -> String {
    format!("{route}{ID}{id}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(route: &str, body: Value) -> Value {
        Call::of(&named(route, "given")).unwrap().read(body).unwrap()
    }

    #[test]
    fn each_call_is_the_one_of_track_that_says_the_same() {
        assert_eq!(
            read(
                "api/v1/customers/a%2Fb",
                json!({"email": "ana@example.com", "id": 7, "type": "page"})
            ),
            json!({"userId": "a/b", "type": "identify", "messageId": "given", "traits": {"email": "ana@example.com", "id": 7, "type": "page"}})
        );
        assert_eq!(
            read(
                "api/v1/customers/7/events",
                json!({"name": "Won", "data": {"a": 1}, "timestamp": 1_772_723_760, "id": "01HB"})
            ),
            json!({"userId": "7", "type": "track", "messageId": "01HB", "event": "Won", "properties": {"a": 1}, "timestamp": 1_772_723_760})
        );
        assert_eq!(
            read(
                "api/v1/customers/7/events",
                json!({"name": "/pricing", "type": "page", "id": ""})
            ),
            json!({"userId": "7", "type": "page", "messageId": "given", "name": "/pricing"})
        );
        assert_eq!(
            read(
                "api/v1/events",
                json!({"name": "Won", "anonymous_id": "visitor-7", "type": "event"})
            ),
            json!({"type": "track", "messageId": "given", "anonymousId": "visitor-7", "event": "Won"})
        );
    }

    #[test]
    fn other_paths_are_no_calls_and_other_bodies_are_refused() {
        for route in [
            "v1/track",
            "api/v1",
            "api/v1/customers",
            "api/v1/customers/",
            "api/v1/customers//events",
            "api/v1/customers/7/devices",
            "api/v1/customers/7/events/8",
            "api/v1/events/7",
            "api/v2/customers/7",
            "",
        ] {
            assert_eq!(Call::of(route), None, "{route}");
        }
        let call = Call::of("api/v1/customers/7").unwrap();
        assert_eq!(
            (call.method(), Call::of("api/v1/events").unwrap().method()),
            ("PUT", "POST")
        );
        assert_eq!(call.read(json!([])), Err("the body is no JSON object".to_owned()));
        let broken = Call::of("api/v1/customers/%FF").unwrap().read(json!({}));
        assert_eq!(broken, Err("the customer's id in the path is no UTF-8".to_owned()));
    }
}
