use crate::rules::tests::{filtered, sold};

fn holds(condition: &str) -> bool {
    let rule = filtered(&format!("{{where: [{{{condition}}}]}}"));
    let (matches, failed) = (rule.matches(&sold()), rule.explain(&sold()));
    assert_eq!(matches, failed.is_empty(), "{condition}: {failed:?}");
    matches
}

/// What holds, then what doesn't. `score` is "5.00" in `fields` and 5 in the payload.
const CONDITIONS: [&[&str]; 2] = [
    &[
        "path: $.fields.score, eq: 5",
        "path: $.payload.score, eq: 5",
        "path: $.payload.score, eq: 5.00",
        "path: $.payload.half, eq: 0.5",
        "path: $.fields.score, eq: '5.00'",
        "path: $.price, eq: 42.5",
        "path: consumer.state, eq: TX",
        "path: $.payload.paid, eq: true",
        "path: $.call.answered, eq: true",
        "path: $.is_test, eq: false",
        "path: $.payload.nested, eq: {x: [1]}",
        "path: $.payload.nested.x, eq: [1]",
        "path: '$.payload.nested.x[0]', eq: 1",
        "path: $.occurred_at, eq: '2026-03-05T15:16:00.123Z'",
        "path: $.attempt, eq: 3",
        "path: $.consumer.zip, eq: 78701",
        "path: $.consumer.state, ne: FL",
        "path: $.payload.score, ne: '5'",
        "path: $.price, ne: '42.5'",
        "path: $.reason, ne: x",
        "path: $.payload.none, ne: 1",
        "path: $.consumer.state, in: [FL, TX]",
        "path: $.payload.score, in: ['5', 5.0]",
        "path: $.buyer.name, contains: Drive",
        "path: $.consumer.zip, contains: 870",
        "path: $.payload.tags, contains: a",
        "path: $.payload.tags, contains: 5",
        "path: $.payload.tags, contains: [b]",
        "path: $.buyer.name, starts_with: Safe",
        "path: $.consumer.zip, starts_with: 787",
        "path: $.occurred_at, starts_with: '2026-03'",
        "path: $.buyer.name, ends_with: Drive",
        "path: $.price, gt: 42.4999",
        "path: $.price, gte: 42.5, lte: 42.5",
        "path: $.fields.vehicle_year, gte: 2019",
        "path: $.fields.vehicle_year, lt: 10000",
        "path: $.fields.score, lte: '5'",
        "path: $.call.billable_seconds, gt: 90",
        "path: $.reason, exists: false",
        "path: $.payload.none, exists: false",
        "path: $.payload.none.more, exists: false",
        "path: $.payload.plan, exists: true",
        "path: $.plan, eq: pro",
        "path: $.reason, exists: false, ne: x",
    ],
    &[
        "path: $.payload.score, eq: '5'",
        "path: $.fields.score, eq: '5'",
        "path: $.price, eq: '42.5'",
        "path: $.price, eq: '42.5000'",
        "path: $.attempt, eq: '3'",
        "path: $.consumer.state, eq: tx",
        "path: $.consumer.state, eq: 5",
        "path: $.payload.plan, eq: true",
        "path: $.call.answered, eq: 'true'",
        "path: $.is_test, eq: 0",
        "path: $.payload.nested, eq: {x: [2]}",
        "path: $.payload.tags, eq: a",
        "path: $.reason, eq: x",
        "path: $.reason, eq: ''",
        "path: $.payload.none, eq: x",
        "path: $.consumer.state, ne: TX",
        "path: $.fields.score, ne: 5",
        "path: $.consumer.state, in: [FL, CA]",
        "path: $.reason, in: [x]",
        "path: $.buyer.name, contains: drive",
        "path: $.payload.score, contains: 5",
        "path: $.payload.tags, contains: b",
        "path: $.payload.tags, contains: '5'",
        "path: $.payload.nested, contains: x",
        "path: $.payload.plan, contains: true",
        "path: $.reason, contains: ''",
        "path: $.buyer.name, starts_with: Drive",
        "path: $.price, starts_with: 42",
        "path: $.buyer.name, ends_with: Safe",
        "path: $.payload.tags, ends_with: a",
        "path: $.price, gt: 42.5",
        "path: $.fields.vehicle_year, gt: 2019",
        "path: $.consumer.state, gt: 0",
        "path: $.consumer.state, lt: 0",
        "path: $.call.answered, gte: 0",
        "path: $.reason, gt: 0",
        "path: $.reason, lt: 0",
        "path: $.reason, exists: true",
        "path: $.payload.plan, exists: false",
        "path: $.price, gte: 42.5, lt: 42.5",
        "path: $.reason, exists: false, eq: x",
        "path: $.buyer.name, starts_with: Safe, ends_with: Safe",
    ],
];

#[test]
fn what_holds_when() {
    for (conditions, expected) in CONDITIONS.into_iter().zip([true, false]) {
        for condition in conditions {
            assert_eq!(holds(condition), expected, "{condition}");
        }
    }
}
