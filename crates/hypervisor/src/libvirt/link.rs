//! The cable of a guest's network card.

use roxmltree::{Document, Node};

use crate::error::HypervisorError;

pub(crate) const STEP: &str = "setting the link of an interface";

/// The `<interface>` of `domain` on the host device `tap`, exactly as it is but for its link state: what libvirt takes to change
/// this alone.
pub(crate) fn interface_with_link(domain: &str, tap: &str, up: bool) -> Result<String, HypervisorError> {
    let refused = |message: String| HypervisorError::InvalidState { step: STEP, message };
    let document = Document::parse(domain).map_err(|error| refused(format!("the domain is no XML: {error}")))?;
    let child =
        |node: Node<'_, '_>, name: &str| node.children().find(|child| child.has_tag_name(name)).map(|n| n.range());
    let on_tap = |node: &Node<'_, '_>| {
        node.has_tag_name("interface")
            && node.children().any(|child| child.has_tag_name("target") && child.attribute("dev") == Some(tap))
    };
    let interface = document
        .descendants()
        .find(on_tap)
        .ok_or_else(|| refused(format!("the domain has no interface on the device {tap:?}")))?;
    let target = child(interface, "target").unwrap_or_default();
    let link = format!("<link state='{}'/>", if up { "up" } else { "down" });
    let whole = interface.range();
    let text = match child(interface, "link") {
        Some(old) => [&domain[whole.start..old.start], &link, &domain[old.end..whole.end]].concat(),
        None => [&domain[whole.start..target.end], &link, &domain[target.end..whole.end]].concat(),
    };
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "<domain><devices><interface type='ethernet'><mac address='02:00:00:00:00:01'/>\
        <target dev='tap1' managed='no'/><mtu size='1450'/></interface><interface type='ethernet'>\
        <target dev='tap2'/><link state='up'/><model type='virtio'/></interface></devices></domain>";

    #[test]
    fn only_the_link_of_the_named_interface_changes() {
        assert_eq!(
            interface_with_link(DOMAIN, "tap1", false).unwrap(),
            "<interface type='ethernet'><mac address='02:00:00:00:00:01'/><target dev='tap1' managed='no'/>\
             <link state='down'/><mtu size='1450'/></interface>"
        );
        assert_eq!(
            interface_with_link(DOMAIN, "tap2", false).unwrap(),
            "<interface type='ethernet'><target dev='tap2'/><link state='down'/><model type='virtio'/></interface>"
        );
    }

    #[test]
    fn unknown_device_is_named() {
        let error = interface_with_link(DOMAIN, "tap9", true).unwrap_err();
        assert!(error.to_string().contains("tap9"), "{error}");
    }
}
