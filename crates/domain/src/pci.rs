//! PCI addresses users pin devices to.

use crate::build::invalid;
use crate::error::DomainError;
use crate::xml::{Element, element};

/// `0000:81:01.0` → `<address type='pci' …/>`.
pub(crate) fn pci_address(field: &str, text: &str) -> Result<Element, DomainError> {
    let parse = || {
        let (domain, rest) = text.split_once(':')?;
        let (bus, rest) = rest.split_once(':')?;
        let (slot, function) = rest.split_once('.')?;
        let hex = |part: &str, digits: usize, most: u32| {
            let fits = part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            fits.then(|| u32::from_str_radix(part, 16).ok()).flatten().filter(|number| *number <= most)
        };
        Some((hex(domain, 4, 0xffff)?, hex(bus, 2, 0xff)?, hex(slot, 2, 0x1f)?, hex(function, 1, 7)?))
    };
    let (domain, bus, slot, function) =
        parse().ok_or_else(|| invalid(field, text, "it is not a PCI address like 0000:81:01.0"))?;
    Ok(element("address")
        .attr("type", "pci")
        .attr("domain", format!("0x{domain:04x}"))
        .attr("bus", format!("0x{bus:02x}"))
        .attr("slot", format!("0x{slot:02x}"))
        .attr("function", format!("0x{function:x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_exactly() {
        let xml = pci_address("x", "0000:81:1F.7").unwrap().render();
        assert!(xml.contains(r#"domain="0x0000" bus="0x81" slot="0x1f" function="0x7""#), "{xml}");
        for bad in ["", "81:01.0", "0000:81:20.0", "0000:81:01.8", "0000:81:01.0x", "0000:+1:01.0", "0000:é1:01.0"] {
            assert!(pci_address("x", bad).is_err(), "{bad}");
        }
    }
}
