//! Images: from a registry, and the local ones.

use std::sync::Arc;

use fv_testkit::registry::{Entry, Options, Packing, Registry, layer};
use serde_json::json;

use crate::harness::{Console, Instance, guest_image, manifest, needs};

#[test]
fn guest_boots_from_a_private_registry_with_the_secret_that_its_volume_names() {
    needs!(Daemon);
    let registry = Registry::start(Options { password: true, ..Options::default() });
    let disk = std::fs::read(guest_image()).unwrap();
    let layers = [layer(Packing::Gzip, &[Entry::Directory("disk/"), Entry::File("disk/demo.qcow2", &disk)])];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(registry.push("team/demo:1", &layers));

    let instance = Arc::new(Instance::prepared());
    instance.up_with(&["--insecure-registry", &registry.address]).success();
    let ns = instance.namespace();
    let machine = |name: &str, secret: Option<&str>| {
        manifest(name, "Always", |spec| {
            let disk = &mut spec["volumes"][0]["containerDisk"];
            *disk = json!({"image": registry.name("team/demo:1"), "imagePullPolicy": "Always"});
            if let Some(secret) = secret {
                disk["imagePullSecret"] = json!(secret);
            }
        })
    };
    let waits = |name: &str, why: &str| {
        ns.until("vm", name, why, |vm| vm["status"]["conditions"].to_string().contains(why));
        ns.delete("vm", name);
        ns.until_gone("vmi", name);
    };
    ns.apply(&machine("stranger", None)).success();
    waits("stranger", &registry.address);
    ns.apply(&machine("forgetful", Some("pull"))).success();
    waits("forgetful", "does not exist");

    let auth = json!({"auths": {&registry.address: {"username": "user", "password": "secret"}}}).to_string();
    ns.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": auth},
    }))
    .success();
    ns.run_vm(&machine("member", Some("pull")));
    Console::open(&ns, "member").login("demo", "secret-member");
}

#[test]
fn local_images_are_listed_kept_while_in_use_and_removed() {
    needs!(Daemon);
    let instance = Instance::prepared();
    let file = guest_image().to_str().unwrap();
    let said = instance.ferrovirt(&["image", "import", "team/one:1", file]).success();
    let digest = said.split_whitespace().find(|word| word.starts_with("sha256:")).expect("the digest").to_owned();
    instance.ferrovirt(&["image", "import", "team/two:1", file]).success();
    let rows = || -> Vec<String> {
        instance.ferrovirt(&["image", "ls"]).success().lines().skip(1).map(str::to_owned).collect()
    };
    let list = rows();
    assert_eq!(list.len(), 1, "one file for equal images: {list:?}");
    assert!(list[0].contains("team/one:1,team/two:1") && list[0].contains("qcow2"), "{list:?}");
    assert!(list[0].contains(&digest[..19]), "{list:?} is not of {digest}");

    instance.ferrovirt(&["image", "rm", "team/one:1"]).success();
    assert!(rows()[0].starts_with("team/two:1 "), "{:?}", rows());
    let error = instance.ferrovirt(&["image", "rm", "team/one:1"]).failure();
    assert!(error.contains("team/one:1"), "{error}");
    instance.ferrovirt(&["image", "rm", "team/two:1"]).success();
    assert_eq!(rows(), Vec::<String>::new());
}

#[test]
fn doctor_finds_what_this_machine_has() {
    needs!(Daemon);
    // Whatever it lacks otherwise: what these tests run with is there.
    let done = Instance::prepared().ferrovirt(&["doctor"]);
    let lines: Vec<&str> = done.out.lines().collect();
    assert!(lines.len() > 5, "{lines:?}");
    assert!(lines.iter().all(|line| ["ok  ", "note", "LACK"].iter().any(|word| line.starts_with(word))), "{lines:?}");
    assert_eq!(done.ok, !lines.iter().any(|line| line.starts_with("LACKING")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("ok") && line.contains("qemu")), "{lines:?}");
}
