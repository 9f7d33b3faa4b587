//! What comes in costs what it weighs: peak memory of at most 20 times the body and 64 MB, and work in proportion to
//! its size, whatever the body and the inlet.
//!
//! This test is alone in its process, since the memory of all threads is counted. Work is the processor's time, which
//! no counter of ours can leave out, and which is compared with that of a tenth of the body alone.

use std::time::Duration;

use jiff::Timestamp;
use leadlane::lead::schemas::{SchemaId, Schemas};
use leadlane::mapping::{Budget, Inlet, Received};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const FREE: usize = 64_000_000;
const SIZES: [usize; 2] = [20_000, 200_000];
/// Ten times the size is ten times the work where it is linear, and a hundred times where it is a square.
const WORK_RATIO_MAX: u32 = 35;
const MEASURED_AGAIN: usize = 5;
/// Less work says nothing: it may as well be the machine's.
const WORK_MIN: Duration = Duration::from_millis(2);
/// As large as a body may be by default; with LEADLANE_TEST_FULL alone, since it takes minutes.
const SIZE_FULL: usize = 1_000_000;

/// Every preset, and mappings that multiply what comes in.
fn inlets() -> Vec<Inlet> {
    let event = json!({"event_id": {"hash": "record"}, "trigger": "t", "lead_id": "x"});
    let entries = [
        json!({"preset": "slack"}),
        json!({"preset": "salesforce", "topic": "t"}),
        json!({"preset": "salesforce", "event": {"trigger": "t"}}),
        json!({"preset": "sheet"}),
        json!({"preset": "sheet", "dates": {"t": "serial"}, "explode": "$.list"}),
        json!({"preset": "track"}),
        json!({"preset": "clevertap"}),
        json!({"preset": "json", "event": event, "decode": ["json", "csv", "form", "outbound_message"], "split": "$.a.b"}),
        json!({"explode": "$.list", "event": event}),
        json!({"explode": "$.list", "event": {"event_id": "{{$item}}", "trigger": "t", "lead_id": "{{$.text}}", "price": "{{$.text}}"}}),
    ];
    let read = |(at, mut entry): (usize, Value)| {
        entry["name"] = format!("n{at}").into();
        Inlet::read("inlets", &entry).unwrap_or_else(|problems| panic!("{entry}: {problems:?}"))
    };
    entries.into_iter().enumerate().map(read).collect()
}

/// Takes a body as a request is taken: what is written is held as the Kafka client would hold it.
fn take(inlet: &Inlet, received: &Received<'_>) {
    let mut budget = Budget::of(received.body.len());
    let (mut events, mut letters) = (Vec::new(), Vec::new());
    if let Ok(mut batch) = inlet.decode(received, &mut budget) {
        while let Some(record) = batch.next(&mut budget) {
            let mapped = inlet.map(&record, batch.around(), Timestamp::UNIX_EPOCH, &mut budget);
            events.extend(mapped.events);
            let text = record.text();
            if mapped.refused.is_some() && letters.len() < 100 && budget.keep(text.len()).is_ok() {
                letters.push(text.into_owned());
            }
        }
    }
    letters.push(inlet.without_secrets(received).into_owned());
}

/// What some work costs: the peak of what it has in memory, beyond what was there, and the processor's time.
#[derive(Debug, Clone, Copy)]
struct Cost {
    bytes: usize,
    time: Duration,
}

fn cost(work: impl FnOnce()) -> Cost {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a time");
    let (before, began) = (MEMORY.current_usage(), now());
    MEMORY.reset_peak_usage();
    work();
    Cost {
        bytes: MEMORY.peak_usage().saturating_sub(before),
        time: now().saturating_sub(began),
    }
}

/// Fails where `larger` took more than in proportion to `smaller`, of a tenth of the size. What else runs on the machine
/// makes work slower and never faster: where it seems too much, the least of a few more measurements decides, which work
/// that grows as a square never passes.
fn check_work(smaller: Cost, larger: Cost, again: impl Fn() -> (Cost, Cost), what: &str) {
    let (mut least, mut most) = (smaller.time, larger.time);
    let is_too_much = |least: Duration, most: Duration| most > least.max(WORK_MIN) * WORK_RATIO_MAX;
    for _ in 0..MEASURED_AGAIN {
        if !is_too_much(least, most) {
            return;
        }
        let (smaller, larger) = again();
        (least, most) = (least.min(smaller.time), most.min(larger.time));
    }
    assert!(!is_too_much(least, most), "{what}: {most:?}, and {least:?} for a tenth");
}

fn check(inlet: &Inlet, body: &[u8], content_type: &str, what: &str) -> Cost {
    let received = Received {
        body,
        content_type: Some(content_type),
        route: "",
    };
    let cost = cost(|| take(inlet, &received));
    let (name, preset, size) = (&inlet.name, inlet.preset, body.len());
    assert!(
        cost.bytes <= 20 * size + FREE,
        "{name} {preset:?}: {} bytes of memory for {size} of {what}",
        cost.bytes
    );
    cost
}

/// `head`, then as many of `piece` as fit, then `tail`.
fn of(size: usize, head: &str, piece: &str, tail: &str) -> Vec<u8> {
    let count = size.saturating_sub(head.len() + tail.len()) / piece.len().max(1);
    [head, &piece.repeat(count), tail].concat().into_bytes()
}

/// A record with a long text and a long list: each element's event would hold both.
fn exploding(size: usize, item: &str) -> Vec<u8> {
    let text = "x".repeat(size / 2);
    let head = format!("{{\"text\":\"{text}\",\"ChangeEventHeader\":{{\"changeType\":\"UPDATE\"}},\"list\":[{item}");
    of(size, &head, &format!(",{item}"), "]}")
}

fn bodies(size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let json = "application/json";
    let mut bodies: Vec<(&str, Vec<u8>)> = [
        ("[0", ",0", "]"),
        ("[{}", ",{}", "]"),
        ("[[]", ",[]", "]"),
        ("[{\"id\":1}", ",{\"id\":1}", "]"),
        ("{\"batch\":[0", ",0", "]}"),
        (
            "{\"batch\":[{\"messageId\":1,\"userId\":1,\"type\":1}",
            ",{\"messageId\":1,\"userId\":1,\"type\":1}",
            "],\"sentAt\":1}",
        ),
        ("{\"a\":{\"b\":[{\"c\":[0]}", ",{\"c\":[0]}", "]}}"),
        ("{\"id\":1,\"a\":[0", ",0", "]}"),
        ("{\"id\":1,\"a\":[[0]", ",[0]", "]}"),
        ("{\"id\":1,\"a\":[{\"\":0}", ",{\"\":0}", "]}"),
        ("{\"id\":1,\"a\":[\"\\ud83d\"", ",\"\\ud83d\"", "]}"),
        ("{\"id\":1,\"a\":\"", "\\ud83d", "\"}"),
        ("{\"id\":1,\"a\":", "[", ""),
        ("[", "[", ""),
        ("{\"a\":", "{\"a\":", ""),
    ]
    .map(|(head, piece, tail)| (json, of(size, head, piece, tail)))
    .into();
    let members: Vec<String> = (0..size / 10).map(|at| format!("\"{at:x}\":0")).collect();
    bodies.push((json, format!("{{\"id\":1,{}}}", members.join(",")).into_bytes()));
    let deep = [vec![b'['; size / 2], vec![b']'; size / 2]].concat();
    bodies.push((json, deep));
    for item in ["0", "{\"n\":[1,2]}", "\"x\""] {
        bodies.push((json, exploding(size, item)));
        let list = vec![item; size / 2 / (item.len() + 1)].join(",");
        let text = "x".repeat(size / 2);
        let header = format!("\"ChangeEventHeader\":{{\"changeType\":\"UPDATE\",\"recordIds\":[{list}]}}");
        bodies.push((json, format!("{{\"text\":\"{text}\",{header}}}").into_bytes()));
    }
    bodies.extend(change_events(size).map(|body| (json, body)));
    bodies.extend(rows(size));
    let form = "application/x-www-form-urlencoded";
    for (head, piece) in [("id=1", "&a"), ("id=1", "&a=%20"), ("", "&"), ("", "+")] {
        bodies.push((form, of(size, head, piece, "")));
    }
    let members: Vec<String> = (0..size / 8).map(|at| format!("{at:x}=")).collect();
    bodies.push((form, members.join("&").into_bytes()));
    bodies.extend(messages(size));
    bodies
}

/// Names and bits of a change event's header, each of which is about a field with a long name or a long text.
fn change_events(size: usize) -> [Vec<u8>; 4] {
    let long = "n".repeat(size / 3);
    let count = (size / 40).min(4_000);
    let members: Vec<String> = (0..count).map(|at| format!("\"{at:x}\":null")).collect();
    let names: Vec<String> = (0..count).map(|at| format!("\"{at:x}.x\"")).collect();
    let (members, names) = (members.join(","), names.join(","));
    let bits = vec!["\"0x02\""; count].join(",");
    let of = |header: &str, fields: &str| format!("{{\"ChangeEventHeader\":{{{header}}},{fields}}}").into_bytes();
    [
        of("\"changedFields\":[\"0x02\"]", &format!("\"{long}\":{{{members}}}")),
        of(
            &format!("\"diffFields\":[{names}]"),
            &format!("\"{long}\":{{{members}}}"),
        ),
        of(&format!("\"nulledFields\":[\"{long}.x\",{names}]"), &members),
        of(
            &format!("\"diffFields\":[{bits}]"),
            &format!("\"a\":\"--- {long}\",\"b\":1"),
        ),
    ]
}

fn rows(size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let title = "t".repeat(size / 16);
    let titles: Vec<String> = (0..size / 16).map(|at| format!("{at:x}")).collect();
    let texts = [
        of(size, &format!("id,{title}\n"), "1,2\n", ""),
        of(size, &format!("id,{title}\n"), "1\n", ""),
        of(size, &format!("id,{title}\n"), "1,2,3\n", ""),
        of(size, &format!("id,{}\n", titles.join(",")), "1\n", ""),
        of(size, &format!("{}\n", titles.join(",")), ",1\n", ""),
        of(size, "id,a\n", ",\n", ""),
        of(size, "id,a\n", "1,2\n", ""),
        of(size, "id,a\n\"", "1,2\n", ""),
        of(size, "id,\"a\n", "1,2\n", ""),
        of(size, "", ",", "\n1,2"),
        of(size, "", "t,", "\n1,2"),
        of(size, "", "\n", ""),
        of(size, "id\n", "\"\"\"\n", ""),
    ];
    let wide = of(size / 2, "id,a\n", "1,2\n", "");
    let wide: Vec<u8> = [0xFF, 0xFE]
        .into_iter()
        .chain(wide.into_iter().flat_map(|byte| [byte, 0]))
        .collect();
    texts.into_iter().chain([wide]).map(|text| ("text/csv", text)).collect()
}

fn messages(size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let head = "<Envelope><Body><notifications>";
    let tail = "</notifications></Body></Envelope>";
    let one = "<Notification><Id>1</Id><sObject><Id>2</Id></sObject></Notification>";
    let around = format!("{head}<OrganizationId>{}</OrganizationId>", "x".repeat(size / 2));
    let members = format!("{head}{}", "<a/>".repeat(size / 8));
    let attributes: Vec<String> = (0..size / 16).map(|at| format!("a{at}='1'")).collect();
    let inside = format!("{head}<Notification><Id>1</Id><sObject>");
    [
        of(size, head, one, tail),
        of(size, head, "<Notification/>", tail),
        of(size, &around, one, tail),
        of(size, &members, one, tail),
        of(size, head, "<SessionId/>", tail),
        of(size, &inside, "<a/>", &format!("</sObject></Notification>{tail}")),
        of(size, &inside, "&amp;", &format!("</sObject></Notification>{tail}")),
        format!("{inside}<a {}/></sObject></Notification>{tail}", attributes.join(" ")).into_bytes(),
        of(size, "", "<a>", ""),
        of(size, head, "<", ""),
    ]
    .map(|message| ("text/xml", message))
    .into()
}

/// Avro whose schema says what the datum's bytes only point at. Gives the cost of each.
fn check_avro(size: usize) -> Vec<Cost> {
    let mut costs = Vec::new();
    let name = "n".repeat(1_000);
    let record = json!({"type": "record", "name": "E", "fields": [{"name": name, "type": "int"}]});
    let symbols = json!({"type": "enum", "name": "S", "symbols": [name]});
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 38});
    let inlet = json!({"name": "n", "topic": "t", "decode": "avro", "event": {"event_id": {"hash": "record"}, "trigger": "t", "lead_id": "x"}});
    let inlet = Inlet::read("inlets", &inlet).expect("an entry");
    for (items, item) in [
        (record, &[2_u8][..]),
        (symbols, &[0]),
        (decimal, &[2, 7]),
        (json!("null"), &[]),
        (json!("string"), &[0]),
        (json!({"type": "array", "items": "int"}), &[0]),
    ] {
        let schema = json!({"type": "record", "name": "R", "fields": [{"name": "list", "type": {"type": "array", "items": items}}]});
        let mut schemas = Schemas::foreign();
        schemas.learn(SchemaId::Id(1), &schema.to_string(), &[]);
        // Blocks of 64 items each.
        let block = [&[0x80, 0x01][..], &item.repeat(64)].concat();
        let value = [&[0, 0, 0, 0, 1][..], &block.repeat(size / block.len()), &[0]].concat();
        let cost = cost(|| drop(inlet.take(Some(&value), None, &schemas, Timestamp::UNIX_EPOCH)));
        let size = value.len();
        assert!(
            cost.bytes <= 20 * size + FREE,
            "{} bytes of memory for {size} of {items}",
            cost.bytes
        );
        costs.push(cost);
    }
    costs
}

/// One test, so that nothing else is in memory meanwhile.
#[test]
fn a_request_or_record_costs_what_it_weighs() {
    let inlets = inlets();
    let full = std::env::var_os("LEADLANE_TEST_FULL").map(|_| SIZE_FULL);
    let mut costs: Vec<Vec<Cost>> = Vec::new();
    for size in SIZES.into_iter().chain(full) {
        let mut of_size = Vec::new();
        for (content_type, body) in bodies(size) {
            let what = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            of_size.extend(inlets.iter().map(|inlet| check(inlet, &body, content_type, &what)));
        }
        of_size.extend(check_avro(size));
        costs.push(of_size);
    }
    let count = costs[0].len();
    for (at, (smaller, larger)) in costs[0].iter().zip(&costs[1]).enumerate() {
        let (number, inlet) = (at / inlets.len(), at % inlets.len());
        let of = |size| match bodies(size).get(number) {
            Some((content_type, body)) => check(&inlets[inlet], body, content_type, "the same"),
            None => {
                let avro = check_avro(size);
                avro[avro.len() - (count - at)]
            }
        };
        check_work(
            *smaller,
            *larger,
            || (of(SIZES[0]), of(SIZES[1])),
            &format!("body {number} at inlet {inlet}, or Avro behind them"),
        );
    }
    let pieces = "(\\[|\\]|\\{|\\}|,|:|\"|\"a\":|\"list\":\\[|\"batch\":\\[|0|1,2|\\\\ud83d|\n|;|<a>|</a>|<a/>|&a=|&amp;|\\{\\}|\\[0\\]){1,6}";
    let kinds = prop::sample::select(vec![
        "application/json",
        "text/csv",
        "application/x-www-form-urlencoded",
        "text/xml",
    ]);
    let config = Config {
        cases: 30,
        failure_persistence: None,
        ..Config::default()
    };
    let heads = prop::sample::select(vec![
        "",
        "[",
        "{\"id\":1,\"list\":[",
        "{\"batch\":[",
        "id,a\n",
        "<Envelope><Body><notifications>",
    ]);
    TestRunner::new(config)
        .run(
            &(heads, pieces, pieces, kinds, prop::sample::select(inlets)),
            |(head, piece, tail, kind, inlet)| {
                let of = |size| check(&inlet, &of(size, head, &piece, &tail), kind, &piece);
                check_work(
                    of(SIZES[0]),
                    of(SIZES[1]),
                    || (of(SIZES[0]), of(SIZES[1])),
                    &format!("{head}{piece}{tail} at {}", inlet.name),
                );
                Ok(())
            },
        )
        .unwrap();
}
