//! What must not leave the process: a token by a proxy that could read it, a secret in what is printed.

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
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
