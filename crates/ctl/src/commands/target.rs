//! `vm/NAME[/NAMESPACE]`: what port-forward, ssh and scp are aimed at.

use anyhow::{anyhow, bail};

/// VM or VMI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Vm,
    Vmi,
}

impl Kind {
    pub(super) fn parse(word: &str) -> anyhow::Result<Self> {
        match word {
            "vm" | "vms" | "virtualmachine" | "virtualmachines" => Ok(Self::Vm),
            "vmi" | "vmis" | "virtualmachineinstance" | "virtualmachineinstances" => Ok(Self::Vmi),
            other => bail!("unsupported resource type '{other}': use vm or vmi"),
        }
    }

    pub(super) fn short(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Vmi => "vmi",
        }
    }

    pub(super) fn resource(self) -> &'static str {
        match self {
            Self::Vm => "virtualmachines",
            Self::Vmi => "virtualmachineinstances",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
}

impl Target {
    /// Reads `kind/name[/namespace]`, or the older `kind/name.namespace`.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let (kind, name, namespace) = match parts[..] {
            [kind, name] => match name.split_once('.') {
                Some((name, namespace)) => (kind, name, Some(namespace)),
                None => (kind, name, None),
            },
            [kind, name, namespace] => (kind, name, Some(namespace)),
            _ => bail!("target '{text}' must be type/name or type/name/namespace, for example vmi/myvm"),
        };
        if name.is_empty() {
            return Err(anyhow!("target '{text}' has no name"));
        }
        if namespace.is_some_and(str::is_empty) {
            return Err(anyhow!("target '{text}' has an empty namespace"));
        }
        Ok(Self { kind: Kind::parse(kind)?, name: name.into(), namespace: namespace.map(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_name_kind_name_and_namespace() {
        let cases = [
            ("vm/a", Some((Kind::Vm, "a", None))),
            ("vmi/a/ns", Some((Kind::Vmi, "a", Some("ns")))),
            ("vmi/a.ns", Some((Kind::Vmi, "a", Some("ns")))),
            ("a", None),
            ("pod/a", None),
            ("vm/", None),
            ("vm/a/", None),
            ("vm/a/b/c", None),
        ];
        for (text, expected) in cases {
            let parsed = Target::parse(text).ok();
            let wanted = expected.map(|(kind, name, namespace): (Kind, &str, Option<&str>)| Target {
                kind,
                name: name.into(),
                namespace: namespace.map(Into::into),
            });
            assert_eq!(parsed, wanted, "{text}");
        }
    }
}
