use std::path::Path;

use super::*;

/// Every document of the manifests in `examples`.
#[allow(clippy::disallowed_methods, reason = "a test of files")]
fn documents() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut documents = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let values: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
            documents.extend(values.into_iter().map(|value| (name.clone(), value)));
        }
    }
    documents
}

#[test]
fn every_example_is_admitted_as_are_its_instances() {
    let documents = documents();
    assert!(documents.len() >= 6);
    for (name, document) in documents {
        let kind = Kind::parse(document["kind"].as_str().unwrap()).unwrap_or_else(|| panic!("{name}: kind"));
        assert_eq!(crate::renamed_fields(kind, &document), [], "{name}");
        let (stored, verdict) = Write::create(kind).admit(document);
        assert_eq!(verdict.causes, [], "{name}");
        if kind == Kind::VirtualMachine {
            let (_, verdict) = Write::create(Kind::VirtualMachineInstance).by(component()).admit(instance_of(&stored));
            assert_eq!(verdict.causes, [], "the instance of {name}");
        }
    }
}

#[test]
fn every_example_has_only_fields_of_the_api() {
    for (name, document) in documents() {
        let back = match document["kind"].as_str() {
            Some("VirtualMachine") => {
                let read: fv_api::VirtualMachine = serde_json::from_value(document.clone()).unwrap();
                serde_json::to_value(read).unwrap()
            }
            _ => {
                let read: fv_api::VirtualMachineInstance = serde_json::from_value(document.clone()).unwrap();
                serde_json::to_value(read).unwrap()
            }
        };
        assert_eq!(back["spec"], document["spec"], "{name}: a field got lost");
    }
}
