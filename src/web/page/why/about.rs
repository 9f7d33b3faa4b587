//! What an event is about, and the person behind it, in a few masked words.

use crate::lead::{Entity, LeadEvent, Text};
use crate::text::mask::mask;
use crate::web::page::words::money;

/// What an event is about, in a few masked words.
pub(super) fn about(event: &LeadEvent<'_>) -> Vec<String> {
    let name = |entity: &Option<Entity<'_>>| {
        let entity = entity.as_ref()?;
        let shown = entity.name.as_deref().or(entity.id.as_deref())?;
        Some(mask(shown).into_owned())
    };
    let mut words = Vec::new();
    for (before, shown) in [
        ("", name(&event.product)),
        ("from ", name(&event.publisher)),
        ("to ", name(&event.buyer)),
        ("campaign ", name(&event.campaign)),
        (
            "price ",
            event
                .filter_price()
                .map(|price| money(&price.normalize().to_string(), event.currency.as_deref())),
        ),
        (
            "reason: ",
            event.reason.as_deref().map(|reason| mask(reason).into_owned()),
        ),
        ("by the inlet ", event.inlet.as_deref().map(str::to_owned)),
    ] {
        words.extend(shown.map(|shown| format!("{before}{shown}")));
    }
    if event.is_test == Some(true) {
        words.push("a test lead".to_owned());
    }
    words
}

/// The person behind the lead, masked.
pub(super) fn person(event: &LeadEvent<'_>) -> Vec<String> {
    let Some(consumer) = &event.consumer else {
        return Vec::new();
    };
    let surname = consumer.last_name.as_deref().and_then(|name| name.chars().next());
    let first = consumer.first_name.as_deref();
    let name = match (first, surname) {
        (Some(first), Some(surname)) => Some(format!("{first} {surname}•••")),
        (first, _) => first.map(str::to_owned),
    };
    let of = |text: &Option<Text<'_>>| text.as_deref().map(|text| mask(text).into_owned());
    let all = [
        name,
        of(&consumer.email),
        of(&consumer.phone),
        of(&consumer.city),
        of(&consumer.state),
    ];
    all.into_iter().flatten().collect()
}
