//! From a request's path and query to what it asks for.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::Query;
use http::Uri;

use crate::registry::{Resource, Tables, Version};
use crate::status::Status;

/// What a path names.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) resource: Arc<Resource>,
    pub(crate) version: String,
    /// Empty for cluster-scoped resources and for lists over all namespaces.
    pub(crate) namespace: String,
    /// Empty for collections.
    pub(crate) name: String,
    /// Empty for the object itself.
    pub(crate) subresource: String,
}

impl Target {
    /// Parses a path below `/api/v1` or `/apis/<group>/<version>`; `None` when it names nothing that is served.
    pub(crate) fn parse(tables: &Tables, path: &str) -> Option<Target> {
        let mut parts = path.trim_start_matches('/').split('/').map(decode).collect::<Option<Vec<_>>>()?;
        while parts.last().is_some_and(String::is_empty) {
            parts.pop();
        }
        let mut parts = parts.into_iter();
        let (group, version) = match parts.next()?.as_str() {
            "api" => (String::new(), parts.next()?),
            "apis" => (parts.next()?, parts.next()?),
            _ => return None,
        };
        let mut rest: Vec<String> = parts.collect();
        let mut namespace = String::new();
        let mut in_namespace = false;
        let of_namespace = |rest: &[String]| matches!(rest[2].as_str(), "status" | "finalize");
        if rest.len() > 2 && rest[0] == "namespaces" && !(group.is_empty() && rest.len() == 3 && of_namespace(&rest)) {
            namespace = rest[1].clone();
            in_namespace = true;
            rest.drain(..2);
        }
        let mut rest = rest.into_iter();
        let resource = tables.resource(&group, &rest.next()?)?.clone();
        if !resource.version(&version)?.served {
            return None;
        }
        let name = rest.next().unwrap_or_default();
        let subresource = rest.collect::<Vec<_>>().join("/");
        let scoped = match (resource.namespaced(), in_namespace) {
            (true, true) | (false, false) => true,
            // A list over all namespaces; a create here has no namespace and is refused by the handler.
            (true, false) => name.is_empty(),
            (false, true) => false,
        };
        scoped.then_some(Target { resource, version, namespace, name, subresource })
    }

    /// The version of the resource the request uses.
    pub(crate) fn version_info(&self) -> Option<&Version> {
        self.resource.version(&self.version)
    }

    /// The key of the named object in the store.
    pub(crate) fn key(&self) -> Arc<str> {
        key_of(&self.namespace, &self.name)
    }

    /// What all keys of the collection start with.
    pub(crate) fn prefix(&self) -> String {
        if self.namespace.is_empty() { String::new() } else { format!("{}/", self.namespace) }
    }

    /// The failure for an object that is not there.
    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(&self.resource.group, &self.resource.plural, &self.name)
    }

    /// The failure for a lost race.
    pub(crate) fn modified(&self) -> Status {
        Status::modified(&self.resource.group, &self.resource.plural, &self.name)
    }
}

/// `namespace/name`, or `name` for cluster-scoped objects.
pub(crate) fn key_of(namespace: &str, name: &str) -> Arc<str> {
    if namespace.is_empty() { name.into() } else { format!("{namespace}/{name}").into() }
}

/// Percent-decodes one path segment.
fn decode(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
            let (high, low) = (digit(rest.next())?, digit(rest.next())?);
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Query parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    pub(crate) fn parse(uri: &Uri) -> Result<Self, Status> {
        let Query(pairs) = Query::try_from_uri(uri)
            .map_err(|e| Status::bad_request(format!("the query of the request cannot be parsed: {e}")))?;
        Ok(Params(pairs))
    }

    /// A parameter, empty when absent.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str()).unwrap_or_default()
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// Whether a parameter is there and not empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// A boolean: absent, `0` and `false` are false, everything else is true, as in Kubernetes.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.0.iter().any(|(k, v)| k == name && !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// A number.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Status> {
        match self.get(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn parse(path: &str) -> Option<(String, String, String, String)> {
        let target = Target::parse(&Registry::new(Vec::new()).tables(), path)?;
        Some((target.resource.qualified(), target.namespace, target.name, target.subresource))
    }

    #[test]
    fn paths_name_objects_collections_and_subresources() {
        let names = |r: &str, ns: &str, n: &str, s: &str| Some((r.into(), ns.into(), n.into(), s.into()));
        for (path, expected) in [
            ("/api/v1/pods", names("pods", "", "", "")),
            ("/api/v1/namespaces/a/pods/b/log", names("pods", "a", "b", "log")),
            ("/api/v1/namespaces", names("namespaces", "", "", "")),
            ("/api/v1/namespaces/a", names("namespaces", "", "a", "")),
            ("/api/v1/namespaces/a/status", names("namespaces", "", "a", "status")),
            ("/api/v1/namespaces/a/finalize", names("namespaces", "", "a", "finalize")),
            ("/api/v1/nodes/n%2d1/", names("nodes", "", "n-1", "")),
            ("/apis/coordination.k8s.io/v1/namespaces/a/leases", names("leases.coordination.k8s.io", "a", "", "")),
            ("/api/v1/pods/b", None),
            ("/api/v1/namespaces/a/nodes", None),
            ("/api/v2/pods", None),
            ("/api/v1/services", None),
            ("/api/v1/namespaces/a/pods/%zz", None),
            ("/metrics", None),
        ] {
            assert_eq!(parse(path), expected, "{path}");
        }
    }

    #[test]
    fn flags_and_numbers_are_read() {
        let params = Params::parse(&"/x?watch=true&a=0&limit=5&bad=x&empty=".parse().unwrap()).unwrap();
        assert!(params.flag("watch") && !params.flag("a") && !params.flag("none"));
        assert_eq!(params.number::<u64>("limit"), Ok(Some(5)));
        assert_eq!(params.number::<u64>("empty"), Ok(None));
        assert!(params.number::<u64>("bad").is_err());
    }
}
