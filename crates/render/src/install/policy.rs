//! Node restriction of virt-handler: what RBAC cannot say. A handler's service account may patch every node and every instance;
//! this policy holds each handler to its own node, which the API server knows from the token of the pod.

use serde_json::{Value, json};

use super::Install;

const NAME: &str = "kubevirt-node-restriction-policy";
const OWN_NODE: &str = "request.userInfo.extra['authentication.kubernetes.io/node-name'][0]";
const NODE_KNOWN: &str =
    "has(request.userInfo.extra) && 'authentication.kubernetes.io/node-name' in request.userInfo.extra";

pub(super) fn objects(install: &Install<'_>) -> Vec<Value> {
    let handler = format!("system:serviceaccount:{}:kubevirt-handler", install.namespace);
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": NAME},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["nodes", "nodes/status"],
                     "scope": "*"},
                    {"apiGroups": ["kubevirt.io"], "apiVersions": ["v1", "v1alpha3"], "operations": ["UPDATE"],
                     "resources": ["virtualmachineinstances"], "scope": "*"}
                ]
            },
            // Others' writes are not looked at, so a fault of this policy can stop nobody else.
            "matchConditions": [
                {"name": "virt-handler", "expression": format!("request.userInfo.username == '{handler}'")}
            ],
            "variables": [
                {"name": "node", "expression": format!("{NODE_KNOWN} ? {OWN_NODE} : ''")},
                {"name": "place", "expression":
                    "request.resource.resource == 'nodes' ? oldObject.metadata.name : \
                     (has(oldObject.metadata.labels) && 'kubevirt.io/nodeName' in oldObject.metadata.labels \
                     ? oldObject.metadata.labels['kubevirt.io/nodeName'] \
                     : (has(oldObject.status) && has(oldObject.status.nodeName) ? oldObject.status.nodeName : ''))"}
            ],
            "validations": [
                {"expression": "variables.node != ''", "message":
                    "the token of virt-handler names no node: the API server must be 1.30 or newer", "reason": "Forbidden"},
                {"expression": "variables.place == variables.node",
                 "messageExpression": "'virt-handler of node ' + variables.node + ' may not write objects of node ' + variables.place",
                 "message": "virt-handler may write only the objects of its own node", "reason": "Forbidden"}
            ]
        }
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "kubevirt-node-restriction-binding"},
        "spec": {"policyName": NAME, "validationActions": ["Deny"]}
    });
    vec![policy, binding]
}
