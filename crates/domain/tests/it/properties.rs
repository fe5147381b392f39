//! Whatever users write, the document stays well-formed and keeps its shape.

use fv_domain::build;
use proptest::prelude::*;
use serde_json::json;

use crate::support::{facts, merged, plain, vmi};

fn elements(xml: &str) -> usize {
    roxmltree::Document::parse(xml).unwrap().descendants().filter(|node| node.is_element()).count()
}

proptest! {
    #[test]
    fn user_strings_never_break_the_document(
        name in any::<String>(), namespace in any::<String>(), serial in any::<String>(), disk_serial in any::<String>(),
        model in any::<String>(), manufacturer in any::<String>(), timezone in any::<String>(), uuid in any::<String>(),
    ) {
        let spec = |serial: &str, disk_serial: &str, model: &str, manufacturer: &str, timezone: &str| merged(plain(), json!({"domain": {
            "firmware": {"serial": serial},
            "chassis": {"manufacturer": manufacturer},
            "clock": {"timezone": timezone},
            "cpu": {"model": model},
            "devices": {"disks": [{"name": "root", "serial": disk_serial}]},
        }}));
        let mut object = vmi(spec(&serial, &disk_serial, &model, &manufacturer, &timezone));
        object.metadata.name = Some(name.clone());
        object.metadata.namespace = Some(namespace);
        if let Ok(built) = build(&object, &facts()) {
            let text = |text: &str| if text.is_empty() { String::new() } else { "x".to_owned() };
            let model = if model.starts_with("host-") { model.clone() } else { text(&model) };
            let calm = vmi(spec("x", &text(&disk_serial), &model, &text(&manufacturer), &text(&timezone)));
            prop_assert_eq!(elements(&built.xml), elements(&build(&calm, &facts()).unwrap().xml));
            let metadata = fv_domain::DomainMetadata::parse(&built.xml);
            prop_assert_eq!(metadata.map(|metadata| metadata.name), Some(name));
        }
        let hostile = vmi(merged(plain(), json!({"domain": {"firmware": {"uuid": uuid}}})));
        if let Ok(built) = build(&hostile, &facts()) {
            roxmltree::Document::parse(&built.xml).unwrap();
        }
    }

    #[test]
    fn any_topology_is_built_or_refused(sockets in any::<i64>(), cores in any::<i64>(), threads in any::<i64>(), max in any::<i64>()) {
        let spec = merged(plain(), json!({"domain": {"cpu": {"sockets": sockets, "cores": cores, "threads": threads, "maxSockets": max}}}));
        let _ = build(&vmi(spec), &facts());
    }
}
