//! Volumes of a manifest, from `src:…[,name:…][,bootorder:N]`.

use std::num::NonZeroU32;

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// Volumes, and a disk for each of which one must say more than its name. Every volume has a disk in the end, admission adds
/// those that are missing.
#[derive(Debug, Default)]
pub(super) struct Storage {
    pub(super) volumes: Vec<Value>,
    pub(super) disks: Vec<Value>,
    orders: Vec<NonZeroU32>,
}

/// What the parameters of a flag say.
struct Parameters<'a> {
    source: &'a str,
    name: Option<&'a str>,
    boot_order: Option<NonZeroU32>,
}

impl<'a> Parameters<'a> {
    /// Reads them; `what` says what the source is.
    fn parse(text: &'a str, what: &str) -> anyhow::Result<Self> {
        let (mut source, mut name, mut boot_order) = (None, None, None);
        for part in text.split(',') {
            match part.split_once(':') {
                Some(("src", value)) if !value.is_empty() => source = Some(value),
                Some(("name", value)) if !value.is_empty() => name = Some(value),
                Some(("bootorder", number)) => {
                    let number = number.parse().with_context(|| format!("bootorder '{number}' is none from 1 on"))?;
                    boot_order = Some(number);
                }
                _ => bail!("'{part}' is none of src:{what}, name:NAME, bootorder:N"),
            }
        }
        let Some(source) = source else { bail!("must have src:{what}") };
        Ok(Self { source, name, boot_order })
    }
}

impl Storage {
    /// `--volume-containerdisk`.
    pub(super) fn add_container_disk(&mut self, text: &str, default_name: &str) -> anyhow::Result<()> {
        let add = || {
            let given = Parameters::parse(text, "IMAGE")?;
            let volume = json!({"name": given.name.unwrap_or(default_name), "containerDisk": {"image": given.source}});
            self.add(volume, given.boot_order)
        };
        Self::at("--volume-containerdisk", text, add)
    }

    /// `--volume-pvc`. Upstream has the server also look for an instance type and a preference at the claim; there are none here,
    /// and admission refuses the wish.
    pub(super) fn add_claim(&mut self, text: &str) -> anyhow::Result<()> {
        let add = || {
            let given = Parameters::parse(text, "CLAIM")?;
            if given.source.contains('/') {
                bail!(
                    "a claim of another namespace cannot be a volume: give src:CLAIM, and the VM the claim's namespace"
                );
            }
            let name = given.name.unwrap_or(given.source);
            let volume = json!({"name": name, "persistentVolumeClaim": {"claimName": given.source}});
            self.add(volume, given.boot_order)
        };
        Self::at("--volume-pvc", text, add)
    }

    fn at(flag: &str, text: &str, add: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        add().with_context(|| format!("{flag} '{text}'"))
    }

    fn add(&mut self, volume: Value, boot_order: Option<NonZeroU32>) -> anyhow::Result<()> {
        let name = &volume["name"];
        let text = name.as_str().unwrap_or_default();
        if !is_label(text) {
            bail!(
                "'{text}' is no name of a volume: give another with name:NAME, of at most 63 lower case letters, digits and \
                 hyphens between them"
            );
        }
        if self.volumes.iter().any(|other| other["name"] == *name) {
            bail!("there is a volume '{text}' already: give another name with name:NAME");
        }
        if let Some(order) = boot_order {
            if self.orders.contains(&order) {
                bail!("bootorder {order} is taken: each must be another");
            }
            self.orders.push(order);
            self.disks.push(json!({"name": name, "bootOrder": order}));
        }
        self.volumes.push(volume);
        Ok(())
    }
}

/// Whether a name is a label of DNS, as names of volumes must be.
fn is_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len()) && name.chars().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}
