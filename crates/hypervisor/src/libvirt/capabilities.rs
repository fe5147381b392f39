//! What this libvirt and QEMU can run: from their capability documents.

use std::path::Path;

use roxmltree::{Document, Node};
use virt::connect::Connect;
use virt::error::Error;
use virt_sys::VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES;

use crate::kvm::kvm_usable;
use crate::port::{Capabilities, CpuModel, EfiFirmware, MachineType};

/// Asks the connected daemon. The KVM answer is ours: libvirt only looks at the device.
pub(super) fn read_capabilities(connect: &Connect) -> Result<Capabilities, Error> {
    let document = connect.get_capabilities()?;
    let kvm = kvm_usable();
    let mut facts = parse_capabilities(&document, kvm);
    facts.libvirt_version = version(connect.get_lib_version()?);
    facts.qemu_version = version(connect.get_hyp_version()?);
    let domain = connect.get_domain_capabilities(
        None,
        Some(&facts.arch).filter(|arch| !arch.is_empty()).map(String::as_str),
        Some(default_machine(&facts.arch)),
        Some(if kvm { "kvm" } else { "qemu" }),
        0,
    )?;
    let missing = parse_domain_capabilities(&domain, &mut facts);
    if let Some(cpu) = host_model_cpu(&facts) {
        // Only schedulers ask for these; a driver that cannot tell (s390x has none) leaves the ones named.
        facts.cpu_features = spelt_out(connect, &cpu).unwrap_or_else(|error| {
            tracing::warn!(%error, "the features of the host model cannot be spelt out");
            facts.host_model_features.clone()
        });
        facts.cpu_features.retain(|feature| !missing.contains(feature));
    }
    Ok(facts)
}

/// What `host-model` means here, as a CPU of its own. Names come from libvirt; one with a character that XML minds is none.
fn host_model_cpu(facts: &Capabilities) -> Option<String> {
    let is_name = |name: &&String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b));
    let model = facts.host_model.as_ref().filter(is_name)?;
    let features = facts.host_model_features.iter().filter(is_name);
    let features: String = features.map(|name| format!("<feature name='{name}'/>")).collect();
    Some(format!("<cpu><arch>{}</arch><model>{model}</model>{features}</cpu>", facts.arch))
}

/// All features of a CPU: those of its model, and those named beside it. The baseline of a single CPU is that CPU.
fn spelt_out(connect: &Connect, cpu: &str) -> Result<Vec<String>, Error> {
    let answer = connect.baseline_cpu(&[cpu], VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES)?;
    let Ok(document) = Document::parse(&answer) else { return Ok(Vec::new()) };
    let features = document.root_element().children().filter(|node| node.has_tag_name("feature"));
    let offered = features.filter(|node| !matches!(node.attribute("policy"), Some("disable" | "forbid")));
    Ok(offered.filter_map(|node| node.attribute("name").map(str::to_owned)).collect())
}

/// The machine type whose facts count for guests of an architecture.
fn default_machine(arch: &str) -> &'static str {
    match arch {
        "x86_64" | "i686" => "q35",
        "s390x" => "s390-ccw-virtio",
        _ => "virt",
    }
}

/// libvirt packs versions into one number.
fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1000 % 1000, number % 1000)
}

fn child<'a>(node: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn text<'a>(node: Node<'a, 'a>, name: &str) -> Option<&'a str> {
    child(node, name).and_then(|node| node.text()).map(str::trim)
}

fn parse_capabilities(xml: &str, kvm: bool) -> Capabilities {
    let mut facts = Capabilities {
        kvm_usable: kvm,
        arch: String::new(),
        emulator: String::new(),
        libvirt_version: String::new(),
        qemu_version: String::new(),
        machines: Vec::new(),
        host_model: None,
        host_model_features: Vec::new(),
        cpu_features: Vec::new(),
        cpu_vendor: None,
        cpu_models: Vec::new(),
        efi: Vec::new(),
    };
    let Ok(document) = Document::parse(xml) else { return facts };
    let root = document.root_element();
    if let Some(cpu) = child(root, "host").and_then(|host| child(host, "cpu")) {
        facts.arch = text(cpu, "arch").unwrap_or_default().to_owned();
    }
    let guest = root.children().filter(|node| node.has_tag_name("guest")).filter_map(|guest| {
        let arch = child(guest, "arch")?;
        (text(guest, "os_type") == Some("hvm") && arch.attribute("name") == Some(facts.arch.as_str())).then_some(arch)
    });
    let Some(arch) = { guest }.next() else { return facts };
    // Machine types of the accelerator stand inside its <domain>, where they differ.
    let scopes = arch
        .children()
        .filter(|node| node.has_tag_name("domain") && node.attribute("type") == Some(if kvm { "kvm" } else { "qemu" }))
        .chain([arch]);
    for scope in scopes {
        if facts.emulator.is_empty() {
            facts.emulator = text(scope, "emulator").unwrap_or_default().to_owned();
        }
        if facts.machines.is_empty() {
            facts.machines = scope.children().filter(|node| node.has_tag_name("machine")).filter_map(machine).collect();
        }
    }
    facts
}

fn machine(node: Node<'_, '_>) -> Option<MachineType> {
    Some(MachineType {
        name: node.text()?.trim().to_owned(),
        canonical: node.attribute("canonical").map(str::to_owned),
        max_vcpus: node.attribute("maxCpus").and_then(|text| text.parse().ok()).unwrap_or(1),
    })
}

/// Returns the features that the host model has and the host lacks.
fn parse_domain_capabilities(xml: &str, facts: &mut Capabilities) -> Vec<String> {
    let mut missing = Vec::new();
    let Ok(document) = Document::parse(xml) else { return missing };
    let root = document.root_element();
    if let Some(path) = text(root, "path") {
        facts.emulator = path.to_owned();
    }
    let modes = child(root, "cpu").into_iter().flat_map(|cpu| cpu.children()).filter(|node| node.has_tag_name("mode"));
    for mode in modes {
        match mode.attribute("name") {
            Some("host-model") if facts.kvm_usable => {
                facts.host_model = text(mode, "model").map(str::to_owned);
                facts.cpu_vendor = text(mode, "vendor").map(str::to_owned);
                let features = |policy| {
                    mode.children()
                        .filter(move |node| node.has_tag_name("feature") && node.attribute("policy") == Some(policy))
                        .filter_map(|node| node.attribute("name").map(str::to_owned))
                        .collect()
                };
                facts.host_model_features = features("require");
                missing = features("disable");
            }
            Some("custom") => {
                facts.cpu_models = mode
                    .children()
                    .filter(|node| node.has_tag_name("model"))
                    .filter_map(|node| {
                        Some(CpuModel {
                            name: node.text()?.trim().to_owned(),
                            usable: node.attribute("usable") == Some("yes"),
                        })
                    })
                    .collect();
            }
            _ => {}
        }
    }
    let loaders = child(root, "os")
        .and_then(|os| child(os, "loader"))
        .into_iter()
        .flat_map(|loader| loader.children())
        .filter(|node| node.has_tag_name("value"))
        .filter_map(|node| node.text());
    facts.efi = efi_pairs(loaders.map(str::trim), |path| Path::new(path).exists());
    missing
}

/// Variable templates that belong to a code file, by the names distributions use: `OVMF_CODE_4M.secboot.fd` works with the
/// enrolled `OVMF_VARS_4M.ms.fd`, `OVMF_CODE_4M.fd` with the empty `OVMF_VARS_4M.fd`.
fn efi_pairs<'a>(codes: impl Iterator<Item = &'a str>, exists: impl Fn(&str) -> bool) -> Vec<EfiFirmware> {
    let mut pairs: Vec<EfiFirmware> = Vec::new();
    for code in codes {
        let Some((dir, name)) = code.rsplit_once('/') else { continue };
        // `.ms` code is the same file as `.secboot` under another name.
        if !name.contains("CODE") || name.contains(".ms.") {
            continue;
        }
        let secure_boot = name.contains("secboot");
        let plain = name.replace("CODE", "VARS").replace(".secboot", "");
        let enrolled = [".ms.fd", ".secboot.fd"].map(|end| plain.replace(".fd", end));
        let template = if secure_boot { enrolled.to_vec() } else { vec![plain] }
            .into_iter()
            .map(|name| format!("{dir}/{name}"))
            .find(|path| exists(path));
        if let Some(vars_template) = template {
            pairs.push(EfiFirmware { code: code.to_owned(), vars_template, secure_boot });
        }
    }
    // The larger images first: current builds, with room for keys and boot entries.
    pairs.sort_by_key(|pair| !pair.code.contains("_4M"));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPABILITIES: &str = "<capabilities><host><cpu><arch>x86_64</arch></cpu></host>\
        <guest><os_type>hvm</os_type><arch name='i686'><emulator>/usr/bin/qemu-system-i386</emulator></arch></guest>\
        <guest><os_type>hvm</os_type><arch name='x86_64'><wordsize>64</wordsize>\
        <emulator>/usr/bin/qemu-system-x86_64</emulator>\
        <machine maxCpus='255'>pc-i440fx-7.2</machine><machine canonical='pc-q35-7.2' maxCpus='288'>q35</machine>\
        <machine maxCpus='288'>pc-q35-7.2</machine><domain type='qemu'/><domain type='kvm'/></arch></guest></capabilities>";

    #[test]
    fn machines_and_emulator_are_the_hosts_architecture() {
        let facts = parse_capabilities(CAPABILITIES, false);
        assert_eq!((facts.arch.as_str(), facts.emulator.as_str()), ("x86_64", "/usr/bin/qemu-system-x86_64"));
        assert_eq!(facts.resolve_machine("q35"), Some("pc-q35-7.2"));
        assert_eq!(facts.resolve_machine("pc-q35-7.2"), Some("pc-q35-7.2"));
        assert_eq!(facts.resolve_machine("pc-q35-99"), None);
        assert_eq!(version(9_000_000), "9.0.0");
        assert_eq!(version(7_002_022), "7.2.22");
    }

    #[test]
    fn damaged_documents_give_empty_facts() {
        let mut facts = parse_capabilities("<capabilities", false);
        assert!(facts.machines.is_empty());
        parse_domain_capabilities("", &mut facts);
        parse_domain_capabilities("<domainCapabilities/>", &mut facts);
        assert!(facts.efi.is_empty());
    }

    #[test]
    fn host_model_is_only_known_with_kvm() {
        let xml = "<domainCapabilities><path>/q</path><cpu><mode name='host-model' supported='yes'>\
            <model fallback='forbid'>EPYC</model><vendor>AMD</vendor><feature policy='require' name='x2apic'/>\
            <feature policy='disable' name='svm'/></mode><mode name='custom'><model usable='yes'>qemu64</model>\
            <model usable='no'>EPYC</model></mode></cpu></domainCapabilities>";
        for (kvm, expected) in [(true, Some("EPYC")), (false, None)] {
            let mut facts = parse_capabilities(CAPABILITIES, kvm);
            let missing = parse_domain_capabilities(xml, &mut facts);
            assert_eq!(missing, expected.map(|_| vec!["svm"]).unwrap_or_default());
            assert_eq!(facts.host_model.as_deref(), expected);
            assert_eq!(facts.cpu_vendor.as_deref(), expected.map(|_| "AMD"));
            assert_eq!(facts.host_model_features, expected.map(|_| vec!["x2apic"]).unwrap_or_default());
            assert_eq!(facts.cpu_models.iter().map(|model| model.usable).collect::<Vec<_>>(), [true, false]);
            assert_eq!(facts.emulator, "/q");
        }
    }

    /// With the driver that libvirt has for tests: its list of models is the real one.
    #[test]
    fn features_of_the_host_model_are_those_of_its_model_too() {
        let mut facts = parse_capabilities(CAPABILITIES, true);
        assert_eq!(host_model_cpu(&facts), None);
        facts.host_model = Some("Haswell".into());
        facts.host_model_features = vec!["pdpe1gb".into(), "it's".into()];
        let mut connect = Connect::open(Some("test:///default")).unwrap();
        let features = spelt_out(&connect, &host_model_cpu(&facts).unwrap()).unwrap();
        for (name, expected) in [("aes", true), ("avx2", true), ("pdpe1gb", true), ("avx512f", false)] {
            assert_eq!(features.iter().any(|feature| feature == name), expected, "{name}");
        }
        connect.close().unwrap();
    }

    #[test]
    fn firmware_code_gets_the_variables_that_belong_to_it() {
        let codes = [
            "/o/OVMF_CODE.fd",
            "/o/OVMF_CODE_4M.ms.fd",
            "/o/OVMF_CODE_4M.secboot.fd",
            "/o/OVMF_CODE_4M.fd",
            "/o/AAVMF_CODE.fd",
        ];
        let pairs = efi_pairs(codes.into_iter(), |path| !path.contains("AAVMF"));
        let found: Vec<_> =
            pairs.iter().map(|pair| (pair.code.as_str(), pair.vars_template.as_str(), pair.secure_boot)).collect();
        assert_eq!(
            found,
            [
                ("/o/OVMF_CODE_4M.secboot.fd", "/o/OVMF_VARS_4M.ms.fd", true),
                ("/o/OVMF_CODE_4M.fd", "/o/OVMF_VARS_4M.fd", false),
                ("/o/OVMF_CODE.fd", "/o/OVMF_VARS.fd", false),
            ]
        );
    }
}
