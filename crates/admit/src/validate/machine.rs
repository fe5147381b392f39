//! Architecture and machine type.

use fv_api::VirtualMachineInstanceSpec;
use fv_api::config::ClusterConfig;

use crate::causes::{Causes, Field};

const ARCHITECTURES: [&str; 3] = ["amd64", "arm64", "s390x"];

pub(super) fn check(spec: &VirtualMachineInstanceSpec, field: &Field, config: &ClusterConfig, causes: &mut Causes) {
    let architecture = spec.architecture.as_deref().unwrap_or(&config.default_architecture);
    let at = field.child("architecture");
    if !ARCHITECTURES.contains(&architecture) {
        causes.invalid(&at, format!("unsupported architecture: {architecture}"));
    } else if architecture != config.default_architecture {
        causes.unimplemented(&at, architecture, &format!("the nodes here are {}", config.default_architecture));
    }
    let Some(machine) = spec.domain.machine.as_ref().and_then(|machine| machine.type_.as_deref()) else { return };
    if !machine.is_empty() && !config.emulated_machines.iter().any(|pattern| matches(pattern, machine)) {
        let at = field.child("domain.machine.type");
        let allowed = config.emulated_machines.join(" ");
        causes.invalid(&at, format!("{at} is not supported: {machine} (allowed values: [{allowed}])"));
    }
}

/// Whether a name fits a pattern in which `*` stands for any run of characters but `/`, and `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star stood, and what it has swallowed up to.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if (*c == '?' && name[n] != '/') || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, swallowed)) if name[swallowed] != '/' => {
                    star = Some((at, swallowed + 1));
                    p = at + 1;
                    n = swallowed + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn machine_patterns_match_like_shell_patterns() {
        for (pattern, name, fits) in [
            ("q35*", "q35", true),
            ("pc-q35*", "pc-q35-7.2", true),
            ("q35*", "pc-q35", false),
            ("*", "", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("q35*", "q35/../x", false),
            ("virt*", "virt-9.0", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
