use serde_json::json;

use super::*;

/// The kinds, each with its definition, its table and the least number of fields that it has and that are refused.
fn kinds() -> [(&'static Catalogue, CustomResourceDefinition, Vec<(String, &'static str)>, [usize; 2]); 3] {
    let kubevirt = kubevirt::IMPLEMENTED.iter().map(|(path, consumer)| ((*path).to_owned(), *consumer)).collect();
    let workload = |kind| (catalogue(kind), implemented_fields(kind).collect::<Vec<_>>());
    let (vm, vm_rows) = workload(Kind::VirtualMachine);
    let (vmi, vmi_rows) = workload(Kind::VirtualMachineInstance);
    [
        (vm, fv_api::crd::virtual_machine().unwrap(), vm_rows, [500, 160]),
        (vmi, fv_api::crd::virtual_machine_instance().unwrap(), vmi_rows, [500, 160]),
        (&KUBEVIRT, fv_api::crd::kubevirt().unwrap(), kubevirt, [250, 100]),
    ]
}

/// Every object and every leaf of a kind's spec schema: its path without list marks, and a value that sets just it.
fn every_field(crd: &CustomResourceDefinition) -> Vec<(String, Value)> {
    let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    let spec = serde_json::to_value(&schema.properties.unwrap()["spec"]).unwrap();
    let mut fields = Vec::new();
    collect(&spec, "spec".into(), &|value| json!({"spec": value}), &mut fields);
    fields
}

fn collect(schema: &Value, path: String, wrap: &dyn Fn(Value) -> Value, out: &mut Vec<(String, Value)>) {
    if let Some(items) = schema.get("items") {
        return collect(items, path, &|value| wrap(json!([value])), out);
    }
    if let Some(values) = schema.get("additionalProperties") {
        let key = if path.ends_with("requests") || path.ends_with("limits") { "cpu" } else { "key" };
        return out.push((path, wrap(json!({key: leaf(values)}))));
    }
    match schema.get("properties").and_then(Value::as_object).filter(|properties| !properties.is_empty()) {
        Some(properties) => {
            for (name, child) in properties {
                collect(child, format!("{path}.{name}"), &|value| wrap(json!({name: value})), out);
            }
            out.push((path, wrap(json!({}))));
        }
        None => out.push((path, wrap(leaf(schema)))),
    }
}

fn leaf(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("boolean") => json!(true),
        Some("integer" | "number") => json!(1),
        Some("string") => json!("x"),
        Some("object") => json!({}),
        _ => json!("1"),
    }
}

fn without_positions(field: &str) -> String {
    let mut text = String::new();
    let mut is_inside = false;
    for c in field.chars() {
        match c {
            '[' => is_inside = true,
            ']' => is_inside = false,
            c if !is_inside => text.push(c),
            _ => {}
        }
    }
    text
}

fn is_under(path: &str, row: &str) -> bool {
    let row = row.strip_suffix(".**").unwrap_or(row);
    path == row || path.strip_prefix(row).is_some_and(|rest| rest.starts_with('.'))
}

/// Every description in a kind's spec schema, with the path of its field without list marks.
fn described_fields(crd: &CustomResourceDefinition) -> Vec<(String, String)> {
    fn collect(schema: &Value, path: String, out: &mut Vec<(String, String)>) {
        if let Some(text) = schema["description"].as_str() {
            out.push((path.clone(), text.to_owned()));
        }
        if let Some(items) = schema.get("items") {
            collect(items, path.clone(), out);
        }
        for (name, child) in schema["properties"].as_object().into_iter().flatten() {
            collect(child, format!("{path}.{name}"), out);
        }
    }
    let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    let mut out = Vec::new();
    collect(&serde_json::to_value(&schema.properties.unwrap()["spec"]).unwrap(), "spec".into(), &mut out);
    out
}

#[test]
fn a_description_says_not_supported_exactly_where_the_field_is_refused() {
    for (_, crd, rows, [least, _]) in kinds() {
        let kind = &crd.spec.names.kind;
        let fields = described_fields(&crd);
        assert!(fields.len() > least / 2, "{kind}: {} descriptions", fields.len());
        // `infra` and `workloads` are of one type, whose text says where this field is refused.
        for (path, text) in fields.into_iter().filter(|(path, _)| path != "spec.workloads.replicas") {
            let works = rows.iter().any(|(row, _)| is_under(&path, row) || is_under(row, &path));
            let says_not = text.ends_with("Not supported yet by Ferrovirt.");
            assert_eq!(says_not, !works, "{kind} {path}: {text:?}");
        }
    }
}

#[test]
fn every_field_is_implemented_by_someone_or_refused_with_its_path() {
    for (catalogue, crd, rows, [least, least_refused]) in kinds() {
        let kind = &crd.spec.names.kind;
        assert!(rows.iter().all(|(_, consumer)| !consumer.is_empty()));
        let fields = every_field(&crd);
        assert!(fields.len() > least, "the whole schema of {kind} is walked: {}", fields.len());
        let mut refused = 0;
        for (path, object) in fields {
            let mut causes = Causes::default();
            refuse(catalogue, &object, &mut causes);
            let causes = causes.into_vec();
            // A field is served when a row covers it, or when it only holds served ones.
            let is_served =
                rows.iter().any(|(row, _)| is_under(&path, row) || is_under(row.trim_end_matches(".**"), &path));
            if is_served {
                assert!(causes.is_empty(), "{path} is implemented but refused: {causes:?}");
                continue;
            }
            refused += 1;
            let [cause] = causes.as_slice() else { panic!("{path} is neither implemented nor refused: {causes:?}") };
            assert!(is_under(&path, &without_positions(&cause.field)), "{path} is refused as {}", cause.field);
            assert!(cause.message.starts_with(&cause.field), "{}", cause.message);
            assert!(cause.message.contains("not supported yet by Ferrovirt: "), "{}", cause.message);
        }
        assert!(refused > least_refused, "{refused} fields of {kind} are refused");
    }
}

#[test]
fn tables_name_fields_of_the_schema() {
    for (catalogue, _, rows, _) in kinds() {
        for (path, _) in rows {
            let mut node = &catalogue.root;
            for name in path.split('.').filter(|name| *name != "**") {
                node = node.fields.get(name).unwrap_or_else(|| panic!("{path}: no field {name}"));
            }
        }
    }
    let needs_a_way_out = |catalogue: &Catalogue, path: &str| {
        let known = path.split('.').try_fold(&catalogue.root, |node, name| node.fields.get(name));
        assert!(known.is_some_and(|node| node.status == Status::Unimplemented), "{path} needs no way out");
    };
    for (path, _) in table::WAYS_OUT {
        if path.starts_with("spec.") {
            needs_a_way_out(catalogue(Kind::VirtualMachine), path);
        } else {
            needs_a_way_out(catalogue(Kind::VirtualMachineInstance), &format!("spec.{path}"));
        }
    }
    for (path, _) in kubevirt::WAYS_OUT {
        let whole = if path.starts_with("spec.") { (*path).to_owned() } else { format!("spec.configuration.{path}") };
        needs_a_way_out(&KUBEVIRT, &whole);
    }
}

#[test]
fn what_asks_for_nothing_is_let_through() {
    let spec = json!({"spec": {"domain": {
        "cpu": {"dedicatedCpuPlacement": false, "maxSockets": 0},
        "devices": {"networkInterfaceMultiqueue": false, "gpus": [], "autoattachVSOCK": false},
        "ioThreadsPolicy": "", "launchSecurity": null
    }}});
    let mut causes = Causes::default();
    check(Kind::VirtualMachineInstance, &spec, &mut causes);
    assert_eq!(causes.into_vec(), []);
}

#[test]
fn unknown_fields_are_left_to_the_api_server_and_old_names_get_the_new_one() {
    let vm = json!({"spec": {"colour": "red", "template": {"spec": {"nonsense": {"a": 1}, "volumes": [
        {"name": "a", "shape": "round"}, {"name": "b", "registryDisk": {"image": "x"}},
        {"name": "c", "cloudInitNoCloud": {"userDataSecretRef": {"name": "x"}}}
    ]}}}});
    let causes = renamed_fields(Kind::VirtualMachine, &vm);
    let texts: Vec<&str> = causes.iter().map(|cause| cause.message.as_str()).collect();
    assert_eq!(
        texts,
        [
            "spec.template.spec.volumes[1].registryDisk is not a field any more: use containerDisk",
            "spec.template.spec.volumes[2].cloudInitNoCloud.userDataSecretRef is not a field any more: use secretRef",
        ]
    );
    let mut all = Causes::default();
    check(Kind::VirtualMachine, &vm, &mut all);
    assert_eq!(all.into_vec(), causes);
}

#[test]
fn unknown_fields_that_the_api_server_keeps_are_refused() {
    let vm = |metadata: Value, clock: Value| json!({"spec": {"template": {"metadata": metadata, "spec": {"domain": {"clock": clock}}}}});
    let refused = |vm: Value| {
        let mut causes = Causes::default();
        check(Kind::VirtualMachine, &vm, &mut causes);
        causes.into_vec().into_iter().map(|cause| cause.field).collect::<Vec<_>>()
    };
    let good = vm(
        json!({"creationTimestamp": null, "name": "x", "finalizers": [], "labels": {"any": "key"}, "annotations": {"any": "key"}}),
        json!({"utc": {"offsetSeconds": 1}, "timer": {"rtc": {"present": true}}}),
    );
    assert_eq!(refused(good), [""; 0]);
    assert_eq!(
        refused(vm(json!({"lables": {"a": "b"}}), json!({"timeZone": "Europe/Berlin"}))),
        ["spec.template.metadata.lables", "spec.template.spec.domain.clock.timeZone"]
    );
    assert_eq!(refused(vm(json!({"finalizers": ["a/b"]}), Value::Null)), ["spec.template.metadata.finalizers"]);
    let vmi = json!({"spec": {"domain": {"clock": {"timeZone": "UTC"}}}});
    let mut causes = Causes::default();
    check(Kind::VirtualMachineInstance, &vmi, &mut causes);
    assert_eq!(
        causes.into_vec()[0].message,
        "spec.domain.clock.timeZone is not a field: remove it, or correct its name"
    );
}
