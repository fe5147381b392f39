//! Who sends a request, and for whom.

use std::collections::BTreeMap;

use http::HeaderMap;
use percent_encoding::percent_decode_str;

use crate::status::Status;

/// The authenticated user; travels as a request extension, set by whatever terminates the connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct UserInfo {
    /// User name, such as `system:admin`.
    pub username: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What tells the user from others of that name; empty where nobody says.
    pub uid: String,
    /// Further attributes.
    pub extra: BTreeMap<String, Vec<String>>,
}

const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const ANONYMOUS: &str = "system:anonymous";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

impl UserInfo {
    /// A user in these groups, and in that of all who are authenticated.
    pub(crate) fn authenticated(username: impl Into<String>, mut groups: Vec<String>) -> Self {
        add(&mut groups, AUTHENTICATED);
        UserInfo { username: username.into(), groups, ..UserInfo::default() }
    }

    /// A user who belongs to the groups of authenticated administrators.
    pub fn admin(username: impl Into<String>) -> Self {
        UserInfo::authenticated(username, vec!["system:masters".into()])
    }

    /// Whom a request acts for, by the `Impersonate-` headers that it loses: the user who sends it, where there are none. Groups are
    /// completed by the rules of kube-apiserver's impersonation filter. Whoever is authenticated here is an administrator and may
    /// impersonate anybody.
    ///
    /// # Errors
    /// 500, as in Kubernetes: there are attributes, and no user that they are of. 400: a value is not text.
    pub(crate) fn impersonated(self, headers: &mut HeaderMap) -> Result<Self, Status> {
        let names: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
        if names.is_empty() {
            return Ok(self);
        }
        let mut user = UserInfo::default();
        for name in names {
            let mut values = Vec::new();
            for value in headers.get_all(&name) {
                let text =
                    value.to_str().map_err(|_| Status::bad_request(format!("header {name}: its value is not text")))?;
                values.push(text.to_owned());
            }
            headers.remove(&name);
            match &name.as_str()["impersonate-".len()..] {
                "user" => user.username = values.swap_remove(0),
                "group" => user.groups = values,
                "uid" => user.uid = values.swap_remove(0),
                other => match other.strip_prefix("extra-") {
                    Some(key) => {
                        let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
                        user.extra.insert(key, values);
                    }
                    None => return Err(Status::bad_request(format!("header {name} is not known"))),
                },
            }
        }
        if user.username.is_empty() {
            return Err(Status::internal(
                "groups, a UID or extra attributes are to be impersonated without a user: set Impersonate-User",
            ));
        }
        user.complete_groups();
        Ok(user)
    }

    fn complete_groups(&mut self) {
        if self.username == ANONYMOUS {
            add(&mut self.groups, UNAUTHENTICATED);
            return;
        }
        let account = self.username.strip_prefix(SERVICE_ACCOUNT).and_then(|rest| rest.split_once(':'));
        if let (Some((namespace, _)), true) = (account, self.groups.is_empty()) {
            self.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
        }
        if !self.groups.iter().any(|group| group == UNAUTHENTICATED) {
            add(&mut self.groups, AUTHENTICATED);
        }
    }
}

fn add(groups: &mut Vec<String>, group: &str) {
    if !groups.iter().any(|have| have == group) {
        groups.push(group.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn ask(headers: &[(&'static str, &'static str)]) -> Result<UserInfo, Status> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let user = UserInfo::admin("root").impersonated(&mut map);
        assert!(map.keys().all(|name| name == "accept"), "nobody further in takes them for somebody's: {map:?}");
        user
    }

    #[test]
    fn impersonated_users_get_the_groups_that_kubernetes_gives_them() {
        assert_eq!(ask(&[("accept", "*/*")]).unwrap(), UserInfo::admin("root"));
        let cases: &[(&[(&str, &str)], &[&str])] = &[
            (&[("impersonate-user", "bob")], &["system:authenticated"]),
            (
                &[("impersonate-user", "bob"), ("impersonate-group", "b"), ("impersonate-group", "a")],
                &["b", "a", "system:authenticated"],
            ),
            (&[("impersonate-user", "bob"), ("impersonate-group", "system:authenticated")], &["system:authenticated"]),
            (&[("impersonate-user", "system:anonymous")], &["system:unauthenticated"]),
            (
                &[("impersonate-user", "system:serviceaccount:ns:robot")],
                &["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"],
            ),
            (
                &[("impersonate-user", "system:serviceaccount:ns:robot"), ("impersonate-group", "g")],
                &["g", "system:authenticated"],
            ),
        ];
        for (headers, groups) in cases {
            let user = ask(headers).unwrap();
            assert_eq!(
                (user.username.as_str(), user.groups),
                (headers[0].1, groups.iter().map(|&g| g.into()).collect())
            );
        }
    }

    #[test]
    fn attributes_are_those_of_a_user() {
        let user = ask(&[
            ("impersonate-user", "bob"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-example.org%2fscopes", "a"),
            ("impersonate-extra-example.org%2fscopes", "b"),
        ])
        .unwrap();
        assert_eq!(
            (user.uid.as_str(), &user.extra["example.org/scopes"]),
            ("7", &vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(ask(&[("impersonate-group", "g")]).unwrap_err().code, 500);
        assert_eq!(ask(&[("impersonate-user", "bob"), ("impersonate-shoe-size", "44")]).unwrap_err().code, 400);
    }
}
