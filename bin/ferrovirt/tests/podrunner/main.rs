//! The pod runner with real processes, network namespaces and CNI plugins; a shell plays the launcher. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail by panicking, like the tests themselves

mod volumes;

use std::future::Future;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::AsyncReadExt;
use fv_apiserver::{ApiServerBuilder, Store, UserInfo};
use fv_host::process::{Process, ProcessId, Signal};
use fv_standalone::down;
use fv_standalone::instance::Instance;
use fv_standalone::podrunner::programs::Programs;
use fv_standalone::podrunner::{PodLogReader, PodNetwork, PodRunner, PodRunnerConfig, open_network};
use fv_virt_handler::sandbox::PodSandboxes;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::api::{Api, DeleteParams, ListParams, LogParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const INIT: &str = env!("CARGO_BIN_EXE_ferrovirt");
const IMAGE: &str = "ours:1";
const NODE: &str = "n1";

struct World {
    home: tempfile::TempDir,
    instance: Instance,
    client: Client,
    network: PodNetwork,
}

/// A runner at work.
struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    runner: PodRunner,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

impl World {
    async fn new() -> Self {
        let home = tempfile::Builder::new()
            .prefix("fv-podrunner-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in("/tmp")
            .unwrap();
        let instance = Instance::open(&home.path().join("d")).unwrap();
        instance.make_run_dir().unwrap();
        let network = open_network(&instance).await.unwrap();
        let logs = Arc::new(PodLogReader::new(instance.clone()));
        let server = ApiServerBuilder::new(Store::memory()).pod_logs(logs).build().await.unwrap();
        let client = server.client_as(UserInfo::admin("system:node"));
        Self { home, instance, client, network }
    }

    fn run(&self) -> Running {
        self.run_with(self.network.clone())
    }

    fn run_with(&self, network: PodNetwork) -> Running {
        let config = PodRunnerConfig {
            instance: self.instance.clone(),
            node_name: NODE.into(),
            init: INIT.into(),
            programs: Programs { launcher_image: IMAGE.into(), launcher: "/bin/sh".into() },
            network,
        };
        let runner = PodRunner::new(config, self.client.clone());
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (runner, stop) = (runner.clone(), stop.clone());
            async move { runner.run(stop).await }
        });
        Running { stop, task, runner }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn add(&self, name: &str, spec: &Value) -> String {
        let mut full = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": NODE, "terminationGracePeriodSeconds": 30,
                "volumes": [{"name": "private", "emptyDir": {}}]}});
        for (key, value) in spec.as_object().unwrap() {
            full["spec"][key] = value.clone();
        }
        let pod: Pod = serde_json::from_value(full).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap().uid().unwrap()
    }

    /// A pod of one container that runs `script`.
    async fn add_script(&self, name: &str, script: &str) -> String {
        self.add(name, &json!({"containers": [container("compute", script)]})).await
    }

    async fn get(&self, name: &str) -> Pod {
        self.pods().get(name).await.unwrap()
    }

    async fn phase(&self, name: &str, wanted: &str) -> Pod {
        until(&format!("{name} is {wanted}"), || async {
            let pod = self.get(name).await;
            (pod.status.as_ref()?.phase.as_deref() == Some(wanted)).then_some(pod)
        })
        .await
    }

    async fn gone(&self, name: &str) {
        until(&format!("{name} is gone"), || async {
            self.pods().get_opt(name).await.unwrap().is_none().then_some(())
        })
        .await;
    }

    async fn event(&self, pod: &str, reason: &str) -> Event {
        let events = Api::<Event>::namespaced(self.client.clone(), "default");
        until(&format!("event {reason} of {pod}"), || async {
            let all = events.list(&ListParams::default()).await.unwrap().items;
            all.into_iter()
                .find(|e| e.involved_object.name.as_deref() == Some(pod) && e.reason.as_deref() == Some(reason))
        })
        .await
    }

    fn pod_dir(&self, uid: &str) -> PathBuf {
        self.instance.pods_dir().join(uid)
    }

    fn process(&self, uid: &str, container: &str) -> ProcessId {
        let text = std::fs::read(self.pod_dir(uid).join(format!("{container}.json"))).unwrap();
        let record: Value = serde_json::from_slice(&text).unwrap();
        serde_json::from_value(record["process"].clone()).unwrap()
    }

    /// Waits until the container's program has spoken: from then on it is what it is to be.
    async fn spoken(&self, uid: &str, container: &str) {
        let log = self.pod_dir(uid).join(format!("logs/{container}.log"));
        until("the container speaks", || async {
            (!std::fs::read_to_string(&log).unwrap_or_default().is_empty()).then_some(())
        })
        .await;
    }

    /// What a reboot does: no process, no namespace, an empty run directory.
    fn reboot(&self, processes: &[ProcessId]) {
        for id in processes {
            kill(*id);
        }
        self.lose_run_dir();
    }

    fn lose_run_dir(&self) {
        for entry in std::fs::read_dir(self.instance.netns_dir()).unwrap().flatten() {
            fv_host::netns::NetNs::remove_at(&entry.path()).unwrap();
        }
        std::fs::remove_dir_all(&self.instance.run_dir).unwrap();
        self.instance.make_run_dir().unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let instance = self.instance.clone();
        let cleaned = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(down::release(&instance))
        });
        let outcome = cleaned.join().expect("cleaning does not panic");
        if !std::thread::panicking() {
            outcome.unwrap();
            assert!(!self.instance.run_dir.exists());
            assert!(!Path::new("/sys/class/net").join(self.instance.bridge()).exists());
        }
    }
}

fn container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": IMAGE, "command": ["/usr/bin/virt-launcher"], "args": ["-c", script],
        "volumeMounts": [{"name": "private", "mountPath": "/private"}]})
}

fn kill(id: ProcessId) {
    if let Some(process) = Process::open(id).unwrap() {
        process.signal(Signal::KILL).unwrap();
    }
}

fn is_alive(id: ProcessId) -> bool {
    Process::open(id).unwrap().is_some_and(|p| p.is_alive().unwrap())
}

async fn until<T, F, Fut>(what: &str, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn compute(pod: &Pod) -> ContainerStatus {
    pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].clone()
}

fn condition(pod: &Pod, type_: &str) -> String {
    let conditions = pod.status.as_ref().unwrap().conditions.as_ref().unwrap();
    conditions.iter().find(|c| c.type_ == type_).map(|c| c.status.clone()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_with_address_conditions_and_a_sandbox_to_be_found() {
    let world = World::new().await;
    let running = world.run();
    let uid = world.add_script("a", "echo hello; exec sleep 1000").await;
    let pod = world.phase("a", "Running").await;
    let status = pod.status.clone().unwrap();
    let address: std::net::Ipv4Addr = status.pod_ip.unwrap().parse().unwrap();
    assert!(world.network.subnet().contains(&address));
    assert_eq!(status.host_ip, Some(world.network.gateway().to_string()));
    for type_ in ["PodScheduled", "Initialized", "PodReadyToStartContainers", "ContainersReady", "Ready"] {
        assert_eq!(condition(&pod, type_), "True", "{type_}");
    }
    let state = compute(&pod);
    assert!(state.ready && state.restart_count == 0 && state.state.unwrap().running.is_some());
    let sandbox = running.runner.locate(&uid).await.unwrap().unwrap();
    assert_eq!(sandbox.share_dir, world.pod_dir(&uid).join("volumes/private"));
    assert!(running.runner.locate("no-such-pod").await.unwrap().is_none());
    world.spoken(&uid, "compute").await;
    // Its user is nobody, and it is in the namespace of the pod, not ours.
    let pid = world.process(&uid, "compute").pid;
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_ne!(namespace(&pid.to_string()), namespace("self"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_container_comes_back_and_one_that_keeps_failing_backs_off() {
    let world = World::new().await;
    let running = world.run();
    let uid = world.add_script("steady", "exec sleep 1000").await;
    let before = world.phase("steady", "Running").await;
    kill(world.process(&uid, "compute"));
    let pod = until("it was restarted", || async {
        let pod = world.get("steady").await;
        let status = compute(&pod);
        (status.restart_count == 1 && status.ready).then_some(pod)
    })
    .await;
    assert_eq!(compute(&pod).last_state.unwrap().terminated.unwrap().exit_code, 137);
    assert_eq!(pod.status.unwrap().pod_ip, before.status.unwrap().pod_ip);

    world.add_script("failing", "exit 3").await;
    let pod = until("it backs off", || async {
        let pod = world.get("failing").await;
        let waiting = compute_opt(&pod)?.state?.waiting?;
        (waiting.reason.as_deref() == Some("CrashLoopBackOff")).then_some(pod)
    })
    .await;
    let status = compute(&pod);
    let message = status.state.unwrap().waiting.unwrap().message.unwrap();
    let full = format!("failing_default({})", pod.uid().unwrap());
    assert_eq!(message, format!("back-off 10s restarting failed container=compute pod={full}"));
    assert_eq!((status.restart_count, status.last_state.unwrap().terminated.unwrap().exit_code), (1, 3));
    assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Running"), "as kubelet");
    let event = world.event("failing", "BackOff").await;
    assert_eq!(event.message.unwrap(), format!("Back-off restarting failed container compute in pod {full}"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_ready_while_its_command_says_so() {
    let world = World::new().await;
    let running = world.run();
    let mut probed = container("compute", "echo hello; exec sleep 1000");
    // It sees the volumes of the container, and runs as its user.
    let script = "test $(id -u) = 65534 && test -e /private/ready && exit 0; echo not yet; exit 1";
    probed["readinessProbe"] = json!({"exec": {"command": ["/usr/bin/virt-launcher", "-c", script]}, "periodSeconds": 1,
        "timeoutSeconds": 30, "failureThreshold": 1});
    let mut odd = container("odd", "exec sleep 1000");
    odd["readinessProbe"] = json!({"exec": {"command": ["/bin/rm"]}, "periodSeconds": 1});
    let uid = world.add("a", &json!({"containers": [probed]})).await;
    world.add("odd", &json!({"containers": [odd]})).await;
    let event = world.event("a", "Unhealthy").await;
    assert_eq!(event.message.as_deref(), Some("Readiness probe failed: not yet"));
    assert!(!compute(&world.get("a").await).ready);
    let flag = world.pod_dir(&uid).join("volumes/private/ready");
    std::fs::write(&flag, "").unwrap();
    let ready = |wanted: bool| {
        let world = &world;
        async move { until("ready", || async { (compute(&world.get("a").await).ready == wanted).then_some(()) }).await }
    };
    ready(true).await;
    std::fs::remove_file(&flag).unwrap();
    ready(false).await;
    let event = world.event("odd", "Unhealthy").await;
    assert!(event.message.as_deref().is_some_and(|m| m.contains("no program \"/bin/rm\"")), "{event:?}");
    // What hangs is ended.
    let mut slow = container("slow", "exec sleep 1000");
    let command = ["/usr/bin/virt-launcher", "-c", "touch /private/asked; exec sleep 1000"];
    slow["readinessProbe"] = json!({"exec": {"command": command}, "periodSeconds": 1, "timeoutSeconds": 1});
    world.add("slow", &json!({"containers": [slow]})).await;
    let event = world.event("slow", "Unhealthy").await;
    assert_eq!(event.message.as_deref(), Some("Readiness probe failed: command did not end within 1 s"));
    for name in ["a", "odd", "slow"] {
        world.pods().delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
        world.gone(name).await;
    }
    until("nothing is left", || async { (!world.pod_dir(&uid).exists()).then_some(()) }).await;
    running.stop().await;
}

fn compute_opt(pod: &Pod) -> Option<ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first().cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_restart_policy_decides_and_sidecars_end_after_the_containers() {
    let world = World::new().await;
    let running = world.run();
    let uid = world
        .add("once", &json!({"restartPolicy": "Never", "containers": [container("compute", "exit 0")],
            "initContainers": [{"name": "side", "image": IMAGE, "restartPolicy": "Always", "command": ["/usr/bin/virt-launcher"],
                "args": ["-c", "exec sleep 1000"]}]}))
        .await;
    world.phase("once", "Succeeded").await;
    until("the sidecar ended and the network is free", || async {
        let record: Value = serde_json::from_slice(&std::fs::read(world.pod_dir(&uid).join("side.json")).ok()?).ok()?;
        (record["process"].is_null() && !world.instance.netns_dir().join(&uid).exists()).then_some(())
    })
    .await;
    world
        .add(
            "bad",
            &json!({"restartPolicy": "OnFailure", "containers": [container("compute",
        "test -e /private/again && exit 0; touch /private/again; exit 1")]}),
        )
        .await;
    let pod = world.phase("bad", "Succeeded").await;
    assert_eq!(compute(&pod).restart_count, 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_deletion_ends_the_main_container_first_then_the_sidecar() {
    let world = World::new().await;
    let running = world.run();
    let on_term = |word: &str, delay: &str| {
        format!("trap '{delay} echo {word} >> /private/order; exit 0' TERM; echo ready; while :; do sleep 0.1; done")
    };
    let mut sidecar = container("side", &on_term("sidecar", ""));
    sidecar["restartPolicy"] = "Always".into();
    let uid = world
        .add(
            "g",
            &json!({"initContainers": [sidecar], "containers": [container("compute", &on_term("main", "sleep 1;"))]}),
        )
        .await;
    world.phase("g", "Running").await;
    for name in ["side", "compute"] {
        let log = world.pod_dir(&uid).join(format!("logs/{name}.log"));
        until("the trap is set", || async { std::fs::read_to_string(&log).ok().filter(|t| t.contains("ready")) }).await;
    }
    let order = world.pod_dir(&uid).join("volumes/private/order");
    std::fs::write(&order, "").unwrap();
    std::fs::set_permissions(&order, std::fs::Permissions::from_mode(0o666)).unwrap();
    // The directory goes with the pod; an open file can be read to the end.
    let mut file = std::fs::File::open(&order).unwrap();
    world.pods().delete("g", &DeleteParams::default()).await.unwrap();
    world.gone("g").await;
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "main\nsidecar\n");
    until("nothing is left", || async { (!world.pod_dir(&uid).exists()).then_some(()) }).await;
    assert!(!world.instance.netns_dir().join(&uid).exists());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stubborn_container_is_killed_after_its_grace_period_and_at_once_when_forced() {
    let world = World::new().await;
    let running = world.run();
    let stubborn = "trap '' TERM; while :; do sleep 0.1; done";
    for (name, params) in
        [("graceful", DeleteParams::default().grace_period(1)), ("forced", DeleteParams::default().grace_period(0))]
    {
        let uid = world.add_script(name, stubborn).await;
        world.phase(name, "Running").await;
        let process = world.process(&uid, "compute");
        world.pods().delete(name, &params).await.unwrap();
        world.gone(name).await;
        until("it is dead and nothing is left", || async {
            let traces =
                is_alive(process) || world.pod_dir(&uid).exists() || world.instance.netns_dir().join(&uid).exists();
            (!traces).then_some(())
        })
        .await;
    }
    // Every address was given back.
    let book = world.instance.cni_dir().join("ipam").join(format!("ferrovirt-{}", world.instance.id));
    let leases =
        std::fs::read_dir(book).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().starts_with("10."));
    assert_eq!(leases.count(), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_started_anew_takes_the_running_processes_over() {
    let world = World::new().await;
    let running = world.run();
    let uid = world.add_script("a", "exec sleep 1000").await;
    let before = world.phase("a", "Running").await;
    let process = world.process(&uid, "compute");
    let doomed = world.add_script("doomed", "exec sleep 1000").await;
    world.phase("doomed", "Running").await;
    let doomed_process = world.process(&doomed, "compute");
    running.stop().await;
    assert!(is_alive(process));
    world.pods().delete("doomed", &DeleteParams::default().grace_period(0)).await.unwrap();

    let running = world.run();
    until("the pod deleted meanwhile is cleaned up", || async {
        (!is_alive(doomed_process) && !world.pod_dir(&doomed).exists()).then_some(())
    })
    .await;
    assert_eq!(world.process(&uid, "compute"), process);
    let after = world.get("a").await;
    assert_eq!(compute(&after).restart_count, 0);
    assert_eq!(after.status.unwrap().pod_ip, before.status.unwrap().pod_ip);
    // It is watched as before.
    kill(process);
    until("it was restarted", || async { (compute(&world.get("a").await).restart_count == 1).then_some(()) }).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reboot_the_same_pod_gets_a_new_sandbox() {
    let world = World::new().await;
    let running = world.run();
    let uid = world.add_script("a", "exec sleep 1000").await;
    let before = world.phase("a", "Running").await.status.unwrap().pod_ip;
    running.stop().await;
    std::fs::write(world.pod_dir(&uid).join("volumes/private/kept"), "").unwrap();
    world.reboot(&[world.process(&uid, "compute")]);
    let running = world.run();
    let pod = until("it runs again", || async {
        let pod = world.get("a").await;
        (compute(&pod).restart_count == 1 && compute(&pod).ready).then_some(pod)
    })
    .await;
    assert_eq!(pod.uid().unwrap(), uid);
    assert_ne!(pod.status.unwrap().pod_ip, before);
    assert!(world.instance.netns_dir().join(&uid).exists());
    assert!(world.pod_dir(&uid).join("volumes/private/kept").exists());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_never_left_in_a_namespace_that_is_not_its_pods() {
    let world = World::new().await;
    let running = world.run();
    let uid = world.add_script("a", "echo hello; exec sleep 1000").await;
    world.phase("a", "Running").await;
    world.spoken(&uid, "compute").await;
    running.stop().await;
    let process = world.process(&uid, "compute");
    world.lose_run_dir();
    std::fs::write(world.pod_dir(&uid).join("logs/compute.log"), "").unwrap();
    assert!(is_alive(process));
    let running = world.run();
    until("it was restarted", || async { (compute(&world.get("a").await).restart_count == 1).then_some(()) }).await;
    assert!(!is_alive(process));
    world.spoken(&uid, "compute").await;
    let pid = world.process(&uid, "compute").pid;
    let of_process = std::fs::metadata(format!("/proc/{pid}/ns/net")).unwrap();
    let of_pod = std::fs::metadata(world.instance.netns_dir().join(&uid)).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&of_process), std::os::unix::fs::MetadataExt::ino(&of_pod));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_here_is_refused_by_name() {
    let world = World::new().await;
    let running = world.run();
    let mut foreign = container("web", "");
    foreign["image"] = "nginx:1".into();
    let mut secretive = container("compute", "");
    secretive["env"] = json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
    let mut unmounted = container("compute", "");
    unmounted["volumeMounts"][0]["name"] = "nothing".into();
    let cases = [
        (
            "climbing",
            json!({"containers": [container("../../../climbed", "")]}),
            "Invalid",
            "container name \"../../../climbed\" must consist of",
        ),
        (
            "digging",
            json!({"containers": [container("compute", "")], "volumes": [{"name": "../../../dug", "emptyDir": {}}]}),
            "Invalid",
            "volume name \"../../../dug\" must consist of",
        ),
        ("foreign", json!({"containers": [foreign]}), "ForeignImage", "image \"nginx:1\" cannot run here"),
        (
            "nfs",
            json!({"containers": [container("compute", "")],
                "volumes": [{"name": "private", "nfs": {"server": "s", "path": "/"}}]}),
            "UnsupportedVolume",
            "volume \"private\" is of a kind that the embedded pod runner does not have",
        ),
        (
            "token",
            json!({"containers": [container("compute", "")], "volumes": [{"name": "private",
                "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]}),
            "UnsupportedVolume",
            "its API server issues no tokens",
        ),
        ("env", json!({"containers": [secretive]}), "Unsupported", "env valueFrom"),
        (
            "init",
            json!({"containers": [container("compute", "")], "initContainers": [container("setup", "")]}),
            "Unsupported",
            "init container \"setup\"",
        ),
        ("mount", json!({"containers": [unmounted]}), "Unsupported", "no volume is named \"nothing\""),
    ];
    for (name, spec, reason, text) in cases {
        if matches!(name, "mount" | "climbing" | "digging") {
            // The API may refuse these itself.
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec});
            let params = PostParams { dry_run: true, ..PostParams::default() };
            if world.pods().create(&params, &serde_json::from_value(pod).unwrap()).await.is_err() {
                continue;
            }
        }
        let uid = world.add(name, &spec).await;
        let status = world.phase(name, "Failed").await.status.unwrap();
        assert_eq!(status.reason.as_deref(), Some(reason), "{name}");
        let event = world.event(name, "Failed").await;
        assert!(event.message.as_ref().is_some_and(|m| m.contains(text)), "{name}: {:?}", event.message);
        assert!(!world.pod_dir(&uid).exists());
        world.pods().delete(name, &DeleteParams::default()).await.unwrap();
        world.gone(name).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_have_tail_limit_and_follow() {
    let world = World::new().await;
    let running = world.run();
    world
        .add(
            "l",
            &json!({"restartPolicy": "Never", "containers": [container("compute",
        "echo one; echo two; echo three; while ! test -e /private/go; do sleep 0.1; done; echo four")]}),
        )
        .await;
    let pod = world.phase("l", "Running").await;
    let pods = world.pods();
    let logs = async |params: LogParams| pods.logs("l", &params).await.unwrap();
    until("three lines", || async {
        (pods.logs("l", &LogParams::default()).await.unwrap() == "one\ntwo\nthree\n").then_some(())
    })
    .await;
    assert_eq!(logs(LogParams { tail_lines: Some(1), ..LogParams::default() }).await, "three\n");
    assert_eq!(logs(LogParams { tail_lines: Some(0), ..LogParams::default() }).await, "");
    assert_eq!(logs(LogParams { limit_bytes: Some(5), ..LogParams::default() }).await, "one\nt");
    let params = LogParams { follow: true, tail_lines: Some(1), ..LogParams::default() };
    let mut followed = Box::pin(world.pods().log_stream("l", &params).await.unwrap());
    let mut begin = [0; 6];
    followed.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"three\n");
    std::fs::write(world.pod_dir(&pod.uid().unwrap()).join("volumes/private/go"), "").unwrap();
    let mut rest = String::new();
    followed.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "four\n", "and it ends with the container");
    let error = world.pods().logs("l", &LogParams { previous: true, ..LogParams::default() }).await.unwrap_err();
    assert!(error.to_string().contains("previous is not available"), "{error}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_a_container_that_waits_say_so() {
    let world = World::new().await;
    world.add_script("w", "exec sleep 1000").await;
    let error = world.pods().logs("w", &LogParams::default()).await.unwrap_err();
    assert!(
        error.to_string().contains("container \"compute\" in pod \"w\" is waiting to start: ContainerCreating"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chatty_container_does_not_fill_the_disk() {
    let world = World::new().await;
    let running = world.run();
    let uid = world.add_script("c", "yes | head -c 12000000; echo said; touch /private/said; exec sleep 1000").await;
    let log = world.pod_dir(&uid).join("logs/compute.log");
    let said = world.pod_dir(&uid).join("volumes/private/said");
    until("it said it all", || async { said.exists().then_some(()) }).await;
    until("the log began anew", || async { (std::fs::metadata(&log).ok()?.len() < 11_000_000).then_some(()) }).await;
    assert_eq!(compute(&world.get("c").await).restart_count, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_network_plugin_is_reported_and_tried_again() {
    let world = World::new().await;
    let plugins = world.home.path().join("plugins");
    let repaired = world.home.path().join("repaired");
    std::fs::create_dir(&plugins).unwrap();
    let real = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"]
        .map(Path::new)
        .into_iter()
        .find(|d| d.join("bridge").exists());
    let real = real.unwrap().display();
    for plugin in ["bridge", "host-local", "loopback"] {
        let script = format!(
            "#!/bin/sh\nif [ {plugin} = bridge ] && [ $CNI_COMMAND = ADD ] && ! [ -e {} ]; then\n\
             echo '{{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"no address is free\"}}'; exit 1\nfi\n\
             CNI_PATH={real} exec {real}/{plugin}\n",
            repaired.display()
        );
        std::fs::write(plugins.join(plugin), script).unwrap();
        std::fs::set_permissions(plugins.join(plugin), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let instance = &world.instance;
    let network =
        PodNetwork::new(&instance.id, &instance.bridge(), world.network.subnet(), &instance.cni_dir(), plugins.clone());
    let running = world.run_with(network);
    world.add_script("n", "exec sleep 1000").await;
    let event = world.event("n", "FailedCreatePodSandBox").await;
    let text = event.message.unwrap();
    assert!(text.starts_with("Failed to create pod sandbox: ") && text.contains("no address is free"), "{text}");
    assert_ne!(world.get("n").await.status.unwrap().phase.as_deref(), Some("Failed"));
    std::fs::write(&repaired, "").unwrap();
    world.phase("n", "Running").await;
    running.stop().await;
}

/// The gate: a container's process begins only once its record is on disk.
#[test]
fn a_process_whose_runner_died_before_recording_it_becomes_no_container() {
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("spec");
    std::fs::write(&spec, "{}").unwrap();
    for byte in [&b""[..], b"x"] {
        let mut child = Command::new(INIT)
            .arg("internal-container")
            .arg(&spec)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), byte).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("not for users"));
    }
}
