//! The configuration, and the secrets and keys that it names.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{Finding, Patient, State, blocking, side_by_side};
use crate::config::Config;
use crate::credential::SecretName;
use crate::mapping::Entrance;
use crate::secrets::keys::Keys;
use crate::secrets::{self, Secrets};

/// The configuration as it was read, and what librdkafka refuses of it.
pub(super) fn properties(config: &Config) -> Vec<Finding> {
    let refused = crate::kafka::refused(&config.kafka);
    if refused.is_empty() {
        return vec![Finding::ok(
            "configuration",
            format!("configuration: {}", config.origin),
        )];
    }
    let refused = refused
        .into_iter()
        .map(|(key, message)| config.origin.refusal(key, message));
    refused
        .map(|refusal| Finding::failed("configuration", format!("configuration: {refusal}")))
        .collect()
}

/// The secret store.
pub(super) struct Store {
    pub(super) secrets: Secrets,
    /// Whether it can be asked.
    pub(super) is_there: bool,
    /// Whether what is sealed can be opened, as far as a key file goes.
    pub(super) opens: bool,
    pub(super) findings: Vec<Finding>,
}

/// Looks at the folder and the keys, and asks for each secret that the configuration names for these roles. Those of
/// credentials are looked at with their providers.
pub(super) async fn store(patient: &Patient) -> Store {
    let config = &patient.config;
    let mut store = Store {
        secrets: Secrets::new(config.secrets.dir.clone()),
        is_there: true,
        opens: true,
        findings: Vec::new(),
    };
    if let Some(dir) = config.secrets.dir.clone() {
        let looked = blocking(move || Ok(folder(&dir))).await;
        let finding = looked.unwrap_or_else(|said| Err(Finding::failed("secrets.dir", format!("secrets.dir: {said}"))));
        store.is_there = finding.is_ok();
        store.findings.extend([finding.unwrap_or_else(|finding| finding)]);
    }
    // What is sealed is opened by who sends and by who takes in.
    if let Some(file) = config.secrets.key_file.clone()
        && (patient.roles.sender || patient.roles.inlets)
    {
        let read = blocking(move || Keys::read(&file)).await;
        store.opens = key_file(config, read, &mut store);
    }
    let named = named(patient);
    let checks = named.into_iter().map(|(name, keys)| {
        let (secrets, is_there) = (store.secrets.clone(), store.is_there);
        let id = format!("secret:{name}");
        (id.clone(), async move {
            vec![secret(id, &secrets, is_there, &name, &keys).await]
        })
    });
    let found = side_by_side(checks.collect()).await;
    store.findings.extend(found);
    store
}

/// The folder that the secrets are in. The error is of one that can't be looked into.
fn folder(dir: &Path) -> Result<Finding, Finding> {
    let shown = dir.display();
    secrets::folder(dir).map_err(|said| Finding::failed("secrets.dir", format!("secrets.dir: {said}")))?;
    let open_to_all = std::fs::metadata(dir).is_ok_and(|found| found.permissions().mode() & 0o002 != 0);
    Ok(match open_to_all {
        false => Finding::ok("secrets.dir", format!("secrets.dir: {shown} is there")),
        true => Finding::broken(
            "secrets.dir",
            format!("secrets.dir: anyone on this machine may put secrets into {shown}"),
            format!("take that away by: chmod o-w {shown}"),
        ),
    })
}

/// Whether the keys can be used.
fn key_file(config: &Config, read: Result<Keys, String>, store: &mut Store) -> bool {
    let id = "secrets.key_file";
    let keys = match read {
        Ok(keys) => keys,
        Err(said) => {
            store.findings.push(Finding::failed(id, format!("{id}: {said}")));
            return false;
        }
    };
    let public = keys.public_keys();
    let finding = match &config.secrets.public_key {
        Some(sealing) if !keys.fit(sealing) => Finding::broken(
            id,
            format!("{id}: its keys don't open what is sealed with secrets.public_key"),
            match public.first() {
                Some(public) => format!("set secrets.public_key to {public}, or {id} to the file that it came with"),
                None => format!("set {id} to the file that it came with"),
            },
        ),
        _ => Finding::ok(id, format!("{id}: the private key is there")),
    };
    let fits = finding.state == State::Ok;
    store.findings.push(finding);
    store.secrets = store.secrets.clone().with_keys(keys);
    fits
}

/// The secrets that the configuration names for inlets and for people at the desk, each with the keys that name it.
fn named(patient: &Patient) -> BTreeMap<SecretName, Vec<String>> {
    let (config, roles) = (&patient.config, patient.roles);
    let mut named: BTreeMap<SecretName, Vec<String>> = BTreeMap::new();
    let mut name = |secret: &SecretName, key: String| named.entry(secret.clone()).or_default().push(key);
    for inlet in config.inlets.iter().filter(|_| roles.inlets) {
        if let Entrance::Http { keys, .. } = &inlet.entrance {
            keys.iter()
                .for_each(|key| name(&key.secret, format!("the inlet {}", inlet.name)));
        }
    }
    for token in config.admin.tokens.iter().filter(|_| roles.admin) {
        name(&token.secret, format!("{} at the desk", token.name));
    }
    named
}

async fn secret(id: String, secrets: &Secrets, is_there: bool, name: &SecretName, of: &[String]) -> Finding {
    let of = of.join(", ");
    if !is_there {
        return Finding::not(id, format!("secret {name} of {of}: secrets.dir can't be read"));
    }
    match secrets.reveal(name.as_str()).await {
        Ok(value) if value.reveal().is_empty() => {
            let cure = secrets.places(name);
            Finding::broken(id, format!("secret {name} of {of} is empty"), cure)
        }
        Ok(_) => Finding::ok(id, format!("secret {name} of {of}: it is there")),
        Err(error) => Finding::failed(id, format!("for {of}: {error}")),
    }
}
