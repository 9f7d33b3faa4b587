//! Warnings about an action that CleverTap would refuse, or would read in another way than it is written, as far as
//! the rule alone shows it.

use super::names::{is_charged, wrong_event_name, wrong_event_property_name, wrong_profile_property_name};
use super::{Property, Upload};
use crate::lead::kind::{Kind, kind};
use crate::reader::member;
use crate::template::Template;

/// Users and names that say the same of every event, or nothing.
pub(super) fn users(upload: &Upload, warn: &mut dyn FnMut(&str, String)) {
    let (name, user) = upload.user.field();
    let field = format!("action.{name}");
    if user.is_literal() {
        let message = "is the same for every event; write a placeholder, such as {{$.consumer.email}}";
        warn(&field, message.into());
    }
    never_an_id(&field, user, warn);
    if let Some(event_name) = &upload.event_name {
        never_an_id("action.event_name", event_name, warn);
    }
}

/// A path whose value is no text and no number, so that every record would be a dead letter.
fn never_an_id(field: &str, template: &Template, warn: &mut dyn FnMut(&str, String)) {
    // `json` makes a text of anything, and is asked for.
    let is_judged = template.is_one_placeholder() && !template.is_written_as_json();
    let mut paths = template.paths().filter(|_| is_judged);
    if let Some(path) = paths.find(|path| matches!(kind(path), Some(Kind::Bool | Kind::Record))) {
        warn(
            field,
            format!("{path} is a boolean or a record and names nobody; name a text, such as $.lead_id"),
        );
    }
}

/// Warnings about names that CleverTap takes in no record, so that every one would be a dead letter.
pub(super) fn names(upload: &Upload, warn: &mut dyn FnMut(&str, String)) {
    let properties = &upload.properties;
    let event_name = upload.event_name.as_ref();
    let event_name = event_name.map(|template| template.is_literal().then(|| template.as_str()));
    if let Some(why) = event_name.flatten().and_then(wrong_event_name) {
        warn("action.event_name", why);
    }
    let wrong_name = match event_name {
        Some(_) => wrong_event_property_name,
        None => wrong_profile_property_name,
    };
    let renamed = properties.whole.iter().flat_map(|whole| &whole.rename);
    for (old, new) in renamed {
        if let Some(why) = wrong_name(new) {
            warn(&member("action.properties.rename", old), why);
        }
    }
    for (name, value) in &properties.named {
        let field = properties.field(name);
        if let Some(why) = wrong_name(name) {
            warn(&field, why);
        }
        if let Property::Template(template) = value
            && template.is_written_number()
        {
            let message = "goes to CleverTap as a text such as \"12,500.00\", which it can't count with; write the placeholder \
                           without number and money, and make the value a price of the event where it is a text";
            warn(&field, message.to_owned());
        }
        let is_nested = matches!(value, Property::List(_) | Property::Object(_));
        // An event's name that a template makes may be Charged.
        let is_item = **name == *"Items" && event_name.flatten().is_none_or(is_charged);
        if event_name.is_some() && is_nested && !is_item {
            let message = "CleverTap takes a list or an object in no event but as Items of Charged; write its parts as \
                           properties of their own";
            warn(&field, message.to_owned());
        }
    }
}
