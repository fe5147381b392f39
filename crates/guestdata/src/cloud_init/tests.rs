use std::collections::BTreeMap;

use fv_api::Volume;
use k8s_openapi::ByteString;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::needed_secrets;

const GUEST: Guest<'static> = Guest {
    name: "web",
    namespace: "shop",
    firmware_uuid: "5d307ca9-b3ef-428c-8861-06e72d69f223",
    hostname: None,
    instance_type: None,
};

fn volume(value: Value) -> Volume {
    serde_json::from_value(value).unwrap()
}

type Data<'a> = &'a [(&'a str, &'a [u8])];

fn secrets(entries: &[(&str, Data<'_>)]) -> Secrets {
    let mut secrets = Secrets::default();
    for (name, data) in entries {
        let data = data.iter().map(|(key, value)| (key.to_string(), ByteString(value.to_vec())));
        secrets.insert(*name, data.collect::<BTreeMap<_, _>>());
    }
    secrets
}

fn build(value: Value, secrets: &Secrets) -> Result<FileTree, GuestDataError> {
    build_cloud_init(&volume(value), GUEST, secrets).map(Option::unwrap)
}

fn text<'a>(tree: &'a FileTree, path: &str) -> &'a str {
    std::str::from_utf8(tree.get(path).unwrap_or_else(|| panic!("no {path} in {tree:?}"))).unwrap()
}

#[test]
fn no_cloud_has_label_meta_data_and_user_data_even_when_empty() {
    let tree = build(json!({"name": "ci", "cloudInitNoCloud": {}}), &Secrets::default()).unwrap();
    assert_eq!(tree.label, "cidata");
    assert_eq!(tree.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["meta-data", "user-data"]);
    let meta: Value = serde_json::from_str(text(&tree, "meta-data")).unwrap();
    assert_eq!(meta, json!({"instance-id": GUEST.firmware_uuid, "local-hostname": "web"}));
    assert_eq!(text(&tree, "user-data"), "");
}

#[test]
fn config_drive_has_openstack_tree() {
    let value =
        json!({"name": "ci", "cloudInitConfigDrive": {"userData": "#!/bin/sh\n", "networkData": "{\"links\":[]}"}});
    let tree = build(value, &Secrets::default()).unwrap();
    assert_eq!(tree.label, "config-2");
    assert_eq!(text(&tree, "openstack/latest/user_data"), "#!/bin/sh\n");
    assert_eq!(text(&tree, "openstack/latest/network_data.json"), "{\"links\":[]}");
    let meta: Value = serde_json::from_str(text(&tree, "openstack/latest/meta_data.json")).unwrap();
    assert_eq!(meta["instance_id"], "web.shop");
    assert_eq!(meta["uuid"], GUEST.firmware_uuid);
    assert_eq!(meta["hostname"], "web");
}

#[test]
fn hostname_wins_over_name_and_loses_its_domain() {
    for (hostname, name, expected) in
        [(Some("host"), "web", "host"), (None, "web.example.org", "web"), (Some(""), "web", "web")]
    {
        let guest = Guest { hostname, name, instance_type: Some("u1.small"), ..GUEST };
        let volume = volume(json!({"name": "ci", "cloudInitNoCloud": {"userData": "x"}}));
        let tree = build_cloud_init(&volume, guest, &Secrets::default()).unwrap().unwrap();
        let meta: Value = serde_json::from_str(text(&tree, "meta-data")).unwrap();
        assert_eq!(meta["local-hostname"], expected);
        assert_eq!(meta["instance-type"], "u1.small");
    }
}

#[test]
fn data_comes_from_base64_and_secrets_with_either_key() {
    let secrets = secrets(&[
        ("lower", &[("userdata", b"from-lower"), ("networkdata", b"net-lower")]),
        ("camel", &[("userData", b"from-camel"), ("networkData", b"net-camel")]),
    ]);
    let cases = [
        (json!({"userDataBase64": "I2Nsb3Vk\nLWNvbmZpZw=="}), "#cloud-config", None),
        (json!({"secretRef": {"name": "lower"}}), "from-lower", Some("net-lower")),
        (json!({"secretRef": {"name": "camel"}}), "from-camel", Some("net-camel")),
        (json!({"userData": "a", "networkDataSecretRef": {"name": "camel"}}), "a", Some("net-camel")),
        (json!({"userData": "a", "networkDataBase64": "Yg=="}), "a", Some("b")),
        (json!({"userData": "a", "userDataBase64": "", "networkData": ""}), "a", None),
    ];
    for (source, user, network) in cases {
        let tree = build(json!({"name": "ci", "cloudInitNoCloud": source}), &secrets).unwrap();
        assert_eq!(text(&tree, "user-data"), user);
        assert_eq!(tree.get("network-config").map(|d| std::str::from_utf8(d).unwrap()), network);
    }
}

#[test]
fn errors_name_volume_field_and_way_out() {
    let secrets = secrets(&[("empty", &[])]);
    let long = "x".repeat(INLINE_LIMIT + 1);
    let cases = [
        (
            json!({"userData": "a", "secretRef": {"name": "s"}}),
            r#"volume "ci": userData and secretRef are both set; keep one of them"#,
        ),
        (
            json!({"userDataBase64": "%%%"}),
            r#"volume "ci": userDataBase64 is not valid base64: Invalid symbol 37, offset 0."#,
        ),
        (
            json!({"secretRef": {"name": "gone"}}),
            r#"volume "ci": secretRef names secret "gone", which does not exist in namespace "shop"; create it"#,
        ),
        (
            json!({"secretRef": {"name": "empty"}}),
            r#"volume "ci": secretRef names secret "empty", which has no key userdata or userData; add one of them"#,
        ),
        (
            json!({"networkDataSecretRef": {"name": "empty"}}),
            r#"volume "ci": networkDataSecretRef names secret "empty", which has no key networkdata or networkData; add one of them"#,
        ),
        (json!({ "networkData": long }), r#"volume "ci": networkData is 2049 bytes long, at most 2048 are allowed"#),
    ];
    for (source, message) in cases {
        let error = build(json!({"name": "ci", "cloudInitConfigDrive": source}), &secrets).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn needed_secrets_lists_every_reference() {
    let volumes = [
        volume(
            json!({"name": "a", "cloudInitNoCloud": {"secretRef": {"name": "u"}, "networkDataSecretRef": {"name": "n"}}}),
        ),
        volume(json!({"name": "b", "emptyDisk": {"capacity": "1Gi"}})),
        volume(json!({"name": "c", "cloudInitConfigDrive": {"secretRef": {"name": "u"}}})),
    ];
    let needs: Vec<_> = needed_secrets(&volumes).into_iter().map(|n| (n.volume, n.field, n.secret)).collect();
    assert_eq!(
        needs,
        [
            ("a".into(), Field::SecretRef, "u".into()),
            ("a".into(), Field::NetworkDataSecretRef, "n".into()),
            ("c".into(), Field::SecretRef, "u".into())
        ]
    );
}

#[test]
fn other_volumes_give_no_disk_and_debug_shows_no_content() {
    let volumes = [
        volume(json!({"name": "root", "containerDisk": {"image": "x"}})),
        volume(json!({"name": "ci", "cloudInitNoCloud": {"userData": "password: hunter2"}})),
    ];
    let disks = build_cloud_inits(&volumes, GUEST, &Secrets::default()).unwrap();
    assert_eq!(disks.iter().map(|d| d.volume.as_str()).collect::<Vec<_>>(), ["ci"]);
    assert!(!format!("{disks:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn any_text_gives_same_bytes_twice_or_an_error(user in ".{0,3000}", base64 in "[A-Za-z0-9+/=%\n]{0,80}") {
        for source in [json!({ "userData": user }), json!({ "userDataBase64": base64 })] {
            let value = json!({"name": "ci", "cloudInitNoCloud": source});
            let (one, two) = (build(value.clone(), &Secrets::default()), build(value, &Secrets::default()));
            prop_assert_eq!(one.as_ref().map(FileTree::fingerprint).ok(), two.as_ref().map(FileTree::fingerprint).ok());
        }
    }
}
