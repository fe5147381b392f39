//! What a node has to bring along: libvirt and QEMU of its distribution, new enough. Pure.

use fv_hypervisor::Capabilities;
use fv_hypervisor::daemon::SystemDaemonError;

/// The first libvirt that can bound the translation cache of software emulation.
pub const MIN_LIBVIRT: [u32; 3] = [8, 0, 0];
/// The QEMU of the oldest distribution that is tried: Ubuntu 22.04.
pub const MIN_QEMU: [u32; 3] = [6, 2, 0];

/// What a node lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable word of condition and event.
    pub reason: &'static str,
    /// With the way out.
    pub message: String,
}

/// The packages to install, by what the kubelet says of the system (`Debian GNU/Linux 12 (bookworm)`).
fn packages(os_image: &str) -> &'static str {
    const FAMILIES: [(&[&str], &str); 3] = [
        (&["debian", "ubuntu", "mint"], "the packages libvirt-daemon-system, qemu-system-x86 and ovmf"),
        (
            &["fedora", "red hat", "centos", "rocky", "alma", "oracle"],
            "the packages libvirt-daemon-driver-qemu, qemu-kvm and edk2-ovmf",
        ),
        (&["suse"], "the packages libvirt-daemon-qemu, qemu-x86 and qemu-ovmf-x86_64"),
    ];
    let name = os_image.to_lowercase();
    FAMILIES.iter().find(|(words, _)| words.iter().any(|word| name.contains(word))).map_or(
        "libvirt with its QEMU driver and QEMU (Debian, Ubuntu: libvirt-daemon-system, qemu-system-x86; Fedora, RHEL: \
         libvirt-daemon-driver-qemu, qemu-kvm)",
        |(_, packages)| packages,
    )
}

/// Why no daemon of the node can be used.
pub fn without_daemon(error: &SystemDaemonError, os_image: &str) -> Problem {
    let way_out = match error {
        SystemDaemonError::Absent { .. } => {
            format!("install {} on the node and start libvirtd or virtqemud", packages(os_image))
        }
        SystemDaemonError::Silent { .. } => {
            format!("install {} on the node, and look at the daemon's own log", packages(os_image))
        }
    };
    let reason = match error {
        SystemDaemonError::Absent { .. } => "LibvirtMissing",
        SystemDaemonError::Silent { .. } => "LibvirtNotUsable",
    };
    Problem { reason, message: format!("{error}: {way_out}") }
}

/// What the node lacks although a daemon answers. `tun`: whether the driver of taps is there, or why not.
pub fn check(capabilities: &Capabilities, tun: &Result<(), String>, os_image: &str) -> Result<(), Problem> {
    let old = |what: &str, found: &str, least: [u32; 3]| {
        let [major, minor, _] = least;
        format!(
            "the node has {what} {found}; at least {major}.{minor} is needed: use a newer release of its distribution"
        )
    };
    if !is_at_least(&capabilities.libvirt_version, MIN_LIBVIRT) {
        let message = old("libvirt", &capabilities.libvirt_version, MIN_LIBVIRT);
        return Err(Problem { reason: "LibvirtTooOld", message });
    }
    if capabilities.emulator.is_empty() || capabilities.machines.is_empty() {
        let arch = &capabilities.arch;
        let message = format!(
            "libvirt of the node knows no QEMU for its architecture ({arch}): install {} on the node",
            packages(os_image)
        );
        return Err(Problem { reason: "QemuMissing", message });
    }
    if !is_at_least(&capabilities.qemu_version, MIN_QEMU) {
        return Err(Problem { reason: "QemuTooOld", message: old("QEMU", &capabilities.qemu_version, MIN_QEMU) });
    }
    if let Err(error) = tun {
        let message = format!(
            "/dev/net/tun of the node cannot be opened ({error}), so guests get no network: load the kernel's driver there \
             (modprobe tun) and see that it is loaded at boot (/etc/modules-load.d)"
        );
        return Err(Problem { reason: "TunMissing", message });
    }
    Ok(())
}

/// A version that cannot be read is too old.
fn is_at_least(version: &str, least: [u32; 3]) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>());
    let mut next = || parts.next().and_then(Result::ok);
    matches!((next(), next(), next()), (Some(a), Some(b), c) if [a, b, c.unwrap_or(0)] >= least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fv_hypervisor::MachineType;

    fn capabilities(libvirt: &str, qemu: &str) -> Capabilities {
        Capabilities {
            kvm_usable: false,
            arch: "x86_64".into(),
            emulator: "/usr/bin/qemu-system-x86_64".into(),
            libvirt_version: libvirt.into(),
            qemu_version: qemu.into(),
            machines: vec![MachineType { name: "q35".into(), canonical: None, max_vcpus: 1 }],
            host_model: None,
            host_model_features: Vec::new(),
            cpu_features: Vec::new(),
            cpu_vendor: None,
            cpu_models: Vec::new(),
            efi: Vec::new(),
        }
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (libvirt, qemu, expected) in [
            ("9.0.0", "7.2.22", None),
            ("8.0.0", "6.2.0", None),
            ("10.0.0", "10.0", None),
            ("7.10.0", "7.2.0", Some("LibvirtTooOld")),
            ("", "7.2.0", Some("LibvirtTooOld")),
            ("9.0.0", "5.10.0", Some("QemuTooOld")),
            ("9.0.0", "x", Some("QemuTooOld")),
        ] {
            let found = check(&capabilities(libvirt, qemu), &Ok(()), "Debian GNU/Linux 12 (bookworm)").err();
            assert_eq!(found.map(|problem| problem.reason), expected, "{libvirt} {qemu}");
        }
        let without = Capabilities { machines: Vec::new(), ..capabilities("9.0.0", "7.2.0") };
        let problem = check(&without, &Ok(()), "Fedora Linux 43").unwrap_err();
        assert!(problem.reason == "QemuMissing" && problem.message.contains("qemu-kvm"), "{problem:?}");
    }

    #[test]
    fn node_without_the_driver_of_taps_is_told_how_to_load_it() {
        let missing = Err("No such file or directory".to_owned());
        let problem = check(&capabilities("9.0.0", "7.2.0"), &missing, "").unwrap_err();
        assert_eq!(problem.reason, "TunMissing");
        assert!(problem.message.contains("modprobe tun") && problem.message.contains("No such file"), "{problem:?}");
        // What has to be installed comes first.
        assert_eq!(check(&capabilities("7.0.0", "7.2.0"), &missing, "").unwrap_err().reason, "LibvirtTooOld");
    }

    #[test]
    fn packages_are_the_distributions() {
        let absent = SystemDaemonError::Absent {
            sockets: ["/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock"].map(Into::into),
        };
        for (os, expected) in [
            ("Debian GNU/Linux 12 (bookworm)", "packages libvirt-daemon-system"),
            ("Ubuntu 24.04.1 LTS", "packages libvirt-daemon-system"),
            ("Red Hat Enterprise Linux 9.5 (Plow)", "packages libvirt-daemon-driver-qemu"),
            ("openSUSE Leap 15.6", "packages libvirt-daemon-qemu"),
            ("Somebody's Linux", "Fedora, RHEL"),
        ] {
            let problem = without_daemon(&absent, os);
            assert_eq!(problem.reason, "LibvirtMissing");
            assert!(problem.message.contains(expected) && problem.message.contains("virtqemud"), "{}", problem.message);
        }
        let silent =
            SystemDaemonError::Silent { socket: "/run/libvirt/libvirt-sock".into(), problem: "no driver".into() };
        let problem = without_daemon(&silent, "");
        assert!(problem.reason == "LibvirtNotUsable" && problem.message.contains("no driver"), "{problem:?}");
    }
}
