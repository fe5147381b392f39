//! Pure: what is known of a guest → samples. What is not known has no sample, never a zero.

use fv_host::link::LinkStats;
use fv_hypervisor::stats::{DiskStats, MemoryStats, VcpuStats};
use fv_metrics::catalogue::domain as metric;
use fv_metrics::{Definition, Samples};

use super::facts::Guest;
use crate::process::ProcessStats;

const NANOSECONDS: f64 = 1e9;
const KIB: f64 = 1024.0;

pub(super) fn guest(all: &mut Samples, guest: &Guest) {
    let mut series = Series { all, guest };
    if let Some(process) = guest.process {
        series.process(process);
    }
    if let Some(stats) = &guest.stats {
        series.memory(&stats.memory);
        stats.vcpus.iter().for_each(|vcpu| series.vcpu(vcpu));
        stats.disks.iter().for_each(|disk| series.disk(disk));
    }
    guest.links.iter().for_each(|(interface, link)| series.link(interface, link));
}

struct Series<'a> {
    all: &'a mut Samples,
    guest: &'a Guest,
}

impl Series<'_> {
    fn push(&mut self, metric: &Definition, more: &[&str], amount: f64) {
        let Guest { node, namespace, name, labels, .. } = self.guest;
        let values: Vec<&str> =
            [node, namespace, name].into_iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.all.push_with(metric, &values, labels, amount);
    }

    fn push_known(&mut self, metric: &Definition, more: &[&str], amount: Option<u64>, unit: f64) {
        if let Some(amount) = amount {
            self.push(metric, more, amount as f64 * unit);
        }
    }

    fn process(&mut self, process: ProcessStats) {
        self.push(&metric::CPU_USAGE, &[], process.user + process.system);
        self.push(&metric::CPU_USER, &[], process.user);
        self.push(&metric::CPU_SYSTEM, &[], process.system);
        self.push(&metric::MEMORY_RESIDENT, &[], process.resident as f64);
    }

    fn memory(&mut self, memory: &MemoryStats) {
        for (metric, amount) in [
            (&metric::MEMORY_DOMAIN, memory.maximum),
            (&metric::MEMORY_BALLOON, memory.current),
            (&metric::MEMORY_AVAILABLE, memory.available),
            (&metric::MEMORY_UNUSED, memory.unused),
            (&metric::MEMORY_USABLE, memory.usable),
            (&metric::MEMORY_CACHED, memory.caches),
            (&metric::MEMORY_SWAP_IN, memory.swap_in),
            (&metric::MEMORY_SWAP_OUT, memory.swap_out),
        ] {
            self.push_known(metric, &[], amount, KIB);
        }
        self.push_known(&metric::MEMORY_MAJOR_FAULTS, &[], memory.major_faults, 1.0);
        self.push_known(&metric::MEMORY_MINOR_FAULTS, &[], memory.minor_faults, 1.0);
    }

    fn vcpu(&mut self, vcpu: &VcpuStats) {
        let id = vcpu.id.to_string();
        let state = vcpu.state.map(|state| state.as_str()).unwrap_or_default();
        self.push_known(&metric::VCPU_SECONDS, &[&id, state], vcpu.time, 1.0 / NANOSECONDS);
        self.push_known(&metric::VCPU_WAIT, &[&id], vcpu.wait, 1.0 / NANOSECONDS);
        self.push_known(&metric::VCPU_DELAY, &[&id], vcpu.delay, 1.0 / NANOSECONDS);
    }

    fn disk(&mut self, disk: &DiskStats) {
        let drive = self.guest.volumes.get(&disk.target).unwrap_or(&disk.target);
        for (metric, amount, unit) in [
            (&metric::STORAGE_READS, disk.reads, 1.0),
            (&metric::STORAGE_WRITES, disk.writes, 1.0),
            (&metric::STORAGE_READ_BYTES, disk.read_bytes, 1.0),
            (&metric::STORAGE_WRITE_BYTES, disk.write_bytes, 1.0),
            (&metric::STORAGE_READ_TIME, disk.read_time, 1.0 / NANOSECONDS),
            (&metric::STORAGE_WRITE_TIME, disk.write_time, 1.0 / NANOSECONDS),
            (&metric::STORAGE_FLUSHES, disk.flushes, 1.0),
            (&metric::STORAGE_FLUSH_TIME, disk.flush_time, 1.0 / NANOSECONDS),
        ] {
            self.push_known(metric, &[drive], amount, unit);
        }
    }

    fn link(&mut self, interface: &str, link: &LinkStats) {
        for (metric, amount) in [
            (&metric::RECEIVE_BYTES, link.rx_bytes),
            (&metric::RECEIVE_PACKETS, link.rx_packets),
            (&metric::RECEIVE_ERRORS, link.rx_errors),
            (&metric::RECEIVE_DROPPED, link.rx_dropped),
            (&metric::TRANSMIT_BYTES, link.tx_bytes),
            (&metric::TRANSMIT_PACKETS, link.tx_packets),
            (&metric::TRANSMIT_ERRORS, link.tx_errors),
            (&metric::TRANSMIT_DROPPED, link.tx_dropped),
        ] {
            self.push(metric, &[interface], amount as f64);
        }
        self.push(&metric::TRAFFIC_BYTES, &[interface, "rx"], link.rx_bytes as f64);
        self.push(&metric::TRAFFIC_BYTES, &[interface, "tx"], link.tx_bytes as f64);
    }
}

#[cfg(test)]
mod tests {
    use fv_hypervisor::DomainStats;
    use fv_hypervisor::stats::VcpuState;

    use super::*;

    fn lines(guest: Guest) -> Vec<String> {
        let guest = Guest { node: "n".into(), namespace: "ns".into(), name: "a".into(), ..guest };
        let mut all = Samples::default();
        super::guest(&mut all, &guest);
        all.lines()
    }

    #[test]
    fn what_cannot_be_read_has_no_series() {
        assert!(lines(Guest::default()).is_empty());
        let disk = DiskStats { target: "vda".into(), reads: Some(0), ..DiskStats::default() };
        let stats = DomainStats { disks: vec![disk], ..DomainStats::default() };
        let found = lines(Guest { stats: Some(stats), ..Guest::default() });
        assert_eq!(
            found,
            ["kubevirt_vmi_storage_iops_read_total{node=\"n\",namespace=\"ns\",name=\"a\",drive=\"vda\"} 0"]
        );
    }

    #[test]
    fn units_are_seconds_and_bytes_and_drives_are_volumes() {
        let stats = DomainStats {
            memory: MemoryStats { maximum: Some(65536), major_faults: Some(7), ..MemoryStats::default() },
            vcpus: vec![VcpuStats {
                id: 0,
                state: Some(VcpuState::Running),
                time: Some(2_500_000_000),
                wait: None,
                delay: Some(500_000_000),
            }],
            disks: vec![DiskStats {
                target: "vda".into(),
                write_bytes: Some(512),
                flush_time: Some(1_500_000_000),
                ..DiskStats::default()
            }],
        };
        let found = lines(Guest {
            labels: vec![("kubernetes_vmi_label_x".into(), "y".into())],
            volumes: [("vda".to_owned(), "system".to_owned())].into(),
            stats: Some(stats),
            process: Some(ProcessStats { user: 1.5, system: 0.25, resident: 4096 }),
            ..Guest::default()
        });
        let series = |name: &str, more: &str, amount: &str| {
            format!(
                "kubevirt_vmi_{name}{{node=\"n\",namespace=\"ns\",name=\"a\"{more},kubernetes_vmi_label_x=\"y\"}} {amount}"
            )
        };
        assert_eq!(
            found,
            [
                series("cpu_system_usage_seconds_total", "", "0.25"),
                series("cpu_usage_seconds_total", "", "1.75"),
                series("cpu_user_usage_seconds_total", "", "1.5"),
                series("memory_domain_bytes", "", "67108864"),
                series("memory_pgmajfault_total", "", "7"),
                series("memory_resident_bytes", "", "4096"),
                series("storage_flush_times_seconds_total", ",drive=\"system\"", "1.5"),
                series("storage_write_traffic_bytes_total", ",drive=\"system\"", "512"),
                series("vcpu_delay_seconds_total", ",id=\"0\"", "0.5"),
                series("vcpu_seconds_total", ",id=\"0\",state=\"running\"", "2.5"),
            ]
        );
    }

    #[test]
    fn traffic_is_told_from_the_side_of_the_guest() {
        let link = LinkStats { rx_bytes: 10, tx_bytes: 20, tx_dropped: 3, ..LinkStats::default() };
        let found = lines(Guest { links: vec![("default".into(), link)], ..Guest::default() });
        let series = |name: &str, more: &str, amount: u64| {
            format!(
                "kubevirt_vmi_network_{name}{{node=\"n\",namespace=\"ns\",name=\"a\",interface=\"default\"{more}}} {amount}"
            )
        };
        for expected in [
            series("receive_bytes_total", "", 10),
            series("transmit_bytes_total", "", 20),
            series("transmit_packets_dropped_total", "", 3),
            series("traffic_bytes_total", ",type=\"rx\"", 10),
            series("traffic_bytes_total", ",type=\"tx\"", 20),
        ] {
            assert!(found.contains(&expected), "{expected} in {found:#?}");
        }
    }
}
