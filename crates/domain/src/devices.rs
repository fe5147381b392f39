//! All devices but disks and interfaces.

use crate::build::{Context, invalid};
use crate::error::DomainError;
use crate::xml::{Element, element, socket_path};

/// Name of the guest agent's virtio port.
const AGENT_CHANNEL: &str = "org.qemu.guest_agent.0";

pub(crate) fn devices(context: &Context<'_>) -> Result<Vec<Element>, DomainError> {
    let mut nodes = Vec::new();
    let inputs = inputs(context)?;
    let usb = inputs.iter().any(|input| input.bus == "usb");
    nodes.push(
        element("controller")
            .attr("type", "usb")
            .attr("index", 0)
            .attr("model", if usb { "qemu-xhci" } else { "none" }),
    );
    serial(context, &mut nodes)?;
    nodes.push(
        element("channel")
            .attr("type", "unix")
            .child(bound(socket_path("guest agent socket", &context.facts.sockets.agent)?))
            .child(element("target").attr("type", "virtio").attr("name", AGENT_CHANNEL)),
    );
    // libvirt takes no (non-)transitional model for a tablet.
    nodes.extend(inputs.iter().map(|input| element("input").attr("type", "tablet").attr("bus", input.bus)));
    graphics(context, &mut nodes)?;
    watchdog(context, &mut nodes)?;
    let devices = &context.vmi.spec.domain.devices;
    if devices.rng.is_some() {
        nodes.push(
            element("rng")
                .attr("model", context.virtio_model())
                .child(element("backend").attr("model", "random").text("/dev/urandom")),
        );
    }
    nodes.push(match devices.autoattach_mem_balloon {
        Some(false) => element("memballoon").attr("model", "none"),
        _ => element("memballoon")
            .attr("model", context.virtio_model())
            .attr("freePageReporting", "on")
            .child(element("stats").attr("period", 10)),
    });
    panic_devices(context, &mut nodes)?;
    Ok(nodes)
}

fn bound(path: String) -> Element {
    element("source").attr("mode", "bind").attr("path", path)
}

fn serial(context: &Context<'_>, nodes: &mut Vec<Element>) -> Result<(), DomainError> {
    if context.vmi.spec.domain.devices.autoattach_serial_console == Some(false) {
        return Ok(());
    }
    let path = socket_path("serial socket", &context.facts.sockets.serial)?;
    let kind = if context.is_x86() { "isa-serial" } else { "system-serial" };
    nodes.push(
        element("serial")
            .attr("type", "unix")
            .child(bound(path.clone()))
            .child(element("target").attr("type", kind).attr("port", 0)),
    );
    nodes.push(
        element("console")
            .attr("type", "unix")
            .child(bound(path))
            .child(element("target").attr("type", "serial").attr("port", 0)),
    );
    Ok(())
}

struct Input {
    bus: &'static str,
}

fn inputs(context: &Context<'_>) -> Result<Vec<Input>, DomainError> {
    let devices = &context.vmi.spec.domain.devices;
    let mut inputs = Vec::new();
    for (index, input) in devices.inputs.iter().enumerate() {
        let field = format!("spec.domain.devices.inputs[{index}]");
        if input.type_ != "tablet" {
            return Err(invalid(&format!("{field}.type"), &input.type_, "it must be tablet"));
        }
        inputs.push(Input {
            bus: match input.bus.as_deref() {
                None | Some("" | "usb") => "usb",
                Some("virtio") => "virtio",
                Some(other) => return Err(invalid(&format!("{field}.bus"), other, "it must be usb or virtio")),
            },
        });
    }
    if inputs.is_empty() && devices.autoattach_input_device == Some(true) {
        inputs.push(Input { bus: "usb" });
    }
    Ok(inputs)
}

fn graphics(context: &Context<'_>, nodes: &mut Vec<Element>) -> Result<(), DomainError> {
    let devices = &context.vmi.spec.domain.devices;
    let video = devices.video.as_ref().and_then(|video| video.type_.as_deref()).filter(|word| !word.is_empty());
    if devices.autoattach_graphics_device == Some(false) {
        return match video {
            Some(word) => Err(invalid(
                "spec.domain.devices.video.type",
                word,
                "there is no graphics device (autoattachGraphicsDevice: false)",
            )),
            None => Ok(()),
        };
    }
    let model = match (video, context.is_x86()) {
        (None, true) => "vga",
        (None, false) => "virtio",
        (Some(word @ ("vga" | "cirrus" | "virtio" | "ramfb" | "bochs")), true) => word,
        (Some(word @ ("virtio" | "ramfb")), false) => word,
        (Some(other), _) => {
            let problem = "it must be one of vga, cirrus, virtio, ramfb, bochs (on x86) or virtio, ramfb";
            return Err(invalid("spec.domain.devices.video.type", other, problem));
        }
    };
    nodes.push(element("graphics").attr("type", "vnc").child(
        element("listen").attr("type", "socket").attr("socket", socket_path("vnc socket", &context.facts.sockets.vnc)?),
    ));
    let vram = matches!(model, "vga" | "cirrus" | "bochs").then_some(16384);
    nodes.push(element("video").child(element("model").attr("type", model).attr("heads", 1).attr_opt("vram", vram)));
    Ok(())
}

fn watchdog(context: &Context<'_>, nodes: &mut Vec<Element>) -> Result<(), DomainError> {
    let Some(watchdog) = &context.vmi.spec.domain.devices.watchdog else { return Ok(()) };
    let field = "spec.domain.devices.watchdog";
    if watchdog.diag288.is_some() {
        return Err(DomainError::Unsupported { field: format!("{field}.diag288") });
    }
    let action = match watchdog.i6300esb.as_ref().and_then(|device| device.action.as_deref()) {
        None | Some("") => "reset",
        Some(word @ ("reset" | "poweroff" | "shutdown")) => word,
        Some(other) => {
            return Err(invalid(&format!("{field}.i6300esb.action"), other, "it must be reset, poweroff or shutdown"));
        }
    };
    nodes.push(element("watchdog").attr("model", "i6300esb").attr("action", action));
    Ok(())
}

/// A guest on x86 always gets a panic device: a crashed guest that says nothing cannot be told from an idle one.
fn panic_devices(context: &Context<'_>, nodes: &mut Vec<Element>) -> Result<(), DomainError> {
    let asked = &context.vmi.spec.domain.devices.panic_devices;
    for (index, device) in asked.iter().enumerate() {
        let field = format!("spec.domain.devices.panicDevices[{index}].model");
        let model = match device.model.as_deref().unwrap_or("isa") {
            // libvirt takes the Hyper-V kind with KVM alone.
            "hyperv" if !context.has_kvm() => {
                return Err(invalid(&field, "hyperv", "it needs hardware virtualisation"));
            }
            word @ ("isa" | "hyperv") => word,
            "pvpanic" => return Err(DomainError::Unsupported { field: format!("{field} pvpanic") }),
            other => return Err(invalid(&field, other, "it must be hyperv, isa or pvpanic")),
        };
        nodes.push(element("panic").attr("model", model));
    }
    if asked.is_empty() && context.is_x86() {
        nodes.push(element("panic").attr("model", "isa"));
    }
    Ok(())
}
