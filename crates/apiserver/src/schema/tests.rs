//! Cases from the behaviour of kube-apiserver 1.35; messages were compared with a real one.

use serde_json::{Value, json};

use super::*;

fn widget_schema() -> Structural {
    Structural::parse(&json!({
        "type": "object", "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object", "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1, "maximum": 100},
                    "small": {"type": "integer", "format": "int32"},
                    "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
                    "name": {"type": "string", "maxLength": 5, "minLength": 2, "pattern": "^[a-z]+$"},
                    "list": {"type": "array", "maxItems": 3, "minItems": 1, "x-kubernetes-list-type": "set",
                             "items": {"type": "string"}},
                    "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                              "items": {"type": "object", "required": ["name"], "properties": {
                                  "name": {"type": "string"}, "port": {"x-kubernetes-int-or-string": true},
                                  "mode": {"type": "string", "default": "rw"}}}},
                    "ip": {"type": "string", "format": "ipv4"},
                    "nul": {"type": "string", "nullable": true, "default": "dflt"},
                    "nonnul": {"type": "string", "default": "dflt"},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                             "properties": {"known": {"type": "object", "properties": {}}}},
                    "m": {"type": "object", "additionalProperties": {"type": "string"}},
                    "deep": {"type": "object", "default": {}, "properties": {"x": {"type": "integer", "default": 7}}},
                    "one": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                            "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
                    "pod": {"type": "object", "x-kubernetes-embedded-resource": true,
                            "x-kubernetes-preserve-unknown-fields": true}
                }
            }
        }
    }))
    .unwrap()
}

/// Causes of a widget with this spec, as `field: message`.
fn causes(spec: Value) -> Vec<String> {
    let mut object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
    let schema = widget_schema();
    schema.normalise(&mut object);
    schema.validate(&object).iter().map(ToString::to_string).collect()
}

#[test]
fn values_are_validated_with_kubernetes_words() {
    let table: Vec<(Value, Vec<&str>)> = vec![
        (json!({"size": 1}), vec![]),
        (json!({"size": 1.0}), vec![]),
        (
            json!({"size": "x"}),
            vec![r#"spec.size: Invalid value: "string": spec.size in body must be of type integer: "string""#],
        ),
        (
            json!({"size": 1.5}),
            vec![r#"spec.size: Invalid value: "number": spec.size in body must be of type integer: "number""#],
        ),
        (json!({}), vec!["spec.size: Required value"]),
        (json!({"size": null}), vec!["spec.size: Required value"]),
        (
            json!({"size": 0}),
            vec!["spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"],
        ),
        (
            json!({"size": 101}),
            vec!["spec.size: Invalid value: 101: spec.size in body should be less than or equal to 100"],
        ),
        (
            json!({"size": 1, "color": "blue"}),
            vec![r#"spec.color: Unsupported value: "blue": supported values: "red", "green""#],
        ),
        (json!({"size": 1, "name": "toolong"}), vec!["spec.name: Too long: may not be more than 5 bytes"]),
        (
            json!({"size": 1, "name": "x"}),
            vec![r#"spec.name: Invalid value: "x": spec.name in body should be at least 2 chars long"#],
        ),
        (
            json!({"size": 1, "name": "X"}),
            vec![r#"spec.name: Invalid value: "X": spec.name in body should be at least 2 chars long"#],
        ),
        (
            json!({"size": 1, "name": "a1"}),
            vec![r#"spec.name: Invalid value: "a1": spec.name in body should match '^[a-z]+$'"#],
        ),
        (
            json!({"size": 1, "list": []}),
            vec!["spec.list: Invalid value: 0: spec.list in body should have at least 1 items"],
        ),
        (json!({"size": 1, "list": ["a", "b", "c", "d"]}), vec!["spec.list: Too many: 4: must have at most 3 items"]),
        (json!({"size": 1, "list": ["a", "a", "a"]}), vec![r#"spec.list[1]: Duplicate value: "a""#]),
        (
            json!({"size": 1, "list": [null]}),
            vec![r#"spec.list[0]: Invalid value: "null": spec.list[0] in body must be of type string: "null""#],
        ),
        (
            json!({"size": 1, "ip": "1.2.3"}),
            vec![r#"spec.ip: Invalid value: "1.2.3": spec.ip in body must be of type ipv4: "1.2.3""#],
        ),
        (
            json!({"size": 1, "m": {"k": 1}}),
            vec![r#"spec.m.k: Invalid value: "integer": spec.m.k in body must be of type string: "integer""#],
        ),
        (
            json!({"size": 1, "items": [{"name": "a"}, {"name": "a", "port": 1.5}]}),
            vec![
                r#"spec.items[1].port: Invalid value: "number": spec.items[1].port in body must be of type integer,string: "number""#,
                r#"spec.items[1]: Duplicate value: {"name":"a"}"#,
            ],
        ),
        (
            json!({"size": 1, "one": {"a": "x", "b": "y"}}),
            vec![
                r#"<nil>: Invalid value: "": "spec.one" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ],
        ),
        (
            json!({"size": 1, "one": {}}),
            vec![
                r#"<nil>: Invalid value: "": "spec.one" must validate one and only one schema (oneOf). Found none valid"#,
                "spec.one.a: Required value",
            ],
        ),
        (json!("str"), vec![r#"spec: Invalid value: "string": spec in body must be of type object: "string""#]),
        (json!({"size": 1, "pod": {"kind": "Pod"}}), vec!["spec.pod.apiVersion: Required value: must not be empty"]),
        // Stricter than Kubernetes: what no typed client can decode is refused.
        (
            json!({"size": 1, "small": 5_000_000_000_i64}),
            vec!["spec.small: Invalid value: 5000000000: spec.small in body must be of type int32: 5000000000"],
        ),
    ];
    for (spec, expected) in table {
        assert_eq!(causes(spec.clone()), expected, "{spec}");
    }
}

#[test]
fn defaults_and_nulls_follow_kubernetes() {
    let mut object = json!({"spec": {"size": 1, "color": null, "nul": null, "nonnul": null, "name": null, "items": [{"name": "a"}]}});
    assert!(widget_schema().normalise(&mut object).is_empty());
    assert_eq!(
        object["spec"],
        json!({"size": 1, "color": "red", "nul": null, "nonnul": "dflt", "items": [{"name": "a", "mode": "rw"}], "deep": {"x": 7}})
    );
    let before = object.clone();
    widget_schema().normalise(&mut object);
    assert_eq!(object, before, "normalising twice changes nothing");
}

#[test]
fn unknown_fields_are_dropped_and_reported() {
    let mut object = json!({
        "apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n", "foo": 1, "labels": {"a": "b"}}, "extra": 1,
        "spec": {"size": 1, "zzz": {"a": 1}, "items": [{"name": "a", "unk": 1}],
                 "free": {"x": {"y": 1}, "known": {"dropped": 1}}, "m": {"any": "x"},
                 "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"anything": 1}}}
    });
    let unknown = widget_schema().normalise(&mut object);
    assert_eq!(unknown, ["extra", "metadata.foo", "spec.free.known.dropped", "spec.items[0].unk", "spec.zzz"]);
    assert_eq!(object["spec"]["free"], json!({"x": {"y": 1}, "known": {}}));
    assert_eq!(object["spec"]["pod"]["spec"], json!({"anything": 1}));
    assert_eq!(object["metadata"], json!({"name": "n", "labels": {"a": "b"}}));
}

#[test]
fn updates_are_refused_only_for_what_they_broke() {
    let schema = widget_schema();
    let old = json!({"spec": {"size": 1000, "color": "red"}});
    let mut new = old.clone();
    new["metadata"] = json!({"labels": {"a": "b"}});
    assert!(schema.validate_update(&new, &old).is_empty());
    new["spec"]["size"] = json!(2000);
    assert_eq!(schema.validate_update(&new, &old).len(), 1);
}

#[test]
fn duplicate_keys_are_found_with_their_paths() {
    let (value, duplicate) =
        strict::decode(br#"{"a":1,"a":2,"b":[{"c":1,"c":2}],"d":{"e":{"f":1,"f":1,"f":3}}}"#).unwrap();
    assert_eq!(duplicate, ["a", "b[0].c", "d.e.f"]);
    assert_eq!(value, json!({"a": 2, "b": [{"c": 2}], "d": {"e": {"f": 3}}}));
    assert!(strict::decode(b"{\"a\":1} x").is_err());
    assert!(strict::decode("[".repeat(100_000).as_bytes()).is_err(), "deep nesting is an error, not a crash");
    let report = StrictReport { duplicate, unknown: vec!["spec.x".into()] };
    assert!(report.error().unwrap().starts_with("strict decoding error: duplicate field \"a\", "));
    assert!(FieldValidation::from_query(Some("Loose")).unwrap_err().contains("\"Ignore\", \"Strict\", \"Warn\""));
}

#[test]
fn structural_rules_are_checked() {
    let paths =
        |schema: Value| -> Vec<String> { check_structural(&schema, "s").iter().map(|c| format!("{c}")).collect() };
    assert!(
        paths(json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true,
        "anyOf": [{"type": "integer"}, {"type": "string"}]}}}))
        .is_empty()
    );
    for (schema, expected) in [
        (json!({"properties": {}}), "s.type: Required value: must not be empty at the root"),
        (
            json!({"type": "object", "properties": {"a": {}}}),
            "s.properties[a].type: Required value: must not be empty for specified object fields",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array"}}}),
            "s.properties[a].items: Required value: must be specified",
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            "s.additionalProperties: Forbidden: must not be used at the root",
        ),
        (
            json!({"type": "object", "anyOf": [{"type": "object"}]}),
            "s.anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            json!({"type": "object", "anyOf": [{"properties": {"x": {"minimum": 1}}}]}),
            "s.properties[x]: Required value: because it is defined in s.anyOf[0].properties[x]",
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
        ),
        (
            json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}},
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}}}),
            "s.properties[l].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
        ),
        (
            json!({"type": "object", "properties": {"a": {"$ref": "#/x", "type": "string"}}}),
            "s.properties[a].$ref: Forbidden: $ref is not supported",
        ),
        (json!({"type": "object", "nullable": true}), "s.nullable: Forbidden: nullable cannot be true at the root"),
        (
            json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "string"}, "uniqueItems": true}}}),
            "s.properties[l].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ),
        (
            json!({"type": "object", "anyOf": [{"patternProperties": {"a": {}}}]}),
            "s.anyOf[0].patternProperties: Forbidden: patternProperties is not supported",
        ),
        (
            json!({"type": "object", "definitions": {"a": {"type": "string"}}}),
            "s.definitions: Forbidden: definitions is not supported",
        ),
        (
            json!({"type": "object", "dependencies": {"a": ["b"]}}),
            "s.dependencies: Forbidden: dependencies is not supported",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "null"}}}),
            "s.properties[a].type: Forbidden: type cannot be set to null, use nullable as an alternative",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array", "items": [{"type": "string"}]}}}),
            "s.properties[a].items: Forbidden: items must be a schema object and not an array",
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            "s.x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string", "x-kubernetes-map-type": "atomic"}}}),
            "s.properties[a].type: Invalid value: \"string\": must be object if x-kubernetes-map-type is specified",
        ),
        (
            json!({"type": "object", "x-kubernetes-map-type": "solid"}),
            "s.x-kubernetes-map-type: Unsupported value: \"solid\": supported values: \"atomic\", \"granular\"",
        ),
        (
            json!({"type": "object", "properties": {"l": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}}}}),
            "s.properties[l].items.x-kubernetes-map-type: Invalid value: \"\": must be atomic as item of a list with \
             x-kubernetes-list-type=set",
        ),
        (
            json!({"type": "object", "properties": {"l": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k", "k"], "items": {"type": "object", "required": ["k"],
                    "properties": {"k": {"type": "object"}}}}}}),
            "s.properties[l].items.properties[k].type: Invalid value: \"object\": must be a scalar type if parent array's \
             x-kubernetes-list-type is map",
        ),
        (
            json!({"type": "object", "properties": {"l": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k", "k"], "items": {"type": "object", "required": ["k"],
                    "properties": {"k": {"type": "string"}}}}}}),
            "s.properties[l].x-kubernetes-list-map-keys: Invalid value: [\"k\",\"k\"]: must not contain duplicate entries",
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string", "default": "x"}}}}}),
            "s.properties[metadata].properties[name].default: Forbidden: must not be set in top-level metadata",
        ),
    ] {
        assert!(paths(schema.clone()).contains(&expected.to_owned()), "{schema}: {:?}", paths(schema.clone()));
    }
}

/// A definition with these versions.
pub(in crate::schema) fn versioned(versions: Value) -> Value {
    json!({
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": versions,
        },
    })
}

#[test]
fn selectable_fields_are_plain_paths_to_scalars() {
    let found = |fields: &[&str]| -> Vec<String> {
        let fields: Vec<Value> = fields.iter().map(|path| json!({"jsonPath": path})).collect();
        let letters: serde_json::Map<String, Value> =
            ('a'..='i').map(|letter| (letter.to_string(), json!({"type": "string"}))).collect();
        let definition = versioned(json!([{"name": "v1", "served": true, "storage": true, "selectableFields": fields,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": {"type": "object", "properties": {
                "colour": {"type": "string", "enum": ["red"]}, "size": {"type": "integer"}, "on": {"type": "boolean"},
                "share": {"type": "number"}, "list": {"type": "array", "items": {"type": "string"}},
                "letters": {"type": "object", "properties": letters},
            }},
        }}}}]));
        let prefix = "spec.versions[0].selectableFields";
        crd::check(&definition, None).iter().map(|cause| cause.to_string().replace(prefix, "…")).collect()
    };
    assert_eq!(found(&[".spec.colour", ".spec.size", ".spec.on"]), Vec::<String>::new());
    let scalar = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
    for (fields, expected) in [
        (&[""][..], "…[0].jsonPath: Required value".to_owned()),
        (&[".spec.share"], format!("…[0].jsonPath: Invalid value: \".spec.share\": {scalar}")),
        (&[".spec"], format!("…[0].jsonPath: Invalid value: \".spec\": {scalar}")),
        (
            &[".spec.list[0]"],
            "…[0].jsonPath: Invalid value: \".spec.list[0]\": is an invalid path: array notation is not allowed".into(),
        ),
        (
            &[".spec.nope"],
            "…[0].jsonPath: Invalid value: \".spec.nope\": is an invalid path: does not refer to a valid field".into(),
        ),
        (
            &[".metadata.name"],
            "…[0].jsonPath: Invalid value: \".metadata.name\": must not point to fields in metadata".into(),
        ),
        (&[".spec.size", ".spec.size"], "…[1].jsonPath: Duplicate value: \".spec.size\"".into()),
    ] {
        assert_eq!(found(fields), [expected], "{fields:?}");
    }
    let nine: Vec<String> = ('a'..='i').map(|letter| format!(".spec.letters.{letter}")).collect();
    let nine: Vec<&str> = nine.iter().map(String::as_str).collect();
    assert_eq!(found(&nine), ["…: Too many: 9: must have at most 8 items"]);
    assert_eq!(found(&nine[..8]), Vec::<String>::new());
}

#[test]
fn stored_versions_stay_defined_and_include_the_storage_version() {
    let with = |names: &[&str], stored: Value| {
        let version = |name: &str| {
            json!({"name": name, "served": true, "storage": name == names[0],
                   "schema": {"openAPIV3Schema": {"type": "object"}}})
        };
        let mut definition = versioned(names.iter().map(|name| version(name)).collect());
        definition["status"] = json!({"storedVersions": stored});
        definition
    };
    let found =
        |definition: Value| -> Vec<String> { crd::check(&definition, None).iter().map(ToString::to_string).collect() };
    assert_eq!(found(with(&["v2", "v1"], json!(["v1", "v2"]))), Vec::<String>::new());
    assert_eq!(found(with(&["v2", "v1"], json!(["v2"]))), Vec::<String>::new());
    assert_eq!(
        found(with(&["v2"], json!([]))),
        ["status.storedVersions: Invalid value: []: must have at least one stored version"]
    );
    assert_eq!(
        found(with(&["v2", "v1"], json!(["v1"]))),
        ["status.storedVersions: Invalid value: [\"v1\"]: must have the storage version v2"]
    );
    let gone = found(with(&["v2"], json!(["v1", "v2"])));
    assert_eq!(gone.len(), 1);
    let start = "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage version";
    assert!(gone[0].starts_with(start), "{gone:?}");
}

#[test]
fn every_builtin_kind_has_a_schema() {
    for (group, version, kind) in [
        ("", "v1", "Pod"),
        ("", "v1", "Node"),
        ("", "v1", "Namespace"),
        ("", "v1", "Secret"),
        ("", "v1", "ConfigMap"),
        ("", "v1", "ServiceAccount"),
        ("", "v1", "Event"),
        ("", "v1", "Binding"),
        ("coordination.k8s.io", "v1", "Lease"),
        ("events.k8s.io", "v1", "Event"),
        ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ] {
        assert!(builtin::schema(group, version, kind).is_some(), "{group}/{version} {kind}");
    }
    assert!(builtin::delete_options().is_some());
}

#[test]
fn builtin_kinds_drop_unknown_fields_and_refuse_wrong_types() {
    let schema = builtin::schema("", "v1", "Pod").unwrap();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "oops": 1},
        "spec": {"containers": [{"name": "c", "image": "i", "comand": [], "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}],
                 "nodeSelector": {"any": "thing"}, "hostname": null}});
    assert_eq!(schema.normalise(&mut pod), ["metadata.oops", "spec.containers[0].comand"]);
    assert_eq!(schema.decode_error(&pod), None);
    assert!(pod["spec"].get("hostname").is_none());
    builtin::complete("", "Pod", &mut pod);
    assert_eq!(pod["spec"]["containers"][0]["resources"]["requests"], json!({"cpu": "1", "memory": "1Gi"}));
    assert!(builtin::check("", "Pod", &pod, None).is_empty());
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": "http"}]);
    let error = schema.decode_error(&pod).unwrap();
    assert!(error.contains("spec.containers[0].ports[0].containerPort"), "{error}");
    let crd = builtin::schema("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    let mut value = json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": {
        "$ref": {"type": "string"}, "a": {"type": "array", "items": {"type": "object", "default": {"k": [1]}}}}}}}]}});
    let before = value.clone();
    assert!(crd.normalise(&mut value).is_empty());
    assert_eq!(value["spec"]["versions"][0]["schema"], before["spec"]["versions"][0]["schema"]);
}

#[test]
fn formats_accept_and_refuse() {
    for (format, good, bad) in [
        ("ipv4", "1.2.3.4", "1.2.3"),
        ("ipv6", "::1", "1.2.3.4"),
        ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
        ("mac", "02:00:00:00:00:01", "02:00"),
        ("uuid", "6F1D3D1E-0B1C-4B5E-8C3D-000000000000", "6f1d"),
        ("date-time", "2026-01-02T03:04:05Z", "2026-01-02"),
        ("date", "2026-01-02", "2026-13-02"),
        ("duration", "1h30m", "90"),
        ("byte", "aGk=", "h"),
        ("hostname", "a.b", "-a"),
        ("email", "a@b", "ab"),
        ("uri", "https://x/y", "no uri"),
        ("k8s-short-name", "abc", "Abc"),
    ] {
        assert!(format::holds(format, good), "{format} {good}");
        assert!(!format::holds(format, bad), "{format} {bad}");
    }
    assert!(format::holds("made-up", "anything"));
}

proptest::proptest! {
    /// Nothing a client sends makes the steps panic, and normalising is idempotent.
    #[test]
    fn any_json_survives(text in "[\\[\\]{}\",:a-z0-9. ]{0,200}", spec in json_value()) {
        let _ = strict::decode(text.as_bytes());
        let schema = widget_schema();
        let mut object = json!({"metadata": spec.clone(), "spec": spec});
        schema.normalise(&mut object);
        let once = object.clone();
        schema.normalise(&mut object);
        proptest::prop_assert_eq!(&object, &once);
        schema.validate(&object);
        schema.decode_error(&object);
        if let Some(pod) = builtin::schema("", "v1", "Pod") {
            pod.normalise(&mut object);
            builtin::complete("", "Pod", &mut object);
            builtin::check("", "Pod", &object, None);
        }
        crd::check(&object, None);
        check_structural(&object, "x");
        let _ = Structural::parse(&object["spec"]);
    }
}

fn json_value() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z]{0,4}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("size".to_owned()),
        Just("list".to_owned()),
        Just("items".to_owned()),
        Just("name".to_owned()),
        Just("pod".to_owned()),
        Just("type".to_owned()),
        Just("properties".to_owned()),
        Just("one".to_owned()),
        Just("containers".to_owned()),
        "[a-z]{1,3}"
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..5).prop_map(|kv| Value::Object(kv.into_iter().collect())),
        ]
    })
}
