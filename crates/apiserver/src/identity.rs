//! Who sends a request.

/// The authenticated user; travels as a request extension, set by whatever terminates the connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UserInfo {
    /// User name, such as `system:admin`.
    pub username: String,
    /// Groups.
    pub groups: Vec<String>,
}

impl UserInfo {
    /// A user who belongs to the groups of authenticated administrators.
    pub fn admin(username: impl Into<String>) -> Self {
        UserInfo { username: username.into(), groups: vec!["system:masters".into(), "system:authenticated".into()] }
    }
}
