//! The core API group, `kubevirt.io`.

pub mod v1;
