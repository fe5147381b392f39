//! Credentials from pull secrets. Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use oci_client::secrets::RegistryAuth;

use super::PullError;

#[derive(serde::Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
}

#[derive(serde::Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    registrytoken: Option<String>,
}

/// The credentials of all secrets that fit `registry`/`repository`, the most specific first; without any, anonymous access.
pub(super) fn credentials(
    secrets: &[Vec<u8>],
    registry: &str,
    repository: &str,
) -> Result<Vec<RegistryAuth>, PullError> {
    let mut found = Vec::new();
    for secret in secrets {
        for (key, entry) in parse(secret)? {
            if let Some(length) = matched(&key, registry, repository) {
                found.extend(entry.auth(&key)?.map(|auth| (length, auth)));
            }
        }
    }
    // Stable: among equally specific ones the order of the secrets counts.
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    let mut auths: Vec<RegistryAuth> = found.into_iter().map(|(_, auth)| auth).collect();
    if auths.is_empty() {
        auths.push(RegistryAuth::Anonymous);
    }
    Ok(auths)
}

/// `.dockerconfigjson`, or the older `.dockercfg`, which is the inner map alone.
fn parse(secret: &[u8]) -> Result<BTreeMap<String, Entry>, PullError> {
    if let Ok(config) = serde_json::from_slice::<DockerConfig>(secret) {
        return Ok(config.auths);
    }
    // Without the parser's words about the value: they could quote a password.
    serde_json::from_slice(secret).map_err(|error| PullError::PullSecret {
        reason: format!("no \"auths\" map of registries at line {} column {}", error.line(), error.column()),
    })
}

impl Entry {
    fn auth(self, key: &str) -> Result<Option<RegistryAuth>, PullError> {
        let bad = |reason: &str| PullError::PullSecret { reason: format!("entry {key:?}: {reason}") };
        if let Some(token) = self.registrytoken.filter(|token| !token.is_empty()) {
            return Ok(Some(RegistryAuth::Bearer(token)));
        }
        if let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) {
            let engine = base64::engine::general_purpose::STANDARD;
            let bytes = engine.decode(auth.trim()).map_err(|_| bad("auth is not base64"))?;
            let text = String::from_utf8(bytes).map_err(|_| bad("auth is not text"))?;
            let (user, password) = text.split_once(':').ok_or_else(|| bad("auth is not user:password"))?;
            return Ok(Some(RegistryAuth::Basic(user.into(), password.trim_end_matches('\0').into())));
        }
        Ok(match (self.username, self.password) {
            (Some(user), Some(password)) => Some(RegistryAuth::Basic(user, password)),
            _ => None,
        })
    }
}

/// How specific the entry `key` is for the repository: `None` when it is for another registry or path.
fn matched(key: &str, registry: &str, repository: &str) -> Option<usize> {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let below = path.is_empty()
        || repository == path
        || repository.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    (same_host(host, registry) && below).then_some(key.len())
}

fn same_host(pattern: &str, registry: &str) -> bool {
    // The one registry with several names.
    let canonical = |host: &str| match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    };
    let (pattern, registry) = (canonical(pattern), canonical(registry));
    let port = |host: &str| host.rsplit_once(':').map(|(_, port)| port.to_owned());
    if port(&pattern) != port(&registry) {
        return false;
    }
    let (pattern, registry): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), registry.split('.').collect());
    pattern.len() == registry.len() && pattern.iter().zip(&registry).all(|(p, r)| *p == "*" || p == r)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn users(secrets: &[&str], registry: &str, repository: &str) -> Vec<String> {
        let secrets: Vec<Vec<u8>> = secrets.iter().map(|text| text.as_bytes().to_vec()).collect();
        let name = |auth| match auth {
            RegistryAuth::Basic(user, password) => format!("{user}:{password}"),
            RegistryAuth::Bearer(token) => format!("token {token}"),
            RegistryAuth::Anonymous => "anonymous".into(),
        };
        credentials(&secrets, registry, repository).unwrap().into_iter().map(name).collect()
    }

    #[test]
    fn most_specific_entry_comes_first_and_none_is_anonymous() {
        let config = r#"{"auths": {
            "registry:5000": {"username": "all", "password": "a"},
            "registry:5000/team": {"auth": "dGVhbTpwOnc="},
            "registry:5000/tea": {"username": "tea", "password": "x"},
            "*.example.com": {"registrytoken": "t"},
            "https://index.docker.io/v1/": {"username": "hub", "password": "h"},
            "empty.example.org": {}
        }}"#;
        assert_eq!(users(&[config], "registry:5000", "team/disk"), ["team:p:w", "all:a"]);
        assert_eq!(users(&[config], "registry:5001", "team/disk"), ["anonymous"]);
        assert_eq!(users(&[config], "a.example.com", "x"), ["token t"]);
        assert_eq!(users(&[config], "a.b.example.com", "x"), ["anonymous"]);
        assert_eq!(users(&[config], "docker.io", "library/x"), ["hub:h"]);
        assert_eq!(users(&[config], "empty.example.org", "x"), ["anonymous"]);
        assert_eq!(users(&[], "registry:5000", "x"), ["anonymous"]);
    }

    #[test]
    fn older_format_and_several_secrets_work() {
        let old = r#"{"registry": {"username": "old", "password": "o"}}"#;
        let new = r#"{"auths": {"registry": {"username": "new", "password": "n"}}}"#;
        assert_eq!(users(&[old, new], "registry", "x"), ["old:o", "new:n"]);
    }

    #[test]
    fn broken_secrets_are_named_without_their_content() {
        for text in [r#"{"auths": "hunter2"}"#, "hunter2", r#"{"auths": {"r": {"auth": "hunter2%"}}}"#] {
            let error = credentials(&[text.as_bytes().to_vec()], "r", "x").unwrap_err().to_string();
            assert!(error.starts_with("pull secret is not a docker config") && !error.contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(secret: Vec<u8>, key in ".*", registry in ".*", repository in ".*") {
            let _ = credentials(&[secret], &registry, &repository);
            let _ = matched(&key, &registry, &repository);
        }
    }
}
