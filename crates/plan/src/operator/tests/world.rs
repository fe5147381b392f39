//! A cluster in memory: stores objects as an API server does, makes workloads ready as controllers do, and signs certificates.

use std::collections::BTreeMap;
use std::time::Duration;

use fv_api::{KubeVirt, KubeVirtStatus};
use fv_render::install::{ImageSource, Install, Monitoring, ObjectId, certificates as rendered};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::operator::certificates::{Authority, AuthorityCertificate, CertificateStep, LeafCertificate, published};
use crate::operator::objects::Live;
use crate::operator::{Effect, Observed, Plan, Target, Workload, decide};

pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) kubevirt: Option<KubeVirt>,
    pub(super) elders: Vec<String>,
    pub(super) live: BTreeMap<ObjectId, Live>,
    pub(super) workloads: Vec<Workload>,
    pub(super) outdated: Option<usize>,
    pub(super) authority: Authority,
    /// Workloads that never become ready.
    pub(super) broken: Vec<&'static str>,
    /// Whether there is a Prometheus operator.
    pub(super) is_monitored: bool,
    /// Every write, in order.
    pub(super) log: Vec<String>,
    written: BTreeMap<ObjectId, i64>,
    counter: u64,
}

impl World {
    pub(super) fn new(spec: Value) -> Self {
        let mut world = Self {
            now: "2026-11-25T00:00:00Z".parse().unwrap(),
            kubevirt: None,
            elders: Vec::new(),
            live: BTreeMap::new(),
            workloads: Vec::new(),
            outdated: Some(0),
            authority: Authority::default(),
            broken: Vec::new(),
            is_monitored: false,
            log: Vec::new(),
            written: BTreeMap::new(),
            counter: 0,
        };
        world.kubevirt = Some(
            serde_json::from_value(json!({
                "apiVersion": "kubevirt.io/v1", "kind": "KubeVirt", "spec": spec,
                "metadata": {"name": "kubevirt", "namespace": "kubevirt", "uid": "kv", "generation": 1, "resourceVersion": "1"}
            }))
            .unwrap(),
        );
        world
    }

    pub(super) fn status(&self) -> KubeVirtStatus {
        self.kubevirt.as_ref().and_then(|kubevirt| kubevirt.status.clone()).unwrap_or_default()
    }

    pub(super) fn phase(&self) -> String {
        self.status().phase.unwrap_or_default()
    }

    /// `status/reason` of a condition.
    pub(super) fn condition(&self, type_: &str) -> Option<String> {
        let conditions = self.status().conditions;
        let found = conditions.into_iter().find(|condition| condition.type_ == type_)?;
        Some(format!("{}/{}", found.status, found.reason.unwrap_or_default()))
    }

    pub(super) fn message(&self, type_: &str) -> String {
        let conditions = self.status().conditions;
        conditions.into_iter().find(|c| c.type_ == type_).and_then(|c| c.message).unwrap_or_default()
    }

    /// Changes the resource's spec as a user does.
    pub(super) fn edit(&mut self, change: impl FnOnce(&mut fv_api::KubeVirtSpec)) {
        let kubevirt = self.kubevirt.as_mut().unwrap();
        change(&mut kubevirt.spec);
        *kubevirt.metadata.generation.as_mut().unwrap() += 1;
        self.touch();
    }

    pub(super) fn delete_kubevirt(&mut self) {
        let now = self.now;
        let kubevirt = self.kubevirt.as_mut().unwrap();
        kubevirt.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        self.touch();
    }

    fn touch(&mut self) {
        self.counter += 1;
        let version = format!("kv{}", self.counter);
        self.kubevirt.as_mut().unwrap().metadata.resource_version = Some(version);
    }

    /// Puts an object there that is nobody's of ours.
    pub(super) fn add_foreign(&mut self, value: Value) {
        self.store(value);
    }

    fn store(&mut self, mut value: Value) -> Option<i64> {
        let id = ObjectId::of(&value);
        self.counter += 1;
        let old = self.live.get(&id);
        let uid = old.map_or_else(|| format!("u{}", self.counter), |old| old.uid().to_owned());
        let counts = ["Deployment", "DaemonSet", "CustomResourceDefinition", "MutatingWebhookConfiguration"];
        let has_generation = counts.contains(&id.kind.as_str());
        let generation = match old {
            Some(old) if old.value["spec"] == value["spec"] && old.value["webhooks"] == value["webhooks"] => {
                old.generation().unwrap_or(1)
            }
            Some(old) => old.generation().unwrap_or(0) + 1,
            None => 1,
        };
        value["metadata"]["uid"] = json!(uid);
        value["metadata"]["resourceVersion"] = json!(format!("{}", self.counter));
        // What an API server adds on its own.
        value["metadata"]["creationTimestamp"] = json!("2026-11-25T00:00:00Z");
        if has_generation {
            value["metadata"]["generation"] = json!(generation);
        }
        if let Some(status) = old.and_then(|old| old.value.get("status")) {
            value["status"] = status.clone();
        }
        self.live.insert(id, Live { value });
        has_generation.then_some(generation)
    }

    /// Controllers of the cluster do their part.
    pub(super) fn settle(&mut self) {
        for (id, live) in &mut self.live {
            if self.broken.contains(&id.name.as_str()) {
                continue;
            }
            let generation = live.generation().unwrap_or_default();
            let replicas = live.value["spec"]["replicas"].clone();
            match id.kind.as_str() {
                "CustomResourceDefinition" => {
                    live.value["status"] = json!({"conditions": [{"type": "Established", "status": "True"}]});
                }
                "APIService" => live.value["status"] = json!({"conditions": [{"type": "Available", "status": "True"}]}),
                "Deployment" => {
                    live.value["status"] = json!({"observedGeneration": generation, "replicas": replicas,
                        "updatedReplicas": replicas, "availableReplicas": replicas});
                }
                "DaemonSet" => {
                    live.value["status"] = json!({"observedGeneration": generation, "desiredNumberScheduled": 2,
                        "updatedNumberScheduled": 2, "numberAvailable": 2});
                }
                _ => {}
            }
        }
        // Guests shut down.
        self.workloads.retain(|workload| !workload.is_leaving);
    }

    pub(super) fn observe(&self) -> Option<Observed> {
        let kubevirt = self.kubevirt.clone()?;
        let images =
            ImageSource::of_operator_image("quay.io/ferrovirt/virt-operator:v1", "v1").unwrap().resolve(&kubevirt.spec);
        let bundle = published(&self.authority);
        let candidates = Monitoring::candidates(&kubevirt.spec);
        let monitoring = candidates.first().filter(|_| self.is_monitored);
        let install =
            Install { kubevirt: &kubevirt, namespace: "kubevirt", images: &images, ca_bundle: &bundle, monitoring };
        let mut objects = install.objects().unwrap();
        for object in objects.iter_mut().filter(|object| object.value["kind"] == "CustomResourceDefinition") {
            // Schemas are large, and nothing here looks at them.
            object.value["spec"] = json!({"scope": "Namespaced"});
        }
        let target = Target {
            objects,
            identifier: install.identifier().unwrap(),
            config: install.deployment_config().unwrap().to_string(),
            registry: images.registry().to_owned(),
            version: images.version().to_owned(),
        };
        Some(Observed {
            kubevirt,
            elders: self.elders.clone(),
            namespace: "kubevirt".into(),
            operator_version: "v1".into(),
            architecture: "amd64".into(),
            target: Ok(target),
            live: self.live.clone(),
            written: self.written.clone(),
            authority: self.authority.clone(),
            workloads: self.workloads.clone(),
            outdated: self.outdated,
            failure: None,
        })
    }

    pub(super) fn decide(&self) -> Plan {
        self.observe().map(|observed| decide(&observed, self.now)).unwrap_or_default()
    }

    /// One look and the first `budget` writes of what follows from it. Then the operator dies, and what it knew with it.
    pub(super) fn step(&mut self, budget: usize) -> Plan {
        let plan = self.decide();
        let mut left = budget;
        for effect in &plan.effects {
            if left == 0 {
                self.written.clear();
                return plan;
            }
            left -= 1;
            self.execute(effect);
        }
        match (&plan.status, left) {
            (Some(_), 0) => self.written.clear(),
            (Some(status), _) => {
                if let Some(kubevirt) = &mut self.kubevirt {
                    kubevirt.status = Some(status.clone());
                    self.touch();
                }
            }
            (None, _) => {}
        }
        plan
    }

    /// Looks and acts until nothing is left to do.
    pub(super) fn run(&mut self) {
        for _ in 0..100 {
            let before = self.log.len();
            let plan = self.step(usize::MAX);
            self.settle();
            if plan.effects.is_empty() && plan.status.is_none() && self.log.len() == before {
                return;
            }
        }
        panic!("the operator does not come to rest: {:?}", self.log.iter().rev().take(8).collect::<Vec<_>>());
    }

    fn execute(&mut self, effect: &Effect) {
        match effect {
            Effect::SetFinalizers { finalizers, resource_version } => {
                let kubevirt = self.kubevirt.as_mut().unwrap();
                assert_eq!(kubevirt.metadata.resource_version.as_ref(), Some(resource_version));
                kubevirt.metadata.finalizers = Some(finalizers.clone());
                self.log.push(format!("finalizers {}", finalizers.len()));
                if finalizers.is_empty() && kubevirt.metadata.deletion_timestamp.is_some() {
                    self.kubevirt = None;
                    return;
                }
                self.touch();
            }
            Effect::Create(value) => {
                let id = ObjectId::of(value);
                assert!(!self.live.contains_key(&id), "{id} is there already");
                self.log.push(format!("create {id}"));
                let generation = self.store(value.clone());
                self.written.extend(generation.map(|generation| (id, generation)));
            }
            Effect::Replace(value) => {
                let id = ObjectId::of(value);
                let live = &self.live[&id];
                assert_eq!(live.value["metadata"]["resourceVersion"], value["metadata"]["resourceVersion"], "{id}");
                assert_eq!(
                    live.value["metadata"]["labels"]["ferrovirt.io/installed-by"], "kubevirt",
                    "{id} is not ours"
                );
                self.log.push(format!("replace {id}"));
                let generation = self.store(value.clone());
                self.written.extend(generation.map(|generation| (id, generation)));
            }
            Effect::Delete { id, uid } => {
                let live = &self.live[id];
                assert_eq!(live.uid(), uid);
                assert_eq!(
                    live.value["metadata"]["labels"]["ferrovirt.io/installed-by"], "kubevirt",
                    "{id} is not ours"
                );
                self.log.push(format!("delete {id}"));
                self.live.remove(id);
                self.reread_certificates();
            }
            Effect::Certificates(step) => self.renew(step),
            Effect::DeleteWorkload(workload) => {
                self.log.push(format!("delete workload {}", workload.name));
                for known in self.workloads.iter_mut().filter(|known| known.uid == workload.uid) {
                    known.is_leaving = true;
                }
            }
        }
    }

    fn renew(&mut self, step: &CertificateStep) {
        let end = |now: Timestamp, span: Duration| now + SignedDuration::try_from(span).unwrap();
        self.counter += 1;
        let fresh = |name: String, duration| AuthorityCertificate {
            pem: format!("-----{name}\n"),
            fingerprint: name,
            made_at: self.now,
            not_after: end(self.now, duration),
        };
        match step {
            CertificateStep::NewAuthority { lifetime } => {
                self.log.push("new authority".into());
                self.authority.current = Some(fresh(format!("ca{}", self.counter), lifetime.duration));
                self.authority.next = None;
            }
            CertificateStep::NewSuccessor { lifetime } => {
                self.log.push("new successor".into());
                self.authority.next = Some(fresh(format!("ca{}", self.counter), lifetime.duration));
            }
            CertificateStep::Promote => {
                self.log.push("promote".into());
                self.authority.current = self.authority.next.take();
            }
            CertificateStep::Publish { bundle } => {
                self.log.push("publish".into());
                let known: Vec<AuthorityCertificate> = [&self.authority.current, &self.authority.next]
                    .into_iter()
                    .flatten()
                    .chain(&self.authority.published)
                    .cloned()
                    .collect();
                let find = |pem: &str| known.iter().find(|known| known.pem.trim_end() == pem).cloned().unwrap();
                self.authority.published = bundle.lines().map(find).collect();
                self.store(rendered::bundle("kubevirt", bundle).value);
            }
            CertificateStep::Issue { certificate, lifetime } => {
                let current = self.authority.current.clone().unwrap();
                let is_known = self.authority.published.iter().any(|known| known.fingerprint == current.fingerprint);
                assert!(is_known, "a certificate is signed by an authority that nobody trusts yet");
                self.log.push(format!("issue {}", certificate.secret));
                let leaf = LeafCertificate {
                    issuer: current.fingerprint,
                    common_name: certificate.common_name.clone(),
                    dns_names: certificate.dns_names.clone(),
                    not_after: end(self.now, lifetime.duration).min(current.not_after),
                };
                self.authority.leaves.insert(certificate.secret.to_owned(), leaf);
                self.store(rendered::secret("kubevirt", certificate.secret, "crt", "key").value);
            }
        }
        if matches!(
            step,
            CertificateStep::NewAuthority { .. } | CertificateStep::NewSuccessor { .. } | CertificateStep::Promote
        ) {
            self.store(rendered::secret("kubevirt", rendered::AUTHORITY, "crt", "key").value);
        }
    }

    /// What is known of certificates is what is in their objects.
    pub(super) fn reread_certificates(&mut self) {
        let has = |kind: &str, name: &str| self.live.keys().any(|id| id.kind == kind && id.name == name);
        if !has("Secret", rendered::AUTHORITY) {
            (self.authority.current, self.authority.next) = (None, None);
        }
        if !has("ConfigMap", rendered::AUTHORITY) {
            self.authority.published.clear();
        }
        let live = &self.live;
        self.authority.leaves.retain(|name, _| live.keys().any(|id| id.kind == "Secret" && id.name == *name));
    }
}
