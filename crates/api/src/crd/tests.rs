use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use super::*;

fn definitions() -> Vec<CustomResourceDefinition> {
    let mut crds = all().unwrap();
    crds.push(kubevirt().unwrap());
    crds
}

fn schemas() -> Vec<(String, Value)> {
    definitions()
        .iter()
        .map(|crd| {
            let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
            (crd.spec.names.kind.clone(), serde_json::to_value(schema).unwrap())
        })
        .collect()
}

fn every_schema(schema: &Value, path: &str, visit: &mut dyn FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        every_schema(child, &format!("{path}.{name}"), visit);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            every_schema(&schema[key], &format!("{path}{mark}"), visit);
        }
    }
}

#[test]
fn schemas_are_structural() {
    for (kind, schema) in schemas() {
        every_schema(&schema, &kind, &mut |path, part| {
            let typed = part["type"].is_string()
                || part["x-kubernetes-int-or-string"] == true
                || part["x-kubernetes-preserve-unknown-fields"] == true;
            assert!(typed, "{path} has no type: {part}");
            for banned in ["$ref", "title", "oneOf", "allOf", "definitions"] {
                assert!(part.get(banned).is_none(), "{path} has {banned}");
            }
            let both = part.get("properties").is_some() && part.get("additionalProperties").is_some();
            assert!(!both, "{path} has both properties and additionalProperties");
        });
    }
}

/// The fields of our own types below `spec` and `status`, in paths as of [`every_schema`]: what is inside a type of Kubernetes'
/// is left out.
fn own_fields<K: JsonSchema>() -> BTreeSet<String> {
    let root = serde_json::to_value(schemars::schema_for!(K)).unwrap();
    let mut found = BTreeSet::new();
    for part in ["spec", "status"] {
        fields_below(&root["properties"][part], root["$defs"].as_object().unwrap(), part, &mut found);
    }
    found
}

fn fields_below(schema: &Value, types: &Map<String, Value>, path: &str, found: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|to| to.strip_prefix("#/$defs/"))
        && !name.starts_with("io.k8s.")
    {
        fields_below(&types[name], types, path, found);
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        fields_below(child, types, &path, found);
        found.insert(path);
    }
    for choice in schema["anyOf"].as_array().into_iter().flatten() {
        fields_below(choice, types, path, found);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            fields_below(&schema[key], types, &format!("{path}{mark}"), found);
        }
    }
}

#[test]
fn every_field_of_our_types_has_a_description() {
    let own = [own_fields::<VirtualMachine>(), own_fields::<VirtualMachineInstance>(), own_fields::<KubeVirt>()];
    for ((kind, schema), own) in schemas().into_iter().zip(own) {
        assert!(own.len() > 250, "{kind}: {own:?}");
        let mut described = BTreeSet::new();
        every_schema(&schema, "", &mut |path, part| {
            if part["description"].is_string() {
                described.insert(path.trim_start_matches('.').to_owned());
            }
        });
        let bare: Vec<&String> = own.difference(&described).collect();
        assert!(bare.is_empty(), "fields of {kind} without a doc comment: {bare:#?}");
        assert!(described.contains(""), "{kind}");
    }
}

/// The comments and texts of our sources, each in one line.
#[expect(clippy::disallowed_methods, reason = "a test reads the sources of its own crate")]
fn sources() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core/v1");
    let files = std::fs::read_dir(folder).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    files
        .flat_map(|text| {
            text.lines().map(|line| format!("{} ", line.trim().trim_start_matches("/// "))).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn descriptions_are_sentences_of_our_sources_for_people() {
    let sources = sources();
    for (kind, schema) in schemas() {
        every_schema(&schema, &kind, &mut |path, part| {
            let Some(text) = part["description"].as_str() else { return };
            for paragraph in text.split("\n\n") {
                assert!(sources.contains(paragraph), "{path}: nobody of us wrote {paragraph:?}");
            }
            let is_plain = !text.contains("[`") && !text.contains("::") && !text.contains("upstream");
            assert!(is_plain, "{path}: for readers of the source only: {text:?}");
            assert!(text.ends_with(['.', '…']) && text.chars().count() <= 240, "{path}: {text:?}");
        });
    }
}

#[test]
fn what_is_below_an_unsupported_field_says_so_too() {
    let (_, vmi) = schemas().remove(1);
    let field =
        |path: &str| path.split('.').fold(&vmi, |schema, name| &schema["properties"][name])["description"].clone();
    assert_eq!(field("spec.domain.launchSecurity.sev.session"), descriptions::UNSUPPORTED);
    assert_eq!(field("spec.domain.cpu.cores"), "Cores of each socket; 1 when absent.");
    assert_eq!(field("spec.affinity.nodeAffinity"), Value::Null);
}

#[test]
fn unknown_fields_are_kept_only_where_upstream_keeps_them() {
    let mut kept = Vec::new();
    for (kind, schema) in schemas() {
        every_schema(&schema, &kind, &mut |path, part| {
            if part["x-kubernetes-preserve-unknown-fields"] == true {
                kept.push(path.to_owned());
            }
        });
    }
    assert_eq!(
        kept,
        [
            "VirtualMachine.spec.dataVolumeTemplates[].metadata",
            "VirtualMachine.spec.template.metadata",
            "VirtualMachine.spec.template.spec.domain.clock",
            "VirtualMachineInstance.spec.domain.clock",
        ]
    );
}

#[test]
fn both_versions_share_one_schema_and_v1_is_stored() {
    for crd in definitions() {
        let [v1, v1alpha3] = crd.spec.versions.as_slice() else { panic!("two versions") };
        assert_eq!((v1.name.as_str(), v1.storage, v1.served, v1.deprecated), ("v1", true, true, None));
        assert_eq!((v1alpha3.name.as_str(), v1alpha3.storage, v1alpha3.served), ("v1alpha3", false, true));
        assert_eq!(v1alpha3.deprecated, Some(true));
        assert_eq!(v1.schema, v1alpha3.schema);
        assert_eq!(v1.subresources.is_some(), crd.spec.names.kind != "VirtualMachineInstance");
        assert_eq!(crd.spec.names.categories, Some(vec!["all".to_owned()]));
        let label = if crd.spec.names.kind == "KubeVirt" { "operator.kubevirt.io" } else { "kubevirt.io" };
        let labels = [(label.to_owned(), String::new()), ("app.kubernetes.io/version".to_owned(), "1.9.0".to_owned())];
        assert_eq!(crd.metadata.labels, Some(labels.into()), "the plain level of the API");
    }
}

#[test]
fn kubevirt_answers_to_upstreams_short_names_and_columns() {
    let crd = kubevirt().unwrap();
    assert_eq!(crd.metadata.name.as_deref(), Some("kubevirts.kubevirt.io"));
    assert_eq!(crd.spec.names.short_names, Some(vec!["kv".to_owned(), "kvs".to_owned()]));
    let columns = crd.spec.versions[0].additional_printer_columns.as_ref().unwrap();
    assert_eq!(columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["Age", "Phase"]);
}

#[test]
fn quantities_take_strings_and_integers() {
    let (_, vm) = schemas().remove(0);
    let guest = &vm["properties"]["spec"]["properties"]["template"]["properties"]["spec"]["properties"]["domain"]["properties"]
        ["memory"]["properties"]["guest"];
    assert_eq!(guest["x-kubernetes-int-or-string"], true);
    assert_eq!(guest["pattern"], crate::quantity::QUANTITY_PATTERN);
    assert_eq!(vm["properties"]["status"]["properties"]["printableStatus"]["default"], "Stopped");
    assert_eq!(vm["required"], serde_json::json!(["spec"]));
}
