use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::upkeep::{Merge, Merged, Upkeep};
use rust_decimal::Decimal;

use super::*;
use crate::lead::{Consumer, Entity, Payload};
use crate::rules::Level;
use crate::rules::tests::{SLACK, rule, sold};

const TRIGGERS: [&str; 4] = [
    "lms.lead_sold",
    "lms.revenue_ping_back",
    "call_logic.publisher_earning_received",
    "other.thing",
];
/// The last ones are longer than what a key holds whole.
const IDS: [&str; 6] = [
    "1",
    "2",
    "3",
    "größe-☠",
    "123456789012345",
    "0190f3c2-6f7b-7c11-9a55-3f0a7be1c001",
];
const PRICES: [&str; 12] = [
    "0",
    "-0.00",
    "1",
    "1.5",
    "1.50",
    "2",
    "1.0000001",
    "1.999999999999999999999",
    "-3",
    "9223372036854.775807",
    "9223372036854.775808",
    "79228162514264337593543950335",
];
const PATHS: [&str; 10] = [
    "$.consumer.state",
    "consumer.state",
    "$.fields.score",
    "$.fields['größe']",
    "$.plan",
    "$.payload.plan",
    "$.payload.tags",
    "$.price",
    "$.occurred_at",
    "$.buyer",
];
const TESTS: [&str; 26] = [
    "eq: TX",
    "eq: tx",
    "eq: '5'",
    "eq: 5",
    "eq: 5.00",
    "eq: -0",
    "eq: true",
    "eq: ''",
    "eq: 'a text that is longer than a key'",
    "eq: [a, 5]",
    "ne: TX",
    "ne: 5",
    "in: [TX, FL, TX]",
    "in: [5, '5', '5.00']",
    "in: [pro, true]",
    "in: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, TX]",
    "contains: T",
    "contains: 5",
    "starts_with: T",
    "ends_with: X",
    "gt: 1.5",
    "gte: 5, lt: 5.01",
    "lte: 0",
    "exists: true",
    "exists: false",
    "eq: '2026-03-05T15:16:00.123Z'",
];

fn any_where() -> impl Strategy<Value = String> {
    let condition = (select(PATHS.to_vec()), select(TESTS.to_vec()))
        .prop_map(|(path, test)| format!("{{path: \"{path}\", {test}}}"));
    let conditions = prop_oneof![
        1 => Just(Vec::new()),
        1 => prop::collection::vec(condition, 1..3),
    ];
    conditions.prop_map(|conditions| format!("where: [{}]", conditions.join(", ")))
}

fn any_price(trigger: &'static str) -> impl Strategy<Value = String> {
    let compare = (select(vec!["gt", "gte", "lt", "lte"]), select(PRICES.to_vec()))
        .prop_map(|(name, bound)| format!("price: {{{name}: {bound}}}"));
    let between = (select(PRICES.to_vec()), select(PRICES.to_vec())).prop_map(move |(one, other)| {
        let is_low = one.parse::<Decimal>().unwrap() <= other.parse().unwrap();
        let (low, high) = if is_low { (one, other) } else { (other, one) };
        match trigger == "lms.lead_sold" {
            true => format!("price: {{between: [{low}, {high}]}}"),
            false => format!("price: {{gte: {low}}}"),
        }
    });
    prop_oneof![3 => Just(String::new()), 2 => compare, 1 => between]
}

fn any_ids(name: &'static str) -> impl Strategy<Value = String> {
    let many = (0..20)
        .map(|number| number.to_string())
        .collect::<Vec<_>>()
        .join("', '");
    prop_oneof![
        12 => Just(String::new()),
        2 => select(IDS.to_vec()).prop_map(move |id| format!("{name}: '{id}'")),
        1 => prop::collection::vec(select(IDS.to_vec()), 1..4)
            .prop_map(move |ids| format!("{name}: ['{}']", ids.join("', '"))),
        1 => Just(format!("{name}: ['{many}']")),
    ]
}

fn any_rule(id: String) -> impl Strategy<Value = Rule> {
    let trigger = select(TRIGGERS.to_vec());
    let made = trigger.prop_flat_map(|trigger| {
        let ids = (
            any_ids("channel"),
            any_ids("source"),
            any_ids("pingtree"),
            any_ids("publisher"),
            any_ids("buyer"),
        );
        let method = select(vec!["", "", "method: POST", "method: [POST, FORM]"]);
        let scope = (
            select(Level::ALL.to_vec()),
            prop_oneof![Just("*"), select(IDS.to_vec())],
        );
        let status = select(vec!["active", "active", "shadow", "paused"]);
        (
            ids,
            method,
            any_price(trigger),
            any_where(),
            scope,
            status,
            any::<bool>(),
            Just(trigger),
            select(vec![
                "{type: slack_webhook, url: {secret: hook}, text: x}",
                "{type: clevertap_profile, account: acme, identity: '{{$.lead_id}}'}",
                "{type: clevertap_event, account: acme, identity: '{{$.lead_id}}', event_name: x}",
            ]),
        )
    });
    made.prop_map(
        move |(ids, method, price, conditions, (level, scope), status, include_test, trigger, action)| {
            let (channel, source, pingtree, publisher, buyer) = ids;
            let mut filters = vec![channel, source, pingtree, method.to_owned(), price, conditions];
            match level {
                Level::Publisher => filters.push(buyer),
                Level::Campaign => filters.push(publisher),
                Level::Product | Level::Inlet => filters.extend([publisher, buyer]),
            }
            filters.retain(|filter| !filter.is_empty());
            let (level, filters) = (level.as_str(), filters.join(", "));
            rule(&format!(
                "{{id: {id}, status: {status}, scope: {{level: {level}, id: '{scope}'}}, trigger: {trigger},
               include_test: {include_test}, filters: {{{filters}}}, action: {action}}}"
            ))
        },
    )
}

fn any_entity() -> impl Strategy<Value = Option<Entity<'static>>> {
    let id = prop::option::weighted(0.8, select(IDS.to_vec()));
    prop::option::weighted(0.8, id).prop_map(|entity| {
        entity.map(|id| Entity {
            id: id.map(Into::into),
            name: None,
        })
    })
}

fn any_payload() -> impl Strategy<Value = &'static str> {
    select(vec![
        "{}",
        r#"{"plan": "pro", "tags": ["a", 5]}"#,
        r#"{"plan": 5, "tags": "TX"}"#,
        r#"{"plan": 5.00, "tags": null}"#,
        r#"{"plan": true, "consumer": {"state": "TX"}}"#,
    ])
}

fn any_event() -> impl Strategy<Value = LeadEvent<'static>> {
    let text = |of: &[&'static str]| prop::option::weighted(0.8, select(of.to_vec()));
    let texts = [
        "TX",
        "tx",
        "5",
        "5.00",
        "5.0",
        "0",
        "",
        "a text that is longer than a key",
        "a text that is longer",
    ];
    let price = move || text(&PRICES).prop_map(|price| price.map(|price| price.parse().unwrap()));
    (
        select(vec![
            TRIGGERS[0],
            TRIGGERS[0],
            TRIGGERS[1],
            TRIGGERS[2],
            TRIGGERS[3],
            "nobody.asks",
        ]),
        prop::collection::vec(any_entity(), 7),
        (
            text(&IDS),
            text(&["POST", "FORM", "PUT"]),
            prop::option::of(any::<bool>()),
        ),
        (price(), price(), price()),
        (text(&texts), text(&texts), text(&texts), any_payload()),
    )
        .prop_map(
            |(trigger, entities, (inlet, method, is_test), (price, revenue, payout), (state, score, size, payload))| {
                let mut entities = entities.into_iter();
                let mut entity = || entities.next().flatten();
                let fields = vec![
                    ("score".into(), score.map(Into::into)),
                    ("größe".into(), size.map(Into::into)),
                ];
                LeadEvent {
                    trigger: trigger.into(),
                    product: entity(),
                    campaign: entity(),
                    publisher: entity(),
                    channel: entity(),
                    source: entity(),
                    buyer: entity(),
                    pingtree: entity(),
                    inlet: inlet.map(Into::into),
                    method: method.map(Into::into),
                    is_test,
                    price,
                    revenue,
                    payout,
                    consumer: Some(Consumer {
                        state: state.map(Into::into),
                        ..Consumer::default()
                    }),
                    fields: fields.into(),
                    payload: Some(Payload::read(payload).unwrap()),
                    ..sold()
                }
            },
        )
}

/// Rules whose ids are in another order than they come in.
fn some_rules(count: usize, runner: &mut TestRunner) -> Vec<Arc<Versioned>> {
    let numbers = 0..count;
    let made = numbers.map(|number| {
        let id = format!("r{}-{number}", (number * 7) % 10);
        let rule = any_rule(id).new_tree(runner).unwrap().current();
        Arc::new(Versioned {
            rule,
            version: number as i64,
        })
    });
    made.collect()
}

fn some_events(count: usize, runner: &mut TestRunner) -> Vec<LeadEvent<'static>> {
    let mut event = || any_event().new_tree(runner).unwrap().current();
    (0..count).map(|_| event()).collect()
}

/// What asking every rule finds, in the order of jobs.
fn scan<'r>(rules: impl IntoIterator<Item = &'r Arc<Versioned>>, event: &LeadEvent<'_>) -> Vec<&'r Arc<Versioned>> {
    let rules = rules.into_iter();
    let mut found: Vec<_> = rules
        .filter(|versioned| versioned.rule.explain(event).is_empty())
        .collect();
    found.sort_by_key(|versioned| {
        let is_profile = versioned.rule.action.kind.action().as_str() == "clevertap_profile";
        (!is_profile, versioned.rule.id.to_string())
    });
    found
}

/// Compares, and says how many were found.
fn check(rules: &[Arc<Versioned>], events: &[LeadEvent<'_>]) -> usize {
    let index = RuleIndex::build(rules.iter().cloned());
    let (mut found, mut matched) = (Vec::new(), 0);
    for event in events {
        index.matches(event, &mut found);
        assert_eq!(found, scan(rules, event), "{event:?}");
        matched += found.len();
    }
    matched
}

#[test]
fn the_index_finds_what_asking_every_rule_finds() {
    let mut runner = TestRunner::deterministic();
    let mut matched = 0;
    for count in (0..60).chain([200, 400, 800]) {
        let rules = some_rules(count, &mut runner);
        matched += check(&rules, &some_events(40, &mut runner));
    }
    assert!(matched > 500, "the above says little with {matched} matches");
}

/// Many rules at few values, so that lists are paired, searched by trigger and passed over by blocks, and rules that
/// name one path only.
#[test]
fn long_lists_are_searched_to_their_ends() {
    let mut runner = TestRunner::deterministic();
    let template = rule(SLACK);
    let number = |of: std::ops::Range<usize>, runner: &mut TestRunner| of.new_tree(runner).unwrap().current();
    let mut rules = Vec::new();
    for version in 0..3000 {
        let low = number(0..400, &mut runner);
        let filters = match version % 4 {
            // Narrow bands, and now and then a wide one.
            0 => format!(
                "price: {{between: [{low}.5, {}.25]}}",
                low + if version % 64 == 0 { 300 } else { 2 }
            ),
            1 => format!("publisher: '{}', price: {{gte: {low}}}", number(0..5, &mut runner)),
            2 => format!("where: [{{path: $.fields.score, eq: '{low}'}}]"),
            _ => format!(
                "publisher: ['7', '{}'], where: [{{path: $.fields.score, eq: {low}}}]",
                number(0..5, &mut runner)
            ),
        };
        let scope = ["'*'", "'12'", "'12'"][version % 3];
        let mut made = rule(&SLACK.replace("\"12\"", scope).replace(
            "trigger: lms.lead_sold",
            &format!(
                "trigger: {}\nfilters: {{{filters}}}",
                ["lms.lead_sold", "call_logic.lead_sold"][version % 2]
            ),
        ));
        made.id = format!("{}-{version}", template.id).into();
        rules.push(Arc::new(Versioned {
            rule: made,
            version: version as i64,
        }));
    }
    let mut events = Vec::new();
    for trigger in ["lms.lead_sold", "call_logic.lead_sold", "lms.campaign_sold"] {
        for price in [
            None,
            Some("0"),
            Some("0.5"),
            Some("17.1"),
            Some("250.25"),
            Some("399.5"),
            Some("800"),
            Some("1e17"),
        ] {
            for publisher in ["1", "4", "7", "8"] {
                let score = number(0..400, &mut runner).to_string();
                events.push(LeadEvent {
                    trigger: trigger.into(),
                    publisher: Some(Entity {
                        id: Some(publisher.into()),
                        name: None,
                    }),
                    price: price.map(|price| Decimal::from_scientific(price).or(price.parse()).unwrap()),
                    fields: vec![("score".into(), Some(score.into()))].into(),
                    ..sold()
                });
            }
        }
    }
    let matched = check(&rules, &events);
    assert!(matched > 1000, "{matched}");
}

#[test]
fn an_index_follows_every_change_and_old_ones_stay_as_they_were() {
    let mut runner = TestRunner::deterministic();
    let pool = some_rules(150, &mut runner);
    let events = some_events(200, &mut runner);
    for round in 0..12 {
        let mut upkeep = Upkeep::default();
        upkeep.at_once_max = [4, 40, 1000][round % 3];
        let mut rules: BTreeMap<Arc<str>, Arc<Versioned>> = BTreeMap::new();
        let mut before = Vec::new();
        let mut merged: Option<Merged> = None;
        for step in 0..60 {
            let pick = |of: usize, runner: &mut TestRunner| (0..of).new_tree(runner).unwrap().current();
            for _ in 0..[1, 3, 30][pick(3, &mut runner)] {
                let id = &pool[pick(pool.len(), &mut runner)].rule.id;
                if pick(3, &mut runner) == 0 {
                    rules.remove(id);
                    upkeep.put(Arc::clone(id), None);
                } else {
                    let mut rule = pool[pick(pool.len(), &mut runner)].rule.clone();
                    rule.id = Arc::clone(id);
                    let versioned = Arc::new(Versioned { rule, version: step });
                    rules.insert(Arc::clone(id), Arc::clone(&versioned));
                    upkeep.put(Arc::clone(id), Some(versioned));
                }
            }
            let index = upkeep.index();
            // A merge goes on while rules change.
            match merged.take() {
                Some(done) if pick(2, &mut runner) == 0 => assert!(upkeep.merged(done)),
                Some(waits) => merged = Some(waits),
                None => merged = upkeep.merge().map(Merge::run),
            }
            before.push((index, rules.clone()));
            before.push((upkeep.index(), rules.clone()));
        }
        for (index, rules) in before {
            assert_eq!(index.len(), rules.len());
            assert!(index.parts.len() < 20, "{}", index.parts.len());
            let mut all: Vec<_> = index.rules().collect();
            all.sort_by_key(|versioned| versioned.rule.id.clone());
            assert!(all.into_iter().eq(rules.values()));
            for versioned in &pool {
                let id = &versioned.rule.id;
                assert_eq!(index.get(id), rules.get(id));
            }
            let mut found = Vec::new();
            for at in 0..3 {
                let event = &events[(round * 37 + rules.len() + at * 67) % events.len()];
                index.matches(event, &mut found);
                assert_eq!(found, scan(rules.values(), event));
            }
        }
    }
}

#[test]
fn a_merge_of_rules_that_are_no_more_comes_too_late() {
    let versioned = |version| {
        Some(Arc::new(Versioned {
            rule: rule(SLACK),
            version,
        }))
    };
    let mut upkeep = Upkeep::default();
    upkeep.at_once_max = 0;
    for id in ["a", "b"] {
        upkeep.put(id.into(), versioned(1));
        upkeep.index();
    }
    let merge = upkeep.merge().unwrap();
    assert!(upkeep.merge().is_none(), "one at a time");
    let merged = merge.run();
    let mut anew = Upkeep::default();
    assert!(!anew.merged(merged));
    assert!(anew.index().is_empty());
}

#[test]
fn what_is_replaced_is_let_go_once_nobody_holds_it() {
    let mut upkeep = Upkeep::default();
    let put = |upkeep: &mut Upkeep, version| {
        let versioned = Arc::new(Versioned {
            rule: rule(SLACK),
            version,
        });
        upkeep.put("big-auto-sales".into(), Some(Arc::clone(&versioned)));
        (versioned, upkeep.index())
    };
    let (first, held) = put(&mut upkeep, 1);
    put(&mut upkeep, 2);
    assert_eq!(held.get("big-auto-sales"), Some(&first));
    drop(held);
    assert!(Arc::strong_count(&first) > 1, "not by who matches");
    upkeep.let_go();
    assert_eq!(Arc::strong_count(&first), 1);
}

#[test]
fn what_a_later_change_replaces_is_let_go_before_anybody_asks() {
    let mut upkeep: Upkeep = Upkeep::default();
    let first = Arc::new(Versioned {
        rule: rule(SLACK),
        version: 0,
    });
    for version in 0..5000 {
        let versioned = match version {
            0 => Arc::clone(&first),
            _ => Arc::new(Versioned {
                rule: first.rule.clone(),
                version,
            }),
        };
        upkeep.put(Arc::clone(&first.rule.id), Some(versioned));
    }
    assert_eq!(Arc::strong_count(&first), 1);
    let index = upkeep.index();
    assert_eq!((index.len(), index.get(&first.rule.id).unwrap().version), (1, 4999));
    upkeep.put(Arc::clone(&first.rule.id), Some(first.clone()));
    upkeep.put(Arc::clone(&first.rule.id), None);
    assert!(upkeep.index().is_empty());
}

#[test]
fn rules_are_found_by_their_ids_however_long_these_begin_alike() {
    let template = rule(SLACK);
    let beginnings = ["", "a", "the-first-sixteen", "the-first-sixteen-and-sixteen-more-of-it"];
    let ids = (0..200).flat_map(|number| beginnings.map(|begin| format!("{begin}{}", number * 37 % 200)));
    let ids: Vec<String> = ids
        .chain(beginnings.map(str::to_owned))
        .filter(|id| !id.is_empty())
        .collect();
    let versioned = |(id, version): (&String, i64)| {
        let mut rule = template.clone();
        rule.id = id.as_str().into();
        Arc::new(Versioned { rule, version })
    };
    let index = RuleIndex::build(ids.iter().chain(&ids).zip(0..).map(versioned));
    assert_eq!(index.len(), ids.len());
    for (id, version) in ids.iter().zip(ids.len() as i64..) {
        assert_eq!(index.get(id).map(|found| found.version), Some(version), "{id}");
    }
}

#[test]
fn of_several_rules_with_an_id_the_last_counts() {
    let versioned = |version| {
        Arc::new(Versioned {
            rule: rule(SLACK),
            version,
        })
    };
    let index = RuleIndex::build([versioned(1), versioned(2)]);
    let mut found = Vec::new();
    index.matches(&sold(), &mut found);
    assert_eq!((index.len(), found.len(), found[0].version), (1, 1, 2));
}

#[test]
fn what_was_found_before_is_forgotten() {
    let index = RuleIndex::build([Arc::new(Versioned {
        rule: rule(SLACK),
        version: 7,
    })]);
    let mut found = Vec::new();
    index.matches(&sold(), &mut found);
    assert_eq!(found[0].version, 7);
    index.matches(
        &LeadEvent {
            trigger: "other".into(),
            ..sold()
        },
        &mut found,
    );
    assert_eq!(found.len(), 0);
}
