//! create vm: a manifest from flags, on standard output; nothing is sent anywhere.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use anyhow::{Context, bail};
use base64::Engine;
use serde_json::{Value, json};

use crate::cli::{CloudInit, CreateVm};
use crate::output::say;
use crate::socket::check_base64;

pub(super) fn vm(options: &CreateVm) -> anyhow::Result<()> {
    let yaml = serde_saphyr::to_string(&manifest(options)?).context("write YAML")?;
    say(yaml.trim_end());
    Ok(())
}

fn manifest(options: &CreateVm) -> anyhow::Result<Value> {
    let strategies = ["Always", "RerunOnFailure", "Manual", "Halted", "Once"];
    if !strategies.contains(&options.run_strategy.as_str()) {
        bail!("--run-strategy {} is not one of {}", options.run_strategy, strategies.join(", "));
    }
    options.memory.parse::<fv_api::Quantity>().map_err(|e| anyhow::anyhow!("--memory {}: {e}", options.memory))?;
    let name = options.name.clone().unwrap_or_else(random_name);
    let mut volumes = Vec::new();
    let mut disks = Vec::new();
    for (index, text) in options.volume_containerdisk.iter().enumerate() {
        let (volume, disk) = container_disk(text, &name, index)?;
        volumes.push(volume);
        disks.extend(disk);
    }
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
    Ok(json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {"runStrategy": options.run_strategy, "template": {"metadata": {}, "spec": spec}},
    }))
}

/// `src:IMAGE[,name:NAME][,bootorder:N]`: a volume, and a disk where one must say more than its name.
fn container_disk(text: &str, vm: &str, index: usize) -> anyhow::Result<(Value, Option<Value>)> {
    let mut source = None;
    let mut name = format!("{vm}-containerdisk-{index}");
    let mut boot_order = None;
    for part in text.split(',') {
        match part.split_once(':') {
            Some(("src", image)) if !image.is_empty() => source = Some(image),
            Some(("name", given)) if !given.is_empty() => name = given.to_string(),
            Some(("bootorder", number)) => {
                let number: u32 = number.parse().with_context(|| format!("bootorder '{number}' in '{text}'"))?;
                boot_order = Some(number);
            }
            _ => bail!("--volume-containerdisk '{text}': '{part}' is none of src:IMAGE, name:NAME, bootorder:N"),
        }
    }
    let Some(image) = source else { bail!("--volume-containerdisk '{text}' must have src:IMAGE") };
    let volume = json!({"name": name, "containerDisk": {"image": image}});
    Ok((volume, boot_order.map(|n| json!({"name": name, "bootOrder": n, "disk": {}}))))
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
        manifest(&options)
    }

    #[test]
    fn a_manifest_says_what_the_flags_say() {
        let vm =
            parse(&["--volume-containerdisk", "src:demo:1,name:root,bootorder:2", "--user", "me", "--ssh-key", "k"])
                .unwrap();
        let spec = &vm["spec"]["template"]["spec"];
        assert_eq!(spec["volumes"][0], json!({"name": "root", "containerDisk": {"image": "demo:1"}}));
        assert_eq!(spec["domain"]["devices"]["disks"][0]["bootOrder"], 2);
        let user_data = spec["volumes"][1]["cloudInitNoCloud"]["userData"].as_str().unwrap();
        assert!(user_data.starts_with("#cloud-config\n") && user_data.contains("user: me"), "{user_data}");
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
