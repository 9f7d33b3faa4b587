use std::borrow::Cow;

use proptest::prelude::*;
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::json;

use super::*;
use crate::lead::LeadEvent;
use crate::lead::{Consumer, Entity, Payload};

fn text(text: &str) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(text))
}

fn price(text: &str) -> Option<Decimal> {
    Some(Decimal::from_str_exact(text).unwrap())
}

/// An event of no inlet with a payload, which is where any other JSON can be looked up.
fn event(payload: &serde_json::Value) -> LeadEvent<'static> {
    LeadEvent {
        event_id: Cow::Borrowed("e-1"),
        trigger: Cow::Borrowed("lms.lead_sold"),
        occurred_at: "2026-03-05T15:16:00.123Z".parse().unwrap(),
        lead_id: Cow::Borrowed("84512377"),
        public_lead_id: None,
        status: text("Sold"),
        is_test: Some(false),
        method: text(""),
        product: None,
        publisher: None,
        channel: None,
        source: None,
        buyer: Some(Entity {
            id: text("210"),
            name: text("Safe & <Drive>"),
        }),
        campaign: None,
        pingtree: None,
        price: price("42.5000"),
        payout: price("-1234.505"),
        revenue: None,
        currency: None,
        reason_code: None,
        reason: None,
        transaction_id: None,
        attempt: Some(3),
        consumer: Some(Consumer {
            first_name: text("<!channel> Ana"),
            ..Consumer::default()
        }),
        call: None,
        fields: vec![(Cow::Borrowed("vehicle_year"), text("2019"))].into(),
        inlet: None,
        payload: Some(Payload::read(&payload.to_string()).unwrap()),
    }
}

fn sample() -> LeadEvent<'static> {
    event(&json!({
        "score": 7, "big": 1_234_567.894_5, "flag": true, "nothing": null, "tags": ["a", 2, null, "c<d"], "none": [],
        "numeric": "12.50", "long": "äöü and more", "when": 1_520_263_000, "millis": 1_520_263_000_123_i64,
        "written": "March 05, 2018 15:16:0", "wrong": "Tuesday, March 05, 2018", "First Name": "Ana", "a|b}}": "odd",
        "half": "2.5", "empty": {}, "item": {"n": 4}, "plan": {"name": "pro"}, "upper_me": "straße",
        "markup": "Smith &amp; Sons says 3 &lt; 4, see <https://x.example/?a=1&amp;b=2|the doc>, <@U1> <@U2> <#C1|general> <!here>",
        "user_profile": {"id": "U1", "display_name": "", "real_name": "Ana"},
    }))
}

fn render(template: &str, target: Target) -> String {
    match Template::parse(template) {
        Err(error) => format!("refused: {error}"),
        Ok(template) => match template.render(&sample(), target, OnMissing::Empty) {
            Ok(written) => written,
            Err(stop) => format!("stopped: {stop}"),
        },
    }
}

/// The template as Slack text, of at most so many characters as Leadlane sends.
fn slack(template: &Template, event: &LeadEvent<'_>, on_missing: OnMissing) -> Result<String, Stop> {
    template.render_slack(event, on_missing, 4000).map(|text| text.text)
}

fn render_slack(template: &str, event: &LeadEvent<'_>) -> String {
    let template = Template::parse(template).unwrap_or_else(|error| panic!("{template}: {error}"));
    slack(&template, event, OnMissing::Empty).unwrap_or_else(|stop| format!("stopped: {stop}"))
}

#[test]
fn texts_and_paths() {
    for (template, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("Lead {{$.lead_id}} sold to {{ buyer.id }}", "Lead 84512377 sold to 210"),
        ("{{lead_id}}{{$.lead_id}}", "8451237784512377"),
        ("{{$.fields.vehicle_year}}", "2019"),
        ("{{$['First Name']}}/{{ $['a|b}}'] }}", "Ana/odd"),
        ("{{$.tags[1]}} {{$item.n}}", "2 4"),
        (
            "{{$.price}} {{$.flag}} {{$.occurred_at}}",
            "42.5 true 2026-03-05T15:16:00.123Z",
        ),
        ("{{$.tags}} {{$.plan}}", r#"["a",2,null,"c<d"] {"name":"pro"}"#),
        (
            "{name} #name# [name] { {x} } }} stays",
            "{name} #name# [name] { {x} } }} stays",
        ),
        (r#"{"a":{{$.score}}}"#, r#"{"a":7}"#),
        (r#"{{ "{{" }}name{{'}}'}}"#, "{{name}}"),
        (r#"{{ "it\"s\n" }}"#, "it\"s\n"),
        (r#"{{ "abc" | upper }}"#, "ABC"),
        ("ü{{$.lead_id}}ü", "ü84512377ü"),
        ("[{{$.nothing}}{{$.absent.deep[0]}}{{$.method}}]", "[]"),
    ] {
        assert_eq!(render(template, Target::Plain), expected, "{template}");
    }
}

#[test]
fn filters() {
    for (template, expected) in [
        (r#"{{$.absent | default: "x"}}"#, "x"),
        (r#"{{$.nothing | default: 'x'}}"#, "x"),
        (r#"{{$.method | default: "x"}}"#, "x"),
        (r#"{{$.none | default: "x"}}{{$.empty | default: "y"}}"#, "xy"),
        (
            r#"{{$.status | default: "x"}}{{$.is_test | default: "x"}}"#,
            "Soldfalse",
        ),
        ("{{$.absent | default: 0 | number: 2}}", "0.00"),
        (r#"{{$.absent | upper | default: "x"}}"#, "x"),
        (r#"{{$.none | join: ", " | default: "x"}}"#, "x"),
        (r#"{{$.revenue | money | default: "n/a"}}"#, "n/a"),
        ("{{$.status | upper}} {{$.status|lower}}", "SOLD sold"),
        ("{{$.upper_me | upper}}", "STRASSE"),
        ("{{$.tags | json}}", r#"["a",2,null,"c<d"]"#),
        ("{{$.status | json}} {{$.score | json}}", r#""Sold" 7"#),
        ("{{$.price | json}} {{$.numeric | json}}", r#"42.5 "12.50""#),
        (r#"{{$.tags | join: ", "}}"#, "a, 2, c<d"),
        (r#"{{$.tags | join: "\n"}}"#, "a\n2\nc<d"),
        (r#"{{$.status | join: ", "}}"#, "Sold"),
        ("{{$.big | number: 2}}", "1,234,567.89"),
        ("{{$.big | number: 0}} {{$.big | number: 3}}", "1,234,568 1,234,567.895"),
        ("{{$.half | number: 0}} {{$.numeric | number: 1}}", "3 12.5"),
        ("{{$.score | number: 2}} {{$.payout | number: 2}}", "7.00 -1,234.51"),
        ("{{$.price | money}} {{$.payout | money}}", "$42.50 -$1,234.51"),
        (r#"{{$.occurred_at | date: "%d %b %H:%M"}}"#, "05 Mar 15:16"),
        (
            r#"{{$.occurred_at | date: "%H:%M %Z", "America/Chicago"}}"#,
            "09:16 CST",
        ),
        (r#"{{$.when | date: "%F %T"}}"#, "2018-03-05 15:16:40"),
        (r#"{{$.millis | date: "%T%.3f"}}"#, "15:16:40.123"),
        (r#"{{$.written | date: "%F %T"}}"#, "2018-03-05 15:16:00"),
        ("{{$.when | date}}", "2018-03-05T15:16:40Z"),
        ("{{$.long | truncate: 5}}", "äöü …"),
        ("{{$.long | truncate: 12}}", "äöü and more"),
        ("{{$.long | truncate: 1}}", "…"),
        ("{{$.status | upper | truncate: 3 | lower}}", "so…"),
        (r#"{{$.long | truncate: 10, "bytes"}}"#, "äöü …"),
        (r#"{{$.long | truncate: 15, "bytes"}}"#, "äöü and more"),
        (r#"{{$.long | truncate: 3, "bytes"}}"#, "…"),
        (
            "{{$.markup | plain}}",
            "Smith & Sons says 3 < 4, see the doc (https://x.example/?a=1&b=2), @Ana @U2 #general @here",
        ),
        ("{{$.tags | plain}} {{$.score | plain}}", r#"["a",2,null,"c<d"] 7"#),
        ("{{$.written | url}}", "March%2005%2C%202018%2015%3A16%3A0"),
        ("{{$.upper_me | url}} {{$.score | url}}", "stra%C3%9Fe 7"),
        ("{{$.status | raw}}", "Sold"),
    ] {
        assert_eq!(render(template, Target::Plain), expected, "{template}");
    }
}

#[test]
fn money_names_the_events_currency() {
    for (currency, expected) in [
        (None, "$42.50 -$1,234.51"),
        (Some(""), "$42.50 -$1,234.51"),
        (Some("USD"), "$42.50 -$1,234.51"),
        (Some("usd"), "$42.50 -$1,234.51"),
        (Some("EUR"), "€42.50 -€1,234.51"),
        (Some("GBP"), "£42.50 -£1,234.51"),
        (Some("CAD"), "42.50 CAD -1,234.51 CAD"),
    ] {
        let event = LeadEvent {
            currency: currency.map(Cow::Borrowed),
            ..sample()
        };
        let template = Template::parse("{{$.price | money}} {{$.payout | money}}").unwrap();
        let written = template.render(&event, Target::Plain, OnMissing::Empty);
        assert_eq!(written.unwrap(), expected, "{currency:?}");
    }
    let event = LeadEvent {
        inlet: text("shop"),
        ..event(&json!({"currency": "EUR"}))
    };
    let template = Template::parse("{{$.price | money}}").unwrap();
    assert_eq!(
        template.render(&event, Target::Plain, OnMissing::Empty).unwrap(),
        "€42.50"
    );
}

#[test]
fn what_is_no_currency_stands_in_no_message() {
    let template = Template::parse("{{$.price | money}}").unwrap();
    for currency in [
        json!(["USD"]),
        json!({"code": "USD"}),
        json!(true),
        json!(840),
        json!("US Dollars and Cents"),
    ] {
        let event = LeadEvent {
            inlet: text("shop"),
            ..event(&json!({ "currency": currency }))
        };
        let failed = template.render(&event, Target::Plain, OnMissing::Empty);
        let detail = "`money` of $.price: currency is no text of at most 16 bytes; write a code such as USD, or use \
                      `number: 2`";
        assert_eq!(failed, Err(Stop::Fail { detail: detail.into() }), "{currency}");
    }
}

#[test]
fn slack_text_escapes_values_only() {
    for (template, expected) in [
        ("<!here> & {{$.buyer.name}}", "<!here> & Safe &amp; &lt;Drive&gt;"),
        ("{{$.consumer.first_name}}", "&lt;!channel&gt; Ana"),
        ("{{$.consumer.first_name | raw}}", "<!channel> Ana"),
        ("{{$.consumer.first_name | upper | raw}}", "<!CHANNEL> ANA"),
        // Escaping comes after truncating, so that no entity is cut in two.
        ("{{$.consumer.first_name | truncate: 2}}", "&lt;…"),
        (r#"{{$.tags | join: "&"}}"#, "a&amp;2&amp;c&lt;d"),
        ("{{$.tags | json}}", r#"["a",2,null,"c&lt;d"]"#),
        (r#"{{$.absent | default: "<none>"}}"#, "&lt;none&gt;"),
        (r#"{{ "<" }}"#, "&lt;"),
        ("{{$.when | date}}", "2018-03-05T15:16:40Z"),
    ] {
        assert_eq!(render_slack(template, &sample()), expected, "{template}");
    }
    assert_eq!(render("{{$.buyer.name}}", Target::Clevertap), "Safe & <Drive>");
}

/// Templates and what becomes of them.
const FILLED: &[(&str, &str)] = &[
    ("<{{$.url}}|Recording>", "<https://x.example/a?b=1&amp;c=2|Recording>"),
    ("<{{$.ping}}|Recording>", "Recording (!channel)"),
    ("<{{$.absent}}|Recording>", "Recording"),
    (
        "<{{$.bad_url}}|Recording>",
        "<https://x%7Cy%3E%20%3C!here%3E%20z|Recording>",
    ),
    ("<{{$.url}}>", "<https://x.example/a?b=1&amp;c=2>"),
    ("a <{{$.ping}}> b", "a !channel b"),
    ("a <{{$.absent}}> b", "a  b"),
    (
        "<{{$.url}}|{{$.buyer.name}}>",
        "<https://x.example/a?b=1&amp;c=2|Safe &amp; &lt;Drive&gt;>",
    ),
    ("<{{$.url}}|{{$.absent}}>", "<https://x.example/a?b=1&amp;c=2>"),
    ("<{{$.url}}|{{$.lines}}>", "<https://x.example/a?b=1&amp;c=2|one two>"),
    ("<{{$.bang}}{{$.channel_word}}|x>", "x (!channel)"),
    ("<https://crm/{{$.lead_id}}|Lead>", "<https://crm/84512377|Lead>"),
    (
        "<https://crm/{{$.ping | url}}?q={{$.bad_url}}|L>",
        "<https://crm/%21channel?q=https://x%7Cy%3E%20%3C!here%3E%20z|L>",
    ),
    (
        "<mailto:{{$.bad_url | url}}>",
        "<mailto:https%3A%2F%2Fx%7Cy%3E%20%3C%21here%3E%20z>",
    ),
    ("<http{{$.tail}}|x>", "x (http!channel)"),
    (
        "<@{{$.user}}> <#{{$.user}}|{{$.ping}}>",
        "<@U0123ANA> <#U0123ANA|!channel>",
    ),
    (
        "<@{{$.blank_behind}}> <#{{$.blank_behind}}|c>",
        "<@U0123ANA> <#U0123ANA|c>",
    ),
    (
        "<@{{$.ping}}> <@{{$.absent}}|Ana> <@{{$.bad_url}}|Bo>",
        "!channel Ana Bo (https://x|y&gt; &lt;!here&gt; z)",
    ),
    ("<!{{$.channel_word}}> <!{{$.channel_word}}|x>", "channel x (channel)"),
    (
        "<!subteam^{{$.user}}> <!subteam^{{$.bad_url}}|s>",
        "<!subteam^U0123ANA> s (https://x|y&gt; &lt;!here&gt; z)",
    ),
    (
        "<!date^{{$.when}}^{date_num}|{{$.ping}}>",
        "<!date^1520263000^{date_num}|!channel>",
    ),
    ("<!here|{{$.ping}}> <!here> <#C1>", "<!here|!channel> <!here> <#C1>"),
    ("<|{{$.ping}}>", "!channel"),
    ("<{{$.ping | raw}}|x>", "<!channel|x>"),
    // What the template itself leaves open is shown, and so is what only looks like a link.
    ("I <3 {{$.lead_id}}", "I &lt;3 84512377"),
    ("<{{$.ping}}", "&lt;!channel"),
    (
        "a < b and <{{$.url}}|x>",
        "a &lt; b and <https://x.example/a?b=1&amp;c=2|x>",
    ),
    ("price < {{$.score}} and > 3", "price &lt; 7 and &gt; 3"),
    ("> {{$.ping}}", "> !channel"),
    ("a < b & c", "a < b & c"),
    ("Q&{{$.amp}}amp; Q&l{{$.absent}}t;", "Q&amp;amp; Q&amp;lt;"),
];

#[test]
fn a_value_fills_a_link_and_makes_none() {
    let event = event(&json!({
        "url": " https://x.example/a?b=1&c=2\n", "ping": "!channel", "bad_url": "https://x|y> <!here> z", "user": "U0123ANA",
        "lines": "one\ntwo", "bang": "!", "channel_word": "channel", "tail": "!channel", "when": 1_520_263_000, "score": 7,
        "amp": "", "blank_behind": "U0123ANA ",
    }));
    for (template, expected) in FILLED {
        assert_eq!(render_slack(template, &event), *expected, "{template}");
    }
    for (template, mentions) in [
        ("<!{{$.a}}>", true),
        ("<!he{{$.a}}>", true),
        ("<!here|{{$.a}}>", false),
        ("<@{{$.a}}>", false),
    ] {
        assert_eq!(
            Template::parse(template).unwrap().mentions_by_value(),
            mentions,
            "{template}"
        );
    }
}

#[test]
fn what_the_event_holds_can_stop_it() {
    for (template, detail) in [
        (
            "{{$.status | number: 2}}",
            "`number` of $.status: the value is no number of up to 28 digits",
        ),
        (
            "{{ status | upper | money }}",
            "`money` of status: the value is no number of up to 28 digits",
        ),
        (
            "{{$.flag | money}}",
            "`money` of $.flag: the value is no number of up to 28 digits",
        ),
        (
            "{{$.method | money}}",
            "`money` of $.method: the value is no number of up to 28 digits",
        ),
        (
            "{{$.wrong | date}}",
            "`date` of $.wrong: it says Tuesday, but that day is a Monday",
        ),
        (
            "{{$.tags | date: \"%F\"}}",
            "`date` of $.tags: no form of date that is known; write it as 2018-03-05T15:16:00Z or as epoch seconds",
        ),
    ] {
        let stop = slack(&Template::parse(template).unwrap(), &sample(), OnMissing::Empty);
        assert_eq!(stop, Err(Stop::Fail { detail: detail.into() }), "{template}");
    }
}

#[test]
fn a_missing_value_follows_on_missing() {
    let skip = |path: &str| Err(Stop::Skip { path: path.into() });
    let fail = |path: &str| {
        Err(Stop::Fail {
            detail: format!("{path} is missing"),
        })
    };
    for (template, path) in [
        ("a {{$.revenue}}", "$.revenue"),
        ("a {{$.revenue | money}}", "$.revenue"),
        ("a {{$.absent | number: 2 | upper}}", "$.absent"),
        ("a {{nothing | date}}", "nothing"),
        ("a {{$.buyer.nickname}}", "$.buyer.nickname"),
    ] {
        let template = Template::parse(template).unwrap();
        let rendered = |on_missing| slack(&template, &sample(), on_missing);
        assert_eq!(rendered(OnMissing::Empty), Ok("a ".into()), "{path}");
        assert_eq!(rendered(OnMissing::Skip), skip(path), "{path}");
        assert_eq!(rendered(OnMissing::Fail), fail(path), "{path}");
    }
    for template in ["a {{$.method}}", r#"a {{$.revenue | money | default: ""}}"#] {
        for on_missing in [OnMissing::Empty, OnMissing::Skip, OnMissing::Fail] {
            let template = Template::parse(template).unwrap();
            assert_eq!(slack(&template, &sample(), on_missing), Ok("a ".into()));
        }
    }
    let alone = Template::parse("{{$.revenue}}").unwrap();
    let rendered = |on_missing| alone.render_json(&sample(), Target::Clevertap, on_missing);
    assert_eq!(rendered(OnMissing::Empty), Ok(None));
    assert_eq!(
        rendered(OnMissing::Skip),
        Err(Stop::Skip {
            path: "$.revenue".into()
        })
    );
    assert_eq!(
        rendered(OnMissing::Fail).map(|_| ()),
        fail("$.revenue").map(|_: String| ())
    );
}

#[test]
fn on_missing_is_written_in_snake_case() {
    let read = |text: &str| serde_json::from_str::<OnMissing>(text).ok();
    assert_eq!(read(r#""empty""#), Some(OnMissing::default()));
    assert_eq!(read(r#""skip""#), Some(OnMissing::Skip));
    assert_eq!(read(r#""fail""#), Some(OnMissing::Fail));
    assert_eq!(read(r#""Fail""#), None);
}

#[test]
fn one_placeholder_alone_keeps_its_type() {
    for (template, expected) in [
        ("{{$.price}}", "42.5"),
        ("{{$.score}}", "7"),
        ("{{$.big}}", "1234567.8945"),
        ("{{$.attempt}}", "3"),
        ("{{$.flag}}", "true"),
        ("{{$.numeric}}", r#""12.50""#),
        ("{{$.status}}", r#""Sold""#),
        ("{{$.buyer.name}}", r#""Safe & <Drive>""#),
        ("{{$.method}}", r#""""#),
        ("{{$.tags}}", r#"["a",2,null,"c<d"]"#),
        ("{{$.plan}}", r#"{"name":"pro"}"#),
        ("{{$.occurred_at}}", r#""2026-03-05T15:16:00.123Z""#),
        ("{{$.occurred_at | date}}", r#""$D_1772723760""#),
        ("{{$.millis | date}}", r#""$D_1520263000""#),
        (r#"{{$.occurred_at | date: "%F"}}"#, r#""2026-03-05""#),
        ("{{$.score | default: 1}}", "7"),
        ("{{$.absent | default: 1}}", "1"),
        (r#"{{$.absent | default: "1"}}"#, r#""1""#),
        ("{{$.score | number: 1}}", r#""7.0""#),
        ("{{$.price | money}}", r#""$42.50""#),
        ("{{$.score | raw}}", "7"),
        (r#"{{ "{{" }}"#, r#""{{""#),
        (" {{$.score}}", r#"" 7""#),
        ("{{$.score}}{{$.absent}}", r#""7""#),
        ("on {{$.occurred_at | date}}", r#""on 2026-03-05T15:16:00.123Z""#),
        ("fixed", r#""fixed""#),
    ] {
        let rendered = Template::parse(template)
            .unwrap()
            .render_json(&sample(), Target::Clevertap, OnMissing::Empty);
        assert_eq!(rendered.unwrap().unwrap().to_string(), expected, "{template}");
    }
    let date = Template::parse("{{$.when | date}}").unwrap();
    let in_target = |target| date.render_json(&sample(), target, OnMissing::Empty).unwrap();
    assert_eq!(in_target(Target::Plain), Some(json!("2018-03-05T15:16:40Z")));
    assert_eq!(render("{{$.when | date}}", Target::Clevertap), "$D_1520263000");
}

#[test]
fn times() {
    for (template, expected) in [
        ("{{$.occurred_at}}", "2026-03-05T15:16:00.123Z"),
        ("{{$.occurred_at | date}}", "2026-03-05T15:16:00.123Z"),
        ("{{$.when}}", "2018-03-05T15:16:40Z"),
        ("{{$.millis}}", "2018-03-05T15:16:40.123Z"),
        ("{{$.written}}", "2018-03-05T15:16:00Z"),
        ("{{$.absent | default: '2018-03-05'}}", "2018-03-05T00:00:00Z"),
        ("{{$.fields.vehicle_year}}-03-05 {{'15:16'}}", "2019-03-05T15:16:00Z"),
        ("2018-03-05", "2018-03-05T00:00:00Z"),
    ] {
        let time = Template::parse(template).unwrap().render_time(&sample());
        assert_eq!(time.unwrap().to_string(), expected, "{template}");
    }
    for (template, expected) in [
        ("{{$.absent}}", "$.absent is missing"),
        ("2018-03-{{$.absent}}", "$.absent is missing"),
        (
            "{{$.wrong}}",
            "the date of `{{$.wrong}}`: it says Tuesday, but that day is a Monday",
        ),
        (
            "{{$.flag}}",
            "the date of `{{$.flag}}`: no form of date that is known; write it as 2018-03-05T15:16:00Z or as epoch seconds",
        ),
        (
            "on {{$.status}}",
            "the date of `on {{$.status}}`: no form of date that is known; write it as 2018-03-05T15:16:00Z or as epoch \
             seconds",
        ),
    ] {
        let stop = Template::parse(template).unwrap().render_time(&sample());
        assert_eq!(stop.unwrap_err().to_string(), expected, "{template}");
        assert!(!expected.contains("Sold"));
    }
}

#[test]
fn refusals_name_the_column_and_the_cure() {
    for (template, column, says) in [
        ("Hi {{name", 4, "not closed"),
        ("ü {{ $.name } }", 3, "not closed"),
        ("Hi {{", 4, "not closed"),
        ("Hi {{name | ", 4, "not closed"),
        ("Hi {{name | default: ", 4, "not closed"),
        ("Hi {{name | default: 'x' ", 4, "not closed"),
        ("Hi {{$['name}}", 4, "not closed"),
        ("a {{}}", 3, "empty placeholder"),
        ("a {{  }}", 3, "empty placeholder"),
        ("a {{ | upper }}", 3, "empty placeholder"),
        ("a {{{name}}}", 3, "three braces"),
        ("a {{$.b c}}", 8, "unexpected text after the path"),
        ("ü {{ $.b..c }}", 10, "name is missing"),
        ("{{$.items[*]}}", 11, "wildcards"),
        ("{{ 'x }}", 4, "closing quote"),
        ("{{a | default: \"x }}", 16, "closing quote"),
        (
            "{{a | shout}}",
            7,
            "unknown filter `shout`; the filters are default, upper",
        ),
        ("{{a | upcase}}", 7, "did you mean `upper`?"),
        ("{{a | nubmer: 2}}", 7, "did you mean `number`?"),
        ("{{a | Upper}}", 7, "unknown filter `Upper`"),
        ("{{a | }}", 7, "name is missing"),
        ("{{a || upper}}", 6, "name is missing"),
        ("{{a | default}}", 7, "`default` is written as default: \"x\""),
        ("{{a | default \"x\"}}", 7, "`default` is written as default: \"x\""),
        ("{{a | upper \"x\"}}", 13, "follow a colon"),
        ("{{a | default: “x”}}", 16, "straight quotes"),
        ("{{a | default: x}}", 16, "straight quotes"),
        ("{{a | upper: 2}}", 7, "`upper` is written as upper"),
        ("{{a | join: 2}}", 7, "`join` is written"),
        ("{{a | number}}", 7, "number: 2"),
        ("{{a | number: \"2\"}}", 7, "number: 2"),
        ("{{a | number: 2, 3}}", 7, "number: 2"),
        ("{{a | number: 21}}", 15, "0 to 20 decimals"),
        ("{{a | number: -1}}", 15, "0 to 20 decimals"),
        ("{{a | number: 1.5}}", 15, "0 to 20 decimals"),
        ("{{a | number: 02}}", 15, "straight quotes"),
        ("{{a | truncate: 0}}", 17, "1 or more"),
        ("{{a | truncate: \"x\"}}", 7, "truncate: 80"),
        ("{{a | truncate: 2, \"bytes\"}}", 17, "3 or more"),
        ("{{a | truncate: 9, \"chars\"}}", 20, "\"bytes\""),
        ("{{a | plain: 1}}", 7, "`plain` is written as plain"),
        ("{{a | date: 5}}", 7, "`date` is written as date, date:"),
        ("{{a | date: \"%!\"}}", 13, "no strftime format"),
        ("{{a | date: \"%\"}}", 13, "no strftime format"),
        ("{{a | date: \"\"}}", 13, "blank"),
        ("{{a | date: \"%H\", \"Mars/Olympus\"}}", 19, "unknown time zone"),
        ("{{a | date: \"%H\", \"UTC\", \"UTC\"}}", 7, "`date` is written as"),
        ("{{a | raw | upper}}", 7, "`raw` goes last"),
        ("{{a | raw | raw}}", 7, "`raw` goes last"),
    ] {
        let error = Template::parse(template).expect_err(template);
        assert_eq!(error.column, column, "{template}: {error}");
        assert!(error.message.contains(says), "{template}: {error}");
    }
    let error = Template::parse("{{}}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "an empty placeholder; name a field, as in {{$.lead_id}} (column 1)"
    );
}

#[test]
fn what_a_template_consists_of() {
    for (template, paths, literal, alone) in [
        ("", &[][..], true, false),
        ("plain }}", &[], true, false),
        ("{{$.price}}", &["$.price"], false, true),
        ("{{ price | money }}", &["price"], false, true),
        ("{{$.a}}{{$['b c']}} {{$.a}}", &["$.a", "$['b c']", "$.a"], false, false),
        (" {{$.a}}", &["$.a"], false, false),
        (r#"{{ "{{" }}"#, &[], false, true),
    ] {
        let parsed = Template::parse(template).unwrap();
        assert_eq!(
            parsed.paths().map(Path::as_str).collect::<Vec<_>>(),
            paths,
            "{template}"
        );
        assert_eq!(parsed.is_literal(), literal, "{template}");
        assert_eq!(parsed.is_one_placeholder(), alone, "{template}");
        assert_eq!(parsed.as_str(), template);
        assert_eq!(parsed, parsed.clone());
    }
}

/// Grouping done the slow way: digits from the right, a comma after every third.
fn naive_number(number: Decimal, decimals: u32) -> String {
    let scale = Decimal::from(10_i64.pow(decimals));
    let units = (number.abs() * scale + Decimal::new(5, 1)).floor().to_string();
    let units = format!("{units:0>width$}", width = decimals as usize + 1);
    let (whole, part) = units.split_at(units.len() - decimals as usize);
    let mut grouped = String::new();
    for (nth, digit) in whole.chars().rev().enumerate() {
        if nth > 0 && nth % 3 == 0 {
            grouped.insert(0, ',');
        }
        grouped.insert(0, digit);
    }
    let zero = units.chars().all(|digit| digit == '0');
    let sign = if number.is_sign_negative() && !zero { "-" } else { "" };
    let point = if decimals > 0 { "." } else { "" };
    format!("{sign}{grouped}{point}{part}")
}

#[test]
fn dates_are_read_in_the_form_that_somebody_names() {
    let event = event(&json!({"us": "3/5/2018", "serial": 45123.5, "short": "86400", "dob": "19900115", "list": [1]}));
    let write = |template: &str, target| {
        let template = Template::parse(template).unwrap();
        template
            .render(&event, target, OnMissing::Fail)
            .map_err(|stop| stop.to_string())
    };
    for (template, target, written) in [
        (
            r#"{{us | read_date: "%m/%d/%Y" | date: "%Y-%m-%d"}}"#,
            Target::Plain,
            "2018-03-05",
        ),
        (
            r#"{{us | read_date: "%m/%d/%Y"}}"#,
            Target::Plain,
            "2018-03-05T00:00:00Z",
        ),
        (
            r#"{{us | read_date: "%m/%d/%Y" | date}}"#,
            Target::Clevertap,
            "$D_1520208000",
        ),
        (
            r#"{{serial | read_date: "serial" | date: "%H:%M"}}"#,
            Target::Plain,
            "12:00",
        ),
        (
            r#"{{short | read_date: "epoch"}}"#,
            Target::Plain,
            "1970-01-02T00:00:00Z",
        ),
        ("{{dob | date: '%d %b %Y'}}", Target::Plain, "15 Jan 1990"),
    ] {
        assert_eq!(write(template, target).as_deref(), Ok(written), "{template}");
    }
    for (template, why) in [
        (
            r#"{{serial | date}}"#,
            "`date` of serial: a number that is no epoch by its size",
        ),
        (
            r#"{{us | read_date: "%d.%m.%Y"}}"#,
            "`read_date` of us: it does not fit the format",
        ),
        (r#"{{us | read_date: "serial"}}"#, "`read_date` of us: no serial number"),
        (
            r#"{{list | read_date: "epoch"}}"#,
            "`read_date` of list: no form of date",
        ),
    ] {
        let failed = write(template, Target::Plain).unwrap_err();
        assert!(failed.starts_with(why), "{failed}");
    }
    for (template, why) in [
        (r#"{{us | read_date}}"#, "`read_date` is written as"),
        (r#"{{us | read_date: "%H"}}"#, "names no whole day"),
        (r#"{{us | read_date: "days"}}"#, "names no whole day"),
    ] {
        let refused = Template::parse(template).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,60}") {
        if let Err(error) = Template::parse(&text) {
            prop_assert!(error.column <= text.chars().count() + 1);
        }
    }

    #[test]
    fn near_templates_are_parsed_and_rendered_or_refused(
        text in "([{}|:,$.\"'\\\\ \\[\\]%0-9ü]|\\{\\{|\\}\\}|price|status|default|number|money|date|truncate|raw|\\| upper){0,14}",
    ) {
        match Template::parse(&text) {
            Err(error) => prop_assert!(error.column <= text.chars().count() + 1),
            Ok(template) => for target in [Target::Clevertap, Target::Plain] {
                prop_assert_eq!(slack(&template, &sample(), OnMissing::Fail).err(), template.render(&sample(), target, OnMissing::Fail).err());
                let written = template.render(&sample(), target, OnMissing::Fail);
                let json = template.render_json(&sample(), target, OnMissing::Fail);
                prop_assert_eq!(written.as_ref().err(), json.as_ref().err());
                if template.render_time(&sample()).is_ok() {
                    prop_assert!(written.is_ok());
                }
            },
        }
    }

    #[test]
    fn text_without_open_braces_is_itself(text in "[^{]{0,60}") {
        prop_assert_eq!(render_slack(&text, &sample()), text);
    }

    #[test]
    fn no_value_writes_markup_into_slack_text(value in "[<>&!@#a-zü;]{0,30}") {
        let event = event(&json!({"value": &value, "list": [&value, {"x": &value}]}));
        let template = "{{$.value}} {{$.value | upper}} {{$.list | join: ' '}} {{$.list}} {{$.list | json | truncate: 9}}";
        let written = render_slack(template, &event);
        prop_assert!(!written.contains(['<', '>']));
        let without_entities = written.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
        prop_assert!(!without_entities.contains('&'));
        let alone = render_slack("{{$.value}}", &event);
        prop_assert_eq!(alone.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"), value);
    }

    #[test]
    fn numbers_are_written_as_the_naive_way_does(mantissa: i64, scale in 0..10_u32, decimals in 0..6_u32) {
        let number = Decimal::new(mantissa, scale);
        let event = event(&json!({"number": number.to_string()}));
        let template = Template::parse(&format!("{{{{number | number: {decimals}}}}}")).unwrap();
        let written = template.render(&event, Target::Plain, OnMissing::Fail).unwrap();
        prop_assert_eq!(&written, &naive_number(number, decimals));
        let read: Decimal = written.replace(',', "").parse().unwrap();
        prop_assert_eq!(read, number.round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero));
    }

    #[test]
    fn the_widest_numbers_are_written_too(lo: u32, mid: u32, hi: u32, negative: bool, scale in 0..=28_u32, decimals in 0..=20_u32) {
        let number = Decimal::from_parts(lo, mid, hi, negative, scale);
        let event = LeadEvent { price: Some(number), ..sample() };
        let template = Template::parse(&format!("{{{{price | number: {decimals}}}}}")).unwrap();
        let written = template.render(&event, Target::Plain, OnMissing::Fail).unwrap();
        let part = written.split_once('.').map_or(0, |(_, part)| part.len());
        prop_assert_eq!(part, decimals as usize);
    }

    #[test]
    fn truncated_text_is_never_longer(value in "\\PC{0,20}", length in 1..20_usize) {
        let event = event(&json!({"value": &value}));
        let template = Template::parse(&format!("{{{{value | truncate: {length}}}}}")).unwrap();
        let written = template.render(&event, Target::Plain, OnMissing::Fail).unwrap();
        if value.chars().count() <= length {
            prop_assert_eq!(written, value);
        } else {
            prop_assert!(written.chars().count() <= length);
            prop_assert!(value.starts_with(written.strip_suffix('…').unwrap()));
        }
    }

    #[test]
    fn the_template_alone_makes_links_and_mentions(
        template in "(<|>|\\||!|@|#|<https://x.example/|<mailto:|<!here>|<!subteam\\^|<@U1>|\\|label>|&|&am|a|\n| |\\{\\{\\$\\.a\\}\\}|\\{\\{\\$\\.b \\| upper\\}\\}|\\{\\{\\$\\.c\\}\\}){1,14}",
        a in HOSTILE, b in HOSTILE, c in HOSTILE,
    ) {
        let event = event(&json!({"a": a, "b": b, "c": c}));
        let written = render_slack(&template, &event);
        let own = template.replace("{{$.a}}", HOLE).replace("{{$.b | upper}}", HOLE).replace("{{$.c}}", HOLE);
        let own = markup::spans(&own);
        for found in markup::spans(&written) {
            let made = own.iter().any(|own| found.may_be(own));
            prop_assert!(made, "{:?} in {:?}, the template has {:?}", found, written, own);
        }
        // In whatever way a reader takes a `<` that isn't closed, there is none.
        if template.contains("{{") {
            prop_assert_eq!(written.matches('<').count(), markup::spans(&written).len());
        }
    }

    #[test]
    fn rendering_stops_at_what_slack_takes(
        value in "(a|é|<|&|\u{301}|https://x\\|y){0,40}", times in 1..200_usize,
        filter in "( \\| (upper|json|plain|url|truncate: 50|join: \", \")){0,2}",
    ) {
        let event = event(&json!({"value": value.repeat(times), "list": vec![&value; times]}));
        let template = format!("{{{{$.value{filter}}}}} <https://x/{{{{$.value{filter}}}}}|{{{{$.list{filter}}}}}>");
        let template = Template::parse(&template).unwrap();
        let whole = template.render_slack(&event, OnMissing::Empty, 1_000_000).unwrap();
        for max in [1, 10, 100, 1000] {
            let cut = template.render_slack(&event, OnMissing::Empty, max).unwrap();
            let expected = text::slack::cut(&whole.text, max, false);
            prop_assert_eq!(cut.is_cut, expected.is_some());
            prop_assert_eq!(cut.text, expected.unwrap_or_else(|| whole.text.clone()));
        }
    }
}

/// Values that try to be markup.
const HOSTILE: &str =
    "(!channel|!here|@U1|<|>|\\||&|&lt;|lt;|https://x|http|://y|!|#C1|subteam\\^|date\\^|\n| |a){0,5}";
/// Stands for a value in a template's own text.
const HOLE: &str = "\u{e000}";

/// Slack's markup as its pages describe it, written without a look at the code that is tested.
mod markup {
    use super::HOLE;

    #[derive(Debug)]
    pub(super) struct Span {
        target: String,
        label: Option<String>,
    }

    /// All that matches `<([^<>]*)>`.
    pub(super) fn spans(text: &str) -> Vec<Span> {
        let ends = text.split('>').rev().skip(1).collect::<Vec<_>>().into_iter().rev();
        ends.filter_map(|part| part.rsplit_once('<'))
            .map(|(_, inner)| match inner.split_once('|') {
                None => Span {
                    target: inner.to_owned(),
                    label: None,
                },
                Some((target, label)) => Span {
                    target: target.to_owned(),
                    label: Some(label.to_owned()),
                },
            })
            .collect()
    }

    impl Span {
        /// Whether this may have become of a span that a template writes.
        pub(super) fn may_be(&self, own: &Span) -> bool {
            let target = match own.target.split_once(HOLE) {
                None => self.target == own.target,
                Some((begin, _)) => match begin.trim_start().chars().next() {
                    None => self.is_link(),
                    Some('@' | '#') => {
                        let id = self.target.trim_start().get(1..).unwrap_or_default();
                        self.target.trim_start().starts_with(begin.trim_start())
                            && !id.is_empty()
                            && id.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
                    }
                    Some('!') => begin.contains('^') && self.target.trim_start().starts_with(begin.trim_start()),
                    Some(_) => self.target.trim_start().starts_with(begin.trim_start()) || self.is_link(),
                },
            };
            let label = match (&self.label, &own.label) {
                (None, own) => own
                    .as_ref()
                    .is_none_or(|own| own.trim().is_empty() || own.contains(HOLE)),
                (Some(label), Some(own)) => own.contains(HOLE) || label == own || *label == own.replace('\n', " "),
                (Some(_), None) => false,
            };
            target && label && !self.target.trim_end().contains('|')
        }

        fn is_link(&self) -> bool {
            let of_web = ["https://", "http://", "mailto:"]
                .iter()
                .any(|scheme| self.target.trim_start().to_lowercase().starts_with(scheme));
            of_web && !self.target.trim().contains([' ', '|'])
        }
    }
}
