//! Who knocks at the listeners: nobody takes from others what they need, and nobody holds a stop up.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use super::sender::open_sandbox;
use crate::support::{Destinations, Leadlane, Process, event, free_port};

const RULES: &str = r#"
- id: sold
  trigger: lms.lead_sold
  scope: {level: product, id: "12"}
  action: {type: slack_message, token: {secret: sales-bot}, to: {channel: C0SALES}, text: "sold {{lead_id}}"}
"#;

/// A Leadlane with two inlets, and where they listen.
fn leadlane(name: &str, destinations: &Destinations) -> (Leadlane, String) {
    let listen = format!("127.0.0.1:{}", free_port());
    let inlets = format!(
        "inlet: {{listen: '{listen}', in_flight_max: 4}}\n\
         inlets:\n\
         - {{name: workspace, preset: slack, kind: http, secrets: [{{secret: slack-signing}}]}}\n\
         - {{name: survey, kind: http, secrets: [{{bearer: {{secret: survey-token}}}}], \
         event: {{event_id: '{{{{$.id}}}}', trigger: survey.answered, lead_id: '{{{{$.email}}}}'}}}}"
    );
    let leadlane = Leadlane::new(name, &format!("{}\n{inlets}", destinations.yaml("1000/s")));
    for (name, value) in [
        ("sales-bot", "xoxb-hunter2-token"),
        ("acme-passcode", "hunter2-passcode"),
        ("survey-token", "hunter2-survey"),
        ("slack-signing", "hunter2-signing"),
    ] {
        leadlane.secret(name, value);
    }
    leadlane.ok(&["topics", "create", "--partitions", "1"]);
    leadlane.apply(RULES);
    (leadlane, listen)
}

fn connect(listen: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(listen).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // A full listener may have closed it already.
    drop(stream.write_all(bytes));
    stream
}

/// The status of a record that is posted to the inlet `survey`.
fn post(listen: &str, id: &str) -> String {
    let body = format!("{{\"id\":\"{id}\",\"email\":\"a@example.com\"}}");
    let request = format!(
        "POST /inlets/survey HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Authorization: Bearer hunter2-survey\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = String::new();
    connect(listen, request.as_bytes()).read_to_string(&mut answer).unwrap();
    answer.get(9..12).unwrap_or_default().to_owned()
}

/// Writes so many events that match, and waits until their messages are there.
fn sends(leadlane: &Leadlane, destinations: &Destinations, from: u64, count: u64) {
    let events = (from..from + count).map(|number| event(number, "lms.lead_sold", "12", "42.50"));
    let events: Vec<String> = events.collect();
    let records = events.iter().map(|event| ("k", Some(event.as_bytes())));
    leadlane.write(&leadlane.config.topics.events, records);
    let until = Instant::now() + Duration::from_secs(30);
    let wanted = usize::try_from(from + count).unwrap();
    while destinations.texts().len() < wanted {
        assert!(Instant::now() < until, "{} of {wanted}", destinations.texts().len());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// SIGTERM, and a clean end in time.
fn stops_within(mut process: Process, seconds: u64) {
    process.signal("TERM");
    let began = Instant::now();
    assert_eq!(
        process.ended(seconds),
        Some(0),
        "{:?}\n{}",
        began.elapsed(),
        process.log()
    );
}

#[test]
fn connections_that_say_nothing_take_no_descriptor_from_the_sender() {
    // This process holds the other ends.
    leadlane::listen::open_files();
    let destinations = open_sandbox();
    let (leadlane, listen) = leadlane("doors-idle", &destinations);
    let plain = leadlane.command(&["run"]);
    let mut limited = Command::new("sh");
    limited.arg("-c").arg("ulimit -n 256; exec \"$0\" \"$@\"");
    limited.arg(plain.get_program()).args(plain.get_args());
    let process = leadlane.start_as(limited);
    sends(&leadlane, &destinations, 0, 1);
    for (round, at) in [&listen, &leadlane.admin].into_iter().enumerate() {
        let idle: Vec<TcpStream> = (0..1100)
            .map(|number| connect(at, if number % 2 == 0 { b"" } else { b"GET / HT" }))
            .collect();
        let from = 1 + 50 * u64::try_from(round).unwrap();
        sends(&leadlane, &destinations, from, 50);
        assert_eq!(leadlane.get("/readyz").map(|(status, _)| status), Some(200));
        assert_eq!(leadlane.get("/livez").map(|(status, _)| status), Some(200));
        assert_eq!(post(&listen, &format!("r{round}")), "200");
        drop(idle);
    }
    let log = process.log();
    assert!(log.contains("the limit of open files is 256"), "{log}");
    assert!(
        !log.contains("can't be accepted") && !log.contains("Too many open files"),
        "{log}"
    );
    stops_within(process, 30);
}

#[test]
fn slow_bodies_that_are_unproven_leave_others_their_slots() {
    let destinations = open_sandbox();
    let (leadlane, listen) = leadlane("doors-slow", &destinations);
    let process = leadlane.start(&["--role", "inlets"]);
    let slow = |signature: &str| {
        let now = crate::support::now_millis() / 1000;
        let request = format!(
            "POST /inlets/workspace HTTP/1.1\r\nHost: x\r\nX-Slack-Request-Timestamp: {now}\r\n\
             X-Slack-Signature: {signature}\r\nContent-Length: 1000000\r\n\r\n{{"
        );
        connect(&listen, request.as_bytes())
    };
    let form = format!("v0={}", "ab".repeat(32));
    let held: Vec<TcpStream> = (0..200)
        .map(|number| slow(if number % 2 == 0 { &form } else { "v0=" }))
        .collect();
    for number in 0..20 {
        assert_eq!(post(&listen, &format!("s{number}")), "200");
    }
    drop(held);
    stops_within(process, 30);
}

#[test]
fn half_a_request_holds_no_stop_up() {
    let destinations = open_sandbox();
    let (leadlane, listen) = leadlane("doors-half", &destinations);
    let process = leadlane.start(&[]);
    sends(&leadlane, &destinations, 0, 1);
    let half = [
        connect(&leadlane.admin, b"GET /metrics HTTP/1.1\r\nHost"),
        connect(
            &leadlane.admin,
            b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1",
        ),
        connect(&leadlane.admin, b""),
        connect(&listen, b"POST /inlets/survey HTTP/1.1\r\nHo"),
        connect(&listen, b""),
    ];
    stops_within(process, 15);
    drop(half);
}

#[test]
fn a_part_that_fails_ends_the_process() {
    let destinations = open_sandbox();
    let (leadlane, listen) = leadlane("doors-part", &destinations);
    // The inlets' address is somebody else's.
    let _taken = std::net::TcpListener::bind(&listen).unwrap();
    let output = leadlane.run(&["run"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let said = format!("inlet.listen: {listen} can't be listened on");
    assert!(stderr.contains(&format!("stopping: {said}")), "{stderr}");
    assert!(stderr.contains(&format!("leadlane: {said}")), "{stderr}");
}
