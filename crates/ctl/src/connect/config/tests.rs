use std::time::Duration;

use clap::FromArgMatches;

use super::*;
use crate::cli::{Cli, command};

const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
current-context: one
contexts:
- {name: one, context: {cluster: first, user: alice, namespace: ns1}}
- {name: two, context: {cluster: second, user: bob}}
clusters:
- {name: first, cluster: {server: "https://first:1", tls-server-name: first.example}}
- {name: second, cluster: {server: "https://second:2", insecure-skip-tls-verify: true}}
users:
- {name: alice, user: {client-certificate-data: YQ==, client-key-data: Yg==}}
- {name: bob, user: {username: bob, password: secret, tokenFile: /no/such/token}}
"#;

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n";

/// What the flags make of [`KUBECONFIG`]; `@` is a directory with the files `ca`, `crt`, `key` and `text`.
async fn config_of(flags: &str, kubeconfig: &str) -> Result<Config, String> {
    let dir =
        std::env::temp_dir().join(format!("virtctl-config-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::create_dir_all(&dir).unwrap();
    for (name, text) in [("config", kubeconfig), ("ca", CERTIFICATE), ("crt", CERTIFICATE), ("key", "k"), ("text", "t")]
    {
        std::fs::write(dir.join(name), text).unwrap();
    }
    let line = format!("virtctl start a --kubeconfig=@/config {flags}").replace('@', dir.to_str().unwrap());
    let matches = command(Path::new("virtctl")).try_get_matches_from(line.split_whitespace()).unwrap();
    let global = Cli::from_arg_matches(&matches).unwrap().global;
    let config = from_flags(&global).await.map_err(|error| format!("{error:#}").replace(dir.to_str().unwrap(), "@"));
    std::fs::remove_dir_all(&dir).unwrap();
    config
}

async fn config(flags: &str) -> Config {
    config_of(flags, KUBECONFIG).await.unwrap_or_else(|error| panic!("{flags}: {error}"))
}

#[tokio::test]
async fn the_flags_choose_context_cluster_and_user() {
    for (flags, url, user, namespace) in [
        ("", "https://first:1/", None, "ns1"),
        ("--context two", "https://second:2/", Some("bob"), "default"),
        ("--cluster second", "https://second:2/", None, "ns1"),
        ("--user bob", "https://first:1/", Some("bob"), "ns1"),
        ("--context two --cluster first --user alice", "https://first:1/", None, "default"),
        ("--server https://other:3", "https://other:3/", None, "ns1"),
    ] {
        let config = config(flags).await;
        assert_eq!(config.cluster_url.to_string(), url, "{flags}");
        assert_eq!(config.auth_info.username.as_deref(), user, "{flags}");
        assert_eq!(config.default_namespace, namespace, "{flags}");
    }
    let without = KUBECONFIG.replace("current-context: one\n", "");
    let chosen = config_of("--cluster second --user bob", &without).await.unwrap();
    assert_eq!(chosen.cluster_url.to_string(), "https://second:2/");
    assert_eq!(chosen.auth_info.username.as_deref(), Some("bob"));
}

#[tokio::test]
async fn what_is_said_of_the_server_is_followed() {
    for (flags, name, insecure) in [
        ("", Some("first.example"), false),
        ("--tls-server-name x", Some("x"), false),
        // The name belongs to the server that the kubeconfig has.
        ("--server https://other:3", None, false),
        ("--server https://other:3 --tls-server-name x", Some("x"), false),
        ("--insecure-skip-tls-verify=true", Some("first.example"), true),
        ("--cluster second", None, true),
        ("--cluster second --certificate-authority @/ca", None, false),
    ] {
        let config = config(flags).await;
        assert_eq!(config.tls_server_name.as_deref(), name, "{flags}");
        assert_eq!(config.accept_invalid_certs, insecure, "{flags}");
    }
    let file = config("--certificate-authority @/ca").await.root_cert_file.unwrap();
    assert!(file.ends_with("ca"));
}

#[tokio::test]
async fn what_is_said_of_the_user_goes_before_the_kubeconfig() {
    let user = config("--user bob --token t").await.auth_info;
    assert!(user.token.is_some());
    assert_eq!((user.username, user.token_file), (None, None));

    let user = config("--client-certificate @/crt --client-key @/key").await.auth_info;
    assert!(user.client_certificate.unwrap().ends_with("/crt") && user.client_key.unwrap().ends_with("/key"));
    assert!(user.client_certificate_data.is_none() && user.client_key_data.is_none());

    let user = config("--as me --as-group g --as-group h --as-uid 7").await.auth_info;
    assert_eq!(user.impersonate.as_deref(), Some("me"));
    assert_eq!(user.impersonate_groups, Some(vec!["g".into(), "h".into()]));
    assert_eq!(user.impersonate_uid.as_deref(), Some("7"));
}

#[tokio::test]
async fn a_timeout_limits_connecting_but_no_open_stream() {
    for (flags, seconds) in
        [("", 30), ("--request-timeout 2s", 2), ("--request-timeout 5m", 30), ("--request-timeout 0", 30)]
    {
        let config = config(flags).await;
        assert_eq!(config.connect_timeout, Some(Duration::from_secs(seconds)), "{flags}");
        assert_eq!(config.read_timeout, None, "{flags}");
    }
}

#[tokio::test]
async fn wrong_flags_are_refused_by_name() {
    for (flags, text) in [
        ("--context x", "--context x: the kubeconfig has no such context; it has: one, two"),
        ("--cluster x", "--cluster x: the kubeconfig has no such cluster; it has: first, second"),
        ("--user x", "--user x: the kubeconfig has no such user; it has: alice, bob"),
        ("--server a|b", "--server a|b is no URL: invalid uri character"),
        ("--certificate-authority @/text", "--certificate-authority @/text holds no certificate in PEM"),
        (
            "--certificate-authority @/none",
            "read --certificate-authority @/none: No such file or directory (os error 2)",
        ),
        (
            "--certificate-authority @/ca --insecure-skip-tls-verify",
            "--certificate-authority @/ca and --insecure-skip-tls-verify contradict each other: give one of them",
        ),
        ("--client-key @/none", "read --client-key @/none: No such file or directory (os error 2)"),
        ("--user bob --client-certificate @/crt", "--client-certificate @/crt needs --client-key"),
        ("--user bob --client-key @/key", "--client-key @/key needs --client-certificate"),
        ("--as-uid 7", "--as-uid 7 impersonates nobody: give --as too"),
        ("--as-group g", "--as-group g impersonates nobody: give --as too"),
    ] {
        let error = config_of(flags, KUBECONFIG).await.map(drop).unwrap_err();
        assert_eq!(error, text, "{flags}");
    }
}
