//! What a scrape tells of real guests.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::namespace::qemu;
use crate::harness::{Instance, Namespace, command, manifest, needs, run, until};

/// Prometheus' own limit is ten seconds; this machine may be busy. Without care a stuck guest takes for ever.
const SCRAPE: Duration = Duration::from_secs(60);

/// The text of one scrape.
struct Scrape(String);

impl Scrape {
    fn of(instance: &Instance) -> Self {
        let began = Instant::now();
        let text = run(&mut instance.kubectl_command(&["get", "--raw", "/metrics"]), "").success();
        assert!(began.elapsed() < SCRAPE, "the scrape took {:?}", began.elapsed());
        Self(text)
    }

    /// Lines of a metric that have all of these labels.
    fn series(&self, metric: &str, labels: &[(&str, &str)]) -> Vec<&str> {
        let has = |line: &&str| {
            let Some(rest) = line.strip_prefix(metric) else { return false };
            rest.starts_with(['{', ' '])
                && labels.iter().all(|(name, value)| rest.contains(&format!("{name}=\"{value}\"")))
        };
        self.0.lines().filter(has).collect()
    }

    /// The value of the one series with these labels.
    #[track_caller]
    fn value(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        let series = self.series(metric, labels);
        assert_eq!(series.len(), 1, "{metric} {labels:?}: {series:#?}");
        series[0].rsplit(' ').next().unwrap().parse().unwrap()
    }
}

fn stuck(vmi: &serde_json::Value, signal: &str) {
    run(&mut command("kill", [signal, &qemu(vmi).to_string()]), "").success();
}

fn of<'a>(ns: &'a Namespace, name: &'a str) -> [(&'a str, &'a str); 2] {
    [("namespace", &ns.name), ("name", name)]
}

#[test]
fn metrics_of_a_guest_move_with_it_and_vanish_with_it() {
    needs!(Daemon);
    let instance = Instance::shared();
    let ns = instance.namespace();
    let vmi = ns.run_vm(&manifest("busy", "Always", |spec| {
        let disks = spec["domain"]["devices"]["disks"].as_array_mut().unwrap();
        disks.push(json!({"name": "scratch", "serial": "SCRATCH01", "disk": {"bus": "virtio"}}));
        spec["volumes"].as_array_mut().unwrap().push(json!({"name": "scratch", "emptyDisk": {"capacity": "16Mi"}}));
    }));
    ns.booted(&vmi);
    let busy = of(&ns, "busy");
    let with = |name: &'static str, value: &'static str| [busy[0], busy[1], (name, value)];

    let first = until("disk statistics of the guest", || {
        let scrape = Scrape::of(&instance);
        let found = !scrape.series("kubevirt_vmi_storage_iops_read_total", &with("drive", "system")).is_empty();
        if found { Ok(scrape) } else { Err(scrape.0) }
    });
    assert!(first.value("kubevirt_vmi_storage_iops_read_total", &with("drive", "system")) > 0.0);
    assert!(first.value("kubevirt_vmi_storage_read_traffic_bytes_total", &with("drive", "system")) > 1e5);
    assert!(first.value("kubevirt_vmi_storage_read_traffic_bytes_total", &with("drive", "cloudinit")) > 0.0);
    assert_eq!(first.value("kubevirt_vmi_memory_domain_bytes", &busy), 96.0 * 1024.0 * 1024.0);
    assert!(first.value("kubevirt_vmi_memory_resident_bytes", &busy) > 1e7);
    assert!(first.value("kubevirt_vmi_vcpu_seconds_total", &with("id", "0")) > 0.0);
    assert_eq!(
        first.series("kubevirt_vmi_cpu_usage_seconds_total", &with("kubernetes_vmi_label_e2e", "busy")).len(),
        1
    );
    assert_eq!(first.value("kubevirt_vmi_info", &with("phase", "running")), 1.0);
    assert!(first.value("kubevirt_vm_running_status_last_transition_timestamp_seconds", &busy) > 1.7e9);
    let running = [("phase", "Running")];
    assert!(first.value("kubevirt_vmi_phase_transition_time_from_creation_seconds_count", &running) >= 1.0);
    assert!(first.value("ferrovirt_libvirt_calls_total", &[("lane", "stats"), ("outcome", "ok")]) > 0.0);
    assert!(first.value("kubevirt_workqueue_adds_total", &[("name", "virt-controller-vmi")]) > 0.0);
    assert!(
        !first.series("kubevirt_rest_client_requests_total", &[("resource", "pods"), ("verb", "CREATE")]).is_empty()
    );
    let phases = first.series("kubevirt_vmi_phase_count", &[("phase", "running")]);
    assert!(!phases.is_empty(), "{}", first.0);

    let size = 256 << 10;
    assert_eq!(ns.sh(&vmi, &format!("head -c {size} /dev/zero | tr '\\0' x\n")).len(), size);
    let scratch = ns.sh(&vmi, "grep -l SCRATCH01 /sys/block/*/serial\n").split('/').nth(3).unwrap().to_owned();
    ns.sh(&vmi, &format!("head -c {size} /dev/urandom > /dev/{scratch}; sync\n"));
    let second = Scrape::of(&instance);
    let grew = |metric: &str, labels: &[(&str, &str)], by: f64| {
        let (before, after) = (first.value(metric, labels), second.value(metric, labels));
        assert!(after >= before + by, "{metric} went from {before} to {after}, not {by} more");
    };
    grew("kubevirt_vmi_cpu_usage_seconds_total", &busy, 0.01);
    grew("kubevirt_vmi_network_transmit_bytes_total", &with("interface", "default"), size as f64);
    grew("kubevirt_vmi_network_receive_bytes_total", &with("interface", "default"), 100.0);
    grew("kubevirt_vmi_storage_write_traffic_bytes_total", &with("drive", "scratch"), size as f64);

    ns.virtctl(&["stop", "busy"]).success();
    ns.until_status("busy", "Stopped");
    let last = until("no series of the instance", || {
        let scrape = Scrape::of(&instance);
        let marks = busy.map(|(name, value)| format!("{name}=\"{value}\""));
        let left: Vec<_> = scrape.0.lines().filter(|line| line.starts_with("kubevirt_vmi_")).collect();
        let left: Vec<_> = left.into_iter().filter(|line| marks.iter().all(|mark| line.contains(mark))).collect();
        if left.is_empty() { Ok(Scrape(scrape.0.clone())) } else { Err(left.join("\n")) }
    });
    assert_eq!(last.value("kubevirt_vm_info", &with("status", "Stopped")), 1.0);
    assert_eq!(last.value("kubevirt_vm_running_status_last_transition_timestamp_seconds", &busy), 0.0);
    assert!(last.value("kubevirt_vm_non_running_status_last_transition_timestamp_seconds", &busy) > 1.7e9);
}

#[test]
fn stuck_guest_holds_up_no_scrape_and_hides_no_other_guest() {
    needs!(Daemon);
    let instance = Instance::shared();
    let ns = instance.namespace();
    let [stopped, other] = ["stopped", "other"].map(|name| manifest(name, "Always", |_| {}));
    let (stopped, other) = (ns.run_vm(&stopped), ns.run_vm(&other));
    ns.booted(&stopped);
    ns.booted(&other);
    let disks =
        |scrape: &Scrape, name: &str| scrape.series("kubevirt_vmi_storage_iops_read_total", &of(&ns, name)).len();
    let all_read = || {
        let scrape = Scrape::of(&instance);
        let found = ["stopped", "other"].map(|name| disks(&scrape, name));
        if found == [2, 2] { Ok(scrape) } else { Err(format!("{found:?}")) }
    };
    until("disks of both guests", all_read);

    stuck(&stopped, "-STOP");
    let hung = until("a scrape without the guest that hangs", || {
        let scrape = Scrape::of(&instance);
        if disks(&scrape, "stopped") == 0 { Ok(scrape) } else { Err(scrape.0) }
    });
    // The kernel still tells of its process and its tap.
    assert_eq!(hung.series("kubevirt_vmi_cpu_usage_seconds_total", &of(&ns, "stopped")).len(), 1);
    assert_eq!(hung.series("kubevirt_vmi_network_receive_bytes_total", &of(&ns, "stopped")).len(), 1);
    for _ in 0..3 {
        let scrape = Scrape::of(&instance);
        assert_eq!(disks(&scrape, "other"), 2, "{}", scrape.0);
        assert_eq!(disks(&scrape, "stopped"), 0);
        assert!(!scrape.series("ferrovirt_vmi_stats_unreadable_total", &[("source", "libvirt")]).is_empty());
    }
    stuck(&stopped, "-CONT");
    until("disks of both guests again", all_read);
}

#[test]
fn nobody_reads_metrics_without_a_certificate() {
    needs!(Daemon);
    let instance = Instance::shared();
    let config = run(&mut instance.kubectl_command(&["config", "view", "--raw", "-o", "json"]), "").success();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let url = format!("{}/metrics", config["clusters"][0]["cluster"]["server"].as_str().unwrap());
    let answer = run(&mut command("curl", ["-sk", "--max-time", "60", &url]), "").success();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["code"], json!(401));
}
