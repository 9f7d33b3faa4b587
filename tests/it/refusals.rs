//! What the program says of files and commands that it refuses, word for word.

use serde_json::{Value, json};

use crate::docs::leadlane;

fn stderr(arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let ran = leadlane(arguments, input);
    (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
}

/// What `config check` says of a configuration beyond where it comes from.
fn checked(text: &str) -> String {
    let (code, said) = stderr(&["--config", "/dev/stdin", "config", "check"], text);
    assert_eq!(code, Some(2), "{said}");
    said.strip_prefix("leadlane: ").expect(&said).trim_end().to_owned()
}

#[test]
fn config_check_refuses_what_cannot_work_here() {
    for (text, wanted) in [
        (
            "kafka:\n  properties:\n    security.protocol: TLS\n    ssl.ca.locaton: /x\n",
            "/dev/stdin:3:24: kafka.properties.security.protocol: is no value that librdkafka takes; write PLAINTEXT, SSL, \
             SASL_PLAINTEXT or SASL_SSL\n\
             /dev/stdin:4:21: kafka.properties.ssl.ca.locaton: librdkafka has no such property; did you mean ssl.ca.location?",
        ),
        (
            "kafka:\n  consumer_properties: {fetch.min.bytes: 0}\n",
            "/dev/stdin:2:42: kafka.consumer_properties.fetch.min.bytes: is out of its range; write a number of 1..100000000",
        ),
        (
            "kafka:\n  producer_properties: {sasl.pasword: hunter2}\n",
            "/dev/stdin:2:39: kafka.producer_properties.sasl.pasword: librdkafka has no such property; did you mean sasl.password?",
        ),
        (
            "secrets:\n  dir: /not/there\n  key_file: /not/there/key\n",
            "/dev/stdin:2:8: secrets.dir: /not/there is not there; name the folder that is, or make it by: mkdir -p /not/there\n\
             /dev/stdin:3:13: secrets.key_file: /not/there/key can't be read: entity not found; name the file that leadlane \
             secrets keygen wrote",
        ),
        (
            "secrets: {dir: /dev/null}",
            "/dev/stdin:1:16: secrets.dir: /dev/null is no folder; name the folder that the secrets are in",
        ),
        (
            "inlets:\n- {name: a, preset: sheet, secrets: [{bearer: {secret: of-nobody}}]}\n",
            "/dev/stdin:2:38: inlets[0].secrets[0]: secret of-nobody is missing; set LEADLANE_SECRET_OF_NOBODY, or secrets.dir \
             and write it to a file of-nobody there",
        ),
    ] {
        assert_eq!(checked(text), wanted, "{text}");
    }
    let said = checked("kafka: {properties: {security.protocol: SSL, ssl.ca.location: /not/there}}");
    assert!(
        said.starts_with("/dev/stdin:1:63: kafka.properties.ssl.ca.location: librdkafka can't work with it: "),
        "{said}"
    );
    for (text, warned) in [
        (
            "clevertap: {accounts: {a: {region: in1, account_id: A, passcode: {secret: of-nobody}}}}",
            "/dev/stdin:1:66: warning: clevertap.accounts.a.passcode: secret of-nobody is missing; ",
        ),
        (
            "admin: {tokens: [{name: ana, role: viewer, secret: of-nobody}]}",
            "/dev/stdin:1:52: warning: admin.tokens[0].secret: secret of-nobody is missing; ",
        ),
    ] {
        let (code, said) = stderr(&["--config", "/dev/stdin", "config", "check"], text);
        assert!(code == Some(0) && said.starts_with(warned), "{said}");
    }
}

#[test]
fn config_check_says_what_it_read() {
    let ran = leadlane(&["--config", "/dev/stdin", "config", "check"], "{}");
    let printed = String::from_utf8(ran.stdout).unwrap();
    assert!(
        printed.starts_with("# from /dev/stdin\n{") && ran.stderr.is_empty(),
        "{printed}"
    );
    let said = stderr(&["--config", "/dev/stdin", "--json", "config", "check"], "{}").1;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said, json!({"file": "/dev/stdin", "variables": []}));
}

#[test]
fn files_that_cannot_be_read_are_told_apart() {
    let folder = env!("CARGO_MANIFEST_DIR");
    for (arguments, wanted) in [
        (
            &["--config", folder, "config", "check"][..],
            format!("leadlane: {folder}: is a folder; name a file in it\n"),
        ),
        (
            &["rules", "explain", "--event", folder],
            format!("leadlane: {folder}: is a folder; name a file in it\n"),
        ),
        (
            &["rules", "validate", "/not/there.yaml"],
            "leadlane: /not/there.yaml: can't be read: there is no such file; look for a slip in its name, or create it\n"
                .to_owned(),
        ),
        (
            &["--config", "/not/there.yaml", "config", "check"],
            "leadlane: /not/there.yaml: can't be read: there is no such file; create it, or leave --config out for the built-in \
             defaults\n"
                .to_owned(),
        ),
    ] {
        assert_eq!(stderr(arguments, ""), (Some(2), wanted), "{arguments:?}");
    }
}

const RULE: &str = "id: a
scope: {level: product, id: \"1\"}
trigger: lms.lead_sold
action:
  type: slack_message
  token: {secret: of-nobody}
  to: {channel: C0123ABCD}
  text: hi
";

#[test]
fn each_fault_of_a_rule_has_its_own_line_and_column() {
    let with = |old: &str, new: &str| RULE.replace(old, new);
    for (text, wanted) in [
        (
            with("text: hi", "txt: hi"),
            "stdin:8:3: a: action.txt: unknown field; did you mean text?\nstdin:5:3: a: action.text: is missing; ",
        ),
        (
            with("lms.lead_sold", "lms.lead_sold\nfilters: {price: {gte: much}}"),
            "stdin:4:24: a: filters.price.gte: needs a number of at most 28 digits, such as 25 or 99.5",
        ),
        (
            with("C0123ABCD", "\"#sales\""),
            "stdin:7:17: a: action.to.channel: is a channel's name, which can change; write its id, such as C0123ABCD, from the \
             foot of the channel's details",
        ),
        (
            with("level: product", "level: prodct"),
            "stdin:2:16: a: scope.level: is none of product, campaign, publisher, inlet; did you mean product?",
        ),
        (
            format!("{RULE}---\n{RULE}"),
            "stdin:10:5: a: id: the id is given twice; each rule needs its own",
        ),
        ("- id: a\n  scope: [1\n".to_owned(), "stdin:3:1: "),
        (
            "inlet: {}\nrules: []\n".to_owned(),
            "stdin:1:1: inlet: unknown field of a rule, as recipes have it; put what is under rules into a file of its own",
        ),
    ] {
        let (code, said) = stderr(&["rules", "validate", "-"], &text);
        let (mut errors, wanted) = (String::new(), wanted.trim_end());
        for line in said.lines().filter(|line| !line.contains(": warning: ")) {
            errors.push_str(line.strip_prefix("leadlane: ").unwrap_or(line));
            errors.push('\n');
        }
        assert_eq!(code, Some(2), "{said}");
        assert!(errors.starts_with(wanted), "{text}\n  said {errors}\n  not  {wanted}");
    }
}

#[test]
fn a_rule_file_in_utf_16_is_read_and_another_encoding_is_named() {
    let file = std::env::temp_dir().join(format!("leadlane-rule-{}.yaml", std::process::id()));
    let name = file.to_str().unwrap();
    let validate = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        stderr(&["rules", "validate", name], "")
    };
    let units = |mark: &[u8]| -> Vec<u8> {
        let units = RULE.encode_utf16().flat_map(u16::to_le_bytes);
        mark.iter().copied().chain(units).collect()
    };
    let (code, said) = validate(&units(b"\xFF\xFE"));
    assert_eq!(code, Some(0), "{said}");
    for (bytes, wanted) in [
        (
            units(b""),
            "it is UTF-16 without a byte order mark; save it as UTF-8".to_owned(),
        ),
        (
            [b"# \xE4\n", RULE.as_bytes()].concat(),
            format!("{name}:1:3: this character is no UTF-8, perhaps Windows-1252; save the file as UTF-8"),
        ),
    ] {
        let (code, said) = validate(&bytes);
        assert!(code == Some(2) && said.contains(&wanted), "{said}");
    }
    std::fs::remove_file(file).unwrap();
}

#[test]
fn what_the_configuration_does_not_have_is_warned_of() {
    let text = RULE
        .replace("{level: product, id: \"1\"}", "{level: inlet, id: crm}")
        .replace("text: hi", "text: \"{$.lead_id}\"");
    let (code, said) = stderr(&["rules", "validate", "-"], &text);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "stdin:8:9: a: warning: action.text: {$.lead_id} goes out as it stands; a placeholder has two braces, {{$.lead_id}}",
            "stdin:2:27: a: warning: scope.id: is none of the config's inlets; add it under inlets, or no event comes from it",
            "stdin:6:19: a: warning: action.token.secret: secret of-nobody is missing; set LEADLANE_SECRET_OF_NOBODY, or \
             secrets.dir and write it to a file of-nobody there",
        ]
    );
    let said = stderr(&["--json", "rules", "validate", "-"], RULE).1;
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["warning"], "secret of-nobody is missing");
    assert_eq!((&said["line"], &said["rule"]), (&json!(6), &json!("a")));
}

#[test]
fn for_programs_every_refusal_is_one_object() {
    let nobody = "kafka: {brokers: '127.0.0.1:1'}";
    let with_config = |rest: &[&'static str]| [&["--json", "--config", "/dev/stdin"], rest].concat();
    for (arguments, input, code, wanted) in [
        (
            with_config(&["config", "check"]),
            "kafka:\n  broker: x\n",
            2,
            json!({"error": "unknown key", "file": "/dev/stdin", "line": 2, "column": 3, "key": "kafka.broker",
                "cure": "did you mean brokers?"}),
        ),
        (
            with_config(&["demo"]),
            "kafka: 1",
            2,
            json!({"error": "needs a map of keys", "key": "kafka"}),
        ),
        (
            with_config(&["run"]),
            "log: {level: loud}",
            2,
            json!({"error": "is no level", "key": "log.level"}),
        ),
        (with_config(&["topics", "check"]), nobody, 1, json!({})),
        (vec!["--json", "demo", "--rate", "0"], "", 2, json!({})),
        (vec!["rules", "get", "--json"], "", 2, json!({})),
        (vec!["sandbox", "--listen", "nowhere", "--json"], "", 2, json!({})),
        (vec!["--json", "secrets", "keygen"], "", 2, json!({})),
        (vec!["--json", "lanes", "no-such-order"], "", 2, json!({})),
        (
            vec!["--json", "rules", "validate", "-"],
            "id: a\n",
            2,
            json!({"file": "stdin", "line": 1, "column": 1, "rule": "a", "key": "trigger", "error": "is missing"}),
        ),
        (
            vec!["--json", "rules", "validate", "/not/there"],
            "",
            2,
            json!({"file": "/not/there", "error": "can't be read: there is no such file"}),
        ),
    ] {
        let (exit, said) = stderr(&arguments, input);
        assert_eq!(exit, Some(code), "{arguments:?}: {said}");
        let object: Value =
            serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"));
        assert!(
            object["error"].as_str().is_some_and(|error| !error.is_empty()),
            "{said}"
        );
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(&object[name], value, "{arguments:?}: {said}");
        }
    }
    let several = stderr(&["--json", "rules", "validate", "-"], "id: a\nmood: good\n").1;
    let object: Value = serde_json::from_str(&several).unwrap();
    assert!(
        object["more"].as_array().is_some_and(|more| !more.is_empty()),
        "{several}"
    );
}

#[test]
fn the_demo_tells_its_story_to_programs() {
    let ran = leadlane(&["--json", "demo", "--seconds", "3"], "");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = String::from_utf8(ran.stdout).unwrap();
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let (summary, story) = lines.split_last().unwrap();
    assert!(
        story
            .iter()
            .all(|line| line["id"] == "story" && line["text"].is_string()),
        "{said}"
    );
    assert!(
        summary["id"] == "summary" && summary["events"].as_u64() > Some(0),
        "{summary}"
    );
}
