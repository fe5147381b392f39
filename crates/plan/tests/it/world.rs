//! A world of one VM: what the API would hold, and what others do to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use fv_api::config::ClusterConfig;
use fv_plan::vmi::{PodCondition, PodFacts};
use fv_plan::{Effect, Guard, ObjectKey, Plan, Requeue, StatusKind, vm, vmi};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What somebody outside the controllers does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Strategy(&'static str),
    Start,
    Stop,
    Restart,
    DeleteVm,
    DeleteVmi,
    EditTemplate(u8),
    Schedule,
    PodReady,
    PodEnds,
    PodLost,
    PodDeleted,
    GuestRuns,
    GuestEnds(&'static str),
    GuestPaused(bool),
    NodeCleansUp,
    TimePasses(u16),
    Reconcile,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) vm: Option<Value>,
    pub(crate) vmi: Option<Value>,
    pub(crate) pods: BTreeMap<String, PodFacts>,
    pub(crate) now: Timestamp,
    version: u64,
    pub(crate) vmis_made: usize,
}

impl World {
    pub(crate) fn new(strategy: &str) -> Self {
        let vm = json!({
            "metadata": {"name": "demo", "namespace": "ns", "uid": "vm-1", "resourceVersion": "1", "generation": 1},
            "spec": {"runStrategy": strategy, "template": {"spec": {"domain": {"devices": {}}}}},
        });
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        Self { vm: Some(vm), vmi: None, pods: BTreeMap::new(), now, version: 1, vmis_made: 0 }
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn edit_vm(&mut self, edit: impl FnOnce(&mut Value)) {
        let version = self.next_version();
        if let Some(vm) = &mut self.vm {
            edit(vm);
            vm["metadata"]["resourceVersion"] = version.into();
        }
    }

    pub(crate) fn edit_vmi(&mut self, edit: impl FnOnce(&mut Value)) {
        let version = self.next_version();
        if let Some(vmi) = &mut self.vmi {
            edit(vmi);
            vmi["metadata"]["resourceVersion"] = version.into();
        }
    }

    pub(crate) fn vmi_phase(&self) -> String {
        self.vmi.as_ref().and_then(|vmi| vmi["status"]["phase"].as_str()).unwrap_or_default().to_owned()
    }

    pub(crate) fn handed_over(&self) -> bool {
        self.vmi.as_ref().is_some_and(|vmi| vmi["status"]["nodeName"].is_string())
    }

    fn vmi_condition(&mut self, type_: &str, status: &str) {
        let wanted = json!({"type": type_, "status": status});
        self.edit_vmi(|vmi| {
            let mut all = vmi["status"]["conditions"].as_array().cloned().unwrap_or_default();
            all.retain(|condition| condition["type"] != type_);
            all.push(wanted);
            vmi["status"]["conditions"] = all.into();
        });
    }

    fn request(&mut self, requests: Value) {
        self.edit_vm(|vm| vm["status"]["stateChangeRequests"] = requests);
    }

    fn guest_phase(&mut self, phase: &str) {
        let (phase, now) = (phase.to_owned(), self.now);
        self.edit_vmi(|vmi| {
            let mut steps = vmi["status"]["phaseTransitionTimestamps"].as_array().cloned().unwrap_or_default();
            let at = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
            steps.push(json!({"phase": phase, "phaseTransitionTimestamp": at}));
            vmi["status"]["phaseTransitionTimestamps"] = steps.into();
            vmi["status"]["phase"] = phase.into();
        });
    }

    /// Does what is possible now; the rest is not an error.
    pub(crate) fn act(&mut self, act: &Act) {
        let vmi_uid = self.vmi.as_ref().map(|vmi| vmi["metadata"]["uid"].clone()).unwrap_or_default();
        match act {
            Act::Strategy(strategy) => self.edit_vm(|vm| vm["spec"]["runStrategy"] = (*strategy).into()),
            // As virt-api: of a halted VM only a paused start is requested.
            Act::Start if self.vm.as_ref().is_some_and(|vm| vm["spec"]["runStrategy"] == "Halted") => {
                self.request(json!([{"action": "Start", "data": {"paused": "true"}}]))
            }
            Act::Start => self.request(json!([{"action": "Start"}])),
            Act::Stop => self.request(json!([{"action": "Stop", "uid": vmi_uid}])),
            Act::Restart => self.request(json!([{"action": "Stop", "uid": vmi_uid}, {"action": "Start"}])),
            Act::DeleteVm => {
                let held = self
                    .vm
                    .as_ref()
                    .is_some_and(|vm| !vm["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty));
                if held {
                    self.edit_vm(|vm| vm["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
                } else {
                    self.vm = None;
                }
            }
            Act::DeleteVmi => self.delete_vmi(),
            Act::EditTemplate(n) => {
                self.edit_vm(|vm| vm["spec"]["template"]["spec"]["hostname"] = format!("h{n}").into())
            }
            Act::Schedule => self.each_pod(|pod| pod.node = Some("n1".into())),
            Act::PodReady => self.each_pod(|pod| {
                if pod.node.is_some() && !pod.is_terminal() {
                    pod.phase = "Running".into();
                    pod.containers_ready = true;
                    let open = pod.gate.as_ref().is_some_and(|(_, word)| word == "True");
                    pod.ready =
                        Some(PodCondition { status: if open { "True" } else { "False" }.into(), ..Default::default() });
                }
            }),
            Act::PodEnds => self.each_pod(|pod| pod.phase = "Failed".into()),
            Act::PodLost => {
                self.pods.pop_first();
            }
            Act::PodDeleted => self.each_pod(|pod| pod.deleting = true),
            Act::GuestRuns if self.handed_over() && self.vmi_phase() == "Scheduled" => self.guest_phase("Running"),
            Act::GuestEnds(phase) if self.handed_over() && !self.vmi_ended() => self.guest_phase(phase),
            Act::GuestPaused(paused) if self.vmi_phase() == "Running" => {
                self.vmi_condition("Paused", if *paused { "True" } else { "False" });
            }
            Act::NodeCleansUp if self.handed_over() && (self.vmi_ended() || self.vmi_deleting()) => {
                self.vmi_condition("DomainDeleted", "True");
            }
            Act::TimePasses(seconds) => self.now += SignedDuration::from_secs(i64::from(*seconds)),
            Act::Reconcile => {
                self.reconcile();
            }
            _ => {}
        }
    }

    pub(crate) fn vmi_ended(&self) -> bool {
        matches!(self.vmi_phase().as_str(), "Succeeded" | "Failed")
    }

    pub(crate) fn vmi_deleting(&self) -> bool {
        self.vmi.as_ref().is_some_and(|vmi| vmi["metadata"]["deletionTimestamp"].is_string())
    }

    fn each_pod(&mut self, edit: impl Fn(&mut PodFacts)) {
        for pod in self.pods.values_mut() {
            edit(pod);
            self.version += 1;
            pod.resource_version = self.version.to_string();
        }
    }

    fn delete_vmi(&mut self) {
        self.edit_vmi(|vmi| vmi["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
        self.collect();
    }

    /// What an API server and its garbage collector do after a write.
    fn collect(&mut self) {
        let free = |object: &Value| {
            object["metadata"]["deletionTimestamp"].is_string()
                && object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty)
        };
        if self.vmi.as_ref().is_some_and(free) {
            assert!(self.pods.is_empty(), "a VMI may not go before its pods");
            self.vmi = None;
        }
        if self.vm.as_ref().is_some_and(free) {
            self.vm = None;
        }
    }

    /// One round of both controllers. Whether anything was done, and when they want to look again.
    pub(crate) fn reconcile(&mut self) -> (bool, Requeue) {
        let config = ClusterConfig::default();
        let mut worked = false;
        let mut requeue = Requeue::OnChange;
        if let Some(vm) = &self.vm {
            let observed = vm::Observed {
                vm: Arc::new(typed(vm)),
                vmi: self.vmi.as_ref().map(|vmi| Arc::new(typed(vmi))),
                last_failure: None,
            };
            let plan = vm::decide(&observed, &config, self.now);
            requeue = plan.requeue;
            worked |= self.execute(plan);
        }
        if let Some(vmi) = &self.vmi {
            let pods = self.pods.values().cloned().map(Arc::new).collect();
            let observed = vmi::Observed { vmi: Arc::new(typed(vmi)), pods, ..vmi::Observed::default() };
            worked |= {
                let plan = vmi::decide(&observed, &config, self.now);
                self.execute(plan)
            };
        }
        (worked, requeue)
    }

    fn execute(&mut self, plan: Plan) -> bool {
        let idle = plan.is_idle();
        for step in plan.effects {
            self.check(&step.effect);
            match step.effect {
                Effect::CreateVmi(vmi) => {
                    assert!(self.vmi.is_none(), "a second instance");
                    let mut vmi = serde_json::to_value(&*vmi).expect("json");
                    self.vmis_made += 1;
                    vmi["metadata"]["uid"] = format!("vmi-{}", self.vmis_made).into();
                    vmi["metadata"]["resourceVersion"] = self.next_version().into();
                    vmi["status"] = json!({"phase": "Pending"});
                    self.vmi = Some(vmi);
                }
                Effect::DeleteVmi { .. } => self.delete_vmi(),
                Effect::CreatePod(pod) => self.create_pod(&pod),
                Effect::DeletePod { key, uid, .. } => {
                    assert_eq!(self.pods[&key.name].uid, uid);
                    // The pod runner has nothing to wait for in this world.
                    self.pods.remove(&key.name);
                }
                Effect::PatchVm { patch, .. } => {
                    self.patch(StatusKind::Vm, &patch);
                }
                Effect::PatchNode { .. } => panic!("neither controller writes nodes"),
                Effect::PatchPodStatus { key, patch } => {
                    let pod = self.pods.get_mut(&key.name).expect("the pod");
                    assert_eq!(patch[0]["value"], pod.resource_version.as_str());
                    let value = &patch[1]["value"];
                    let word = if value.is_array() { &value[0]["status"] } else { &value["status"] };
                    let word = word.as_str().expect("a word").to_owned();
                    pod.gate = Some((0, word));
                    pod.has_conditions = true;
                    self.version += 1;
                    pod.resource_version = self.version.to_string();
                }
            }
        }
        if let Some(write) = plan.status {
            let blocked = matches!(write.guard, Some(Guard::NoPodOf { .. })) && !self.pods.is_empty();
            if !blocked {
                self.patch(write.kind, &write.patch);
            }
        }
        self.collect();
        !idle
    }

    /// What must hold whenever something is destroyed.
    fn check(&self, effect: &Effect) {
        match effect {
            Effect::DeleteVmi { uid, .. } => {
                let vm = self.vm.as_ref().expect("a VM");
                let asked = &vm["status"]["stateChangeRequests"][0];
                let meant = vm["metadata"]["deletionTimestamp"].is_string()
                    || vm["spec"]["runStrategy"] == "Halted"
                    || (asked["action"] == "Stop" && asked["uid"] == uid.as_str())
                    || self.vmi_ended();
                assert!(meant, "deleted without anybody meaning it: {vm}");
            }
            Effect::DeletePod { key, .. } if self.handed_over() => {
                let released = self.vmi.as_ref().is_some_and(|vmi| {
                    let all = vmi["status"]["conditions"].as_array();
                    all.is_some_and(|all| all.iter().any(|c| c["type"] == "DomainDeleted" && c["status"] == "True"))
                });
                let other = self.pods.values().any(|pod| pod.is_live() && pod.key.name != key.name);
                assert!(released || other, "the last pod of a held VMI was deleted");
            }
            _ => {}
        }
    }

    fn create_pod(&mut self, pod: &Pod) {
        let name = pod.metadata.name.clone().expect("a name");
        assert!(!self.pods.contains_key(&name), "the name {name} is taken");
        let mut facts = PodFacts::of(pod);
        facts.key = ObjectKey::new("ns", name.clone());
        facts.resource_version = self.next_version();
        facts.uid = format!("pod-{}", facts.resource_version);
        facts.phase = "Pending".into();
        self.pods.insert(name, facts);
    }

    fn patch(&mut self, kind: StatusKind, patch: &Value) {
        let version = self.next_version();
        let object = match kind {
            StatusKind::Vm => &mut self.vm,
            StatusKind::Vmi => &mut self.vmi,
        };
        let Some(object) = object else { return };
        if object["metadata"]["resourceVersion"] != patch["metadata"]["resourceVersion"] {
            return;
        }
        let before = (object["status"]["phase"].clone(), object["status"]["nodeName"].is_string());
        merge(object, patch);
        if kind == StatusKind::Vmi && before.1 {
            assert_eq!(object["status"]["phase"], before.0, "the phase is the node's");
        }
        object["metadata"]["resourceVersion"] = version.into();
    }
}

fn typed<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("a valid object")
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, change) in changes {
        if change.is_null() {
            target.as_object_mut().expect("an object").remove(key);
        } else {
            merge(&mut target[key.as_str()], change);
        }
    }
}
