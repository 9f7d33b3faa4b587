//! From an event's producing to its HTTP request, at half of what the processor can do.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::events::Format;
use super::{Bench, RULES, Topics, bare, events, is_ready, until};
use destination::Arrivals;

#[path = "../sender/destination.rs"]
#[allow(dead_code, reason = "the bench of the sender uses all of it")]
mod destination;

/// Each has a rule of its own.
const LANES: usize = 500;
const CREDENTIALS: usize = 8;
/// Between two events that match: 500 a second.
const EVERY: Duration = Duration::from_millis(2);
/// Events that match nothing, which come again and again.
const OTHERS: u64 = 512;

impl Bench {
    pub(super) fn requests(&self, seconds: u64) {
        let waiting = self.filled(Format::Json);
        let mut late = Vec::new();
        for round in 0..self.rounds {
            let (capacity, _) = self.ours(&waiting, RULES);
            let (p50, p99, rate) = self.to_requests(seconds, capacity.rate / 2.0);
            println!(
                "requests, round {round}: {:.0}/s of {:.0}/s, p50 {p50:.1} ms, p99 {p99:.1} ms",
                rate, capacity.rate
            );
            late.push(p99);
        }
        super::print_ratio("event produced to HTTP request, p99, in ms", late.into_iter());
    }

    /// The latency of the events that match, p50 and p99 in ms, while `rate` events a second come; and the rate that it was.
    fn to_requests(&self, seconds: u64, rate: f64) -> (f64, f64, f64) {
        let count = (seconds * 1000 / EVERY.as_millis() as u64) as usize;
        let warm = count / 10;
        let arrivals = Arrivals::of(warm + count);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(destination::serve(listener, Arc::clone(&arrivals), Duration::ZERO));
        let topics = self.topics_with(&format!(
            "slack: {{api_url: 'http://{address}/api', channel_rate: 10/s, workspace_rate: 100000/s}}"
        ));
        let rules = topics.file.with_extension("rules.yaml");
        std::fs::write(&rules, events::rules(RULES) + &lanes()).unwrap();
        topics.leadlane(&["rules", "apply", rules.to_str().unwrap()]);
        let mut command = topics.command(&["run", "--role", "processor,sender"]);
        command.env("LEADLANE_SECRET_ACME", "bench-passcode");
        for credential in 0..CREDENTIALS {
            let name = format!("LEADLANE_SECRET_BOT_{credential}");
            command.env(name, format!("xoxb-{credential}-bench"));
        }
        let child = command.stderr(Stdio::null()).spawn().unwrap();
        until("the processor and the sender are ready", || is_ready(topics.admin));
        let (zero, made) = produce(&topics, &arrivals, warm + count, rate);
        until("all requests are made", || arrivals.counted().0 == warm + count);
        topics.stop(child);
        assert_eq!(arrivals.counted(), (warm + count, 0), "each match is sent once");
        let late = |number: usize| {
            let intended = zero + EVERY.as_micros() as u64 * number as u64;
            arrivals.first(number).unwrap().saturating_sub(intended) as f64 / 1000.0
        };
        let mut latencies: Vec<f64> = (warm..warm + count).map(late).collect();
        latencies.sort_by(f64::total_cmp);
        (latencies[count / 2], latencies[count * 99 / 100], made)
    }
}

/// A rule for each lane. No event of the other rules has their products.
fn lanes() -> String {
    let lane = |lane: usize| {
        format!(
            "- {{id: lane-{lane}, trigger: lms.lead_sold, scope: {{level: product, id: lane-{lane}}}, action: {{type: slack_message, \
             token: {{secret: bot-{}}}, to: {{channel: C{lane}}}, text: '#{{{{$.lead_id}}}}# sold to {{{{$.buyer.name}}}}'}}}}\n",
            lane % CREDENTIALS
        )
    };
    (0..LANES).map(lane).collect()
}

/// Produces `rate` events a second, of which one in two milliseconds matches, until `count` of those are out. Gives when
/// the first was meant to be, by the clock of the arrivals, and the rate that it came to.
fn produce(topics: &Topics, arrivals: &Arrivals, count: usize, rate: f64) -> (u64, f64) {
    let topic = &topics.config.topics.events;
    let settings = [
        ("linger.ms", "5"),
        ("compression.type", "lz4"),
        ("enable.idempotence", "true"),
    ];
    let producer: BaseProducer = bare::client(&topics.config, &settings).create().unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    let of = |event: String, product: &str, lead: u64, trigger: Option<&str>| {
        let mut event: serde_json::Value = serde_json::from_str(&event).unwrap();
        event["product"]["id"] = product.into();
        event["lead_id"] = lead.to_string().into();
        if let Some(trigger) = trigger {
            event["trigger"] = trigger.into();
        }
        (lead.to_string(), event.to_string())
    };
    let others: Vec<(String, String)> = (0..OTHERS)
        .map(|number| of(events::event(number, &mut rng), "none", 84_000_000 + number, None))
        .collect();
    let send = |(key, value): &(String, String)| {
        let mut record = BaseRecord::to(topic).key(key.as_str()).payload(value.as_str());
        while let Err((_, back)) = producer.send(record) {
            producer.poll(Duration::from_millis(1));
            record = back;
        }
    };
    // The first record waits for its connection.
    send(&others[0]);
    producer.flush(Duration::from_secs(30)).unwrap();
    let (began, zero, mut out) = (Instant::now(), arrivals.now(), 0_u64);
    for number in 0..count {
        let meant = EVERY * number as u32;
        std::thread::sleep(meant.saturating_sub(began.elapsed()));
        let lane = format!("lane-{}", number % LANES);
        let event = events::event(OTHERS + number as u64, &mut rng);
        send(&of(event, &lane, number as u64, Some("lms.lead_sold")));
        while (out as f64) < rate * (meant + EVERY).as_secs_f64() {
            send(&others[(out % OTHERS) as usize]);
            out += 1;
        }
        producer.poll(Duration::ZERO);
    }
    let rate = (out + count as u64) as f64 / began.elapsed().as_secs_f64();
    producer.flush(Duration::from_secs(60)).unwrap();
    (zero, rate)
}
