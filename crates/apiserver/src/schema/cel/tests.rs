use proptest::prelude::*;
use serde_json::{Value, json};

use crate::schema::tests::versioned;
use crate::schema::{Cause, Structural, crd};

/// A definition whose `spec` has this schema.
fn definition(spec: Value) -> Value {
    versioned(json!([{
        "name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
    }]))
}

fn refused(spec: Value) -> Vec<String> {
    let prefix = "spec.versions[0].schema.openAPIV3Schema.properties[spec]";
    let texts = crd::check(&definition(spec), None).into_iter().map(|cause| cause.to_string().replace(prefix, "…"));
    texts.collect()
}

fn thing(spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": spec})
}

fn parse(spec: Value) -> Structural {
    assert_eq!(refused(spec.clone()), Vec::<String>::new());
    Structural::parse(&json!({"type": "object", "properties": {"spec": spec}})).unwrap()
}

fn texts(causes: Vec<Cause>) -> Vec<String> {
    causes.iter().map(ToString::to_string).collect()
}

fn integers(rules: Value) -> Value {
    json!({
        "type": "object",
        "properties": {"least": {"type": "integer"}, "most": {"type": "integer"}, "name": {"type": "string", "maxLength": 63}},
        "x-kubernetes-validations": rules,
    })
}

#[test]
fn rules_judge_new_objects_in_the_words_of_kubernetes() {
    let cases: &[(Value, Value, &[&str])] = &[
        (json!([{"rule": "self.least <= self.most"}]), json!({"least": 1, "most": 2}), &[]),
        (
            json!([{"rule": "self.least <= self.most"}]),
            json!({"least": 3, "most": 2}),
            &["spec: Invalid value: failed rule: self.least <= self.most"],
        ),
        (
            json!([{"rule": "self.least <= self.most", "message": " least comes first ", "fieldPath": ".least"}]),
            json!({"least": 3, "most": 2}),
            &["spec.least: Invalid value: least comes first"],
        ),
        (
            json!([{"rule": "self.least <= self.most", "messageExpression": "'not ' + string(self.least)"}]),
            json!({"least": 3, "most": 2}),
            &["spec: Invalid value: not 3"],
        ),
        (
            json!([{"rule": "!has(self.name)", "reason": "FieldValueForbidden", "message": "no name here"}]),
            json!({"name": "x"}),
            &["spec: Forbidden: no name here"],
        ),
        (
            json!([{"rule": "has(self.name)", "reason": "FieldValueRequired", "message": "a name", "fieldPath": ".name"}]),
            json!({}),
            &["spec.name: Required value: a name"],
        ),
        (json!([{"rule": "quantity('1Gi').isGreaterThan(quantity('500Mi'))"}]), json!({}), &[]),
        (json!([{"rule": "self.name.matches('^a+$') || self.name.startsWith('b')"}]), json!({"name": "bc"}), &[]),
        (
            json!([{"rule": "self.name == 'x'"}]),
            json!({}),
            &["spec: Invalid value: \"object\": no such key: name evaluating rule: self.name == 'x'"],
        ),
        // Not before the types are right.
        (
            json!([{"rule": "self.least <= self.most"}]),
            json!({"least": "x", "most": 2}),
            &[
                "spec.least: Invalid value: \"string\": spec.least in body must be of type integer: \"string\"",
                "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; \
                 correct the existing errors to complete validation",
            ],
        ),
    ];
    for (rules, spec, expected) in cases {
        let found = texts(parse(integers(rules.clone())).validate(&thing(spec.clone())));
        assert_eq!(found, *expected, "{rules} on {spec}");
    }
}

#[test]
fn rules_stand_anywhere_and_scalars_are_shown() {
    let schema = parse(json!({
        "type": "object",
        "properties": {
            "ports": {"type": "array", "maxItems": 9, "items": {
                "type": "object",
                "properties": {"number": {"type": "integer", "x-kubernetes-validations": [{"rule": "self % 2 == 0"}]}},
            }},
            "sizes": {"type": "object", "maxProperties": 9, "additionalProperties": {
                "type": "string", "maxLength": 9, "x-kubernetes-validations": [{"rule": "isQuantity(self)", "message": "no quantity"}],
            }},
            "tags": {"type": "array", "maxItems": 9, "items": {"type": "string", "maxLength": 9}, "x-kubernetes-validations": [
                {"rule": "self.all(a, self.exists_one(b, a == b))", "message": "all differ", "reason": "FieldValueDuplicate"},
            ]},
        },
    }));
    let spec = json!({"ports": [{"number": 2}, {"number": 3}], "sizes": {"a": "1Gi", "b.c": "x"}, "tags": ["a", "a"]});
    let mut found = texts(schema.validate(&thing(spec)));
    found.sort();
    assert_eq!(
        found,
        [
            "spec.ports[1].number: Invalid value: 3: failed rule: self % 2 == 0",
            "spec.sizes[b.c]: Invalid value: \"x\": no quantity",
            "spec.tags: Duplicate value",
        ]
    );
}

#[test]
fn comparing_rules_judge_updates_and_old_mistakes_that_are_not_touched_stay() {
    let schema = parse(json!({
        "type": "object",
        "properties": {
            "fixed": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]},
            "small": {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 10"}]},
            "other": {"type": "string"},
            "disks": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {
                    "type": "object", "required": ["name"],
                    "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
                    "x-kubernetes-validations": [{"rule": "self.size >= oldSelf.size", "message": "cannot shrink"}],
                },
            },
        },
    }));
    let update = |new: Value, old: Value| texts(schema.validate_update(&thing(new), &thing(old)));
    assert_eq!(texts(schema.validate(&thing(json!({"fixed": "a"})))), Vec::<String>::new());
    assert_eq!(update(json!({"fixed": "a"}), json!({})), Vec::<String>::new(), "it was not there");
    assert_eq!(
        update(json!({"fixed": "b"}), json!({"fixed": "a"})),
        ["spec.fixed: Invalid value: \"b\": is immutable"]
    );
    // A mistake from before the rule: kept as it is, but not made anew.
    assert_eq!(update(json!({"small": 12, "other": "x"}), json!({"small": 12})), Vec::<String>::new());
    assert_eq!(
        update(json!({"small": 13}), json!({"small": 12})),
        ["spec.small: Invalid value: 13: failed rule: self < 10"]
    );
    // Items are known by their keys, wherever they stand.
    let old = json!({"disks": [{"name": "a", "size": 10}, {"name": "b", "size": 20}]});
    let new = json!({"disks": [{"name": "b", "size": 15}, {"name": "a", "size": 11}, {"name": "c", "size": 1}]});
    assert_eq!(update(new, old), ["spec.disks[0]: Invalid value: cannot shrink"]);
}

#[test]
fn rules_that_cannot_be_evaluated_are_refused_with_the_definition() {
    let rule = |rule: &str| integers(json!([{"rule": rule}]));
    let with = |more: Value| integers(json!([more]));
    let cases: &[(Value, &str)] = &[
        (rule(""), "…[0].rule: Required value: rule is not specified"),
        (rule("self.least <"), "compilation failed"),
        (rule("object.spec.x == 1"), "undeclared reference to 'object'"),
        (rule("self.least.fly()"), "the function or macro 'fly' is not supported"),
        (rule("[1].sortBy(x, x) == [1]"), "'sortBy' is not supported"),
        (rule("cel.bind(x, self.least, x > 1)"), "'cel.bind' is not supported"),
        (rule("lists.range(1000000000).size() > 1"), "'lists.range' is not supported"),
        (rule("self.?name.orValue('x') == 'x'"), "unsupported syntax '.?'"),
        (rule("type(self.least) == int"), "'type' is not supported"),
        (rule("self.least == 1\n|| true"), "message must be specified if rule contains line breaks"),
        (with(json!({"rule": "true", "message": "a\nb"})), "must not contain line breaks"),
        (with(json!({"rule": "true", "reason": "Whatever"})), "Unsupported value: \"Whatever\""),
        (with(json!({"rule": "true", "messageExpression": "nope"})), "undeclared reference to 'nope'"),
        (
            with(json!({"rule": "oldSelf == self", "optionalOldSelf": true})),
            "optionalOldSelf: Forbidden: not supported yet",
        ),
        (
            json!({"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}),
            "oldSelf cannot be used on the uncorrelatable portion of the schema within",
        ),
    ];
    for (spec, expected) in cases {
        let found = refused(spec.clone());
        let expected = expected.replace('…', &format!("….{}", super::RULES));
        assert!(found.iter().any(|text| text.contains(&expected)), "{spec}: {found:?}");
    }
    // And these can.
    for fine in [
        "self.all(k, k.size() < 3)",
        "size(self.name) < 5 && self.name.lowerAscii() == self.name",
        "sets.contains(['a'], [self.name]) || math.greatest(1, 2) == 2",
        "duration('1h') > duration('1m') && timestamp('2024-01-01T00:00:00Z').getFullYear() == 2024",
        "[1, 2].map(x, x * 2).exists(y, y in [4]) ? true : false",
        "!format.dns1123Label().validate(self.name).hasValue()",
        "isURL(self.name) || url('https://x').getHost() == 'x' || ip('1.1.1.1').family() == 4",
    ] {
        assert_eq!(refused(rule(fine)), Vec::<String>::new(), "{fine}");
    }
}

#[test]
fn rules_that_would_take_too_long_end_with_the_budget() {
    let spec = json!({
        "type": "array", "items": {"type": "integer"},
        "x-kubernetes-validations": [{"rule": "self.all(a, self.all(b, self.all(c, a + b + c >= 0)))"}],
    });
    // As one that is stored from before there was a bound.
    let schema = Structural::parse(&json!({"type": "object", "properties": {"spec": spec}})).unwrap();
    let list = |n: i64| thing((0..n).collect::<Vec<_>>().into());
    assert_eq!(texts(schema.validate(&list(20))), Vec::<String>::new());
    let found = texts(schema.validate(&list(1000)));
    assert!(found[0].contains("running out of cost budget"), "{found:?}");
}

/// Pieces of which rules, and texts that nearly are rules, are made.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "self",
        "oldSelf",
        ".least",
        ".name",
        "['name']",
        "has(self.name)",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        " ",
        "+",
        "-",
        "*",
        "/",
        "%",
        "==",
        "<",
        "&&",
        "||",
        "!",
        "? 1 : 2",
        "in",
        "1",
        "-9223372036854775808",
        "9223372036854775807",
        "0",
        "1.5e308",
        "'a'",
        "\"\\u00e9\"",
        "b'x'",
        "null",
        "true",
        ".size()",
        ".all(x, x == 1)",
        ".map(x, x)",
        ".exists(k, true)",
        "duration('9999999h')",
        "timestamp('9999-12-31T23:59:59Z')",
        ".substring(5)",
        ".split('')",
        ".format([1])",
        "quantity('1Gi')",
        ".matches('(')",
        "math.abs(",
        "int(",
        "string(",
        ".",
        "?",
        "\u{1f600}",
        "//",
        "\n",
        "r'",
        "\"\"\"",
    ];
    prop_oneof![9 => prop::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A definition's author writes the rule, a user the object: neither may end the process.
    #[test]
    fn no_text_and_no_object_ends_the_process(pieces in prop::collection::vec(piece(), 0..12), least in any::<i64>(), name in ".{0,8}") {
        let rules = integers(json!([{"rule": pieces.concat(), "message": "m"}]));
        if refused(rules.clone()).is_empty() {
            let schema = Structural::parse(&json!({"type": "object", "properties": {"spec": rules}})).unwrap();
            let new = thing(json!({"least": least, "name": name}));
            schema.validate(&new);
            schema.validate_update(&new, &thing(json!({"least": 0})));
        }
    }
}

#[test]
fn rules_that_nest_without_end_are_refused() {
    for (begin, again) in [
        ("self", ".a"),
        ("1", "+1"),
        ("", "("),
        ("", "!"),
        ("", "-"),
        ("", "["),
        ("true", "&&true"),
        ("true", "?true:true"),
        ("self", "[0]"),
    ] {
        let rule = format!("{begin}{}", again.repeat(100_000));
        assert!(!refused(integers(json!([{"rule": rule}]))).is_empty(), "{begin}{again}…");
    }
}

#[test]
fn rules_at_the_limits_are_compiled_and_evaluated() {
    let chain = |begin: &str, again: &str, n: usize| integers(json!([{"rule": format!("{begin}{}", again.repeat(n))}]));
    let brackets = format!("{}true{}", "(".repeat(40), ")".repeat(40));
    let rules = [
        chain("self", ".a", 990),
        chain("1", "+1", 990),
        chain("true", "&&true", 490),
        chain("self", "[0]", 90),
        chain("true", "?true:true", 90),
        integers(json!([{"rule": brackets}])),
    ];
    for rule in rules {
        if refused(rule.clone()).is_empty() {
            let schema = Structural::parse(&json!({"type": "object", "properties": {"spec": rule}})).unwrap();
            schema.validate(&thing(json!({"least": 1})));
        }
    }
}

#[test]
fn rules_on_fields_that_the_schema_does_not_have_are_refused() {
    let spec = |rule: &str| {
        json!({
            "type": "object",
            "properties": {
                "size": {"type": "integer"},
                "a-b": {"type": "string"},
                "namespace": {"type": "string"},
                "with_underscore": {"type": "string"},
                "ports": {"type": "array", "maxItems": 9, "items": {"type": "object", "properties": {"number": {"type": "integer"}}}},
                "labels": {"type": "object", "maxProperties": 9, "additionalProperties": {"type": "object", "properties": {"x": {"type": "string"}}}},
                "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "pod": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
            },
            "x-kubernetes-validations": [{"rule": rule}],
        })
    };
    for good in [
        "self.size > oldSelf.size",
        "self.a__dash__b == self.__namespace__",
        "self.ports.all(p, p.number > 0)",
        "self.ports.map(p, p.number).exists(n, n > 3)",
        "self.ports[0].number > 0",
        "self.labels.all(key, key.size() < 5 && self.labels[key].x != '')",
        "self.labels.any.x == ''",
        "self.open.anything == 1",
        "self.pod.metadata.name == self.pod.kind",
        "has(self.size) && !has(self.ports)",
    ] {
        assert_eq!(refused(spec(good)), Vec::<String>::new(), "{good}");
    }
    for (bad, field) in [
        ("self.nope > 1", "nope"),
        ("oldSelf.size < 1 || has(oldSelf.nope)", "nope"),
        ("self.ports.all(p, p.name == '')", "name"),
        ("self.ports[0].port > 0", "port"),
        ("self.labels['a'].y == ''", "y"),
        ("self.pod.metadata.labels.size() > 0", "labels"),
        ("self.metadata.name == ''", "metadata"),
        ("self.with_underscore == ''", "with_underscore"),
    ] {
        let found = refused(spec(bad));
        let said = format!("compilation failed: ERROR: undefined field '{field}'");
        assert!(found.len() == 1 && found[0].ends_with(&said), "{bad}: {found:?}");
    }
}

#[test]
fn rules_of_a_whole_object_may_use_its_name_and_type() {
    let mut whole = definition(json!({"type": "object", "properties": {"size": {"type": "integer"}}}));
    let mut with = |rule: &str| {
        whole["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] = json!([{"rule": rule}]);
        texts(crd::check(&whole, None))
    };
    for good in ["self.metadata.name == self.kind", "self.apiVersion != '' && self.spec.size > 0"] {
        assert_eq!(with(good), Vec::<String>::new(), "{good}");
    }
    for bad in ["self.metadata.namespace == ''", "self.status.phase == ''"] {
        assert!(with(bad)[0].contains("undefined field"), "{bad}");
    }
}

/// A refusal of the first rule for its cost.
fn too_dear(spec: Value) -> Option<String> {
    refused(spec).into_iter().find(|text| text.contains("exceeds budget by factor of"))
}

#[test]
fn rules_that_could_cost_too_much_are_refused_with_the_definition() {
    let list = |bounds: Value, rule: &str| {
        let mut schema = json!({
            "type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [{"rule": rule}],
        });
        for (word, value) in bounds.as_object().unwrap() {
            let of = if word == "maxLength" { &mut schema["items"] } else { &mut schema };
            of[word] = value.clone();
        }
        schema
    };
    let nested = "self.all(a, self.all(b, a == b))";
    let thrice = "self.all(a, self.all(b, self.all(c, a + b + c != '')))";
    for dear in [
        list(json!({}), nested),
        list(json!({}), thrice),
        list(json!({"maxItems": 1000}), thrice),
        list(json!({"maxItems": 1000}), "self.all(a, a.matches('^[a-z]+[0-9]+$'))"),
        list(json!({"maxItems": 100}), "self.all(a, self.exists(b, a.contains(b)))"),
        list(json!({"maxItems": 10}), "self.all(a, a.split('').all(b, a.split('').all(c, b == c)))"),
        list(json!({"maxItems": 10, "maxLength": 30000}), "self.all(a, a.replace('', a).replace('', a).size() > 0)"),
    ] {
        assert!(too_dear(dear.clone()).is_some(), "{dear}");
    }
    for fine in [
        list(json!({}), "self.size() > 0"),
        list(json!({}), "self.all(a, a.size() > 0)"),
        list(json!({"maxItems": 50, "maxLength": 20}), nested),
        list(json!({"maxItems": 50, "maxLength": 20}), thrice),
        list(json!({"maxItems": 100, "maxLength": 64}), "self.all(a, a.matches('^[a-z]+[0-9]+$'))"),
    ] {
        assert_eq!(refused(fine.clone()), Vec::<String>::new(), "{fine}");
    }
    // In the words of Kubernetes.
    let said = &refused(list(json!({}), thrice))[0];
    let expected = "….x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x \
                    (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings \
                    are declared)";
    assert_eq!(said, expected);
}

#[test]
fn a_rule_costs_as_often_as_its_values_may_be_there() {
    let inner = json!({"type": "string", "x-kubernetes-validations": [{"rule": "self.matches('^[a-z]+$')"}]});
    let around = |bound: Value| {
        let mut list = json!({"type": "array", "items": inner});
        if !bound.is_null() {
            list["maxItems"] = bound;
        }
        json!({"type": "object", "properties": {"l": list}})
    };
    assert!(too_dear(around(Value::Null)).unwrap().contains("[l].items.x-kubernetes-validations[0].rule"));
    assert!(too_dear(around(json!(1000))).is_some());
    assert_eq!(too_dear(around(json!(5))), None);
    // Each is cheap enough, all together are not.
    let one = json!({"rule": "self.matches('^[a-z]+[0-9]{3}$') || self.matches('^[A-Z]+$')"});
    let many = json!({"type": "string", "maxLength": 500_000, "x-kubernetes-validations": vec![one; 100]});
    let found = refused(many);
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(
        found[0].contains("rule: Forbidden: contributed to estimated rule cost total exceeding cost limit"),
        "{found:?}"
    );
    assert!(
        found[4].contains("estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of"),
        "{found:?}"
    );
}

#[test]
fn costs_of_messages_count_and_those_of_a_stored_schema_do_not() {
    let dear = json!({
        "type": "array", "items": {"type": "string"}, "maxItems": 20_000,
        "x-kubernetes-validations": [{"rule": "true", "messageExpression": "string(self.exists(a, self.exists(b, a == b)))"}],
    });
    let found = refused(dear.clone());
    assert!(
        found[0].contains("messageExpression: Forbidden: estimated messageExpression cost exceeds budget"),
        "{found:?}"
    );
    let dear = json!({
        "type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 2000,
        "x-kubernetes-validations": [{"rule": "self.all(a, self.exists(b, a == b))"}],
    });
    let stored = definition(dear.clone());
    assert!(!crd::check(&stored, None).is_empty());
    assert_eq!(texts(crd::check(&stored, Some(&stored))), Vec::<String>::new());
    assert!(!crd::check(&stored, Some(&definition(json!({"type": "string"})))).is_empty());
}

#[test]
fn no_stored_rule_takes_long_whatever_the_object() {
    let numbers: Value = (0..100_000).collect::<Vec<_>>().into();
    let words: Value = (0..2000).map(|n| format!("{n:0100}")).collect::<Vec<_>>().into();
    let nested = json!([numbers, {"l": numbers}]);
    let cases: &[(&str, &Value)] = &[
        ("self.map(x, x).size() > 0", &numbers),
        ("self.filter(x, true).size() > 0", &numbers),
        ("self.all(a, self.all(b, a + b >= 0))", &numbers),
        ("self.all(a, a in self)", &numbers),
        ("self.all(x, x.matches('(\\\\w{50}){50}') || true)", &words),
        ("self.all(x, x.split('').all(a, x.split('').all(b, a == b || true)))", &words),
        ("self.all(x, self.join('').replace('', self.join('')).size() > 0)", &words),
        ("'a%s'.format([self]).size() > 0 && self.map(x, self).size() > 0", &words),
        ("sets.contains(self, self)", &numbers),
        ("self.all(a, size(self) > 0)", &numbers),
        ("self.all(a, self.size() > 0)", &numbers),
        ("self.all(a, [self, self].size() > 0)", &numbers),
        ("self.all(a, {'a': self}.size() > 0)", &numbers),
        ("self.all(a, self[0] >= 0)", &numbers),
        ("self.all(a, (true ? self : self)[0] >= 0)", &numbers),
        ("self.all(a, self.slice(0, 1).size() > 0)", &numbers),
        ("self[0].all(a, self[0][0] >= 0 && has(self[1].l) && self[1].l[0] >= 0)", &nested),
        ("self[0].all(a, self[0] == self[0] || self[1].l != self[0])", &nested),
    ];
    for (rule, value) in cases {
        let schema = json!({"type": "array", "items": {}, "x-kubernetes-validations": [{"rule": rule}]});
        let schema = Structural::parse(&json!({"type": "object", "properties": {"spec": schema}})).unwrap();
        let started = std::time::Instant::now();
        schema.validate(&thing((*value).clone()));
        assert!(started.elapsed().as_secs() < 20, "{rule}: {:?}", started.elapsed());
    }
}

#[test]
fn rules_of_a_bounded_schema_judge_the_largest_objects_it_allows() {
    let schema = parse(json!({
        "type": "array", "maxItems": 100, "items": {"type": "string", "maxLength": 64},
        "x-kubernetes-validations": [
            {"rule": "self.all(a, self.exists_one(b, a == b))"},
            {"rule": "self.map(a, a.size()).all(n, n > 0)"},
            {"rule": "self.all(a, a.matches('^[a-z0-9]+$'))"},
        ],
    }));
    let list: Vec<String> = (0..100).map(|n| format!("{n:064}")).collect();
    assert_eq!(texts(schema.validate(&thing(json!(list)))), Vec::<String>::new());
}
