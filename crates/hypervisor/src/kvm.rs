//! Whether KVM truly works here. The device alone proves nothing: there are machines whose `/dev/kvm` opens and creates VMs
//! although no CPU has hardware virtualisation, and a guest kernel hangs there.

use std::path::Path;

/// Why KVM can or cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvmProbe {
    #[error("KVM is usable")]
    Usable,
    #[error("/dev/kvm does not exist")]
    NoDevice,
    #[error("/dev/kvm cannot be opened: {0}")]
    CannotOpen(String),
    #[error("/dev/kvm exists, but the CPU has no hardware virtualisation (no vmx or svm flag)")]
    NoCpuSupport,
}

impl KvmProbe {
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Usable)
    }
}

/// Probes this machine.
pub fn probe_kvm() -> KvmProbe {
    probe_kvm_at(Path::new("/dev/kvm"), Path::new("/proc/cpuinfo"))
}

/// Whether KVM works on this machine.
pub fn kvm_usable() -> bool {
    probe_kvm().is_usable()
}

fn probe_kvm_at(device: &Path, cpuinfo: &Path) -> KvmProbe {
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open(device) {
        return match error.kind() {
            std::io::ErrorKind::NotFound => KvmProbe::NoDevice,
            _ => KvmProbe::CannotOpen(error.to_string()),
        };
    }
    // Unreadable CPU facts are no proof of support; only architectures without such a flag pass without one.
    let info = std::fs::read_to_string(cpuinfo).unwrap_or_default();
    if cpu_virtualises(&info, std::env::consts::ARCH) { KvmProbe::Usable } else { KvmProbe::NoCpuSupport }
}

/// Whether `/proc/cpuinfo` promises hardware virtualisation. Only x86 says so there; elsewhere the device is the promise.
pub fn cpu_virtualises(cpuinfo: &str, arch: &str) -> bool {
    if !matches!(arch, "x86" | "x86_64") {
        return true;
    }
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .filter_map(|line| line.split_once(':'))
        .any(|(_, flags)| flags.split_ascii_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_decide_on_x86_only() {
        for (cpuinfo, arch, expected) in [
            ("flags\t\t: fpu vme svm lm\n", "x86_64", true),
            ("processor : 0\nflags : fpu vmx\n", "x86_64", true),
            ("flags : fpu svm_lock vmx_ept\n", "x86_64", false),
            ("vmx flags : vnmi\nflags : fpu\n", "x86_64", false),
            ("", "x86_64", false),
            ("Features : fp asimd\n", "aarch64", true),
        ] {
            assert_eq!(cpu_virtualises(cpuinfo, arch), expected, "{cpuinfo:?} on {arch}");
        }
    }

    #[test]
    fn missing_device_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(probe_kvm_at(&dir.path().join("kvm"), &dir.path().join("cpuinfo")), KvmProbe::NoDevice);
        std::fs::write(dir.path().join("kvm"), "").unwrap();
        std::fs::write(dir.path().join("cpuinfo"), "flags : fpu\n").unwrap();
        assert_eq!(probe_kvm_at(&dir.path().join("kvm"), &dir.path().join("cpuinfo")), KvmProbe::NoCpuSupport);
        std::fs::create_dir(dir.path().join("dir")).unwrap();
        assert!(matches!(probe_kvm_at(&dir.path().join("dir"), &dir.path().join("cpuinfo")), KvmProbe::CannotOpen(_)));
    }
}
