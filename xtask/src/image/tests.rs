use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use oci_spec::image::{ImageConfiguration, ImageManifest, MediaType};

use super::layer::sha256;
use super::*;

/// A folder with a file for each of our programs: real ones, as the builder looks into them.
fn programs(handler: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for image in PRODUCT {
        let source = if image.name == "virt-handler" { handler } else { "/bin/busybox" };
        std::fs::copy(source, folder.path().join(image.name)).unwrap();
    }
    folder
}

fn args(names: &[&str], output: &Path, programs: &Path) -> ImageArgs {
    ImageArgs {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        output: output.to_owned(),
        tag: "v1".into(),
        version: "v1.2.3".into(),
        prefix: String::new(),
        push: None,
        architecture: Architecture::of_this_machine(),
        profile: "release".into(),
        programs: Some(programs.to_owned()),
    }
}

/// Every file of a layout with its digest.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for name in ["index.json", "oci-layout"] {
        found.insert(name.to_owned(), sha256(&std::fs::read(folder.join(name)).unwrap()));
    }
    for blob in std::fs::read_dir(folder.join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        found.insert(blob.file_name().into_string().unwrap(), sha256(&std::fs::read(blob.path()).unwrap()));
    }
    found
}

fn manifest(folder: &Path, name: &str) -> ImageManifest {
    let images = layout::images(folder).unwrap();
    let (_, descriptor) = images.iter().find(|(found, _)| found == name).unwrap();
    ImageManifest::from_reader(layout::read_blob(folder, descriptor).unwrap().as_slice()).unwrap()
}

#[test]
fn a_second_run_gives_the_same_bytes_and_each_blob_is_named_by_its_digest() {
    let (root, work, ours) = (crate::root().unwrap(), tempfile::tempdir().unwrap(), programs("/bin/true"));
    let (first, second) = (work.path().join("first"), work.path().join("second"));
    for output in [&first, &second] {
        run(&root, &args(&[], output, ours.path())).unwrap();
    }
    assert_eq!(files(&first), files(&second));
    let blobs: Vec<_> = files(&first).into_iter().filter(|(name, _)| name.len() == 64).collect();
    assert!(blobs.iter().all(|(name, digest)| name == digest), "{blobs:?}");
}

#[test]
fn control_plane_images_are_one_program_run_by_nobody_in_particular() {
    let (root, work, ours) = (crate::root().unwrap(), tempfile::tempdir().unwrap(), programs("/bin/true"));
    run(&root, &args(&["virt-api"], work.path(), ours.path())).unwrap();
    let manifest = manifest(work.path(), "virt-api:v1");
    assert_eq!(manifest.media_type(), &Some(MediaType::ImageManifest));
    let [layer] = manifest.layers().as_slice() else { panic!("{:?}", manifest.layers()) };
    let packed = layout::read_blob(work.path(), layer).unwrap();
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(packed.as_slice()));
    let entries: Vec<_> = tar
        .entries()
        .unwrap()
        .map(|entry| {
            let header = entry.unwrap().header().clone();
            let path = header.path().unwrap().display().to_string();
            (path, header.mode().unwrap(), header.uid().unwrap(), header.mtime().unwrap())
        })
        .collect();
    let expected = [("usr/", 0o755, 0, 0), ("usr/bin/", 0o755, 0, 0), ("usr/bin/virt-api", 0o755, 0, 0)];
    assert_eq!(entries, expected.map(|(path, mode, uid, mtime)| (path.to_owned(), mode, uid, mtime)));

    let bytes = layout::read_blob(work.path(), manifest.config()).unwrap();
    let configuration = ImageConfiguration::from_reader(bytes.as_slice()).unwrap();
    let config = configuration.config().clone().unwrap();
    assert_eq!(config.user().as_deref(), Some("1001"));
    assert!(config.env().as_ref().unwrap().contains(&"KUBEVIRT_VERSION=v1.2.3".to_owned()));
    assert_eq!(config.entrypoint().as_deref(), Some(["/usr/bin/virt-api".to_owned()].as_slice()));
}

#[test]
fn two_versions_of_the_handler_share_the_layer_of_its_libraries() {
    let (root, work) = (crate::root().unwrap(), tempfile::tempdir().unwrap());
    let layers: Vec<Vec<String>> = ["/bin/true", "/bin/false"]
        .into_iter()
        .map(|handler| {
            let ours = programs(handler);
            run(&root, &args(&["virt-handler"], work.path(), ours.path())).unwrap();
            manifest(work.path(), "virt-handler:v1").layers().iter().map(|layer| layer.digest().to_string()).collect()
        })
        .collect();
    assert_eq!(layers[0].len(), 2);
    assert_eq!(layers[0][0], layers[1][0]);
    assert_ne!(layers[0][1], layers[1][1]);
}

#[test]
fn a_program_that_needs_libraries_is_not_put_where_there_are_none() {
    let (root, work) = (crate::root().unwrap(), tempfile::tempdir().unwrap());
    let ours = tempfile::tempdir().unwrap();
    std::fs::copy("/bin/true", ours.path().join("virt-api")).unwrap();
    let error = run(&root, &args(&["virt-api"], work.path(), ours.path())).unwrap_err();
    assert!(format!("{error:#}").contains("crt-static"), "{error:#}");
}

#[test]
fn a_program_for_another_processor_is_refused() {
    let (root, work, ours) = (crate::root().unwrap(), tempfile::tempdir().unwrap(), programs("/bin/true"));
    let architecture = match Architecture::of_this_machine() {
        Architecture::Amd64 => Architecture::Arm64,
        Architecture::Arm64 => Architecture::Amd64,
    };
    let error = run(&root, &ImageArgs { architecture, ..args(&["virt-api"], work.path(), ours.path()) }).unwrap_err();
    assert!(format!("{error:#}").contains("virt-api is not for"), "{error:#}");
}

#[test]
fn an_image_that_has_grown_beyond_its_limit_is_an_error_that_says_by_what() {
    let launcher = select(&["virt-launcher".to_owned()]).unwrap()[0];
    launcher.check_size(1 << 20).unwrap();
    let error = launcher.check_size((1 << 20) + 1).unwrap_err();
    assert!(error.to_string().contains("1048577") && error.to_string().contains("virt-launcher"), "{error}");
}

#[test]
fn an_unknown_image_is_refused_with_the_names_there_are() {
    let error = select(&["virt-nope".to_owned()]).err().unwrap();
    assert!(error.to_string().contains("virt-nope") && error.to_string().contains("virt-launcher"), "{error}");
}

#[test]
fn the_five_images_can_be_mirrored_by_name_under_another_path_prefix_and_tag() {
    let (root, work, ours) = (crate::root().unwrap(), tempfile::tempdir().unwrap(), programs("/bin/true"));
    let registry = Registry::start();
    let source = format!("{}/ferrovirt", registry.address);
    run(&root, &ImageArgs { push: Some(source.clone()), ..args(&[], work.path(), ours.path()) }).unwrap();

    let names = ["virt-operator", "virt-api", "virt-controller", "virt-handler", "virt-launcher"];
    let client = registry.client();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for name in names {
            let from = format!("{source}/{name}:v1").parse().unwrap();
            let to = format!("{}/some/where/else/mirror-{name}:2026.1", registry.address).parse().unwrap();
            mirror(&client, &from, &to).await;
            let digests = [
                client.fetch_manifest_digest(&from, &RegistryAuth::Anonymous).await.unwrap(),
                client.fetch_manifest_digest(&to, &RegistryAuth::Anonymous).await.unwrap(),
            ];
            assert_eq!(digests[0], digests[1], "{name}");
        }
    });

    // The same names come about when the images are built that way.
    let target = format!("{}/built", registry.address);
    let built = ImageArgs {
        prefix: "mirror-".into(),
        tag: "2026.1".into(),
        push: Some(target.clone()),
        ..args(&["virt-launcher"], work.path(), ours.path())
    };
    run(&root, &built).unwrap();
    let pushed: Reference = format!("{target}/mirror-virt-launcher:2026.1").parse().unwrap();
    let mirrored: Reference =
        format!("{}/some/where/else/mirror-virt-launcher:2026.1", registry.address).parse().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        assert_eq!(
            client.fetch_manifest_digest(&pushed, &RegistryAuth::Anonymous).await.unwrap(),
            client.fetch_manifest_digest(&mirrored, &RegistryAuth::Anonymous).await.unwrap()
        );
    });
}

/// What `skopeo copy` and its like do.
async fn mirror(client: &Client, from: &Reference, to: &Reference) {
    let kind = MediaType::ImageManifest.to_string();
    client.auth(to, &RegistryAuth::Anonymous, oci_client::RegistryOperation::Push).await.unwrap();
    let (bytes, _) = client.pull_manifest_raw(from, &RegistryAuth::Anonymous, &[&kind]).await.unwrap();
    let manifest = ImageManifest::from_reader(bytes.as_ref()).unwrap();
    for blob in manifest.layers().iter().chain([manifest.config()]) {
        let digest = blob.digest().to_string();
        let mut content = Vec::new();
        client.pull_blob(from, digest.as_str(), &mut content).await.unwrap();
        client.push_blob(to, content, &digest).await.unwrap();
    }
    client.push_manifest_raw(to, bytes, kind.parse().unwrap()).await.unwrap();
}

/// A real registry on loopback.
struct Registry {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yaml");
        let text = format!(
            "version: 0.1\nlog: {{level: info, formatter: text}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}}}\nhttp: {{addr: 127.0.0.1:0}}\n",
            folder.path().display()
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry (Debian package docker-registry)");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let port = lines
            .find_map(|line| {
                let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
                Some(rest.chars().take_while(char::is_ascii_digit).collect::<String>())
            })
            .expect("registry ended");
        // Reads on, so that the registry never blocks on its log.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address: format!("127.0.0.1:{port}"), _folder: folder }
    }

    fn client(&self) -> Client {
        Client::try_from(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() }).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
