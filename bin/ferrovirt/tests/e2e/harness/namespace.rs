//! A namespace of its own for each test, and what tests do with the machines in it.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};

use super::guest::Page;
use super::{Done, Instance, http, page, run, until};

/// A namespace; deleted when dropped.
pub(crate) struct Namespace {
    pub(crate) instance: Arc<Instance>,
    pub(crate) name: String,
}

impl Namespace {
    pub(crate) fn create(instance: Arc<Instance>, name: &str) -> Self {
        run(&mut instance.kubectl_command(&["create", "namespace", name]), "").success();
        Self { instance, name: name.to_owned() }
    }

    pub(crate) fn kubectl(&self, args: &[&str]) -> Done {
        self.kubectl_with(args, "")
    }

    pub(crate) fn kubectl_with(&self, args: &[&str], input: &str) -> Done {
        run(self.instance.kubectl_command(args).args(["-n", &self.name]), input)
    }

    pub(crate) fn virtctl_command(&self, args: &[&str]) -> Command {
        let mut command = self.instance.virtctl_command(args);
        command.args(["-n", &self.name]);
        command
    }

    pub(crate) fn virtctl(&self, args: &[&str]) -> Done {
        run(&mut self.virtctl_command(args), "")
    }

    pub(crate) fn apply(&self, manifest: &Value) -> Done {
        self.kubectl_with(&["apply", "-f", "-"], &manifest.to_string())
    }

    /// The object, or `None` when there is none.
    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<Value> {
        let out = self.kubectl(&["get", kind, name, "-o", "json", "--ignore-not-found"]).success();
        (!out.trim().is_empty()).then(|| serde_json::from_str(&out).unwrap())
    }

    #[track_caller]
    pub(crate) fn get(&self, kind: &str, name: &str) -> Value {
        self.find(kind, name).unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    /// Waits until the object is as wanted; `Null` stands for no object.
    pub(crate) fn until(&self, kind: &str, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{kind} {}/{name}: {what}", self.name), || {
            let object = self.find(kind, name).unwrap_or_default();
            if wanted(&object) { Ok(object) } else { Err(format!("{}", object["status"])) }
        })
    }

    /// Waits for a printable status of the VM.
    pub(crate) fn until_status(&self, vm: &str, status: &str) -> Value {
        self.until("vm", vm, status, |object| object["status"]["printableStatus"] == status)
    }

    pub(crate) fn until_gone(&self, kind: &str, name: &str) {
        self.until(kind, name, "gone", Value::is_null);
    }

    /// Applies a VM that starts (or starts it) and waits until it is Running; returns its VMI.
    pub(crate) fn run_vm(&self, manifest: &Value) -> Value {
        self.apply(manifest).success();
        let name = manifest["metadata"]["name"].as_str().unwrap();
        if matches!(manifest["spec"]["runStrategy"].as_str(), Some("Halted" | "Manual")) {
            self.virtctl(&["start", name]).success();
        }
        self.running(name, None)
    }

    /// Waits until the VMI runs with an address; not the one with UID `before`.
    pub(crate) fn running(&self, name: &str, before: Option<&Value>) -> Value {
        let old = before.map(|vmi| vmi["metadata"]["uid"].clone());
        let vmi = self.until("vmi", name, "Running with an address", |vmi| {
            vmi["status"]["phase"] == "Running"
                && vmi["status"]["interfaces"][0]["ipAddress"].is_string()
                && old.as_ref() != Some(&vmi["metadata"]["uid"])
        });
        self.instance.mark(uid(&vmi));
        vmi
    }

    /// Waits until the guest's page answers and is as wanted.
    pub(crate) fn until_page(&self, vmi: &Value, what: &str, wanted: impl Fn(&Page) -> bool) -> Page {
        until(what, || match page(web(vmi)) {
            Ok(page) if wanted(&page) => Ok(page),
            other => Err(format!("{other:?}")),
        })
    }

    /// Waits until the guest serves its page.
    pub(crate) fn booted(&self, vmi: &Value) -> Page {
        self.until_page(vmi, "the guest's page", |_| true)
    }

    /// Runs a command in the guest; see `boot_commands`.
    #[track_caller]
    pub(crate) fn sh(&self, vmi: &Value, command: &str) -> String {
        http(web(vmi), "/cgi-bin/sh", Some(command)).unwrap().trim().to_owned()
    }

    /// Seconds since the guest's kernel started, by its own clock.
    #[track_caller]
    pub(crate) fn uptime(&self, vmi: &Value) -> f64 {
        let text = self.sh(vmi, "cat /proc/uptime\n");
        text.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("uptime {text:?}"))
    }

    /// Waits for an event about an object.
    pub(crate) fn until_event(&self, name: &str, reason: &str) -> Value {
        until(&format!("event {reason} about {name}"), || {
            let out = self.kubectl(&["get", "events", "-o", "json"]).success();
            let events: Value = serde_json::from_str(&out).unwrap();
            let list = events["items"].as_array().unwrap();
            let found = list.iter().find(|e| {
                e["reason"] == reason && e["involvedObject"]["name"].as_str().is_some_and(|n| n.contains(name))
            });
            let reasons =
                || list.iter().map(|e| format!("{}: {}", e["reason"], e["message"])).collect::<Vec<_>>().join("\n");
            found.cloned().ok_or_else(reasons)
        })
    }

    /// The launcher pod of a VMI.
    pub(crate) fn launcher_pod(&self, vmi: &Value) -> Value {
        let out = self.kubectl(&["get", "pods", "-o", "json"]).success();
        let pods: Value = serde_json::from_str(&out).unwrap();
        let owned = |pod: &&Value| {
            pod["metadata"]["ownerReferences"][0]["uid"] == vmi["metadata"]["uid"]
                && pod["metadata"]["deletionTimestamp"].is_null()
        };
        pods["items"].as_array().unwrap().iter().find(owned).cloned().unwrap_or_default()
    }

    pub(crate) fn delete(&self, kind: &str, name: &str) {
        self.kubectl(&["delete", kind, name, "--timeout=280s"]).success();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for args in [&["get", "vms,vmis,pods", "-o", "yaml"][..], &["get", "events"]] {
                let done = self.kubectl(args);
                eprintln!("---- {}\n{}{}", done.what, done.out, done.err);
            }
        }
        // A guest whose test is over need not be asked politely.
        let vmis = self.kubectl(&["get", "vmi", "-o", "name"]).out;
        for vmi in vmis.lines() {
            let patch = json!({"spec": {"runStrategy": "Halted"}}).to_string();
            let name = vmi.rsplit('/').next().unwrap_or(vmi);
            let _ = self.kubectl(&["patch", "vm", name, "--type=merge", "-p", &patch]);
            let _ = self.virtctl(&["stop", name, "--force", "--grace-period=0"]);
        }
        let done = self.kubectl(&["delete", "namespace", &self.name, "--timeout=280s"]);
        if !std::thread::panicking() {
            done.success();
        }
    }
}

pub(crate) fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap()
}

/// Where the guest's web page is.
pub(crate) fn web(vmi: &Value) -> SocketAddr {
    let ip: IpAddr =
        vmi["status"]["interfaces"][0]["ipAddress"].as_str().expect("the VMI has an address").parse().unwrap();
    SocketAddr::new(ip, 80)
}

/// Pid of the guest's QEMU.
pub(crate) fn qemu(vmi: &Value) -> u32 {
    let pids = Instance::processes(&["qemu-system", &format!("guest=fv-{}", uid(vmi))]);
    assert_eq!(pids.len(), 1, "QEMU processes of VMI {}: {pids:?}", uid(vmi));
    pids[0]
}

/// Pid of the VMI's launcher, if it runs.
pub(crate) fn launcher(vmi: &Value) -> Option<u32> {
    let pids = Instance::processes(&["virt-launcher", "--share-dir", uid(vmi)]);
    pids.into_iter().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "virt-launcher")
    })
}
