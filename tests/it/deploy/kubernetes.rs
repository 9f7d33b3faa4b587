//! The manifests of `config/kubernetes`: what they say of the program, and of each other, is so.

use std::time::Duration;

use clap::CommandFactory;
use leadlane::config::Config;
use serde_json::{Value, json};

use super::{is_known, run, texts, under, yaml};
use crate::docs::{metrics, metrics_text};
use crate::tidy::{files, text};

const FOLDER: &str = "config/kubernetes";

/// Every object of every manifest.
fn objects() -> Vec<Value> {
    let of = |path: String| {
        let documents = leadlane::yaml::documents(&text(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        documents.into_iter().map(|document| document.value)
    };
    files(FOLDER, ".yaml").into_iter().flat_map(of).collect()
}

/// The one object of this kind and name.
fn object(kind: &str, name: &str) -> Value {
    let mut found = objects();
    found.retain(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    assert_eq!(found.len(), 1, "{kind} {name}");
    found.remove(0)
}

/// The workloads, each with its role.
fn workloads() -> [(Value, &'static str); 3] {
    [
        (object("StatefulSet", "leadlane-processor"), "processor"),
        (object("Deployment", "leadlane-sender"), "sender"),
        (object("Deployment", "leadlane-inlets"), "inlets"),
    ]
}

fn container(workload: &Value) -> &Value {
    let containers = &workload["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers.as_array().map(Vec::len), Some(1));
    &containers[0]
}

/// The configuration that the pods run with, as the program reads it.
fn config() -> Config {
    let map = object("ConfigMap", "leadlane");
    let written = map["data"]["leadlane.yaml"].as_str().unwrap();
    Config::parse("leadlane.yaml", written, []).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether each label of `selector` is one of `labels`.
fn selects(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object().expect("a selector");
    !selector.is_empty() && selector.iter().all(|(label, value)| labels[label] == *value)
}

#[test]
fn objects_are_named_once() {
    let mut names: Vec<String> = objects()
        .iter()
        .map(|object| {
            assert!(object["apiVersion"].is_string(), "{object}");
            format!("{} {}", object["kind"], object["metadata"]["name"])
        })
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "{names:?}");
    assert_eq!(count, 8, "{names:?}: what is new needs a test here");
}

#[test]
fn pods_run_the_program_that_there_is() {
    let dockerfile = text("Dockerfile");
    for (workload, role) in workloads() {
        let container = container(&workload);
        let image = format!("leadlane:{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(container["image"], *image);
        let arguments = texts(container.get("args"));
        let line = ["leadlane".to_owned()].into_iter().chain(arguments.clone());
        let parsed = leadlane::cli::Cli::command().try_get_matches_from(line);
        assert!(parsed.is_ok(), "{role}: {:?}", parsed.err());
        assert_eq!(arguments[..3], ["run", "--role", role]);
        let user = &workload["spec"]["template"]["spec"]["securityContext"]["runAsUser"];
        assert!(dockerfile.contains(&format!("\nUSER {user}\n")), "{role}: user {user}");
    }
}

#[test]
fn pods_have_the_configuration_and_the_secrets_that_they_name() {
    for (workload, role) in workloads() {
        let container = container(&workload);
        let volumes = workload["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
        let mounts = container["volumeMounts"].as_array().unwrap();
        let source = |path: &str| {
            let mount = mounts.iter().find(|mount| mount["mountPath"] == path)?;
            volumes.iter().find(|volume| volume["name"] == mount["name"])
        };
        let arguments = texts(container.get("args"));
        let (folder, file) = arguments.last().unwrap().rsplit_once('/').unwrap();
        let configuration = source(folder).unwrap_or_else(|| panic!("{role}: nothing is mounted at {folder}"));
        let map = object("ConfigMap", configuration["configMap"]["name"].as_str().unwrap());
        assert!(map["data"][file].is_string(), "{role}: there is no {file}");
        // Who sends needs the secrets, and who takes in; nobody else.
        let secrets = source(config().secrets.dir.unwrap().to_str().unwrap());
        assert_eq!(
            secrets.is_some_and(|volume| volume["secret"].is_object()),
            role != "processor",
            "{role}: secrets.dir"
        );
    }
}

#[test]
fn the_pods_variables_are_the_programs() {
    for (workload, role) in workloads() {
        let variables = container(&workload)["env"].as_array().unwrap();
        let variables = variables
            .iter()
            .map(|variable| (variable["name"].as_str().unwrap().to_owned(), "t".to_owned()));
        let arguments = ["config", "check"].map(str::to_owned);
        let checked = run(env!("CARGO_BIN_EXE_leadlane"), &arguments, variables.clone().collect());
        assert!(checked.status.success(), "{role}: {checked:?}");
        // The token of the desk is one of them.
        let tokens = &config().admin.tokens;
        assert!(
            tokens
                .iter()
                .all(|token| variables.clone().any(|(name, _)| name == token.secret.variable()))
        );
    }
}

#[test]
fn probes_and_scrapes_reach_the_admin_port() {
    let (config, default) = (config(), Config::default());
    assert!(!config.admin.listen.ip().is_loopback(), "nobody would reach the probes");
    assert_eq!(config.admin.listen.port(), default.admin.listen.port());
    let served = text("src/admin.rs");
    let is_served = |path: &Value| {
        let path = path.as_str().unwrap();
        assert!(
            served.contains(&format!(".route(\"{path}\"")),
            "{path} is served by nobody"
        );
    };
    let monitor = object("PodMonitor", "leadlane");
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    is_served(&endpoint["path"]);
    for (workload, role) in workloads() {
        let container = container(&workload);
        let port = &container["ports"][0];
        assert_eq!(port["containerPort"], json!(config.admin.listen.port()), "{role}");
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            let get = &container[probe]["httpGet"];
            assert_eq!((&get["path"], &get["port"]), (&json!(path), &port["name"]), "{role}");
            is_served(&get["path"]);
        }
        assert_eq!(endpoint["port"], port["name"], "{role}");
        let labels = &workload["spec"]["template"]["metadata"]["labels"];
        assert!(selects(&monitor["spec"]["selector"]["matchLabels"], labels), "{role}");
        // The alerts know the processes by this job.
        let job = &labels[monitor["spec"]["jobLabel"].as_str().unwrap()];
        assert_eq!(*job, "leadlane", "{role}");
    }
}

#[test]
fn selectors_select_their_own_pods() {
    let workloads = workloads();
    let labels = |workload: &Value| workload["spec"]["template"]["metadata"]["labels"].clone();
    for (own, role) in &workloads {
        let selector = &own["spec"]["selector"]["matchLabels"];
        for (other, of) in &workloads {
            assert_eq!(selects(selector, &labels(other)), role == of, "{role} and {of}");
        }
    }
    let (processor, inlets) = (&workloads[0].0, &workloads[2].0);
    let service = object("Service", processor["spec"]["serviceName"].as_str().unwrap());
    assert!(selects(&service["spec"]["selector"], &labels(processor)));
    assert_eq!(service["spec"]["clusterIP"], "None");
    let service = object("Service", "leadlane-inlets");
    for (workload, role) in &workloads {
        let selected = selects(&service["spec"]["selector"], &labels(workload));
        assert_eq!(selected, workload == inlets, "{role}");
    }
}

#[test]
fn requests_reach_the_inlets() {
    let (config, default) = (config(), Config::default());
    assert!(
        !config.inlet.listen.ip().is_loopback(),
        "the Service would reach nobody"
    );
    assert_eq!(config.inlet.listen.port(), default.inlet.listen.port());
    assert!(!config.inlets.is_empty(), "nobody listens without one");
    let [.., (workload, _)] = workloads();
    let ports = container(&workload)["ports"].as_array().unwrap().clone();
    let service = object("Service", "leadlane-inlets");
    let target = &service["spec"]["ports"][0]["targetPort"];
    let port = ports.iter().find(|port| port["name"] == *target);
    assert_eq!(
        port.map(|port| &port["containerPort"]),
        Some(&json!(config.inlet.listen.port()))
    );
    let compose = &super::services()["leadlane"];
    let published =
        [config.admin.listen, config.inlet.listen].map(|listen| format!("127.0.0.1:{0}:{0}", listen.port()));
    let exposed = published.iter().all(|port| texts(compose.get("ports")).contains(port));
    assert!(exposed, "{published:?} in docker-compose.yml");
    let expose = format!(
        "\nEXPOSE {} {}\n",
        config.admin.listen.port(),
        config.inlet.listen.port()
    );
    assert!(text("Dockerfile").contains(&expose), "{expose} in the Dockerfile");
    let listens = super::environment(compose);
    let listens = listens.iter().find(|(name, _)| name == "LEADLANE__INLET__LISTEN");
    assert_eq!(
        listens.map(|(_, listen)| listen.as_str()),
        Some(config.inlet.listen.to_string().as_str())
    );
}

#[test]
fn pods_have_the_time_to_stop() {
    // What leaving the groups and flushing may take after that.
    let shutdown = config().sender.shutdown_timeout + Duration::from_secs(10);
    for (workload, role) in workloads() {
        let grace = workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64();
        // It counts from before the program is told.
        let before = &container(&workload)["lifecycle"]["preStop"]["exec"]["command"][1];
        let before = before.as_str().map_or(0, |seconds| seconds.parse().unwrap());
        let shutdown = shutdown + Duration::from_secs(before);
        assert!(
            Duration::from_secs(grace.unwrap()) > shutdown,
            "{role}: {grace:?} s, and the program may take {shutdown:?}"
        );
    }
}

#[test]
fn senders_scale_by_a_metric_that_there_is() {
    let scaled = object("ScaledObject", "leadlane-sender");
    let sender = object("Deployment", scaled["spec"]["scaleTargetRef"]["name"].as_str().unwrap());
    assert!(
        sender["spec"].get("replicas").is_none(),
        "two would say how many senders there are"
    );
    let topics = leadlane::cli::Cli::command();
    let create = topics
        .find_subcommand("topics")
        .and_then(|topics| topics.find_subcommand("create"));
    let partitions = create
        .unwrap()
        .get_arguments()
        .find(|argument| argument.get_id() == "partitions");
    let partitions = partitions.unwrap().get_default_values()[0].to_str().unwrap();
    assert_eq!(scaled["spec"]["maxReplicaCount"].to_string(), partitions);
    assert_eq!(scaled["spec"]["minReplicaCount"], json!(1));
    let mut queries = Vec::new();
    under(&scaled["spec"]["triggers"], "query", &mut queries);
    assert_eq!(queries, [&json!("sum(leadlane_backlog_seconds{bound=\"capacity\"})")]);
    is_known(&metrics(), &metrics_text(), FOLDER, queries[0].as_str().unwrap());
    // KEDA takes texts alone, and reads 0 where there is no figure unless told not to.
    let trigger = scaled["spec"]["triggers"][0]["metadata"].as_object().unwrap();
    assert!(trigger.values().all(Value::is_string), "{trigger:?}");
    assert!(trigger["threshold"].as_str().unwrap().parse::<f64>().unwrap() > 0.0);
    assert_eq!(trigger["ignoreNullValues"], "false");
    // The Prometheus that the compose file and the data source know.
    let source = &yaml("config/grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]["url"];
    assert_eq!(trigger["serverAddress"], *source);
}
