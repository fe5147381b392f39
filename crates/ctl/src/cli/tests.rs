use std::time::Duration;

use clap::FromArgMatches;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let words = std::iter::once("virtctl").chain(line.split(' '));
    Cli::from_arg_matches(&command(Path::new("virtctl")).try_get_matches_from(words)?)
}

/// Every switch, with a command line it stands at the end of, and how its value is read.
const SWITCHES: [(&str, fn(&Cli) -> Option<bool>); 15] = [
    ("version --insecure-skip-tls-verify", |cli| Some(cli.global.insecure_skip_tls_verify)),
    ("start a --paused", |cli| if let Command::Start(o) = &cli.command { Some(o.paused) } else { None }),
    ("start a --dry-run", |cli| if let Command::Start(o) = &cli.command { Some(o.dry_run) } else { None }),
    ("stop a --force", |cli| if let Command::Stop(o) = &cli.command { Some(o.force) } else { None }),
    ("stop a --dry-run", |cli| if let Command::Stop(o) = &cli.command { Some(o.dry_run) } else { None }),
    ("restart a --force", |cli| if let Command::Restart(o) = &cli.command { Some(o.force) } else { None }),
    ("pause vm a --dry-run", |cli| if let Command::Pause(o) = &cli.command { Some(o.dry_run) } else { None }),
    ("unpause a --dry-run", |cli| if let Command::Unpause(o) = &cli.command { Some(o.dry_run) } else { None }),
    ("vnc a --proxy-only", |cli| if let Command::Vnc(o) = &cli.command { Some(o.proxy_only) } else { None }),
    (
        "vnc a --preserve-session",
        |cli| if let Command::Vnc(o) = &cli.command { Some(o.preserve_session) } else { None },
    ),
    (
        "port-forward vm/a 80 --stdio",
        |cli| if let Command::PortForward(o) = &cli.command { Some(o.stdio) } else { None },
    ),
    ("scp a vm/a:b --recursive", |cli| if let Command::Scp(o) = &cli.command { Some(o.recursive) } else { None }),
    ("scp a vm/a:b -r", |cli| if let Command::Scp(o) = &cli.command { Some(o.recursive) } else { None }),
    ("scp a vm/a:b --preserve", |cli| if let Command::Scp(o) = &cli.command { Some(o.preserve) } else { None }),
    ("version -c", |cli| if let Command::Version(o) = &cli.command { Some(o.client) } else { None }),
];

#[test]
fn every_switch_takes_a_value() {
    let forms = [
        ("", true),
        ("=true", true),
        ("=false", false),
        ("=1", true),
        ("=t", true),
        ("=T", true),
        ("=TRUE", true),
        ("=True", true),
        ("=0", false),
        ("=f", false),
        ("=F", false),
        ("=FALSE", false),
        ("=False", false),
    ];
    for (line, read) in SWITCHES {
        for (form, expected) in forms {
            let cli = parse(&format!("{line}{form}")).unwrap_or_else(|e| panic!("{line}{form}: {e}"));
            assert_eq!(read(&cli), Some(expected), "{line}{form}");
        }
        let absent = line.rsplit_once(' ').unwrap().0;
        assert_eq!(read(&parse(absent).unwrap()), Some(false), "{absent}");
        let flag = line.rsplit_once(' ').unwrap().1;
        for wrong in ["=yes", "=", "=tRUE"] {
            let error = parse(&format!("{line}{wrong}")).unwrap_err().to_string();
            assert!(error.contains(flag.trim_start_matches('-')) || flag.len() == 2, "{line}{wrong}: {error}");
            assert!(error.contains("use true or false"), "{line}{wrong}: {error}");
        }
    }
}

/// A switch that is missing above would be missing unseen.
#[test]
fn no_switch_is_left_out() {
    fn check(command: &clap::Command) {
        for arg in command.get_arguments() {
            assert!(!matches!(arg.get_action(), clap::ArgAction::SetTrue), "{}: {}", command.get_name(), arg.get_id());
        }
        command.get_subcommands().for_each(check);
    }
    check(&command(Path::new("virtctl")));
}

#[test]
fn a_word_after_a_switch_is_an_argument_of_its_own() {
    let Command::Pause(options) = parse("pause --dry-run vm false").unwrap().command else { panic!() };
    assert_eq!((options.dry_run, options.target), (true, vec!["vm".to_string(), "false".into()]));
    assert!(parse("stop a --force false").unwrap_err().to_string().contains("'false'"));
    let Command::Scp(options) = parse("scp -rp 2222 a vm/a:b").unwrap().command else { panic!() };
    assert_eq!((options.recursive, options.options.port), (true, 2222));
}

#[test]
fn the_last_of_two_equal_flags_counts() {
    let Command::Stop(options) =
        parse("stop a --force --force=false --grace-period 1 --grace-period=0").unwrap().command
    else {
        panic!()
    };
    assert_eq!((options.force, options.grace_period), (false, 0));
    let groups = parse("start a --as-group x --as-group y").unwrap().global.impersonate_groups;
    assert_eq!(groups, ["x", "y"]);
}

#[test]
fn global_flags_stand_before_and_after_the_command() {
    for line in [
        "--user u --cluster c -v 6 --as-group g --insecure-skip-tls-verify=true start a",
        "start a --user u --cluster c -v=6 --as-group g --insecure-skip-tls-verify",
        "start --v=6 a --user=u --cluster=c --as-group=g --insecure-skip-tls-verify=1",
    ] {
        let global = parse(line).unwrap().global;
        assert_eq!((global.user.as_deref(), global.cluster.as_deref()), (Some("u"), Some("c")), "{line}");
        assert_eq!((global.verbosity, global.insecure_skip_tls_verify), (6, true), "{line}");
        assert_eq!(global.impersonate_groups, ["g"], "{line}");
    }
}

#[test]
fn the_user_of_create_vm_is_the_guests() {
    let Command::Create(create) = parse("create vm --user me").unwrap().command else { panic!() };
    let CreateKind::Vm(options) = create.kind;
    assert_eq!(options.user.as_deref(), Some("me"));
}

#[test]
fn timeouts_are_seconds_or_gos_durations() {
    for (text, expected) in [
        ("30", Some(Duration::from_secs(30))),
        ("0", Some(Duration::ZERO)),
        ("0s", Some(Duration::ZERO)),
        ("1m30s", Some(Duration::from_secs(90))),
        ("500ms", Some(Duration::from_millis(500))),
        ("1.5h", Some(Duration::from_secs(5400))),
        ("-1", None),
        ("soon", None),
        ("1 hour", None),
        ("PT1S", None),
    ] {
        let line = format!("start a --request-timeout={}", text.replace(' ', "_"));
        assert_eq!(parse(&line).ok().and_then(|cli| cli.global.request_timeout), expected, "{text}");
    }
}

#[test]
fn another_virtctl_is_told_all_but_the_token() {
    let line = "start a --kubeconfig=/k --context=c --cluster=cl --user=u --server=https://s --as=me --as-uid=1 \
        --certificate-authority=/ca --client-certificate=/crt --client-key=/key --tls-server-name=n \
        --insecure-skip-tls-verify=true --request-timeout=2s --v=7 --as-group=g --as-group=h";
    let told = parse(&format!("{line} --token=secret -n ns")).unwrap().global.words();
    let mut wanted: Vec<&str> = line.split(' ').skip(2).filter(|word| !word.is_empty()).collect();
    let timeout = wanted.iter_mut().find(|word| word.starts_with("--request-timeout")).unwrap();
    *timeout = "--request-timeout=2000ms";
    assert_eq!(told, wanted);
    let again = parse(&format!("start a {}", told.join(" "))).unwrap().global;
    assert_eq!(again.words(), told);
    assert!(parse("start a").unwrap().global.words().is_empty());
}
