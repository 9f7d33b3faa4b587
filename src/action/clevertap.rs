//! `clevertap_profile` and `clevertap_event`: one record of CleverTap's upload, about one user.
//!
//! A record is judged three times: `check` warns about the rule's own text, `kinds` refuses wrong values of an event,
//! and `record` refuses a wrong body, just before it is sent.

use std::collections::HashMap;

use super::{Act, ActionKind, ActionType, Address, Batch, Definition, LaneOf, Pacing, Provider, Rendered};
use crate::amounts::Digits;
use crate::lead::LeadEvent;
use crate::reader::{Object, Reader, member};
use crate::template::{OnMissing, Stop, Template};
use crate::text::json;
use crate::{dates, ids};
use names::is_charged;
use render::Form;

pub use account::{ACCOUNT_FIELDS, Account, PASSCODE_FIELDS};
pub use properties::{Nulls, Properties, Property, WHOLE_FIELDS, Whole};
pub use record::{TEXT_MAX, is_marked};

mod account;
mod check;
mod kinds;
mod names;
mod properties;
mod record;
mod render;

pub(super) const PROFILE: Definition = Definition {
    name: "clevertap_profile",
    provider: Provider::Clevertap,
    credential: "clevertap",
    fields: &["account", "identity", "object_id", "created_at", "properties"],
    secrets: &[],
    read: read_profile,
    lane: LaneOf::Credential,
    pacing,
    // The events of a user come after what makes the user known.
    goes_first: true,
    refusal: record::refusal,
    digest: None,
    as_test: record::as_test,
};
pub(super) const EVENT: Definition = Definition {
    name: "clevertap_event",
    fields: &[
        "account",
        "identity",
        "object_id",
        "event_name",
        "created_at",
        "properties",
    ],
    read: read_event,
    goes_first: false,
    ..PROFILE
};

/// The start of the years 2000 and 2100 in epoch seconds.
const TS_MIN: i64 = 946_684_800;
const TS_MAX: i64 = 4_102_444_800;

/// Requests in flight to an account that the configuration doesn't know: CleverTap's own limit.
const CONCURRENCY: usize = 15;

/// How much CleverTap takes at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    pub batch: Batch,
    /// Uploads in flight at once, by credential.
    pub concurrency: HashMap<String, usize>,
}

/// The record that CleverTap gets about a user.
#[derive(Debug, Clone, PartialEq)]
pub struct Upload {
    pub account: Account,
    pub user: User,
    pub created_at: Option<Template>,
    /// The event that the user had; none where the user's profile changes.
    pub event_name: Option<Template>,
    pub properties: Properties,
}

/// The user whose profile or event the record is about.
#[derive(Debug, Clone, PartialEq)]
pub enum User {
    Identity(Template),
    ObjectId(Template),
}

fn read_profile(reader: &mut Reader, action: &Object<'_>) -> Option<ActionKind> {
    let account = Account::read(reader, action);
    let user = User::read(reader, action);
    let created_at = reader.template(action, "created_at");
    let properties = Properties::read(reader, action, properties::Of::Profile);
    Some(ActionKind::Clevertap(Upload {
        account: account?,
        user: user?,
        created_at,
        event_name: None,
        properties: properties?,
    }))
}

fn read_event(reader: &mut Reader, action: &Object<'_>) -> Option<ActionKind> {
    let account = Account::read(reader, action);
    let user = User::read(reader, action);
    let event_name = reader.required_template(action, "event_name", "name the event, such as Charged");
    let created_at = reader.template(action, "created_at");
    let properties = Properties::read(reader, action, properties::Of::Event);
    Some(ActionKind::Clevertap(Upload {
        account: account?,
        user: user?,
        created_at,
        event_name: Some(event_name?),
        properties: properties?,
    }))
}

/// An account takes uploads of many records, many at once. It says when they are too many, and not how long to wait.
fn pacing(limits: &super::Limits, account: &str, _: &str) -> Pacing {
    let limits = &limits.clevertap;
    Pacing {
        provider: Provider::Clevertap,
        lane_rate: None,
        credential_rate: None,
        in_flight_max: Some(limits.concurrency.get(account).copied().unwrap_or(CONCURRENCY)),
        adapts: true,
        batch: Some(limits.batch),
        probes: false,
    }
}

impl User {
    fn read(reader: &mut Reader, action: &Object<'_>) -> Option<Self> {
        let name = reader.exactly_one(action, &["identity", "object_id"])?;
        let template = reader.template(action, name)?;
        Some(if name == "identity" {
            Self::Identity(template)
        } else {
            Self::ObjectId(template)
        })
    }

    /// The field that a rule writes it in, and what stands there.
    fn field(&self) -> (&'static str, &Template) {
        match self {
            Self::Identity(template) => ("identity", template),
            Self::ObjectId(template) => ("object_id", template),
        }
    }
}

impl Act for Upload {
    fn action(&self) -> ActionType {
        match self.event_name {
            Some(_) => ActionType::ClevertapEvent,
            None => ActionType::ClevertapProfile,
        }
    }

    fn address(&self, mut credential: String) -> Address<'_> {
        credential.push_str("clevertap:");
        let sealed = match &self.account {
            Account::Named(name) => {
                credential.push_str(name);
                None
            }
            Account::Own(own) => {
                own.passcode.write_name(&mut credential);
                Some(&own.passcode)
            }
        };
        Address {
            credential,
            sealed,
            account: Some(&self.account),
            destination: "",
        }
    }

    fn templates(&self) -> Vec<(String, &Template)> {
        let mut found = Vec::new();
        found.extend(self.event_name.as_ref().map(|name| ("action.event_name".into(), name)));
        let (name, user) = self.user.field();
        found.push((format!("action.{name}"), user));
        found.extend(self.created_at.as_ref().map(|at| ("action.created_at".into(), at)));
        if let Some(whole) = &self.properties.whole {
            found.push(("action.properties".into(), &whole.from));
        }
        for (name, property) in &self.properties.named {
            templates_of(self.properties.field(name), property, &mut found);
        }
        found
    }

    fn check(&self, warn: &mut dyn FnMut(&str, String)) {
        check::names(self, warn);
        check::users(self, warn);
    }

    fn render(&self, event: &LeadEvent<'_>, on_missing: OnMissing, into: &mut Rendered) -> Result<(), Stop> {
        let Rendered {
            body,
            destination: user,
        } = into;
        let (field, template) = self.user.field();
        needed(field, template, event, on_missing, user)?;
        if let Some(why) = ids::wrong_identity(user) {
            return Err(Stop::Fail {
                detail: format!("{field}: {} {why}", template.as_str()),
            });
        }
        let ts = timestamp(event, self.created_at.as_ref())?;
        let key = match self.user {
            User::Identity(_) => "identity",
            User::ObjectId(_) => "objectId",
        };
        let (begin, properties_key) = match self.event_name {
            Some(_) => (r#"{"type":"event""#, "evtData"),
            None => (r#"{"type":"profile""#, "profileData"),
        };
        body.push_str(begin);
        json::member(key, body);
        json::string(user, body);
        json::member("ts", body);
        Digits::of(ts.into()).write(body);
        // Items of a purchase are the only list that an event may have.
        let form = match &self.event_name {
            None => Form::Profile,
            Some(template) => {
                let mut name = String::new();
                needed("event_name", template, event, on_missing, &mut name)?;
                json::member("evtName", body);
                json::string(&name, body);
                if is_charged(&name) { Form::Purchase } else { Form::Event }
            }
        };
        json::member(properties_key, body);
        render::properties(event, &self.properties, form, on_missing, body)?;
        body.push('}');
        Ok(())
    }
}

/// Renders an id or a name, which can't be left out, into the room of `text`.
fn needed(
    field: &str,
    template: &Template,
    event: &LeadEvent<'_>,
    on_missing: OnMissing,
    text: &mut String,
) -> Result<(), Stop> {
    let rendered = template.render_id_behind(std::mem::take(text), event, on_missing);
    *text = rendered.map_err(|stop| stop.at(field))?;
    match text.trim() {
        "" => Err(Stop::Fail {
            detail: format!("{field}: {} is missing", template.as_str()),
        }),
        trimmed if trimmed.len() == text.len() => Ok(()),
        trimmed => {
            *text = trimmed.to_owned();
            Ok(())
        }
    }
}

fn templates_of<'r>(field: String, property: &'r Property, found: &mut Vec<(String, &'r Template)>) {
    match property {
        Property::Template(template) => found.push((field, template)),
        Property::Constant(_) => {}
        Property::List(list) => {
            for (index, property) in list.iter().enumerate() {
                templates_of(format!("{field}[{index}]"), property, found);
            }
        }
        Property::Object(members) => {
            for (name, property) in members.iter() {
                templates_of(member(&field, name), property, found);
            }
        }
    }
}

/// When it happened, in epoch seconds. CleverTap takes years of which nobody sends an event: they come from numbers
/// that count something else, and what is kept under a wrong time stays.
fn timestamp(event: &LeadEvent<'_>, created_at: Option<&Template>) -> Result<i64, Stop> {
    let created = match created_at {
        Some(template) => template.render_time(event)?,
        None => event.occurred_at,
    };
    let ts = dates::epoch_seconds(created);
    if (TS_MIN..=TS_MAX).contains(&ts) {
        return Ok(ts);
    }
    let place = match created_at {
        Some(template) => format!("created_at: {}", template.as_str()),
        None => "occurred_at".to_owned(),
    };
    Err(Stop::Fail {
        detail: format!("{place} is not between the years 2000 and 2100; look at the unit and the form of the date"),
    })
}
