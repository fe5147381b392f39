//! The test binary starts itself again as the child that becomes the container, as the pod runner does with its own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use fv_host::container::{ContainerMount, ContainerSpec, START_FAILED, exec_in_sandbox};
use fv_host::netns::NetNs;

const SPEC: &str = "FV_TEST_CONTAINER_SPEC";

struct Fixture {
    dir: tempfile::TempDir,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = NetNs::remove_at(&self.dir.path().join("ns"));
    }
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["volume", "config", "root"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::set_permissions(dir.path().join("volume"), fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(dir.path().join("config/key"), "value").unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn spec(&self, script: &str) -> ContainerSpec {
        ContainerSpec {
            executable: fs::canonicalize("/bin/sh").unwrap(),
            args: vec!["-c".into(), script.into()],
            env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("POD_NAME".into(), "demo".into())],
            cwd: "/".into(),
            netns: None,
            hostname: Some("demo".into()),
            mounts: vec![
                ContainerMount { source: self.path("volume"), target: "/var/run/private".into(), read_only: false },
                ContainerMount { source: self.path("config"), target: "/etc-like/config".into(), read_only: true },
            ],
            root_dir: self.path("root"),
            read_only_root: false,
            proc: true,
            uid: 107,
            gid: 107,
            groups: vec![],
            open_files: Some(256),
            cgroups: vec![],
            log: self.path("log"),
        }
    }

    fn run(&self, spec: &ContainerSpec) -> (ExitStatus, String) {
        let file = self.path("spec.json");
        fs::write(&file, serde_json::to_vec(spec).unwrap()).unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "container::becomes_the_container", "--nocapture", "--test-threads=1"])
            .env(SPEC, &file)
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        (status, fs::read_to_string(&spec.log).unwrap_or_default())
    }
}

/// Not a test of its own: the child's entry.
#[test]
fn becomes_the_container() {
    if let Some(path) = std::env::var_os(SPEC) {
        exec_in_sandbox(&ContainerSpec::read(Path::new(&path)).unwrap());
    }
}

#[test]
fn program_sees_its_own_world_only() {
    let fixture = Fixture::new();
    let ns = NetNs::ensure_at(&fixture.path("ns")).unwrap();
    let mut spec = fixture.spec(
        "id -u; id -g; hostname; echo $POD_NAME; grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status | cut -f2; ulimit -n; ulimit -c; \
         cat /etc-like/config/key; echo; echo written > /run/private/file; ls /run /tmp /home 2>&1; \
         touch /etc-like/config/new 2>&1; touch /usr/new 2>&1; stat -Lc %i /proc/self/ns/net; exit 3",
    );
    spec.netns = Some(fixture.path("ns"));
    let (status, log) = fixture.run(&spec);
    assert_eq!(status.code(), Some(3), "{log}");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..4], ["107", "107", "demo", "demo"], "{log}");
    assert_eq!(lines[4..8], ["0000000000000000"; 4], "no capabilities: {log}");
    assert_eq!(lines[8..12], ["1", "256", "0", "value"], "{log}");
    assert!(log.contains("/home") && log.contains("No such file"), "the host's files are not there: {log}");
    assert_eq!(log.matches("Read-only file system").count(), 2, "{log}");
    assert_eq!(lines.last(), Some(&ns.id().unwrap().inode.to_string().as_str()));
    assert_eq!(fs::read_to_string(fixture.path("volume/file")).unwrap(), "written\n");
    assert!(fs::read_dir(fixture.path("root")).unwrap().next().is_none(), "nothing is left on the host");
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(fixture.path("root").to_str().unwrap()));
}

#[test]
fn read_only_root_leaves_only_the_volumes_writable() {
    let fixture = Fixture::new();
    let mut spec = fixture.spec("touch /x 2>&1; touch /run/private/y && echo fine");
    spec.read_only_root = true;
    let (status, log) = fixture.run(&spec);
    assert!(status.success() && log.contains("Read-only file system") && log.contains("fine"), "{log}");
}

#[test]
fn failure_to_start_is_in_the_log_with_its_step() {
    let fixture = Fixture::new();
    type Edit = fn(&mut ContainerSpec);
    let cases: [(Edit, &str); 4] = [
        (|s| s.executable = "/nowhere/program".into(), "mount program /nowhere/program"),
        (|s| s.netns = Some("/etc/hostname".into()), "open network namespace /etc/hostname"),
        (|s| s.mounts[0].source = "/nowhere".into(), "find volume /nowhere"),
        (|s| s.mounts[0].target = "/a/../../b".into(), "must not contain .."),
    ];
    for (edit, text) in cases {
        let mut spec = fixture.spec("true");
        edit(&mut spec);
        let (status, log) = fixture.run(&spec);
        assert_eq!(status.code(), Some(START_FAILED), "{log}");
        assert!(log.lines().last().is_some_and(|l| l.contains(text)), "{text}: {log}");
    }
}
