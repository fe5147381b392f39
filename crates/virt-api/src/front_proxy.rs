//! Who a request is from. On a cluster requests come through kube-apiserver, which names the user in headers. It is believed when it
//! shows the certificate that ConfigMap `kube-system/extension-apiserver-authentication` describes; nobody else is.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, pin_mut};
use fv_runtime::certificates::{Authorities, CertificateError};
use fv_runtime::tls::PeerCertificate;
use http::{HeaderMap, HeaderValue};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher;
use kube::runtime::{WatchStreamExt, watcher::Event};
use kube::{Api, Client};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
const CLIENT_CA: &str = "requestheader-client-ca-file";

/// A user as kube-apiserver names him.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: Option<String>,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Why the ConfigMap cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FrontProxyError {
    #[error(
        "ConfigMap {NAMESPACE}/{NAME} has no {0}: kube-apiserver runs without the --requestheader flags, so no user can be told"
    )]
    Missing(&'static str),
    #[error("{0} of ConfigMap {NAMESPACE}/{NAME} is no JSON list of strings")]
    List(&'static str, #[source] serde_json::Error),
    #[error("ConfigMap {NAMESPACE}/{NAME}")]
    Authority(#[from] CertificateError),
}

/// Whose word is taken, and in which headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Trust {
    /// Common names; any will do when there are none.
    names: Vec<String>,
    user: Vec<String>,
    uid: Vec<String>,
    groups: Vec<String>,
    /// Beginnings of header names, in lower case.
    extra: Vec<String>,
}

impl Trust {
    fn of(data: &BTreeMap<String, String>) -> Result<Self, FrontProxyError> {
        let list = |key: &'static str| match data.get(key) {
            Some(text) => serde_json::from_str::<Vec<String>>(text).map_err(|e| FrontProxyError::List(key, e)),
            None => Ok(Vec::new()),
        };
        let user = list("requestheader-username-headers")?;
        if user.is_empty() {
            return Err(FrontProxyError::Missing("requestheader-username-headers"));
        }
        Ok(Self {
            names: list("requestheader-allowed-names")?,
            user,
            uid: list("requestheader-uid-headers")?,
            groups: list("requestheader-group-headers")?,
            extra: list("requestheader-extra-headers-prefix")?.iter().map(|p| p.to_ascii_lowercase()).collect(),
        })
    }

    /// `None` also when a part of it cannot be read: a user without one of his groups is another user.
    fn user(&self, peer: &str, headers: &HeaderMap) -> Option<User> {
        if self.user.is_empty() || (!self.names.is_empty() && !self.names.iter().any(|name| name == peer)) {
            return None;
        }
        let values = |names: &[String]| -> Option<Vec<String>> {
            names.iter().flat_map(|name| headers.get_all(name)).map(text).collect()
        };
        let is_given = |value: &String| !value.is_empty();
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            // Header names are in lower case here.
            let key = self.extra.iter().find_map(|prefix| name.as_str().strip_prefix(prefix.as_str()));
            if let Some(key) = key {
                extra.entry(unescape(key)).or_default().push(text(value)?);
            }
        }
        Some(User {
            name: values(&self.user)?.into_iter().find(is_given)?,
            uid: values(&self.uid)?.into_iter().find(is_given),
            groups: values(&self.groups)?,
            extra,
        })
    }
}

/// The API server writes names as they are, in UTF-8.
fn text(value: &HeaderValue) -> Option<String> {
    std::str::from_utf8(value.as_bytes()).ok().map(str::to_owned)
}

/// Keys of extra attributes are percent-encoded in header names; what is no such encoding stays as it is.
fn unescape(key: &str) -> String {
    percent_encoding::percent_decode_str(key).decode_utf8().map_or_else(|_| key.to_owned(), |key| key.into_owned())
}

/// The front proxy of this cluster.
#[derive(Debug)]
pub struct FrontProxy {
    authorities: Arc<Authorities>,
    trust: RwLock<Arc<Trust>>,
}

impl Default for FrontProxy {
    /// Believes nobody yet.
    fn default() -> Self {
        Self { authorities: Authorities::none(), trust: RwLock::default() }
    }
}

impl FrontProxy {
    /// The authorities for [`fv_runtime::tls::ClientCertificates::Optional`].
    pub fn authorities(&self) -> Arc<Authorities> {
        self.authorities.clone()
    }

    /// Takes over what the ConfigMap says.
    ///
    /// # Errors
    /// It lacks something or cannot be read; what it said before stays in force.
    pub fn learn(&self, config: &ConfigMap) -> Result<(), FrontProxyError> {
        let data = config.data.as_ref();
        let ca = data.and_then(|data| data.get(CLIENT_CA)).ok_or(FrontProxyError::Missing(CLIENT_CA))?;
        let trust = Trust::of(data.unwrap_or(&BTreeMap::new()))?;
        self.authorities.replace(ca.as_bytes())?;
        *self.trust.write() = Arc::new(trust);
        Ok(())
    }

    /// The user a request is from; `None` when nobody who may say so says so.
    pub fn user(&self, peer: Option<&PeerCertificate>, headers: &HeaderMap) -> Option<User> {
        let trust = self.trust.read().clone();
        trust.user(&peer?.common_name().unwrap_or_default(), headers)
    }

    /// Follows the ConfigMap until `shutdown`; `learned` is called each time it was taken over.
    pub async fn follow(&self, client: Client, learned: impl Fn(), shutdown: CancellationToken) {
        let api: Api<ConfigMap> = Api::namespaced(client, NAMESPACE);
        let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
        let events = watcher(api, config).default_backoff();
        pin_mut!(events);
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return,
                event = events.next() => event,
            };
            match event {
                Some(Ok(Event::Apply(config) | Event::InitApply(config))) => match self.learn(&config) {
                    Ok(()) => learned(),
                    Err(error) => tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "what identifies users cannot be used; requests by users it does not name are refused"
                    ),
                },
                Some(Ok(Event::Delete(_))) => {
                    tracing::warn!(
                        config_map = NAME,
                        "what identifies users was deleted; the last version stays in force"
                    );
                }
                Some(Ok(Event::Init | Event::InitDone)) => {}
                Some(Err(error)) => {
                    tracing::warn!(config_map = NAME, error = &error as &dyn std::error::Error, "watch interrupted");
                }
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> BTreeMap<String, String> {
        [
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
            ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_user_is_read_from_the_headers_that_the_cluster_names() {
        let trust = Trust::of(&data()).unwrap();
        let headers = headers(&[
            ("x-remote-user", "jane"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "dev"),
            ("x-remote-group", "system:authenticated"),
            ("x-remote-extra-acme.com%2fproject", "one"),
            ("x-remote-extra-acme.com%2fproject", "two"),
            ("x-forwarded-user", "mallory"),
        ]);
        let user = trust.user("front-proxy-client", &headers).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_deref()), ("jane", Some("7")));
        assert_eq!(user.groups, ["dev", "system:authenticated"]);
        assert_eq!(
            user.extra,
            BTreeMap::from([("acme.com/project".to_owned(), vec!["one".to_owned(), "two".to_owned()])])
        );
    }

    #[test]
    fn names_may_have_any_letters() {
        let trust = Trust::of(&data()).unwrap();
        let headers = headers(&[
            ("x-remote-user", "jörg"),
            ("x-remote-uid", "№ 7"),
            ("x-remote-group", "Domänen-Admins"),
            ("x-remote-group", "system:authenticated"),
            ("x-remote-extra-town", "Köln"),
        ]);
        let user = trust.user("front-proxy-client", &headers).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_deref()), ("jörg", Some("№ 7")));
        assert_eq!(user.groups, ["Domänen-Admins", "system:authenticated"]);
        assert_eq!(user.extra["town"], ["Köln"]);
    }

    #[test]
    fn a_user_of_whom_a_part_cannot_be_read_is_nobody() {
        let trust = Trust::of(&data()).unwrap();
        for name in ["x-remote-user", "x-remote-uid", "x-remote-group", "x-remote-extra-town"] {
            let mut headers = headers(&[("x-remote-user", "jane"), ("x-remote-group", "dev")]);
            headers.append(name, HeaderValue::from_bytes(b"J\xf6rg").unwrap());
            assert_eq!(trust.user("front-proxy-client", &headers), None, "{name}");
        }
        let mut headers = headers(&[("x-remote-user", "jane")]);
        headers.append("x-forwarded-for", HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(trust.user("front-proxy-client", &headers).is_some(), "it says nothing about the user");
    }

    #[test]
    fn nobody_else_says_who_the_user_is() {
        let trust = Trust::of(&data()).unwrap();
        let jane = headers(&[("x-remote-user", "jane")]);
        assert_eq!(trust.user("another", &jane), None);
        assert_eq!(trust.user("", &jane), None);
        assert_eq!(trust.user("front-proxy-client", &headers(&[("x-remote-user", "")])), None);
        assert_eq!(Trust::default().user("front-proxy-client", &jane), None, "before the cluster was asked");
        assert_eq!(FrontProxy::default().user(None, &jane), None, "without a certificate");
        // A cluster that names nobody means everyone its authority vouches for.
        let mut any = data();
        any.insert("requestheader-allowed-names".into(), "[]".into());
        assert!(Trust::of(&any).unwrap().user("whoever", &jane).is_some());
    }

    #[test]
    fn a_config_map_without_the_flags_says_what_is_missing_and_changes_nothing() {
        let proxy = FrontProxy::default();
        let error = proxy.learn(&ConfigMap::default()).unwrap_err().to_string();
        assert!(error.contains(CLIENT_CA) && error.contains("--requestheader"), "{error}");
        let config = ConfigMap { data: Some(BTreeMap::from([(CLIENT_CA.into(), "x".into())])), ..ConfigMap::default() };
        assert!(proxy.learn(&config).unwrap_err().to_string().contains("requestheader-username-headers"));
        let mut broken = data();
        broken.insert("requestheader-group-headers".into(), "X-Remote-Group".into());
        assert!(Trust::of(&broken).unwrap_err().to_string().contains("requestheader-group-headers"));
        assert!(proxy.authorities().roots().is_empty());
    }
}
