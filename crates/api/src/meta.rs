//! Every key and word the components and their users share. String literals for these belong nowhere else.

pub mod annotations;
pub mod conditions;
pub mod finalizers;
pub mod labels;
pub mod phases;

/// The level of the KubeVirt API these objects follow; what their definitions report.
pub const KUBEVIRT_API_LEVEL: &str = "1.9.0";

/// Common names of certificates that our components show each other.
pub mod common_names {
    /// virt-api, when it connects to virt-handler.
    pub const HANDLER_CLIENT: &str = "kubevirt.io:system:client:virt-handler";
    /// virt-handler, when somebody connects to it.
    pub const HANDLER_SERVER: &str = "kubevirt.io:system:node:virt-handler";
}

/// User names of our components, as their connection to the API states them (certificate CN, service account).
pub mod users {
    pub const VIRT_API: &str = "system:serviceaccount:kubevirt:kubevirt-apiserver";
    pub const VIRT_CONTROLLER: &str = "system:serviceaccount:kubevirt:kubevirt-controller";
    pub const VIRT_HANDLER: &str = "system:serviceaccount:kubevirt:kubevirt-handler";
    pub const COMPONENTS: [&str; 3] = [VIRT_API, VIRT_CONTROLLER, VIRT_HANDLER];
    /// Whether `user` is one of our components.
    pub fn is_component(user: &str) -> bool {
        COMPONENTS.contains(&user)
    }
}
