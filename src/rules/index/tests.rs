use proptest::prelude::*;
use proptest::strategy::ValueTree;
use rust_decimal::Decimal;

use super::*;
use crate::lead::Entity;
use crate::rules::tests::{SLACK, rule, sold};

const TRIGGERS: [&str; 3] = ["lms.lead_sold", "lms.revenue_ping_back", "other.thing"];
const IDS: [&str; 3] = ["1", "2", "3"];

fn any_rule(number: usize) -> impl Strategy<Value = Arc<Versioned>> {
    let filters = prop::sample::select(vec![
        "{}",
        "{method: POST}",
        "{channel: [1, 2]}",
        "{source: 3, method: [POST, FORM]}",
        "{price: {gte: 2}}",
        "{price: {lt: 1.5}}",
        "{where: [{path: $.channel.id, ne: '1'}]}",
        "{where: [{path: $.price, gt: 1}]}",
    ]);
    let status = prop::sample::select(vec!["active", "active", "shadow", "paused"]);
    let level = prop::sample::select(Level::ALL.to_vec());
    let id = prop::sample::select(vec!["'*'", "1", "2"]);
    let action = prop::sample::select(vec![
        "{type: slack_webhook, url: {secret: hook}, text: x}",
        "{type: clevertap_profile, account: acme, identity: '{{$.lead_id}}'}",
        "{type: clevertap_event, account: acme, identity: '{{$.lead_id}}', event_name: x}",
    ]);
    let trigger = prop::sample::select(TRIGGERS.to_vec());
    // Ids whose order is not the order they are built in.
    let name = format!("r{}-{number}", (number * 7) % 10);
    (filters, status, level, id, action, trigger, any::<bool>()).prop_map(
        move |(filters, status, level, id, action, trigger, include_test)| {
            let level = level.as_str();
            let rule = rule(&format!(
                "{{id: {name}, status: {status}, scope: {{level: {level}, id: {id}}}, trigger: {trigger},
                   include_test: {include_test}, filters: {filters}, action: {action}}}"
            ));
            Arc::new(Versioned {
                rule,
                version: number as i64,
            })
        },
    )
}

fn any_rules() -> impl Strategy<Value = Vec<Arc<Versioned>>> {
    (0..40usize).prop_flat_map(|count| (0..count).map(any_rule).collect::<Vec<_>>())
}

fn any_event() -> impl Strategy<Value = LeadEvent<'static>> {
    let entity = || {
        prop::option::weighted(0.8, prop::option::weighted(0.8, prop::sample::select(IDS.to_vec()))).prop_map(
            |entity| {
                entity.map(|id| Entity {
                    id: id.map(Into::into),
                    name: None,
                })
            },
        )
    };
    let text = |of: &[&'static str]| prop::option::weighted(0.8, prop::sample::select(of.to_vec()));
    let price = || prop::option::weighted(0.8, (0..30i64).prop_map(|tenths| Decimal::new(tenths, 1)));
    (
        prop::sample::select(vec![TRIGGERS[0], TRIGGERS[0], TRIGGERS[1], TRIGGERS[2], "nobody.asks"]),
        (entity(), entity(), entity(), entity(), entity()),
        (text(&IDS), text(&["POST", "FORM"]), prop::option::of(any::<bool>())),
        (price(), price()),
    )
        .prop_map(
            |(trigger, (product, campaign, publisher, channel, source), (inlet, method, is_test), (price, revenue))| {
                let (inlet, method) = (inlet.map(Into::into), method.map(Into::into));
                let trigger = trigger.into();
                LeadEvent {
                    trigger,
                    product,
                    campaign,
                    publisher,
                    channel,
                    source,
                    inlet,
                    method,
                    is_test,
                    price,
                    revenue,
                    ..sold()
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_index_finds_what_asking_every_rule_finds(
        rules in any_rules(),
        events in prop::collection::vec(any_event(), 20),
    ) {
        let index = RuleIndex::build(rules.iter().cloned());
        let mut found = Vec::new();
        for event in &events {
            index.matches(event, &mut found);
            let mut expected: Vec<&Arc<Versioned>> =
                rules.iter().filter(|versioned| versioned.rule.matches(event)).collect();
            expected.sort_by_key(|versioned| {
                let turn = if versioned.rule.action.kind.action().as_str() == "clevertap_profile" { 0 } else { 1 };
                (turn, versioned.rule.id.to_string())
            });
            prop_assert_eq!(&found, &expected);
            for versioned in &rules {
                let (holds, failed) = (versioned.rule.matches(event), versioned.rule.explain(event));
                prop_assert_eq!(holds, failed.is_empty(), "{:?}", failed);
            }
        }
    }
}

#[test]
fn random_rules_and_events_do_meet() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut new = |_| {
        let rules = any_rules().new_tree(&mut runner).unwrap().current();
        let event = any_event().new_tree(&mut runner).unwrap().current();
        rules.iter().filter(|versioned| versioned.rule.matches(&event)).count()
    };
    let matched: usize = (0..100).map(&mut new).sum();
    assert!(matched > 50, "the property above would say little: {matched} matches");
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
