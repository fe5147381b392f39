//! `ferrovirt backup` and `ferrovirt restore` on a real instance. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail by panicking, like the tests themselves

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A data directory of its own, purged in the end.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let permissions = std::fs::Permissions::from_mode(0o755);
        Self(tempfile::Builder::new().prefix("fv-backup-").permissions(permissions).tempdir_in("/tmp").unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn try_run(&self, verb: &str, args: &[&Path]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferrovirt"));
        command.arg(verb).arg("--data-dir").arg(self.path("d")).args(args).env_remove("RUST_LOG").output().unwrap()
    }

    fn run(&self, verb: &str, args: &[&Path]) -> String {
        let output = self.try_run(verb, args);
        assert!(output.status.success(), "{verb}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn up(&self) {
        let kubeconfig = self.path("kubeconfig");
        // Any program will do for a launcher: no pod is run.
        let launcher = Path::new("/bin/true");
        let listen = Path::new("127.0.0.1:0");
        self.run(
            "up",
            &[
                "--private-libvirt".as_ref(),
                "--launcher".as_ref(),
                launcher,
                "--listen".as_ref(),
                listen,
                "--write-kubeconfig".as_ref(),
                &kubeconfig,
            ],
        );
    }

    fn kubectl(&self, kubeconfig: &Path, args: &[&str]) -> String {
        let output =
            Command::new("kubectl").args(args).env("KUBECONFIG", kubeconfig).current_dir("/").output().unwrap();
        assert!(output.status.success(), "kubectl {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn config_maps(&self) -> String {
        self.kubectl(&self.path("kubeconfig"), &["get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.path("d").exists() {
            let output = self.try_run("down", &["--purge".as_ref()]);
            if !std::thread::panicking() {
                assert!(output.status.success(), "{output:?}");
            }
        }
    }
}

fn stderr(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn backup_of_a_running_instance_brings_it_back_here_and_elsewhere() {
    let (place, file) = (Place::new(), PathBuf::from("backup.fv"));
    let file = place.path(file.to_str().unwrap());
    place.up();
    let admin = place.path("kubeconfig");
    place.kubectl(&admin, &["create", "configmap", "kept"]);
    let said = place.run("backup", &[&file]);
    assert!(said.contains("objects at revision"), "{said}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "it holds secrets");
    assert!(stderr(&place.try_run("backup", &[&file])).contains("exists already"));
    place.kubectl(&admin, &["delete", "configmap", "kept"]);
    place.kubectl(&admin, &["create", "configmap", "later"]);

    let text = stderr(&place.try_run("restore", &[&file, "--replace".as_ref()]));
    assert!(text.contains("in use by another ferrovirt") && text.contains("ferrovirt down"), "{text}");
    place.run("down", &[]);
    let text = stderr(&place.try_run("restore", &[&file]));
    assert!(text.contains("has objects already") && text.contains("--replace"), "{text}");
    let said = place.run("restore", &["--replace".as_ref(), &file]);
    assert!(said.contains("objects were restored") && said.contains("kept in"), "{said}");
    place.up();
    assert_eq!(place.config_maps(), "kept");

    // On another machine the same administrators are known: the keys are in the backup.
    let other = Place::new();
    other.run("restore", &[&file]);
    other.up();
    assert_eq!(other.config_maps(), "kept");
    let server =
        other.kubectl(&other.path("kubeconfig"), &["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let found = place.kubectl(&admin, &["--server", server.trim(), "get", "configmap", "kept", "-o", "name"]);
    assert_eq!(found.trim(), "configmap/kept");

    // Over one with keys of its own; those are kept, until the instance is purged.
    other.run("down", &[]);
    std::fs::write(other.path("d/pki/ca.pem"), "others").unwrap();
    std::fs::create_dir(other.path("d/restore")).unwrap();
    let said = other.run("restore", &["--replace".as_ref(), &file]);
    assert_eq!(said.matches("kept in").count(), 2, "{said}");
    let kept = std::fs::read_dir(other.path("d/replaced")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_to_string(kept.join("ca.pem")).unwrap(), "others");
    assert!(!other.path("d/restore").exists(), "of a restore that was killed");
    assert!(other.run("down", &["--purge".as_ref()]).contains("was deleted"));

    // And back again to what the restore replaced.
    place.run("down", &[]);
    let store = std::fs::read_dir(place.path("d/store")).unwrap().flatten();
    let replaced: Vec<_> = store.map(|e| e.path()).filter(|p| p.to_str().unwrap().contains(".replaced-")).collect();
    assert_eq!(replaced.len(), 1, "{replaced:?}");
    place.run("restore", &["--replace".as_ref(), &replaced[0]]);
    place.up();
    assert_eq!(place.config_maps(), "later");
}

#[test]
fn what_is_no_backup_is_refused() {
    let place = Place::new();
    let file = place.path("file");
    assert!(stderr(&place.try_run("backup", &[&file])).contains("no instance was ever started there"));
    std::fs::write(&file, "not a backup at all").unwrap();
    let text = stderr(&place.try_run("restore", &[&file]));
    assert!(text.contains("read the backup") && text.contains("file"), "{text}");
    assert!(stderr(&place.try_run("restore", &[&place.path("missing")])).contains("missing"));
    assert!(!place.path("d/store/objects.db").exists());
}
