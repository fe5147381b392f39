//! `admission.k8s.io/v1` AdmissionReview: what is asked, and the answer. Objects stay JSON as they came, so that a patch holds our
//! changes and nothing else.

use base64::Engine as _;
use fv_admit::{Kind, Operation, Request};
use fv_api::config::ClusterConfig;
use fv_api::meta::users;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// One question of the API server.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review {
    uid: String,
    kind: GroupKind,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    operation: String,
    user_info: UserInfo,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Deserialize)]
struct GroupKind {
    group: String,
    kind: String,
}

#[derive(Debug, Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
}

/// What is answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// The `metav1.Status` of a refusal.
    pub(super) refusal: Option<Value>,
    pub(super) patch: Option<json_patch::Patch>,
    pub(super) warnings: Vec<String>,
}

impl Answer {
    /// A refusal with this code and text; `kubectl drain` tries again after a 429.
    pub(super) fn refused(code: u16, reason: &str, message: &str) -> Self {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code});
        Self { refusal: Some(status), ..Self::default() }
    }
}

impl Review {
    /// Reads the body of a webhook's request.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Envelope {
            api_version: String,
            kind: String,
            request: Option<Review>,
        }
        let envelope: Envelope = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        if (envelope.api_version.as_str(), envelope.kind.as_str()) != ("admission.k8s.io/v1", "AdmissionReview") {
            return Err(format!(
                "{} {} is not admission.k8s.io/v1 AdmissionReview",
                envelope.api_version, envelope.kind
            ));
        }
        envelope.request.ok_or_else(|| "it has no request".to_owned())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// The defaults of a VM or VMI as a JSON patch, and the restored status of a VMI.
    pub(super) fn mutate(
        &self,
        config: &ClusterConfig,
        namespace: &str,
        now: Timestamp,
        random: &mut dyn FnMut() -> Uuid,
    ) -> Answer {
        let Some(request) = self.request(config, namespace, now) else { return Answer::default() };
        let mut object = self.object.clone();
        fv_admit::mutate(&request, &mut object, random);
        let patch = json_patch::diff(&self.object, &object);
        Answer { patch: (!patch.0.is_empty()).then_some(patch), ..Answer::default() }
    }

    /// Whether a VM or VMI may be stored as it is.
    pub(super) fn validate(&self, config: &ClusterConfig, namespace: &str, now: Timestamp) -> Answer {
        let Some(request) = self.request(config, namespace, now) else { return Answer::default() };
        let verdict = fv_admit::validate(&request, &self.object);
        let refusal = (!verdict.is_admitted()).then(|| fv_admit::refusal(&verdict.causes));
        Answer { refusal, warnings: verdict.warnings, ..Answer::default() }
    }

    /// The write as admission knows it; `None` for what it has no rules for.
    fn request<'a>(&'a self, config: &'a ClusterConfig, namespace: &str, now: Timestamp) -> Option<Request<'a>> {
        let kind = (self.kind.group == "kubevirt.io").then(|| Kind::parse(&self.kind.kind)).flatten()?;
        let operation = match self.operation.as_str() {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            _ => return None,
        };
        Some(Request {
            operation,
            kind,
            subresource: Some(self.sub_resource.as_str()).filter(|sub| !sub.is_empty()),
            namespace: &self.namespace,
            user: component(&self.user_info.username, namespace),
            old: Some(&self.old_object).filter(|old| !old.is_null()),
            config,
            now,
        })
    }

    /// The AdmissionReview that answers this one.
    pub(super) fn response(&self, answer: Answer) -> Value {
        let mut response = json!({"uid": self.uid, "allowed": answer.refusal.is_none()});
        if let Some(status) = answer.refusal {
            response["status"] = status;
        }
        if let Some(patch) = answer.patch {
            let text = json!(patch).to_string();
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(base64::engine::general_purpose::STANDARD.encode(text));
        }
        if !answer.warnings.is_empty() {
            response["warnings"] = json!(answer.warnings);
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }
}

/// A user as the rules know it: the name of a component only when its service account is in the `namespace` we are installed in.
fn component<'a>(user: &'a str, namespace: &str) -> &'a str {
    let ours = |known: &&str| {
        let account = known.rsplit(':').next().unwrap_or_default();
        user == format!("system:serviceaccount:{namespace}:{account}")
    };
    match users::COMPONENTS.into_iter().find(ours) {
        Some(known) => known,
        // A namesake in another namespace is anybody.
        None if users::is_component(user) => "",
        None => user,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn review(kind: &str, operation: &str, user: &str, object: Value, old: Value) -> Review {
        let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u", "kind": {"group": "kubevirt.io", "version": "v1", "kind": kind}, "operation": operation,
            "namespace": "default", "name": "demo", "userInfo": {"username": user}, "object": object, "oldObject": old}});
        Review::read(body.to_string().as_bytes()).unwrap()
    }

    fn vm() -> Value {
        json!({"metadata": {"name": "demo", "creationTimestamp": null}, "spec": {"running": false, "template": {"spec": {
            "domain": {"devices": {}, "resources": {"requests": {"memory": "64M"}}}}}}})
    }

    fn patched(review: &Review) -> Value {
        let answer = review.mutate(&ClusterConfig::default(), "kubevirt", now(), &mut Uuid::nil);
        let response = review.response(answer);
        let mut object = review.object.clone();
        if let Some(patch) = response["response"]["patch"].as_str() {
            assert_eq!(response["response"]["patchType"], "JSONPatch");
            let text = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
            let patch: json_patch::Patch = serde_json::from_slice(&text).unwrap();
            json_patch::patch(&mut object, &patch).unwrap();
        }
        object
    }

    #[test]
    fn defaults_come_as_a_patch_that_touches_nothing_else() {
        let patched = patched(&review("VirtualMachine", "CREATE", "jane", vm(), Value::Null));
        assert_eq!(patched["spec"]["template"]["spec"]["architecture"], "amd64");
        assert_eq!(patched["metadata"], vm()["metadata"]);
        assert_eq!(patched["spec"]["running"], false);
    }

    #[test]
    fn a_refusal_has_its_causes_and_no_name_of_a_webhook() {
        let mut bad = vm();
        bad["spec"]["template"]["spec"]["domain"]["devices"]["gpus"] = json!([{"name": "g", "deviceName": "x/y"}]);
        let review = review("VirtualMachine", "CREATE", "jane", bad, Value::Null);
        let response = review.response(review.validate(&ClusterConfig::default(), "kubevirt", now()));
        let (allowed, status) = (&response["response"]["allowed"], &response["response"]["status"]);
        assert_eq!((allowed, &status["code"], &status["reason"]), (&json!(false), &json!(422), &json!("Invalid")));
        let field = status["details"]["causes"][0]["field"].as_str().unwrap();
        assert!(field.starts_with("spec.template.spec.domain.devices.gpus"), "{field}");
        assert!(!status["message"].as_str().unwrap().contains("admission webhook"));
        assert_eq!(response["response"]["uid"], "u");
        // The warning goes along either way.
        assert!(response["response"]["warnings"][0].as_str().unwrap().contains("spec.running is deprecated"));
    }

    #[test]
    fn the_status_of_an_instance_is_written_by_our_service_accounts_in_our_namespace_only() {
        let old = json!({"metadata": {"name": "demo"}, "spec": {"domain": {}}, "status": {"phase": "Running"}});
        let mut new = old.clone();
        new["status"]["phase"] = json!("Failed");
        for (user, namespace, expected) in [
            ("jane", "kubevirt", "Running"),
            ("system:serviceaccount:kubevirt:kubevirt-handler", "kubevirt", "Failed"),
            ("system:serviceaccount:other:kubevirt-handler", "other", "Failed"),
            ("system:serviceaccount:kubevirt:kubevirt-handler", "other", "Running"),
            ("system:serviceaccount:other:kubevirt-handler", "kubevirt", "Running"),
        ] {
            let review = review("VirtualMachineInstance", "UPDATE", user, new.clone(), old.clone());
            let answer = review.mutate(&ClusterConfig::default(), namespace, now(), &mut Uuid::nil);
            let mut object = new.clone();
            json_patch::patch(&mut object, &answer.patch.unwrap_or_default()).unwrap();
            assert_eq!(object["status"]["phase"], expected, "{user} in {namespace}");
        }
    }

    #[test]
    fn what_is_no_review_of_ours_is_refused_or_passes() {
        for body in ["", "{}", r#"{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}"#] {
            Review::read(body.as_bytes()).unwrap_err();
        }
        let other = review("KubeVirt", "CREATE", "jane", json!({"spec": 3}), Value::Null);
        assert_eq!(other.validate(&ClusterConfig::default(), "kubevirt", now()), Answer::default());
        assert_eq!(patched(&other), json!({"spec": 3}));
    }
}
