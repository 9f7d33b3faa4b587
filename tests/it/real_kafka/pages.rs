//! The rule desk in a real Chromium, against real Kafka: each test plays one scene of `tests/desk/scenes.js`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::sender::open_sandbox;
use crate::support::{Destinations, Leadlane, Process, event, free_port, full, part};

/// What nobody but its holder may ever see.
const SALES_TOKEN: &str = "xoxb-7-hunter2-sales";
/// Three people with a token each.
const PEOPLE: &str = "[{name: root, role: admin, secret: desk-root}, {name: Ana Ruiz, role: editor, secret: desk-ana, levels: [{level: product, id: '12'}]}, {name: vera, role: viewer, secret: desk-vera}]";

/// A Leadlane with all its roles, a sandbox behind it, and a desk in front.
struct World {
    leadlane: Leadlane,
    destinations: Destinations,
    process: Process,
    inlets: String,
}

impl World {
    /// `more` is put over the settings.
    fn open(name: &str, more: &str) -> Self {
        Self::on(&part("LEADLANE_TEST_KAFKA"), name, more)
    }

    fn on(brokers: &str, name: &str, more: &str) -> Self {
        let destinations = open_sandbox();
        let inlets = format!("127.0.0.1:{}", free_port());
        let yaml = format!(
            "{}\ninlet: {{listen: '{inlets}'}}\n\
             inlets: [{{name: crm, preset: track, kind: http, secrets: [{{secret: write-key}}]}}]\n{more}",
            destinations.yaml("50/s"),
        );
        let leadlane = Leadlane::on(brokers, name, &yaml);
        leadlane.secret("sales-bot", SALES_TOKEN);
        leadlane.secret("acme-passcode", "passcode");
        leadlane.secret("write-key", "wk-hunter2");
        for name in ["root", "ana", "vera"] {
            leadlane.secret(&format!("desk-{name}"), &format!("token-of-{name}"));
        }
        // The keys that tokens typed at the desk are sealed with.
        let keys = leadlane.dir.join("keys");
        let made = leadlane.ok(&["--json", "secrets", "keygen", "--out", keys.to_str().unwrap()]);
        let made: Value = serde_json::from_str(made.trim()).unwrap();
        let public = made["public_key"].as_str().unwrap();
        let dir = leadlane.dir.join("secrets").display().to_string();
        leadlane.rewrite(
            &format!("secrets: {{dir: '{dir}'}}"),
            &format!(
                "secrets: {{dir: '{dir}', public_key: '{public}', key_file: '{}'}}",
                keys.display()
            ),
        );
        leadlane.ok(&["topics", "create", "--partitions", "2"]);
        let process = leadlane.start(&[]);
        Self {
            leadlane,
            destinations,
            process,
            inlets,
        }
    }

    /// A desk that asks for tokens.
    fn of_people(name: &str) -> Self {
        let world = Self::open(name, "");
        let listen = format!("admin: {{listen: '{}'", world.leadlane.admin);
        world.leadlane.rewrite(&listen, &format!("{listen}, tokens: {PEOPLE}"));
        world.again()
    }

    /// The same with its process started again.
    fn again(self) -> Self {
        let Self {
            leadlane,
            destinations,
            process,
            inlets,
        } = self;
        process.stop();
        let process = leadlane.start(&[]);
        Self {
            leadlane,
            destinations,
            process,
            inlets,
        }
    }

    fn send(&self, events: impl IntoIterator<Item = String>) {
        let events: Vec<String> = events.into_iter().collect();
        let records = events.iter().map(|event| ("lead", Some(event.as_bytes())));
        self.leadlane.write(&self.leadlane.config.topics.events, records);
    }

    fn url(&self) -> String {
        format!("http://{}", self.leadlane.admin)
    }

    /// Plays a scene, and does what it asks for.
    fn play(&self, scene: &str) {
        self.play_with(scene, json!({}), |asked| self.act(asked));
    }

    fn play_with(&self, scene: &str, more: Value, mut act: impl FnMut(&[String]) -> Value) {
        let mut world = json!({
            "url": self.url(), "sandbox": format!("http://{}", self.destinations.address), "inlets": format!("http://{}", self.inlets),
            "tokens": {"root": "token-of-root", "ana": "token-of-ana", "vera": "token-of-vera"}, "salesToken": SALES_TOKEN,
        });
        world.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
        let mut node = Command::new("node")
            .arg(tests.join("desk/drive.js"))
            .arg(scene)
            .env("NODE_PATH", part("LEADLANE_TEST_NODE"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("node: {error}; install Node"));
        let mut stdin = node.stdin.take().unwrap();
        writeln!(stdin, "{world}").unwrap();
        for line in BufReader::new(node.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            match line.strip_prefix("DO ") {
                Some(asked) => {
                    let asked: Vec<String> = serde_json::from_str(asked).unwrap();
                    writeln!(stdin, "{}", act(&asked)).unwrap();
                }
                None => println!("{line}"),
            }
        }
        let output = node.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scene {scene}: {said}\n{}", self.process.log());
    }

    /// What a browser can't do.
    fn act(&self, asked: &[String]) -> Value {
        let words: Vec<&str> = asked.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["cli", arguments @ ..] => json!(self.leadlane.ok(arguments)),
            ["texts"] => json!(self.destinations.texts()),
            ["event", json] => {
                self.send([(*json).to_owned()]);
                Value::Null
            }
            ["sold", number, product, price] => {
                self.send([event(number.parse().unwrap(), "lms.lead_sold", product, price)]);
                Value::Null
            }
            ["secret", name, value] => {
                self.leadlane.secret(name, value);
                Value::Null
            }
            ["log"] => json!(self.process.log()),
            ["topics"] => json!(self.everything()),
            other => panic!("no act {other:?}"),
        }
    }

    /// All keys, values and headers of all topics, as text.
    fn everything(&self) -> String {
        let mut all = String::new();
        for topic in self.leadlane.config.topics.all() {
            for record in self.leadlane.read(topic) {
                let headers = record.headers.into_iter().map(|(_, value)| value);
                for bytes in [record.key, record.value].into_iter().flatten().chain(headers) {
                    all.push_str(&String::from_utf8_lossy(&bytes));
                    all.push('\n');
                }
            }
        }
        all
    }
}

#[test]
fn the_first_rule_from_an_empty_desk_to_a_message() {
    World::open("desk-first", "").play("firstRule");
}

#[test]
fn the_first_rule_without_scripts() {
    World::open("desk-plain", "").play("firstRuleWithoutScripts");
}

#[test]
fn a_price_range_for_a_trigger_without_one_is_refused_at_its_field() {
    World::open("desk-price", "").play("priceRange");
}

#[test]
fn a_token_that_is_typed_is_sealed_and_nowhere_else() {
    World::open("desk-sealed", "").play("sealedToken");
}

#[test]
fn the_preview_is_what_arrives() {
    World::open("desk-preview", "").play("preview");
}

#[test]
fn why_a_lead_notified_and_why_not() {
    World::open("desk-why", "").play("why");
}

#[test]
fn everybody_does_what_they_may_and_nothing_else() {
    World::of_people("desk-roles").play("roles");
}

#[test]
fn another_site_can_write_nothing() {
    World::of_people("desk-foreign").play("foreignSite");
}

#[test]
fn names_that_look_like_markup_stay_text() {
    World::open("desk-hostile", "").play("hostileNames");
}

#[test]
fn every_page_is_accessible_light_and_dark() {
    World::open("desk-axe", "").play("everyPage");
}

#[test]
fn a_session_ends_with_its_token() {
    World::of_people("desk-session").play("sessions");
}

#[test]
fn kafka_goes_and_comes_back_under_an_open_page() {
    let dir = std::env::temp_dir().join(format!("leadlane-it-desk-kafka-{}", std::process::id()));
    let kafka = crate::support::Kafka::start(dir.display().to_string());
    let world = World::on(&kafka.address, "desk-kafka", "");
    world.play_with("kafkaAway", json!({}), |asked| match asked {
        [word, order] if word == "kafka" => json!(kafka.tell(order)),
        other => world.act(other),
    });
}

#[test]
fn two_people_at_one_rule_take_over_field_by_field() {
    World::of_people("desk-two").play("twoPeople");
}

#[test]
fn two_people_at_one_rule_without_scripts() {
    World::of_people("desk-two-plain").play("twoPeopleWithoutScripts");
}

#[test]
fn an_older_version_comes_back_in_force() {
    World::of_people("desk-back").play("rollback");
}

#[test]
fn a_dead_letter_is_mended_and_replayed() {
    World::open("desk-dead", "").play("deadLetter");
}

#[test]
fn a_lane_a_credential_and_all_sending_pause_and_go_on() {
    World::open("desk-pauses", "").play("pauses");
}

#[test]
fn a_refused_token_is_tried_anew_at_once() {
    World::open("desk-refused", "").play("refusedToken");
}

#[test]
fn several_rules_at_once_and_out_and_in_as_yaml() {
    World::open("desk-bulk", "").play("bulk");
}

#[test]
fn a_wrong_file_is_refused_by_document_and_line() {
    World::open("desk-import", "").play("wrongImport");
}

#[test]
fn a_test_arrives_marked_and_a_preview_is_what_is_sent() {
    World::open("desk-test", "").play("sendTest");
}

#[test]
fn a_rule_is_tried_on_recent_events() {
    World::open("desk-try", "").play("tryIt");
}

#[test]
fn what_is_typed_survives_a_reload_and_the_session() {
    World::of_people("desk-drafts").play("drafts");
}

#[test]
fn the_palette_goes_anywhere_by_keyboard() {
    World::open("desk-palette", "").play("palette");
}

#[test]
fn a_rule_is_changed_and_paused_by_keyboard() {
    World::open("desk-keys", "").play("keyboard");
}

#[test]
fn a_rule_on_trial_counts_and_is_made_active() {
    World::open("desk-trial", "").play("trial");
}

/// Programs of others find no 5xx, and no answer that the document doesn't have.
#[test]
fn the_api_is_as_its_document_says() {
    let world = World::open("desk-api", "");
    world.play("fill");
    let python = part("LEADLANE_TEST_PYTHON");
    let examples = if full() { "20" } else { "3" };
    // Its own script names the folder that it was installed into, which has another name since.
    let output = Command::new(python)
        .args(["-m", "schemathesis.cli", "run"])
        .arg(format!("{}/api/v1/openapi.json", world.url()))
        .args([
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            examples,
            "--seed",
            "7",
            "--max-failures",
            "20",
        ])
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
