//! create vm: a manifest from flags, on standard output; nothing is sent anywhere.

mod storage;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use anyhow::{Context, bail};
use base64::Engine;
use serde_json::{Value, json};

use self::storage::Storage;
use crate::cli::{CloudInit, CreateVm};
use crate::output::say;
use crate::socket::check_base64;

pub(super) fn vm(options: &CreateVm, namespace: Option<&str>) -> anyhow::Result<()> {
    let yaml = serde_saphyr::to_string(&manifest(options, namespace)?).context("write YAML")?;
    say(yaml.trim_end());
    Ok(())
}

fn manifest(options: &CreateVm, namespace: Option<&str>) -> anyhow::Result<Value> {
    let strategies = ["Always", "RerunOnFailure", "Manual", "Halted", "Once"];
    if !strategies.contains(&options.run_strategy.as_str()) {
        bail!("--run-strategy {} is not one of {}", options.run_strategy, strategies.join(", "));
    }
    options.memory.parse::<fv_api::Quantity>().map_err(|e| anyhow::anyhow!("--memory {}: {e}", options.memory))?;
    let name = options.name.clone().unwrap_or_else(random_name);
    let mut storage = Storage::default();
    // Without an order of their own, volumes boot in the order they stand in: upstream's.
    for (index, text) in options.volume_containerdisk.iter().enumerate() {
        storage.add_container_disk(text, &format!("{name}-containerdisk-{index}"))?;
    }
    for text in &options.volume_pvc {
        storage.add_claim(text)?;
    }
    let Storage { mut volumes, disks, .. } = storage;
    volumes.extend(cloud_init(options)?);
    let mut devices = json!({});
    if !disks.is_empty() {
        devices["disks"] = disks.into();
    }
    let mut spec = json!({
        "domain": {"devices": devices, "memory": {"guest": options.memory}, "resources": {}},
        "terminationGracePeriodSeconds": options.termination_grace_period,
    });
    if !volumes.is_empty() {
        spec["volumes"] = volumes.into();
    }
    let mut metadata = json!({"name": name});
    // Only the flag's: a manifest is to fit every namespace else.
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    Ok(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": metadata,
        "spec": {"runStrategy": options.run_strategy, "template": {"metadata": {}, "spec": spec}},
    }))
}

fn cloud_init(options: &CreateVm) -> anyhow::Result<Option<Value>> {
    let source = match options.cloud_init {
        CloudInit::None => return Ok(None),
        CloudInit::Nocloud => "cloudInitNoCloud",
        CloudInit::Configdrive => "cloudInitConfigDrive",
    };
    let generated = options.user.is_some() || options.password_file.is_some() || !options.ssh_key.is_empty();
    let mut data = json!({});
    match &options.cloud_init_user_data {
        Some(_) if generated => {
            bail!("--cloud-init-user-data cannot be used with --user, --password-file or --ssh-key")
        }
        Some(encoded) => {
            check_base64("--cloud-init-user-data", encoded)?;
            data["userDataBase64"] = encoded.clone().into();
        }
        None if generated => data["userData"] = user_data(options)?.into(),
        None => {}
    }
    if let Some(encoded) = &options.cloud_init_network_data {
        check_base64("--cloud-init-network-data", encoded)?;
        data["networkDataBase64"] = encoded.clone().into();
    }
    let nothing = data.as_object().is_none_or(|d| d.is_empty());
    Ok((!nothing).then(|| json!({"name": "cloudinitdisk", source: data})))
}

fn user_data(options: &CreateVm) -> anyhow::Result<String> {
    let mut config = json!({});
    if let Some(user) = &options.user {
        config["user"] = user.clone().into();
    }
    if let Some(path) = &options.password_file {
        let password =
            std::fs::read_to_string(path).with_context(|| format!("read --password-file {}", path.display()))?;
        config["password"] = password.trim_end().into();
        config["chpasswd"] = json!({"expire": false});
    }
    if !options.ssh_key.is_empty() {
        config["ssh_authorized_keys"] = json!(options.ssh_key);
    }
    Ok(format!("#cloud-config\n{}", serde_saphyr::to_string(&config)?))
}

fn random_name() -> String {
    let number = RandomState::new().build_hasher().finish();
    let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(number.to_le_bytes());
    let suffix: String = encoded.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).take(5).collect();
    format!("vm-{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches;

    fn parse(args: &[&str]) -> anyhow::Result<Value> {
        let words = ["virtctl", "create", "vm", "--name", "a"].iter().chain(args);
        let matches = crate::cli::command("virtctl".as_ref()).try_get_matches_from(words)?;
        let cli = crate::cli::Cli::from_arg_matches(&matches)?;
        let crate::cli::Command::Create(create) = cli.command else { bail!("not create") };
        let crate::cli::CreateKind::Vm(options) = create.kind;
        manifest(&options, cli.global.namespace.as_deref())
    }

    #[test]
    fn a_manifest_says_what_the_flags_say() {
        let vm =
            parse(&["--volume-containerdisk", "src:demo:1,name:root,bootorder:2", "--user", "me", "--ssh-key", "k"])
                .unwrap();
        assert_eq!(vm["metadata"], json!({"name": "a"}));
        assert_eq!(parse(&["-n", "ns"]).unwrap()["metadata"], json!({"name": "a", "namespace": "ns"}));
        let spec = &vm["spec"]["template"]["spec"];
        assert_eq!(spec["volumes"][0], json!({"name": "root", "containerDisk": {"image": "demo:1"}}));
        assert_eq!(spec["domain"]["devices"]["disks"][0]["bootOrder"], 2);
        let user_data = spec["volumes"][1]["cloudInitNoCloud"]["userData"].as_str().unwrap();
        assert!(user_data.starts_with("#cloud-config\n") && user_data.contains("user: me"), "{user_data}");
    }

    #[test]
    fn claims_are_written_as_upstream_does() {
        let claim = |name: &str, claim: &str| json!({"name": name, "persistentVolumeClaim": {"claimName": claim}});
        for (args, volumes, disks) in [
            (&["--volume-pvc", "src:data"][..], json!([claim("data", "data")]), json!(null)),
            (&["--volume-pvc", "src:data,name:root"], json!([claim("root", "data")]), json!(null)),
            (
                &["--volume-pvc=name:root,bootorder:1,src:data", "--volume-pvc", "src:more"],
                json!([claim("root", "data"), claim("more", "more")]),
                json!([{"name": "root", "bootOrder": 1}]),
            ),
            (
                &["--volume-pvc", "src:data", "--volume-containerdisk", "src:demo:1,name:image"],
                json!([{"name": "image", "containerDisk": {"image": "demo:1"}}, claim("data", "data")]),
                json!(null),
            ),
        ] {
            let spec = &parse(args).unwrap()["spec"]["template"]["spec"];
            assert_eq!(spec["volumes"], volumes, "{args:?}");
            assert_eq!(spec["domain"]["devices"]["disks"], disks, "{args:?}");
        }
    }

    #[test]
    fn volumes_that_upstream_refuses_are_refused() {
        let parse = |text: &str| parse(&["--volume-pvc=src:first,bootorder:1", "--volume-pvc", text]);
        for (text, problem) in [
            ("", "'' is none of src:CLAIM, name:NAME, bootorder:N"),
            ("data", "'data' is none of"),
            ("name:data", "must have src:CLAIM"),
            ("src:ns/data", "a claim of another namespace"),
            ("src:data,name:UPPER", "'UPPER' is no name of a volume"),
            ("src:data.of.dots", "'data.of.dots' is no name of a volume: give another with name:NAME"),
            ("src:data,bootorder:0", "bootorder '0'"),
            ("src:data,bootorder:-1", "bootorder '-1'"),
            ("src:data,bootorder:1", "bootorder 1 is taken"),
            ("src:data,name:first", "there is a volume 'first' already"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(problem) && error.contains(&format!("--volume-pvc '{text}'")), "{text}: {error}");
        }
    }

    #[test]
    fn wrong_flags_are_refused_by_name() {
        for (args, text) in [
            (&["--run-strategy", "Sometimes"][..], "--run-strategy Sometimes"),
            (&["--memory", "lots"], "--memory lots"),
            (&["--volume-containerdisk", "demo"], "'demo'"),
            (&["--cloud-init-user-data", "%%%"], "--cloud-init-user-data"),
        ] {
            let error = parse(args).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
