//! `<interface>`.

use crate::build::{Context, invalid};
use crate::disks::alias;
use crate::error::DomainError;
use crate::pci::pci_address;
use crate::xml::{Element, element, node_text, user_text};

pub(crate) fn interfaces(context: &Context<'_>) -> Result<Vec<Element>, DomainError> {
    let mut nodes = Vec::new();
    for (index, interface) in context.vmi.spec.domain.devices.interfaces.iter().enumerate() {
        let field = format!("spec.domain.devices.interfaces[{index}]");
        let link = match interface.state.as_deref() {
            Some("absent") => continue,
            None | Some("" | "up") => None,
            Some("down") => Some("down"),
            Some(other) => return Err(invalid(&format!("{field}.state"), other, "it must be up, down or absent")),
        };
        let facts = context.facts.interfaces.get(&interface.name).ok_or_else(|| DomainError::MissingFact {
            field: format!("{field}.name"),
            name: interface.name.chars().take(64).collect(),
            what: "tap device",
        })?;
        let asked = interface.model.as_deref().filter(|model| !model.is_empty()).unwrap_or("virtio");
        let model = match asked {
            "virtio" => context.virtio_model(),
            "e1000" | "e1000e" => asked,
            "igb" | "ne2k_pci" | "pcnet" | "rtl8139" => {
                return Err(DomainError::Unsupported { field: format!("{field}.model {asked}") });
            }
            other => return Err(invalid(&format!("{field}.model"), other, "it must be virtio, e1000 or e1000e")),
        };
        let mut node = element("interface")
            .attr("type", "ethernet")
            .child(element("mac").attr("address", mac(&facts.mac)?))
            .child(element("target").attr("dev", tap(&facts.tap)?).attr("managed", "no"))
            .child(element("model").attr("type", model));
        // Several queues are only there for virtio; of the tap, one is always open.
        if asked == "virtio" && facts.queues > 1 {
            node = node.child(element("driver").attr("name", "qemu").attr("queues", facts.queues));
        }
        if let Some(mtu) = facts.mtu {
            node = node.child(element("mtu").attr("size", mtu));
        }
        node = node.children(link.map(|state| element("link").attr("state", state)));
        match interface.boot_order {
            Some(order) if order < 1 => {
                return Err(invalid(&format!("{field}.bootOrder"), order, "it must be at least 1"));
            }
            Some(order) => node = node.child(element("boot").attr("order", order)),
            // Without it the firmware need not even look for a boot program on the network.
            None => node = node.child(element("rom").attr("enabled", "no")),
        }
        if let Some(index) = interface.acpi_index {
            node = node.child(element("acpi").attr("index", index));
        }
        node = node.children(alias(&interface.name));
        if let Some(address) = interface.pci_address.as_deref().filter(|address| !address.is_empty()) {
            node = node.child(pci_address(&format!("{field}.pciAddress"), address)?);
        }
        nodes.push(node);
    }
    Ok(nodes)
}

/// A unicast MAC address in the usual form.
fn mac(text: &str) -> Result<String, DomainError> {
    let bytes: Vec<u8> = text
        .split([':', '-'])
        .filter(|part| part.len() == 2)
        .filter_map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    let problem = match bytes.as_slice() {
        [first, _, _, _, _, _] if first & 1 == 1 => "it is a multicast address",
        [a, b, c, d, e, f] if text.len() == 17 => {
            return Ok(format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"));
        }
        _ => "it is not of the form 02:00:00:00:00:01",
    };
    Err(DomainError::InvalidFact { what: "mac address", value: user_text("mac address", text)?, problem })
}

fn tap(name: &str) -> Result<String, DomainError> {
    if name.len() > 15 || name.contains(['/', ' ']) {
        let problem = "it is not the name of a network device";
        return Err(DomainError::InvalidFact { what: "tap device", value: name.to_owned(), problem });
    }
    node_text("tap device", name)
}
