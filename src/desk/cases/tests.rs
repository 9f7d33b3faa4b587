use super::*;

fn file(text: &str) -> TestFile {
    read(text).unwrap_or_else(|error| panic!("{error}"))
}

const RULE: &str = "{id: r, scope: {level: inlet, id: '*'}, trigger: t, \
     action: {type: clevertap_event, account: acme, identity: '{{$.lead_id}}', event_name: E, \
     properties: {Price: '{{$.price}}', Plan: '{{$.plan}}', Note: '{{$.note}}'}}}";

/// What differs from the expectation, for one event of an inlet.
fn differences(expect: &str) -> Vec<Difference> {
    let text = format!(
        "rules: [{RULE}]\ninlets: [{{name: x, preset: json, secrets: [{{bearer: {{secret: s}}}}], \
         event: {{event_id: '{{{{$.id}}}}', trigger: t, lead_id: '{{{{$.id}}}}', price: '{{{{$.price}}}}'}}}}]\n\
         cases: [{{inlet: x, record: {{id: '7', price: 12.50, plan: team}}, expect: {expect}}}]"
    );
    let file = file(&text);
    let rules = file.rules.iter().map(|source| match source {
        Source::Rule(rule) => Rule::from_json(rule).unwrap_or_else(|problems| panic!("{problems:?}")),
        Source::Path(path) => panic!("{path}"),
    });
    let rules: Vec<Rule> = rules.collect();
    run(&Config::default(), &file, &rules, &file.cases[0])
}

#[test]
fn what_is_written_of_a_match_is_compared_and_nothing_else() {
    for expect in [
        "[{rule: r}]",
        "[{rule: r, to: acme, lane: 'clevertap:acme', would: send}]",
        "[{rule: r, identity: 7, event_name: E, created_at: 1767225600}]",
        "[{rule: r, properties: {Price: 12.5}}]",
        "[{rule: r, properties: {Price: 12.50, Plan: team, Note: null}}]",
        "[{rule: r, body: {type: event, identity: '7', ts: 1767225600, evtName: E, \
          evtData: {Price: 12.5, Plan: team}}}]",
    ] {
        assert_eq!(differences(expect), [], "{expect}");
    }
    for (expect, field) in [
        ("[{rule: r, to: beta}]", "to"),
        ("[{rule: r, would: shadowed}]", "would"),
        ("[{rule: r, text: x}]", "text"),
        ("[{rule: r, properties: {Price: '12.5'}}]", "properties"),
        ("[{rule: r, properties: {Note: x}}]", "properties"),
        ("[{rule: r, properties: {Plan: null}}]", "properties"),
        ("[{rule: r, body: {type: event}}]", "body"),
    ] {
        let found = differences(expect);
        let [Difference::Field { field: found, .. }] = &found[..] else {
            panic!("{expect}: {found:?}")
        };
        assert_eq!(found, field, "{expect}");
    }
    assert!(matches!(&differences("[]")[..], [Difference::Unexpected(_)]));
    assert!(
        matches!(&differences("[{rule: r}, {rule: r}]")[..], [Difference::Missing(_, failed)] if failed.is_empty())
    );
    assert!(matches!(
        &differences("[{rule: r}, {rule: q}]")[..],
        [Difference::NoRule(_)]
    ));
}

#[test]
fn each_expectation_takes_the_match_that_is_as_it_says() {
    let found = |text: &str| Found {
        rule: "r".to_owned(),
        sends: Map::from_iter([("text".to_owned(), text.into())]),
    };
    let expected = |text: &str| Expected {
        rule: "r".to_owned(),
        fields: Map::from_iter([("text".to_owned(), text.into())]),
    };
    let missing = |expected| Difference::Missing(expected, Vec::new());
    let compared = |texts: &[&str]| {
        let texts: Vec<Expected> = texts.iter().map(|text| expected(text)).collect();
        compare(&texts, vec![found("a"), found("b")], missing)
    };
    assert_eq!(compared(&["b", "a"]), []);
    assert!(matches!(
        &compared(&["c", "a"])[..],
        [Difference::Field { expected, found, .. }] if expected == "c" && found == "b"
    ));
}

#[test]
fn an_event_has_defaults_and_a_refused_one_fails_its_case() {
    let file = file("rules: [x.yaml]\ncases: [{event: {trigger: t}, expect: []}, {event: {price: x}, expect: []}]");
    let Given::Event(event) = &file.cases[0].given else {
        panic!("{:?}", file.cases[0])
    };
    let event: Value = serde_json::from_slice(event).unwrap();
    assert_eq!(
        event,
        json!({"trigger": "t", "event_id": "case-1", "lead_id": "lead-1", "occurred_at": "2026-01-01T00:00:00Z"})
    );
    assert_eq!(run(&Config::default(), &file, &[], &file.cases[0]), []);
    let refused = run(&Config::default(), &file, &[], &file.cases[1]);
    assert!(
        matches!(&refused[..], [Difference::Refused(why)] if why.contains("invalid_event")),
        "{refused:?}"
    );
}
