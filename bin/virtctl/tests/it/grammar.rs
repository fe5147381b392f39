use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{VIRTCTL, World, alone, text};

const VERBS: [&str; 19] = [
    "start",
    "stop",
    "restart",
    "pause",
    "unpause",
    "soft-reboot",
    "reset",
    "console",
    "vnc",
    "port-forward",
    "expose",
    "ssh",
    "scp",
    "guestosinfo",
    "userlist",
    "fslist",
    "version",
    "create",
    "completion",
];

#[test]
fn the_help_of_every_verb_is_as_agreed() {
    let mut all = text(&alone(VIRTCTL, &["--help"]).stdout);
    for verb in VERBS {
        let output = alone(VIRTCTL, &[verb, "--help"]);
        assert!(output.status.success(), "{verb}");
        // The flags common to all verbs stand in the first page.
        let page = text(&output.stdout);
        let own = page.lines().take_while(|line| *line != "Global options:").filter(|line| !line.trim().is_empty());
        let own: Vec<&str> = own.collect();
        all.push_str(&format!("\n\n=== virtctl {verb}\n{}", own.join("\n")));
    }
    insta::assert_snapshot!("help", all);
}

#[test]
fn as_a_plugin_the_usage_is_kubectls() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("kubectl-virt");
    std::os::unix::fs::symlink(VIRTCTL, &plugin).unwrap();
    let help = text(&alone(plugin.to_str().unwrap(), &["--help"]).stdout);
    assert!(help.contains("Usage: kubectl virt "), "{help}");
    let wrong = text(&alone(plugin.to_str().unwrap(), &["stop"]).stderr);
    assert!(wrong.contains("Usage: kubectl virt stop "), "{wrong}");
}

#[test]
fn wrong_words_are_named() {
    for (args, wanted) in [
        (&["begin", "demo"][..], "unrecognized subcommand 'begin'"),
        (&["start"], "<NAME>"),
        (&["stop", "demo", "--grace-period", "soon"], "'soon'"),
        (&["console", "demo", "--wait"], "'--wait'"),
    ] {
        let output = alone(VIRTCTL, args);
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(wanted), "{args:?}: {output:?}");
    }
}

#[test]
fn completion_scripts_are_whole() {
    for shell in ["bash", "zsh", "fish"] {
        let output = alone(VIRTCTL, &["completion", shell]);
        assert!(output.status.success());
        let script = text(&output.stdout);
        for verb in VERBS {
            assert!(script.contains(verb), "{shell}: {verb}");
        }
        if shell == "bash" {
            let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
            bash.stdin.take().unwrap().write_all(&output.stdout).unwrap();
            assert!(bash.wait().unwrap().success());
        }
    }
}

#[test]
fn without_a_cluster_the_way_out_is_told() {
    let output = alone(VIRTCTL, &["start", "demo"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("give --kubeconfig or set KUBECONFIG"), "{output:?}");
    let output = alone(VIRTCTL, &["--kubeconfig", "/no/such/file", "start", "demo"]);
    assert!(text(&output.stderr).contains("/no/such/file"), "{output:?}");
    assert!(alone(VIRTCTL, &["version", "--client"]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_create_vm_prints_is_admitted() {
    let world = World::new().await;
    let password = world.home.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let password = password.to_str().unwrap();
    let cases: [&[&str]; 6] = [
        &["--name", "a"],
        &["--name", "b", "--run-strategy", "Manual", "--memory", "1Gi", "--volume-containerdisk", "src:demo:latest"],
        &[
            "--name",
            "c",
            "--volume-containerdisk",
            "src:demo:1,name:root,bootorder:1",
            "--volume-containerdisk",
            "src:demo:2",
        ],
        &["--name", "d", "--user", "me", "--password-file", password, "--ssh-key", "ssh-ed25519 AAAA me@here"],
        &["--name", "e", "--cloud-init", "configdrive", "--cloud-init-user-data", "I2Nsb3VkLWNvbmZpZwo="],
        &["--name", "f", "--volume-pvc", "src:data,bootorder:1", "--volume-pvc", "src:more,name:second"],
    ];
    for args in cases {
        let words: Vec<&str> = ["create", "vm"].iter().chain(args).copied().collect();
        let yaml = world.says(&words).await;
        let vm: fv_api::VirtualMachine = serde_saphyr::from_str(&yaml).unwrap_or_else(|e| panic!("{e}: {yaml}"));
        let created = world.vms().create(&kube::api::PostParams::default(), &vm).await;
        let created = created.unwrap_or_else(|e| panic!("{args:?}: {e}\n{yaml}"));
        assert_eq!(created.metadata.name.as_deref(), Some(args[1]));
    }
    let first = world.says(&["create", "vm"]).await;
    assert_ne!(first, world.says(&["create", "vm"]).await, "names are made up anew each time");
    assert!(world.complains(&["create", "vm", "--memory", "lots"]).await.contains("--memory lots"));
}
