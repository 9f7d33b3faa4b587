//! What must not leave the process: a token by a proxy that could read it, a secret in what is printed.

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// A folder of a test's own, and the program in it. No broker is needed.
struct Alone(PathBuf);

impl Drop for Alone {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

impl Alone {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("leadlane-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let file = self.0.join(name);
        std::fs::write(&file, content).unwrap();
        file.to_str().unwrap().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadlane"));
        command.current_dir(&self.0).args(arguments).stdin(Stdio::null());
        command
    }
}

/// Everything that a command printed.
fn printed(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// The first lines of the requests that came to a listener so far.
fn requests(listener: &TcpListener) -> Vec<String> {
    listener.set_nonblocking(true).unwrap();
    let mut lines = Vec::new();
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let mut head = vec![0; 4096];
                let length = stream.read(&mut head).unwrap();
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                lines.push(head.lines().next().unwrap_or_default().to_owned());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return lines,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_proxy_is_asked_for_https_alone() {
    let alone = Alone::new("proxy");
    // Its schema has to be looked up, which is the one request that a command makes without Kafka.
    let event = alone.file("event", b"\0\0\0\0\x07x");
    let rule = alone.file(
        "rule.yaml",
        "{id: a, name: a, status: active, scope: {level: product, id: '1'}, trigger: lms.lead_sold, \
         action: {type: slack_message, token: {secret: t}, to: {channel: C1}, text: hi}}",
    );
    let (proxy, registry) = (listener(), listener());
    let at = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let asks = |url: &str, variables: &[&str]| {
        let config = alone.file("leadlane.yaml", format!("schema_registry: {{url: '{url}'}}"));
        let mut command = alone.command(&[
            "--config", &config, "rules", "explain", "--event", &event, "--rules", &rule,
        ]);
        for name in variables {
            let (name, value) = name.split_once('=').unwrap_or((name, "PROXY"));
            command.env(name, value.replace("PROXY", &at(&proxy)));
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut seen = [Vec::new(), Vec::new()];
        // Whoever is asked hangs up, so that the command ends; until then it may ask again.
        while child.try_wait().unwrap().is_none() {
            seen[0].extend(requests(&proxy));
            seen[1].extend(requests(&registry));
            std::thread::sleep(Duration::from_millis(5));
        }
        seen[0].extend(requests(&proxy));
        seen
    };
    let all = [
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "HTTPS_PROXY",
        "https_proxy",
    ];
    let [proxied, direct] = asks(&at(&registry), &all);
    assert!(
        proxied.is_empty() && direct == ["GET /schemas/ids/7 HTTP/1.1"],
        "{proxied:?} {direct:?}"
    );
    let https = "https://registry.invalid";
    let connect = ["CONNECT registry.invalid:443 HTTP/1.1"];
    assert_eq!(asks(https, &["HTTPS_PROXY", "NO_PROXY=other.invalid"])[0], connect);
    // A variable that CGI sets switches no proxy off: then the request would go another way than people think.
    assert_eq!(asks(https, &["https_proxy", "REQUEST_METHOD=GET"])[0], connect);
    for without in ["NO_PROXY=registry.invalid", "no_proxy=*.invalid", "NO_PROXY=*"] {
        assert!(asks(https, &["HTTPS_PROXY", without])[0].is_empty(), "{without}");
    }
    assert!(asks(https, &["HTTP_PROXY", "ALL_PROXY"])[0].is_empty());
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// A configuration with a secret wherever one belongs.
const FULL: &str = "
kafka:
  brokers: 127.0.0.1:1
  properties:
    security.protocol: sasl_ssl
    sasl.mechanisms: PLAIN
    sasl.username: shown-user
    sasl.password: hunter2-sasl
    ssl.ca.location: /shown-ca.pem
    enable.ssl.certificate.verification: false
  consumer_properties: {sasl.oauthbearer.extensions: token=hunter2-extensions}
  producer_properties: {ssl.key.pem: hunter2-pem, ssl.key.password: hunter2-passphrase}
schema_registry: {url: 'https://u:hunter2-url@registry.invalid/hunter2-path', username: shown-name, password: hunter2-registry}
slack: {api_url: 'https://gateway.invalid/hunter2-api'}
clevertap:
  accounts:
    acme: {region: in1, account_id: SHOWN-ID, passcode: {secret: shown-secret}, api_url: 'https://gateway.invalid/hunter2-own'}
admin: {tokens: [{name: shown-holder, role: admin, secret: shown-token}]}
log: {level: 'trace'}
";

#[test]
fn what_config_check_prints_is_an_allow_list() {
    let alone = Alone::new("printed");
    // Without what librdkafka would refuse: no file of these is there, and its build has no extensions.
    let taken = FULL
        .replace("sasl_ssl", "sasl_plaintext")
        .replace("{sasl.oauthbearer.extensions: token=hunter2-extensions}", "{}");
    let config = alone.file("leadlane.yaml", &taken);
    for json in [&[][..], &["--json"]] {
        let output = alone
            .command(&[json, &["--config", &config, "config", "check"]].concat())
            .output()
            .unwrap();
        let text = printed(&output);
        assert!(output.status.success() && !text.contains("hunter2"), "{text}");
        for shown in [
            "shown-user",
            "/shown-ca.pem",
            "https://***@registry.invalid/***",
            "shown-name",
            "https://gateway.invalid/***",
            "SHOWN-ID",
            "shown-secret",
            "kafka.properties.enable.ssl.certificate.verification",
        ] {
            assert!(text.contains(shown), "{shown} in {text}");
        }
    }
}

#[test]
fn a_start_that_fails_prints_no_secret() {
    let alone = Alone::new("unseen");
    let config = alone.file("leadlane.yaml", FULL);
    // Nobody is there, at the most talkative level, with librdkafka's own words.
    let of_librdkafka = [("LEADLANE__KAFKA__PROPERTIES__DEBUG", "conf,security,broker,generic")];
    let wrong: [&[(&str, &str)]; 9] = [
        &of_librdkafka,
        &[(
            "LEADLANE__KAFKA__PRODUCER_PROPERTIES__SASL_OAUTHBEARER_CONFIG",
            "hunter2-config",
        )],
        &[("LEADLANE__KAFKA__PROPERTIES__NO_SUCH_PROPERTY", "hunter2-unknown")],
        &[
            ("LEADLANE__KAFKA__PROPERTIES__SSL_KEYSTORE_PASSWORD", "hunter2-keystore"),
            ("LEADLANE__KAFKA__PROPERTIES__SSL_KEYSTORE_LOCATION", "/nowhere"),
        ],
        &[("LEADLANE__KAFKA__PROPERTIES__SSL_CA_PEM", "hunter2-ca")],
        &[("LEADLANE__ADMIN__TOKENS", "hunter2-tokens")],
        &[("LEADLANE__SCHEMA_REGISTRY", "hunter2-section")],
        &[("LEADLANE__LOG__LEVEL", "hunter2=hunter2")],
        &[
            ("HTTPS_PROXY", "ftp://hunter2-proxy"),
            ("LEADLANE__ADMIN__LISTEN", "127.0.0.1:0"),
        ],
    ];
    for variables in wrong {
        let mut command = alone.command(&["--config", &config, "run"]);
        let output = command.envs(variables.iter().copied()).output().unwrap();
        let text = printed(&output);
        assert!(
            !output.status.success() && !text.contains("hunter2"),
            "{variables:?}: {text}"
        );
        assert!(!text.is_empty());
    }
}

#[test]
fn a_rule_that_spells_a_secret_in_another_way_is_refused() {
    let alone = Alone::new("spelling");
    let rule = |name: &str| {
        format!(
            "{{id: a, name: a, status: active, scope: {{level: product, id: '1'}}, trigger: lms.lead_sold, \
             action: {{type: slack_message, token: {{secret: {name}}}, to: {{channel: C1}}, text: hi}}}}"
        )
    };
    for (name, code) in [("sales-bot", 0), ("sales_bot", 2), ("SALES-BOT", 2), ("Sales-Bot", 2)] {
        let file = alone.file("rule.yaml", rule(name));
        let output = alone.command(&["rules", "validate", &file]).output().unwrap();
        let said = printed(&output);
        assert_eq!(output.status.code(), Some(code), "{name}: {said}");
        assert_eq!(
            said.contains("action.token.secret: write it as sales-bot"),
            code == 2,
            "{said}"
        );
    }
}

#[test]
#[cfg(unix)]
fn a_variable_that_is_no_text_is_told_and_panics_nowhere() {
    use std::os::unix::ffi::OsStrExt;
    let alone = Alone::new("variables");
    let bytes = std::ffi::OsStr::from_bytes(b"hunter2\xFF");
    let check = |name: &str| {
        let output = alone.command(&["config", "check"]).env(name, bytes).output().unwrap();
        (output.status.code(), printed(&output))
    };
    let (code, text) = check("LEADLANE__KAFKA__GROUP");
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("LEADLANE__KAFKA__GROUP: is no UTF-8 text") && !text.contains("hunter2"),
        "{text}"
    );
    // Nobody reads what isn't ours.
    for name in ["ANOTHER", "LEADLANE_SECRET_A", "NO_PROXY"] {
        assert_eq!(check(name).0, Some(0), "{name}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_process_dumps_no_core() {
    let alone = Alone::new("core");
    let mut child = alone
        .command(&["sandbox", "--listen", "127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stderr.take().unwrap()), &mut line).unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(
        core.split_whitespace().collect::<Vec<_>>()[4..6],
        ["0", "0"],
        "{line}{core}"
    );
}

#[test]
fn a_certificate_that_is_not_checked_is_warned_of_at_each_start() {
    use std::io::{BufRead, BufReader};
    let alone = Alone::new("unchecked");
    // Nobody answers there: it is said before anybody is asked.
    let config = alone.file(
        "leadlane.yaml",
        "kafka: {brokers: '127.0.0.1:9', properties: {enable.ssl.certificate.verification: 'false'}}",
    );
    let mut command = alone.command(&["--config", &config, "run"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    // To the end of all that it says, where it doesn't say this.
    let mut said = lines.map(Result::unwrap);
    let warned = said.find(|line| line.contains("WARN") && line.contains("certificates aren't checked"));
    drop(child.kill());
    child.wait().unwrap();
    let warned = warned.expect("a line of the log");
    assert!(
        warned.contains("kafka.properties.enable.ssl.certificate.verification"),
        "{warned}"
    );
}
