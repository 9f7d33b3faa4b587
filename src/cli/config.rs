//! `leadlane config check`

use serde_json::json;

use super::secrets::Missing;
use super::{CliError, print, warn};
use crate::config::Config;
use crate::credential::SecretName;
use crate::kafka;
use crate::mapping::Entrance;
use crate::reader::{Refusal, Refusals};
use crate::secrets::keys::Keys;
use crate::secrets::{self, SecretRef};

/// Prints the configuration in force, unless something in it can't work here.
pub(super) fn check(config: &Config, json: bool) -> Result<(), CliError> {
    config.warnings().iter().for_each(|warning| warn(warning, json));
    let origin = &config.origin;
    let variables: Vec<&str> = origin.variables.iter().map(|(_, variable)| variable.as_str()).collect();
    if json {
        say!("{}", json!({"file": origin.file, "variables": variables}));
    }
    let mut refused: Vec<Refusal> = kafka::refused(&config.kafka)
        .into_iter()
        .map(|(key, message)| origin.refusal(key, message))
        .collect();
    let store = files(config, &mut refused);
    if store {
        look_up(config, json, &mut refused)?;
    }
    if !refused.is_empty() {
        return Err(Refusals(refused).into());
    }
    let effective = config.to_json();
    print(&match json {
        true => effective.to_string(),
        // A comment, so that all of it is YAML.
        false => format!("# from {origin}\n{effective:#}"),
    })
}

/// Looks at the folder and the file that `secrets` names. Says whether the store can be asked.
fn files(config: &Config, refused: &mut Vec<Refusal>) -> bool {
    let before = refused.len();
    if let Some(Err(message)) = config.secrets.dir.as_deref().map(secrets::folder) {
        refused.push(config.origin.refusal("secrets.dir", message));
    }
    let can_be_asked = refused.len() == before;
    if let Some(Err(message)) = config.secrets.key_file.as_deref().map(Keys::read) {
        refused.push(config.origin.refusal("secrets.key_file", message));
    }
    can_be_asked
}

/// Asks the store for each secret that the configuration names. Without its own an inlet takes nothing in; those of the desk
/// and of accounts may be on other machines, of whom others hold the role.
fn look_up(config: &Config, json: bool, refused: &mut Vec<Refusal>) -> Result<(), CliError> {
    let mut needed: Vec<(String, &SecretName)> = Vec::new();
    for (at, inlet) in config.inlets.iter().enumerate() {
        if let Entrance::Http { keys, users, .. } = &inlet.entrance {
            let keys = keys.iter().enumerate();
            needed.extend(keys.map(|(key, held)| (format!("inlets[{at}].secrets[{key}]"), &held.secret)));
            needed.extend(users.iter().map(|token| (format!("inlets[{at}].users"), token)));
        }
    }
    let tokens = config.admin.tokens.iter().enumerate();
    let tokens = tokens.map(|(at, token)| (format!("admin.tokens[{at}].secret"), &token.secret));
    let passcodes = config
        .clevertap
        .accounts
        .iter()
        .filter_map(|(name, account)| match &account.passcode {
            SecretRef::Secret(secret) => Some((format!("clevertap.accounts.{name}.passcode"), secret)),
            SecretRef::Sealed(_) => None,
        });
    let elsewhere: Vec<(String, &SecretName)> = tokens.chain(passcodes).collect();
    let mut store = Missing::of(config);
    let mut missing = |(key, name): (String, &SecretName)| -> Result<Option<Refusal>, CliError> {
        let why = store.why(name.as_str())?;
        Ok(why.map(|why| config.origin.refusal(key, why)))
    };
    for needed in needed {
        refused.extend(missing(needed)?);
    }
    for named in elsewhere {
        if let Some(warning) = missing(named)? {
            warn(&warning, json);
        }
    }
    Ok(())
}
