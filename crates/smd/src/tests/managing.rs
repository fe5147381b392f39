//! Who owns what after a sequence of writes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::schema::{Arena, Kind, everything};
use crate::apply::{Application, ApplyError, apply};
use crate::managed::{Managed, Manager, Operation};
use crate::set::Set;
use crate::track::{Versions as _, track};

struct World {
    kind: Kind,
    object: Value,
    managed: Managed,
    clock: i64,
}

impl World {
    fn new() -> World {
        let kind = Kind { arena: Arena::parse(&everything()), versions: vec!["v1", "v2"], ignored: None };
        World { kind, object: json!({"apiVersion": "v1", "kind": "T"}), managed: Managed::default(), clock: 0 }
    }

    fn now(&mut self) -> Timestamp {
        self.clock += 1;
        Timestamp::from_second(self.clock).unwrap()
    }

    fn try_apply(&mut self, manager: &str, version: &str, config: Value, force: bool) -> Result<bool, ApplyError> {
        let now = self.now();
        let mut config = config;
        config["apiVersion"] = json!(version);
        config["kind"] = json!("T");
        let live = self.kind.convert(&self.object, version).into_owned();
        let blank = json!({"apiVersion": version, "kind": "T"});
        let application = Application {
            live: &live,
            blank: &blank,
            config: &config,
            manager,
            api_version: version,
            subresource: "",
            force,
            now,
        };
        let mut managed = self.managed.clone();
        let new = apply(&self.kind, &mut managed, &application)?;
        self.managed = managed;
        let changed = new.is_some();
        if let Some(new) = new {
            self.object = new;
        }
        Ok(changed)
    }

    fn apply(&mut self, manager: &str, spec: Value) -> bool {
        self.try_apply(manager, "v1", json!({"spec": spec}), false).unwrap()
    }

    fn update(&mut self, manager: &str, spec: Value) {
        let now = self.now();
        let mut new = self.object.clone();
        new["spec"] = spec;
        let id = Manager::new(manager, Operation::Update, "v1", "");
        track(&self.kind, &mut self.managed, &self.object, &new, (id, "v1"), now).unwrap();
        self.object = new;
    }

    /// Fields below spec by manager and operation, with the second of the last change.
    fn owners(&self) -> Value {
        let entries = self.managed.encode();
        let entries = entries.as_array().unwrap().iter().map(|entry| {
            let second = entry.get("time").map(|t| t.as_str().unwrap().parse::<Timestamp>().unwrap().as_second());
            json!([entry["manager"], entry["operation"], second, entry["fieldsV1"]["f:spec"]])
        });
        Value::Array(entries.collect())
    }
}

#[test]
fn an_applier_owns_what_it_names_and_loses_what_it_drops() {
    let mut world = World::new();
    assert!(world.apply("a", json!({"size": 1, "tags": ["x", "y"], "parts": [{"name": "p", "image": "i"}]})));
    assert!(world.apply("a", json!({"size": 2, "tags": ["y"]})));
    assert_eq!(world.object["spec"], json!({"size": 2, "tags": ["y"]}));
    assert_eq!(world.owners(), json!([["a", "Apply", 2, {"f:size": {}, "f:tags": {"v:\"y\"": {}}}]]));
}

#[test]
fn an_apply_that_changes_nothing_leaves_everything_as_it_is() {
    let mut world = World::new();
    world.apply("a", json!({"size": 1}));
    let before = world.owners();
    assert!(!world.apply("a", json!({"size": 1})));
    assert_eq!(world.owners(), before);
}

#[test]
fn conflicts_name_owner_and_field_unless_the_value_is_the_same() {
    let mut world = World::new();
    world.apply("a", json!({"size": 1, "parts": [{"name": "p", "image": "i"}]}));
    world.update("u", json!({"size": 1, "name": "n", "parts": [{"name": "p", "image": "i"}]}));
    let error = world.try_apply("b", "v1", json!({"spec": {"size": 2}}), false).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"a\": .spec.size");
    let config = json!({"spec": {"size": 2, "name": "m", "parts": [{"name": "p", "image": "j"}]}});
    let error = world.try_apply("b", "v1", config, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"a\":\n- .spec.size\n- .spec.parts[name=\"p\"].image\nconflicts with \
         \"u\" using v1:\n- .spec.name"
    );
    // Both may own a field that both give the same value. Who changes nothing has no time, and so comes first.
    assert!(!world.apply("b", json!({"size": 1})));
    assert_eq!(world.owners()[0], json!(["b", "Apply", null, {"f:size": {}}]));
}

#[test]
fn force_takes_fields_away_from_their_owners() {
    let mut world = World::new();
    world.apply("a", json!({"size": 1, "name": "n"}));
    assert!(world.try_apply("b", "v1", json!({"spec": {"size": 2}}), true).unwrap());
    assert_eq!(world.owners(), json!([["a", "Apply", 1, {"f:name": {}}], ["b", "Apply", 2, {"f:size": {}}]]));
    world.apply("a", json!({"name": "n"}));
    assert_eq!(world.object["spec"], json!({"size": 2, "name": "n"}), "what others own is not pruned");
}

#[test]
fn shared_fields_stay_until_their_last_applier_lets_go() {
    let mut world = World::new();
    world.apply("a", json!({"size": 1, "tags": ["x"]}));
    world.apply("b", json!({"size": 1, "tags": ["x", "y"]}));
    world.apply("a", json!({"name": "n"}));
    assert_eq!(world.object["spec"], json!({"size": 1, "tags": ["x", "y"], "name": "n"}));
    world.apply("b", json!({}));
    assert_eq!(world.object["spec"], json!({"name": "n"}));
}

#[test]
fn updates_take_over_what_they_change() {
    let mut world = World::new();
    world.apply("a", json!({"size": 1, "name": "n"}));
    world.update("u", json!({"size": 2, "name": "n", "on": true}));
    world.update("u", json!({"size": 3, "name": "n", "on": true}));
    assert_eq!(
        world.owners(),
        json!([["a", "Apply", 1, {"f:name": {}}], ["u", "Update", 3, {"f:on": {}, "f:size": {}}]])
    );
    world.update("w", json!({"name": "n", "on": true}));
    assert_eq!(world.owners()[1], json!(["u", "Update", 3, {"f:on": {}}]), "a removal gives the remover nothing");
}

#[test]
fn an_object_nobody_tracked_gets_an_owner_at_the_first_apply() {
    let mut world = World::new();
    world.object["spec"] = json!({"size": 1, "name": "n"});
    let error = world.try_apply("a", "v1", json!({"spec": {"size": 2}}), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .spec.size"
    );
    world.apply("a", json!({"size": 1}));
    assert_eq!(world.owners()[1][0], "before-first-apply");
}

#[test]
fn other_versions_of_the_kind_count_and_forgotten_ones_do_not() {
    let mut world = World::new();
    world.apply("a", json!({"size": 1, "name": "n"}));
    let error = world.try_apply("b", "v2", json!({"spec": {"size": 2}}), false).unwrap_err();
    assert!(error.to_string().contains("conflict with \"a\": .spec.size"), "{error}");
    world.try_apply("a", "v2", json!({"spec": {"size": 3}}), false).unwrap();
    assert_eq!((&world.object["apiVersion"], &world.object["spec"]), (&json!("v2"), &json!({"size": 3})));
    world.object["apiVersion"] = json!("v1");
    world.kind.versions = vec!["v1"];
    world.update("u", json!({"size": 4}));
    assert_eq!(world.owners(), json!([["u", "Update", 4, {"f:size": {}}]]));
}

#[test]
fn fields_a_request_cannot_change_are_not_owned() {
    let mut world = World::new();
    world.kind.ignored = Some(Set::of_fields(&["status"]));
    world.try_apply("a", "v1", json!({"spec": {"size": 1}, "status": {"phase": "x"}}), false).unwrap();
    let entries = world.managed.encode();
    assert_eq!(entries[0]["fieldsV1"], json!({"f:spec": {"f:size": {}}}));
}

#[test]
fn identity_is_never_owned() {
    let mut world = World::new();
    let config = json!({"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": {"size": 1}});
    world.try_apply("a", "v1", config, false).unwrap();
    let expected = json!({"f:metadata": {"f:labels": {"f:a": {}}}, "f:spec": {"f:size": {}}});
    assert_eq!(world.managed.encode()[0]["fieldsV1"], expected);
}

#[test]
fn the_oldest_updaters_become_one() {
    let mut world = World::new();
    for n in 1..=12 {
        let mut spec = world.object["spec"].clone();
        if spec.is_null() {
            spec = json!({"open": {}});
        }
        spec["open"][format!("f{n}")] = json!(n);
        world.update(&format!("m{n:02}"), spec);
    }
    let owners = world.owners();
    assert_eq!(owners.as_array().unwrap().len(), 10);
    assert_eq!(owners[0][0], "ancient-changes");
    assert_eq!(owners[0][3]["f:open"], json!({".": {}, "f:f1": {}, "f:f2": {}, "f:f3": {}}));
    assert_eq!((&owners[0][2], &owners[1][0]), (&json!(3), &json!("m04")));
}

#[test]
fn kubectl_takes_over_what_it_applied_as_a_client() {
    let mut world = World::new();
    let last = json!({"apiVersion": "v1", "kind": "T", "spec": {"size": 1, "name": "n"}}).to_string();
    world.object["metadata"] = json!({"annotations": {crate::LAST_APPLIED: last}});
    world.update("kubectl-client-side-apply", json!({"size": 1, "name": "n"}));
    world.update("other", json!({"size": 1, "name": "changed"}));
    // The size is still what was applied; the name somebody else changed.
    let error = world.try_apply("kubectl", "v1", json!({"spec": {"size": 2, "name": "m"}}), false).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"other\" using v1: .spec.name");
    assert!(world.try_apply("kubectl", "v1", json!({"spec": {"size": 2}}), false).unwrap());
    let error = world.try_apply("someone", "v1", json!({"spec": {"size": 3}}), false).unwrap_err();
    assert!(error.to_string().contains("conflict with \"kubectl\": .spec.size"), "{error}");
}

#[test]
fn entries_are_read_back_and_damaged_ones_refused() {
    let mut world = World::new();
    world.apply("a", json!({"size": 1}));
    world.update("u", json!({"size": 1, "name": "n"}));
    let written = world.managed.encode();
    assert_eq!(Managed::decode(Some(&written)).unwrap(), world.managed);
    for (field, value, why) in [
        ("operation", json!("Patch"), "must be `Apply` or `Update`"),
        ("apiVersion", json!(""), "must not be empty"),
        ("fieldsType", json!("FieldsV2"), "must be `FieldsV1`"),
        ("time", json!("yesterday"), "RFC 3339"),
        ("manager", json!(1), "must be a string"),
        ("fieldsV1", json!({"bad": {}}), "no colon"),
    ] {
        let mut entries = written.clone();
        entries[1][field] = value;
        let error = Managed::decode(Some(&entries)).unwrap_err().to_string();
        assert!(error.contains("managedFields[1]") && error.contains(why), "{error}");
    }
}
