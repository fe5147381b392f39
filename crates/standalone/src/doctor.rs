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
        ("QEMU", "qemu-system-x86_64", "qemu-system-x86"),
        ("qemu-img", "qemu-img", "qemu-utils"),
        ("libvirt daemon", "libvirtd", "libvirt-daemon-system"),
        ("nftables", "nft", "nftables"),
    ];
    checks.extend(programs.map(|(what, program, package)| installed(what, program, package)));
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

fn installed(what: &str, program: &str, package: &str) -> Check {
    let verdict = if find(program) { Verdict::Fine } else { lacking(format!("apt-get install {package}")) };
    check(what, verdict)
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
    fn a_missing_program_names_its_package() {
        let check = installed("Something", "no-such-program-here", "some-package");
        assert_eq!(check.verdict, lacking("apt-get install some-package"));
        assert!(!is_healthy(&[check]));
    }
}
