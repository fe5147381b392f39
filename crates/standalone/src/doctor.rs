//! `ferrovirt doctor`: what this machine lacks, each with the exact remedy.

use std::path::Path;

use fv_hypervisor::kvm::kvm_usable;

use crate::podrunner::cni::{PLUGIN_DIRS, find_plugins};

/// How one check came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// Works, with something worth knowing.
    Note(String),
    /// Does not work until the remedy is applied.
    Lacking {
        remedy: String,
    },
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub what: String,
    pub verdict: Verdict,
}

/// Looks at the machine.
pub fn examine() -> Vec<Check> {
    let mut checks = vec![root(), kvm()];
    let programs = [
        ("QEMU", &["qemu-system-x86_64"][..], "qemu-system-x86"),
        ("qemu-img", &["qemu-img"], "qemu-utils"),
        // Either the one daemon, or the modular one.
        ("libvirt daemon", &["libvirtd", "virtqemud"], "libvirt-daemon-system"),
        ("nftables", &["nft"], "nftables"),
    ];
    checks.extend(programs.map(|(what, any, package)| installed(what, any, package)));
    checks.push(ovmf());
    checks.push(cni());
    checks.push(openat2());
    checks.push(hostname());
    checks.push(libvirt_guests());
    checks
}

/// Whether nothing is lacking.
pub fn is_healthy(checks: &[Check]) -> bool {
    !checks.iter().any(|c| matches!(c.verdict, Verdict::Lacking { .. }))
}

fn check(what: &str, verdict: Verdict) -> Check {
    Check { what: what.into(), verdict }
}

fn lacking(remedy: impl Into<String>) -> Verdict {
    Verdict::Lacking { remedy: remedy.into() }
}

fn root() -> Check {
    let verdict = if rustix::process::geteuid().is_root() {
        Verdict::Fine
    } else {
        lacking("run ferrovirt as root or with sudo")
    };
    check("root privileges", verdict)
}

fn kvm() -> Check {
    let verdict = if kvm_usable() {
        Verdict::Fine
    } else {
        Verdict::Note(
            "no usable hardware virtualisation: guests run in software emulation, some ten times slower; enable VT-x/AMD-V in the \
             firmware (or nested virtualisation in the hypervisor) and load kvm_intel or kvm_amd. QEMU before 8.0 emulates one \
             instruction wrongly: Linux guests that crash should boot with clearcpuid=cx16"
                .into(),
        )
    };
    check("KVM", verdict)
}

/// Finds a program as a shell would, and in the places of system programs.
fn find(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/libexec"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(system).any(|dir| dir.join(program).is_file())
}

/// One of the programs does.
fn installed(what: &str, any: &[&str], package: &str) -> Check {
    let verdict = if any.iter().any(|program| find(program)) {
        Verdict::Fine
    } else {
        lacking(format!("apt-get install {package}"))
    };
    check(what, verdict)
}

/// Where distributions describe their firmware to libvirt.
const FIRMWARE_DIR: &str = "/usr/share/qemu/firmware";

fn ovmf() -> Check {
    let verdict = if describes_efi(Path::new(FIRMWARE_DIR)) {
        Verdict::Fine
    } else {
        Verdict::Note("guests that boot by EFI cannot start, others can: apt-get install ovmf".into())
    };
    check("EFI firmware", verdict)
}

fn describes_efi(dir: &Path) -> bool {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).any(|text| text.contains("\"uefi\""))
}

fn cni() -> Check {
    let verdict = match find_plugins(&PLUGIN_DIRS.map(Path::new)) {
        Ok(_) => Verdict::Fine,
        Err(error) => lacking(format!("apt-get install containernetworking-plugins ({error})")),
    };
    check("CNI plugins", verdict)
}

fn openat2() -> Check {
    let works =
        fv_host::safe_path::SafeDir::open_trusted(Path::new("/")).and_then(|root| root.open_dir("proc")).is_ok();
    let verdict = if works { Verdict::Fine } else { lacking("use Linux 5.6 or newer: openat2 is missing") };
    check("safe path resolution", verdict)
}

fn hostname() -> Check {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let known = hosts
        .lines()
        .map(|l| l.split('#').next().unwrap_or_default())
        .any(|l| l.split_ascii_whitespace().skip(1).any(|h| h == name));
    let verdict = if known {
        Verdict::Fine
    } else {
        Verdict::Note(format!(
            "the host name is not in /etc/hosts: without a fast DNS answer each start of a guest takes seconds longer; \
             echo '127.0.1.1 {name}' >> /etc/hosts"
        ))
    };
    check("host name", verdict)
}

/// libvirt-guests suspends or stops guests at shutdown by its own rules.
fn libvirt_guests() -> Check {
    let enabled = Path::new("/etc/systemd/system/multi-user.target.wants/libvirt-guests.service").exists()
        && Path::new("/run/systemd/system").exists();
    let verdict = if enabled {
        Verdict::Note(
            "libvirt-guests acts on guests at shutdown behind our back: systemctl disable libvirt-guests".into(),
        )
    } else {
        Verdict::Fine
    };
    check("libvirt-guests", verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_one_of_the_programs_does() {
        assert_eq!(installed("Shell", &["no-such-program-here", "sh"], "some-package").verdict, Verdict::Fine);
    }

    #[test]
    fn efi_firmware_is_known_by_its_description() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!describes_efi(&dir.path().join("missing")));
        std::fs::write(dir.path().join("bios.json"), r#"{"interface-types": ["bios"]}"#).unwrap();
        assert!(!describes_efi(dir.path()));
        std::fs::write(dir.path().join("ovmf.json"), r#"{"interface-types": ["uefi"]}"#).unwrap();
        assert!(describes_efi(dir.path()));
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let check = installed("Something", &["no-such-program-here"], "some-package");
        assert_eq!(check.verdict, lacking("apt-get install some-package"));
        assert!(!is_healthy(&[check]));
    }
}
