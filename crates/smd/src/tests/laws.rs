//! Laws of sets, walks and applies, over random values.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::schema::{Arena, Kind, everything};
use crate::apply::{Application, apply};
use crate::managed::Managed;
use crate::path::Element;
use crate::set::Set;
use crate::typed::Duplicates;
use crate::value;

fn element() -> impl Strategy<Value = Element> {
    let scalar = prop_oneof![
        (-3i64..3).prop_map(|n| json!(n)),
        prop_oneof![Just(0.5), Just(1.0), Just(-0.0)].prop_map(|n| json!(n)),
        "[ab:\"{.]{0,2}".prop_map(|s| json!(s)),
        any::<bool>().prop_map(|b| json!(b)),
    ];
    prop_oneof![
        4 => "[abc.:]{1,2}".prop_map(|name| Element::field(&name)),
        1 => scalar.clone().prop_map(|v| Element::Value(Box::new(v))),
        1 => prop::collection::btree_map("[kl]", scalar, 1..3)
            .prop_map(|keys| Element::key(keys.into_iter().map(|(k, v)| (k.into(), v)).collect())),
        1 => (0i64..4).prop_map(Element::Index),
    ]
}

fn set() -> impl Strategy<Value = Set> {
    prop::collection::vec(prop::collection::vec(element(), 1..4), 0..12)
        .prop_map(|paths| Set::of(paths.iter().map(Vec::as_slice)))
}

/// A value below `spec` that fits the schema. Lists with keys have items: an empty one belongs to nobody.
fn spec() -> impl Strategy<Value = Value> {
    let text = prop::sample::select(vec!["a", "b", "c"]);
    let unique = |most| prop::collection::btree_set(0i64..5, 1..most).prop_shuffle_values();
    let map = prop::collection::btree_map(text.clone(), text.clone(), 0..3).prop_map(|map| json!(map));
    let part = (0i64..5, prop::option::of(text.clone()), prop::option::of(map.clone()));
    let parts = prop::collection::vec(part, 1..4).prop_map(|parts| {
        let mut seen = Vec::new();
        let mut out = Vec::new();
        for (name, image, env) in parts {
            if !seen.contains(&name) {
                seen.push(name);
                let mut part = Map::from_iter([("name".to_owned(), json!(format!("p{name}")))]);
                part.extend(image.map(|image| ("image".to_owned(), json!(image))));
                part.extend(env.map(|env| ("env".to_owned(), env)));
                out.push(Value::Object(part));
            }
        }
        Value::Array(out)
    });
    let field = |value: BoxedStrategy<Value>| prop::option::of(value);
    (
        field((0i64..3).prop_map(|n| json!(n)).boxed()),
        field(text.clone().prop_map(|t| json!(t)).boxed()),
        field(map.clone().boxed()),
        field(prop::collection::vec(text, 0..3).prop_map(|l| json!(l)).boxed()),
        field(unique(4)),
        field(parts.boxed()),
        field(map.boxed()),
    )
        .prop_map(|(size, name, selector, args, numbers, parts, open)| {
            let fields = [
                ("size", size),
                ("name", name),
                ("selector", selector),
                ("args", args),
                ("numbers", numbers),
                ("parts", parts),
                ("open", open),
            ];
            let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            json!({"apiVersion": "v1", "kind": "T", "spec": Value::Object(fields.collect())})
        })
}

trait ShuffleValues {
    fn prop_shuffle_values(self) -> BoxedStrategy<Value>;
}

impl<S: Strategy<Value = std::collections::BTreeSet<i64>> + 'static> ShuffleValues for S {
    fn prop_shuffle_values(self) -> BoxedStrategy<Value> {
        self.prop_map(|set| set.into_iter().collect::<Vec<_>>()).prop_shuffle().prop_map(|l| json!(l)).boxed()
    }
}

/// What is left when nulls, empty maps and what held only them count as absent.
fn tidy(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(k, v)| (k.clone(), tidy(v))).filter(|(_, v)| !v.is_null());
            let kept: Map<String, Value> = kept.collect();
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        Value::Array(list) => json!(list.iter().map(tidy).collect::<Vec<_>>()),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn written_sets_read_back(set in set()) {
        prop_assert_eq!(Set::from_fields(&set.to_fields()).unwrap(), set);
    }

    #[test]
    fn sets_are_an_algebra(a in set(), b in set(), c in set()) {
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.intersection(&b.union(&c)), a.intersection(&b).union(&a.intersection(&c)));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(a.union(&b).len() + a.intersection(&b).len(), a.len() + b.len());
        for path in a.paths() {
            prop_assert!(a.has(&path));
            prop_assert_eq!(a.difference(&b).has(&path), !b.has(&path));
        }
        prop_assert_eq!(Set::of(a.paths().iter().map(Vec::as_slice)), a);
    }

    #[test]
    fn recursive_difference_leaves_nothing_below_what_it_takes(a in set(), b in set()) {
        let left = a.recursive_difference(&b);
        for path in a.paths() {
            let taken = (1..=path.len()).any(|n| b.has(&path[..n]));
            prop_assert_eq!(left.has(&path), !taken);
        }
    }

    #[test]
    fn comparison_is_antisymmetric_and_empty_only_for_equals(a in spec(), b in spec()) {
        let arena = Arena::parse(&everything());
        let ty = arena.ty();
        let (there, back) = (ty.compare(&a, &b).unwrap(), ty.compare(&b, &a).unwrap());
        prop_assert_eq!(&there.added, &back.removed);
        prop_assert_eq!(&there.modified, &back.modified);
        prop_assert!(ty.compare(&a, &a).unwrap().is_same());
        prop_assert!(there.added.intersection(&there.removed).is_empty());
        prop_assert!(there.added.intersection(&there.modified).is_empty());
    }

    #[test]
    fn merge_is_idempotent_and_has_every_field_of_the_configuration(live in spec(), config in spec()) {
        let arena = Arena::parse(&everything());
        let ty = arena.ty();
        ty.validate(&config, Duplicates::Refused).unwrap();
        prop_assert!(value::equal(&ty.merge(&live, &live).unwrap(), &live));
        let merged = ty.merge(&live, &config).unwrap();
        prop_assert!(value::equal(&ty.merge(&merged, &config).unwrap(), &merged));
        let missing = ty.fields(&config).unwrap().difference(&ty.fields(&merged).unwrap());
        // An empty map is a leaf only while nobody fills it.
        for path in missing.paths() {
            prop_assert!(ty.fields(&merged).unwrap().paths().iter().any(|other| other.starts_with(&path)), "{}", missing);
        }
        let invented = ty.fields(&merged).unwrap().difference(&ty.fields(&config).unwrap().union(&ty.fields(&live).unwrap()));
        prop_assert!(invented.is_empty(), "{}", invented);
    }

    #[test]
    fn a_value_without_all_its_fields_is_empty(a in spec()) {
        let arena = Arena::parse(&everything());
        let ty = arena.ty();
        let all = ty.with_named_fields(&ty.fields(&a).unwrap());
        let left = tidy(&ty.remove(&a, &all));
        prop_assert!(left.get("spec").is_none(), "{}", left);
    }

    #[test]
    fn applies_of_one_manager_forget_their_past(first in spec(), second in spec()) {
        let kind = Kind { arena: Arena::parse(&everything()), versions: vec!["v1"], ignored: None };
        let blank = json!({"apiVersion": "v1", "kind": "T"});
        let run = |configs: &[&Value]| {
            let (mut object, mut managed) = (blank.clone(), Managed::default());
            for config in configs {
                let application = Application {
                    live: &object, blank: &blank, config, manager: "m", api_version: "v1", subresource: "", force: false,
                    now: Timestamp::UNIX_EPOCH,
                };
                if let Some(new) = apply(&kind, &mut managed, &application).unwrap() {
                    object = new;
                }
            }
            let sets: Vec<Set> = managed.entries().map(|(_, owned)| owned.set.clone()).collect();
            (tidy(&object), sets)
        };
        let ((straight, owned), (detour, owned_too)) = (run(&[&second]), run(&[&first, &second]));
        let ty = kind.arena.ty();
        prop_assert!(ty.compare(&straight, &detour).unwrap().is_same(), "{straight} {detour}");
        prop_assert_eq!(owned, owned_too);
    }
}
