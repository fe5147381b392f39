//! Statistics of a domain, as libvirt gives them: a list of names and values.

/// One of libvirt's values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StatValue {
    Number(u64),
    Text(String),
}

/// Statistics of one domain. What libvirt did not say is `None`, never zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainStats {
    pub memory: MemoryStats,
    pub vcpus: Vec<VcpuStats>,
    pub disks: Vec<DiskStats>,
}

/// Memory, in KiB; from `available` on the guest's balloon driver says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    pub current: Option<u64>,
    pub maximum: Option<u64>,
    pub available: Option<u64>,
    pub unused: Option<u64>,
    pub usable: Option<u64>,
    pub caches: Option<u64>,
    pub swap_in: Option<u64>,
    pub swap_out: Option<u64>,
    /// A number of faults.
    pub major_faults: Option<u64>,
    pub minor_faults: Option<u64>,
}

/// A vCPU; times in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VcpuStats {
    pub id: u32,
    pub state: Option<VcpuState>,
    pub time: Option<u64>,
    /// Waiting for I/O.
    pub wait: Option<u64>,
    /// Ready to run, but another process ran.
    pub delay: Option<u64>,
}

/// What a vCPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuState {
    Offline,
    Running,
    Blocked,
}

impl VcpuState {
    /// libvirt's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Running => "running",
            Self::Blocked => "blocked",
        }
    }
}

/// A disk; times in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// `vda`
    pub target: String,
    pub reads: Option<u64>,
    pub read_bytes: Option<u64>,
    pub read_time: Option<u64>,
    pub writes: Option<u64>,
    pub write_bytes: Option<u64>,
    pub write_time: Option<u64>,
    pub flushes: Option<u64>,
    pub flush_time: Option<u64>,
}

/// vCPUs and disks that are looked at.
const MAX_DEVICES: u64 = 1024;

impl DomainStats {
    pub(crate) fn parse(values: &[(String, StatValue)]) -> Self {
        let find = |name: &str| values.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let number = |name: &str| match find(name) {
            Some(StatValue::Number(number)) => Some(*number),
            _ => None,
        };
        let balloon = |name: &str| number(&format!("balloon.{name}"));
        let memory = MemoryStats {
            current: balloon("current"),
            maximum: balloon("maximum"),
            available: balloon("available"),
            unused: balloon("unused"),
            usable: balloon("usable"),
            caches: balloon("disk_caches"),
            swap_in: balloon("swap_in"),
            swap_out: balloon("swap_out"),
            major_faults: balloon("major_fault"),
            minor_faults: balloon("minor_fault"),
        };
        let count = |name: &str| u32::try_from(number(name).unwrap_or_default().min(MAX_DEVICES)).unwrap_or_default();
        let vcpu = |id: u32| {
            let of = |name: &str| number(&format!("vcpu.{id}.{name}"));
            let state = of("state").and_then(|state| match state {
                0 => Some(VcpuState::Offline),
                1 => Some(VcpuState::Running),
                2 => Some(VcpuState::Blocked),
                _ => None,
            });
            VcpuStats { id, state, time: of("time"), wait: of("wait"), delay: of("delay") }
        };
        let disk = |index: u32| {
            let of = |name: &str| number(&format!("block.{index}.{name}"));
            let Some(StatValue::Text(target)) = find(&format!("block.{index}.name")) else { return None };
            Some(DiskStats {
                target: target.clone(),
                reads: of("rd.reqs"),
                read_bytes: of("rd.bytes"),
                read_time: of("rd.times"),
                writes: of("wr.reqs"),
                write_bytes: of("wr.bytes"),
                write_time: of("wr.times"),
                flushes: of("fl.reqs"),
                flush_time: of("fl.times"),
            })
        };
        Self {
            memory,
            vcpus: (0..count("vcpu.maximum")).map(vcpu).filter(|vcpu| vcpu.state.is_some()).collect(),
            disks: (0..count("block.count")).filter_map(disk).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, u64)], names: &[(&str, &str)]) -> Vec<(String, StatValue)> {
        let numbers = pairs.iter().map(|(name, number)| ((*name).to_owned(), StatValue::Number(*number)));
        let texts = names.iter().map(|(name, text)| ((*name).to_owned(), StatValue::Text((*text).to_owned())));
        numbers.chain(texts).collect()
    }

    #[test]
    fn what_libvirt_says_is_taken_over_and_nothing_else() {
        let stats = DomainStats::parse(&values(
            &[
                ("balloon.current", 65536),
                ("vcpu.current", 1),
                ("vcpu.maximum", 2),
                ("vcpu.0.state", 1),
                ("vcpu.0.time", 5),
                ("vcpu.0.delay", 7),
                ("block.count", 2),
                ("block.0.rd.reqs", 11),
                ("block.0.fl.times", 13),
            ],
            &[("block.0.name", "vda"), ("block.1.name", "sda")],
        ));
        assert_eq!((stats.memory.current, stats.memory.unused), (Some(65536), None));
        let vcpu = VcpuStats { id: 0, state: Some(VcpuState::Running), time: Some(5), wait: None, delay: Some(7) };
        assert_eq!(stats.vcpus, [vcpu], "the second is not plugged in");
        let disk = DiskStats { target: "vda".into(), reads: Some(11), flush_time: Some(13), ..DiskStats::default() };
        assert_eq!(stats.disks, [disk, DiskStats { target: "sda".into(), ..DiskStats::default() }]);
    }

    #[test]
    fn counts_that_cannot_be_do_not_take_long() {
        let stats = DomainStats::parse(&values(&[("vcpu.maximum", u64::MAX), ("block.count", u64::MAX)], &[]));
        assert_eq!(stats, DomainStats::default());
    }
}
