//! The launcher's rights: none ("restricted" in the words of Kubernetes' pod security standards).

use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};

use crate::LAUNCHER_UID;

pub(super) fn pod_context() -> PodSecurityContext {
    PodSecurityContext {
        fs_group: Some(LAUNCHER_UID),
        run_as_group: Some(LAUNCHER_UID),
        run_as_non_root: Some(true),
        run_as_user: Some(LAUNCHER_UID),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..Default::default()
    }
}

pub(super) fn container_context() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_group: Some(LAUNCHER_UID),
        run_as_non_root: Some(true),
        run_as_user: Some(LAUNCHER_UID),
        ..Default::default()
    }
}
